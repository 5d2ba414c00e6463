"""MetalLB: its layer, and which addresses it may give away."""
