"""Resources of this machine."""


def available_memory() -> int:
    """Return the bytes of memory that programs can still use without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
