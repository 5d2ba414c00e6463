"""Feedback, by Seldon's document or by the id of an answer alone: counted, and recorded if wanted.

The id is, in this order: `id` of the document; `meta.puid` of its response or its request; the
header `seldon-puid` (a key of gRPC's metadata).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording.exchange import Source

if TYPE_CHECKING:
    from mlops_pipeline.serving.recording.recorder import Recorder


def take(metrics: Metrics, unit: Unit, message: Mapping[str, Any], *, puid: str, size: int) -> None:
    """Count the feedback in a JSON document that was found valid, and record it.

    `size` is that of the document in bytes. An id that is not a string is ignored.
    """
    metrics.count_feedback(unit, "rest")
    if metrics.recorder is not None:
        told = (_identifier(message) or puid, message.get("reward"), message.get("truth"))
        _feed(metrics.recorder, unit, "rest", told, size)


def take_message(metrics: Metrics, unit: Unit, content: bytes, *, puid: str) -> None:
    """Count the feedback in a serialized message that was found valid, and record it."""
    metrics.count_feedback(unit, "grpc")
    if metrics.recorder is not None:
        message = pb.Feedback.FromString(content)
        identifier = message.response.meta.puid or message.request.meta.puid or puid
        truth = message.truth if message.HasField("truth") else None
        told = (identifier, message.reward, truth)
        _feed(metrics.recorder, unit, "grpc", told, len(content))


def _feed(
    recorder: "Recorder",
    unit: Unit,
    transport: str,
    told: tuple[str, float | None, object],
    size: int,
) -> None:
    """Pass what was told: the answer's id, the reward and the truth."""
    source = Source(unit.predictor, unit.model.digest, "seldon", transport)
    recorder.feed(source, *told, size=size)


def _identifier(message: Mapping[str, Any]) -> str:
    found = [message.get("id")]
    for key in ("response", "request"):
        meta = (message.get(key) or {}).get("meta")
        found.append(meta.get("puid") if isinstance(meta, Mapping) else None)
    return next((one for one in found if one and isinstance(one, str)), "")
