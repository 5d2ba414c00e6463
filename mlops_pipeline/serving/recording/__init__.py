"""The log of answers: rows of requests with their answers, from the server to a local spool.

A request puts one object into a bounded queue, and nothing more. A thread of its own turns it into
a line, masks columns, and appends the line to a file. The server has no key of the object store:
`mlops_pipeline.platforms.shipper`, another process, uploads the files.
"""
