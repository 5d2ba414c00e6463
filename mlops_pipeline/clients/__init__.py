"""Everything that touches the outside: processes, files, HTTP, S3. Nobody else calls those."""
