"""Which failures of a step are tried again."""

import dagster as dg
import pytest

from mlops_pipeline.assets.failures import explained
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    PipelineError,
    UnavailableError,
    WaitTimeoutError,
)


@pytest.mark.parametrize("kind", [AccessDeniedError, ConfigurationError, WaitTimeoutError])
def test_what_only_a_person_can_change_fails_at_once(kind: type[PipelineError]) -> None:
    with pytest.raises(dg.Failure) as failure, explained():
        raise kind("not allowed: list nodes; ask an administrator")
    assert failure.value.description == "not allowed: list nodes; ask an administrator"
    assert failure.value.allow_retries is False


def test_what_may_pass_is_tried_again_twice() -> None:
    with pytest.raises(dg.RetryRequested) as retry, explained():
        raise UnavailableError("the API server answered 503")
    assert (retry.value.max_retries, retry.value.seconds_to_wait) == (2, 2)
