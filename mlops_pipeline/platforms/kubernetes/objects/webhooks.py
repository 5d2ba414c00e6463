"""Admission webhooks: they start to answer some time after their pods are ready."""

from collections.abc import Callable

from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.waiting import patiently


def describe_silence(call: Callable[[], object]) -> str | None:
    """Say why the cluster does not accept a call yet; None if it did. For a wait.

    Raises:
        PipelineError: the refusal is permanent.
    """

    def probe() -> str | None:
        try:
            call()
        except NotFoundError as error:
            return str(error)
        return None

    return patiently(probe)()
