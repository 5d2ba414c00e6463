"""Dagster's code server, a program that `mlops-pipeline ui` starts: FOLDER, then Dagster's words.

A code server runs what it is told by whoever connects to it. The server that Dagster starts behind
it gets a socket among the temporary files, where others may look; here it gets one in FOLDER. The
variable TMPDIR would do that too, and would be passed on to all that a run starts.
"""

import sys
import tempfile

from dagster._cli import main as dagster


def main() -> None:
    """Run `dagster …` with temporary files of this process alone in the folder."""
    tempfile.tempdir = sys.argv[1]
    sys.argv = ["dagster", *sys.argv[2:]]
    dagster()  # type: ignore[no-untyped-call]  # Dagster publishes no types for it.


if __name__ == "__main__":
    main()
