"""What a layer in a cluster is built from: what it says about itself, and two usual kinds of it."""
