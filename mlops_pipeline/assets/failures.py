"""Which failures are worth another try: decided once."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mlops_pipeline.clients.errors import PipelineError, UnavailableError, WaitTimeoutError

NETWORK = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL)
"""For steps that talk to the object store and the gateway."""


@contextmanager
def explained() -> Iterator[None]:
    """Let what may pass by itself be tried again, and everything else fail at once.

    A wait that ran out has been tried long enough.

    Raises:
        dagster.Failure: permanent; with the sentence of the error.
        UnavailableError: temporary; the step's retry policy takes it.
    """
    try:
        yield
    except WaitTimeoutError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except UnavailableError:
        raise
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
