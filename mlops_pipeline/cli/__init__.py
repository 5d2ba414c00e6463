"""The command line: `mlops-pipeline …`.

Exit codes: 0 done; 1 it failed (the sentence says why); 2 wrong usage or settings, nothing was
changed; 3 `status`, `plan` or `doctor` found something that is not as it should be; 130
interrupted.
"""

import sys

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError

FAILED, WRONG_USAGE, NOT_AS_IT_SHOULD_BE, INTERRUPTED = 1, 2, 3, 130


_DEBUG = "--debug"


def is_debugging() -> bool:
    """Return whether traces are wanted: the option may stand anywhere on the command line."""
    return _DEBUG in sys.argv


def main() -> None:
    """Run the command line: one sentence for an error, a trace with `--debug`."""
    try:
        from mlops_pipeline.cli.app import app

        app([word for word in sys.argv[1:] if word != _DEBUG])
    except PipelineError as error:
        if is_debugging():
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(WRONG_USAGE if isinstance(error, ConfigurationError) else FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the command again to go on from here\n")
        sys.exit(INTERRUPTED)
