"""What the serving images are built from, besides the model server itself. See the Dockerfile."""
