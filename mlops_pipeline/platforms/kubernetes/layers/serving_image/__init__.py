"""The serving images: what they are built from, and their layer."""
