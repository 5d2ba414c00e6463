"""The command line: `mlops-pipeline …`.

Exit codes: 0 done; 1 it failed (the sentence says why); 2 wrong usage or settings, nothing was
changed; 3 `status`, `plan` or `doctor` found something that is not as it should be, or `up` was
done and a check that blocks nothing failed; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError

FAILED, WRONG_USAGE, NOT_AS_IT_SHOULD_BE, INTERRUPTED = 1, 2, 3, 130


_DEBUG = "--debug"


def is_debugging() -> bool:
    """Return whether traces are wanted."""
    return _DEBUG in sys.argv


def _take_shared_options(words: Sequence[str]) -> list[str]:
    """Return the command line without the options that may stand anywhere on it.

    The platform becomes a setting, so that processes started from here work on it too.
    """
    parser = argparse.ArgumentParser(prog="mlops-pipeline", add_help=False, allow_abbrev=False)
    parser.add_argument("--platform")
    parser.add_argument(_DEBUG, action="store_true")
    shared, rest = parser.parse_known_args(words)
    if shared.platform is not None:
        os.environ["MLOPS_PLATFORM"] = shared.platform
    return rest


def main() -> None:
    """Run the command line: one sentence for an error, a trace with `--debug`."""
    try:
        from mlops_pipeline.cli.app import app

        app(_take_shared_options(sys.argv[1:]))
    except PipelineError as error:
        if is_debugging():
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(WRONG_USAGE if isinstance(error, ConfigurationError) else FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the command again to go on from here\n")
        sys.exit(INTERRUPTED)
