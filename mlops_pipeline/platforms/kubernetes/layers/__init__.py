"""The layers, one file or folder each. None knows another; `stack.py` puts them together."""
