"""MetalLB: its layer, its speakers, and the pool of addresses that it assigns."""
