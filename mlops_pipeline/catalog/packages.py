"""Installs the packages of a custom component into its artifact, when it is trained."""

import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from mlops_pipeline.clients.process import run
from mlops_pipeline.serving.custom.folder import LOCK, PACKAGES, describe_loose

_TIMEOUT = 600.0


def install(lock: Path, folder: Path, *, wheels: Path | None) -> None:
    """Install the packages of `lock` into `folder/site-packages`, and copy the lock beside it.

    Only wheels are installed, so that no code of a package runs, and nothing that the lock does not
    name. `wheels` is a folder with them; without it, pip's usual index is used.

    Raises:
        ValueError: a line of the lock is not pinned to a version with hashes; there is no pip.
        CommandError: pip could not install a package; has pip's output.
    """
    if loose := describe_loose(lock.read_text()):
        raise ValueError(
            f"{lock}: {loose}. Write the lock with `uv pip compile --generate-hashes` or "
            "`pip-compile --generate-hashes`"
        )
    if not _has_pip():
        raise ValueError(
            f"{sys.executable} has no pip, which installs the packages of {lock}: an environment "
            f"that uv made has none. Add it: `uv pip install --python {sys.executable} pip`"
        )
    target = folder / PACKAGES
    source = ("--no-index", "--find-links", str(wheels)) if wheels else ()
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
            *("--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes", *source),
            *("--target", str(target), "--requirement", str(lock)),
        ],
        purpose=f"install the packages of {lock} for the artifact",
        timeout=_TIMEOUT,
        remedy="correct the lock, or give save_python a folder of wheels",
    )
    # Its scripts start with the path of this Python.
    shutil.rmtree(target / "bin", ignore_errors=True)
    shutil.copyfile(lock, folder / LOCK)


def _has_pip() -> bool:
    """Look without setuptools' finder, which replaces distutils in a process that asks for pip."""
    return PathFinder.find_spec("pip") is not None
