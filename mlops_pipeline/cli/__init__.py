"""The command line: `mlops-pipeline …`.

Exit codes: 0 done; 1 it failed (the sentence says why); 2 wrong usage or settings, nothing was
changed; 3 `status`, `plan` or `doctor` found something that is not as it should be, or `up` was
done and a check that blocks nothing failed; 4 `up` was done and a release is not decided yet; 5 it
was done and a release ended without its new version; 130 interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import mlops_pipeline.garbage  # noqa: F401
from mlops_pipeline.cli.streams import checked_streams, discard_output, say
from mlops_pipeline.clients.errors import ConfigurationError, PipelineError

FAILED, WRONG_USAGE, NOT_AS_IT_SHOULD_BE, INTERRUPTED = 1, 2, 3, 130
RELEASE_GOES_ON, RELEASE_ENDED_WITHOUT = 4, 5
"""How `up` ends for a release that waits for answers or a person, and for one that was rolled back,
aborted or superseded."""


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
    # A script's `&` has SIGINT ignored, and Dagster ends on SIGTERM as it does on SIGINT: such a
    # command would end on neither.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with checked_streams():
            from mlops_pipeline.cli.app import app

            app(_take_shared_options(sys.argv[1:]))
    except PipelineError as error:
        discard_output()
        if is_debugging():
            raise
        say(f"error: {error}")
        sys.exit(WRONG_USAGE if isinstance(error, ConfigurationError) else FAILED)
    except BrokenPipeError:
        discard_output()
        sys.exit(FAILED)
    except KeyboardInterrupt:
        say("interrupted; run the command again to resume")
        sys.exit(INTERRUPTED)
