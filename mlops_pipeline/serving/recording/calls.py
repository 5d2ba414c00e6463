"""gRPC's calls for whoever counts and records: the same hook as REST's."""

from collections.abc import Coroutine, Mapping
from typing import Any

from google.protobuf.message import Message

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording import feeding
from mlops_pipeline.serving.recording.watch import PUID, Watch, echoed

NOTHING: Mapping[bytes, bytes] = {}


async def observed(
    watch: Watch, context: Any, answering: Coroutine[Any, Any, Message], *, size: int
) -> Message:
    """Return the answer to a prediction, and count it. `size` is that of the request in bytes.

    Raises:
        RequestError: as `answering`.
    """
    exchange, status, reason, answered = watch.begin(), 0, "", None
    watch.arrived(exchange, _headers(context) if watch.is_recording else NOTHING, size)
    try:
        answered = await answering
        status = 200
    except RequestError as error:
        status, reason = error.status, error.reason
        raise
    except Exception:
        status, reason = 500, "DEFECT"
        raise
    finally:  # A call that the client cancels has no status.
        if watch.is_recording:
            written = answered.ByteSize() if answered is not None else 0
            watch.end(exchange, status=status, reason=reason, size=written)
            is_needed = status and (reason or not exchange.is_named)
            if is_needed and (name := echoed(exchange.identifier)):
                context.set_trailing_metadata(((PUID, name),))
        else:
            watch.end(exchange, status=status, reason=reason)
    return answered


def take_feedback(metrics: Metrics, unit: Unit, content: bytes, context: Any) -> None:
    """Count and record a feedback that was answered."""
    puid = ""
    if metrics.recorder is not None:
        puid = _headers(context).get(PUID.encode(), b"").decode("latin-1")
    feeding.take_message(metrics, unit, content, puid=puid)


def _headers(context: Any) -> dict[bytes, bytes]:
    """Return a call's metadata like the headers of a REST request."""
    return {
        key.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for key, value in context.invocation_metadata() or ()
    }
