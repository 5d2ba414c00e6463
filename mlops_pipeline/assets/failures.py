"""Which failures are worth another try: decided once."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mlops_pipeline.clients.errors import PipelineError, UnavailableError, WaitTimeoutError

_RETRIES = 2
_PAUSE = 2
"""Seconds before the next try."""


@contextmanager
def explained() -> Iterator[None]:
    """Let what may pass by itself be tried again, and everything else fail at once.

    A wait that ran out has been tried long enough. A RetryPolicy of the step would not do: it takes
    Ctrl-C for a failure too, and starts the step again (`op_execution_error_boundary` in Dagster).

    Raises:
        dagster.Failure: permanent; with the sentence of the error.
        dagster.RetryRequested: temporary.
    """
    try:
        yield
    except WaitTimeoutError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except UnavailableError as error:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_PAUSE) from error
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
