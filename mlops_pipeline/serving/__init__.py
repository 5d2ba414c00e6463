"""The model server runtime. Runs in the embedded platform and in pods; imports nothing above it."""

SERVER = "mlops-pipeline"
"""What V2 says the server is; an image holds it without the project's metadata."""
VERSION = "0.1.0"
