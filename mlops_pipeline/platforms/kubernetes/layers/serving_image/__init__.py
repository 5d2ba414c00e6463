"""The serving images: their build context, and their layer."""
