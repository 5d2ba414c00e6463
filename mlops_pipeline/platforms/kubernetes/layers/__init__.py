"""The layers, one file or folder each. None imports another; `stack.py` combines them."""
