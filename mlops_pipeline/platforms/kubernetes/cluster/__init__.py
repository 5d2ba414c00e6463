"""The cluster: one that kind makes (`kind.py`), or one that is there (`existing.py`)."""
