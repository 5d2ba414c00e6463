"""Feedback, by Seldon's document or by the id of an answer alone: counted, and recorded if wanted.

The id is, in this order: `id` of the document; `meta.puid` of its response or its request; the
header `seldon-puid` (a key of gRPC's metadata).
"""

import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording.exchange import Source
from mlops_pipeline.serving.recording.rows import Feedback


def take(metrics: Metrics, unit: Unit, message: Mapping[str, Any], *, puid: str) -> None:
    """Count the feedback in a JSON document that was found valid, and record it.

    Raises:
        RequestError: its `id`, or a `puid` in it, is not a string.
    """
    identifier = _identifier(message) or puid
    _take(metrics, unit, "rest", identifier, message.get("reward"), message.get("truth"))


def take_message(metrics: Metrics, unit: Unit, message: pb.Feedback, *, puid: str) -> None:
    """Count the feedback in a message that was found valid, and record it."""
    identifier = message.response.meta.puid or message.request.meta.puid or puid
    truth = None
    if metrics.recorder is not None and message.HasField("truth"):
        truth = MessageToDict(message.truth)
    _take(metrics, unit, "grpc", identifier, message.reward, truth)


def _take(
    metrics: Metrics, unit: Unit, transport: str, identifier: str, reward: Any, truth: object
) -> None:
    metrics.count_feedback(unit, transport)
    if metrics.recorder is not None:
        source = Source(unit.predictor, unit.model.digest, "seldon", transport)
        metrics.recorder.feed(Feedback(source, identifier, time.time(), reward, truth))


def _identifier(message: Mapping[str, Any]) -> str:
    found = [message.get("id")]
    for key in ("response", "request"):
        meta = (message.get(key) or {}).get("meta")
        found.append(meta.get("puid") if isinstance(meta, Mapping) else None)
    given = next((one for one in found if one), "")
    if not isinstance(given, str):
        raise RequestError("WRONG_TYPE", "id and meta.puid must be strings")
    return given
