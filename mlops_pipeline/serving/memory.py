"""Memory that large requests leave behind, given back to the operating system."""

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Return free memory to the operating system, where the C library keeps it (glibc).

    Otherwise a process stays as large as its largest requests made it.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`, or a function that does nothing with another C library."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: 0
    return trim
