"""What this machine has."""


def available_memory() -> int:
    """Return the bytes of memory that programs can still take without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
