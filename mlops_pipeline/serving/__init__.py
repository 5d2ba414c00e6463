"""The model server. It runs on the embedded platform and in pods, and imports nothing above it."""

SERVER = "mlops-pipeline"
"""The server's version in V2; an image has it without the project's metadata."""
VERSION = "0.1.0"
