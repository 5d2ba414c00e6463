"""The cluster: created by kind (`kind.py`), or an existing one (`existing.py`)."""
