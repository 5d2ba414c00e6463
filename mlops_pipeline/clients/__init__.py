"""Everything that touches the outside: processes, files, HTTP, S3. The only callers of those libraries."""
