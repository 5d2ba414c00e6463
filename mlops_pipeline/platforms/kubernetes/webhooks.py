"""Admission webhooks: they answer some time after their pods are ready."""

from collections.abc import Callable

from mlops_pipeline.clients.errors import AccessDeniedError, NotFoundError, UnavailableError


def describe_silence(call: Callable[[], object]) -> str | None:
    """Say why the cluster does not take a call yet; None when it took it. For a wait.

    Raises:
        PipelineError: it refuses it for good.
    """
    try:
        call()
    except AccessDeniedError:
        raise
    except (NotFoundError, UnavailableError) as error:
        return str(error)
    return None
