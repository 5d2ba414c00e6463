"""All access to the outside: processes, files, HTTP, S3. Other packages must use these modules."""
