"""The graph: thin assets with their checks beside them."""
