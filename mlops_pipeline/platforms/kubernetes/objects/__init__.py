"""Objects of a cluster: reading, comparing, owning, waiting for and deleting them."""
