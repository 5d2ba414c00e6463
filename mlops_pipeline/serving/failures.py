"""Each protocol's format of an error."""

from collections.abc import Callable

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, answer

Failure = Callable[[RequestError], Answer]


def seldon(failure: RequestError) -> Answer:
    """Return Seldon's status JSON for an error."""
    status = {
        "code": failure.status,
        "info": failure.sentence,
        "reason": failure.reason,
        "status": "FAILURE",
    }
    return answer({"status": status}, status=failure.status)


def v2(failure: RequestError) -> Answer:
    """Return the Open Inference Protocol's JSON for an error."""
    return answer({"error": failure.sentence}, status=failure.status)


def tensorflow(failure: RequestError) -> Answer:
    """Return TF Serving's JSON for an error."""
    return answer({"error": failure.sentence}, status=failure.status)


def of_path(path: str) -> Failure:
    """Return the error format of the protocol that `path` belongs to."""
    first = path.split("/", 2)[1:2]
    return {"v1": tensorflow, "v2": v2, "invocations": tensorflow}.get(
        first[0] if first else "", seldon
    )
