"""The model server runtime. Runs in the embedded platform and in pods; imports nothing above it."""
