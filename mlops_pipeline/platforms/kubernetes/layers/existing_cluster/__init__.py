"""An existing cluster: its layer, and what is examined before anything is changed."""
