"""Importing this makes the process search for garbage rarely.

Imports allocate much and leave nothing behind: searching them is a fifth of the time that the
definitions take, and a sixth of a command's.
"""

import gc

gc.set_threshold(1_000_000)
