"""What is logged, told to whoever waits at the command line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def narrated(console: Console) -> Iterator[None]:
    """Print what is logged while the context lasts: what is downloaded, pulled and saved."""
    logger, handler = logging.getLogger("mlops_pipeline"), _Printing(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Printing(logging.Handler):
    """Prints each line of the log."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(
            record.getMessage(), style="dim", markup=False, highlight=False, soft_wrap=True
        )
