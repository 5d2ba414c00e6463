"""The cluster that kind creates: its layer, its owner, and what it needs of this machine."""
