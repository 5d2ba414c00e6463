"""What git says of a folder."""

from pathlib import Path

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run

_TIMEOUT = 10.0


def find_commit(folder: Path) -> str:
    """Return the commit that is checked out in a folder, with `-dirty` if files differ from it.

    Empty where git is missing or the folder is in no repository.
    """
    git = ["git", "-C", str(folder)]
    try:
        commit = run([*git, "rev-parse", "HEAD"], purpose="read the commit", timeout=_TIMEOUT)
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = run(status, purpose="read what differs from the commit", timeout=_TIMEOUT)
    except CommandError:
        return ""
    return commit.strip() + ("-dirty" if changed.strip() else "")
