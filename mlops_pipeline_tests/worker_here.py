"""The worker in this process, which does each job once and remembers what it wrote.

A process of its own takes five seconds of a processor to train what needs no time: it imports
scikit-learn and Matplotlib, and draws. `delivery/test_training.py`, `delivery/test_publishing.py`,
`assets/test_overtaken.py` and the tests with a platform start the worker as commands do.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mlops_pipeline.catalog import worker
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.delivery import working

_Written = dict[Path, bytes]
_DONE: dict[tuple[str, ...], _Written] = {}
"""What each job wrote in this session."""


@contextmanager
def worker_here(*, remembers: bool = True) -> Iterator[None]:
    """Let the worker run in this process while the context lasts.

    It copies what an equal job wrote before, unless it `remembers` nothing.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "run", partial(_run, _DONE if remembers else {}))
        yield


def _run(
    done: dict[tuple[str, ...], _Written], command: Sequence[str], *, purpose: str, **_: object
) -> str:
    """Do the worker's job, or fail with the error that its process would cause."""
    module, job, source = command[2:5]
    assert module == worker.__name__
    options = dict(zip(command[5::2], command[6::2], strict=True))
    output = Path(options.pop("--output"))
    key = (job, source, *(f"{name} {_told(value)}" for name, value in sorted(options.items())))
    if key not in done:
        try:
            worker.main(command[3:])
        except Exception as error:
            raise CommandError(
                f"could not {purpose}: {type(error).__name__}: {error}", exit_code=1
            ) from error
        files = (path for path in output.rglob("*") if path.is_file())
        done[key] = {path.relative_to(output): path.read_bytes() for path in files}
    for path, content in done[key].items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(content)
    return ""


def _told(value: str) -> str:
    """Return what an option says: the content of a file, or the text itself."""
    path = Path(value)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else value
