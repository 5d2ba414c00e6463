"""Decides, in one place, which failures are retried."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    PipelineError,
    UnavailableError,
    WaitTimeoutError,
)

_RETRIES = 2
_PAUSE = 2
"""Seconds before the next attempt."""


@contextmanager
def explained() -> Iterator[None]:
    """Retry temporary failures; fail at once on all others.

    A timeout is not retried: it waited long enough. Neither are credentials that are rejected: only
    a person can change that. A RetryPolicy of the step is not suitable: it restarts the step after
    Ctrl-C too (`op_execution_error_boundary` in Dagster).

    Raises:
        dagster.Failure: permanent; with the message of the error.
        dagster.RetryRequested: temporary.
    """
    try:
        yield
    except (WaitTimeoutError, AccessDeniedError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except UnavailableError as error:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_PAUSE) from error
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
