"""Base classes of the layers in a cluster: what a layer declares, and its two usual kinds."""
