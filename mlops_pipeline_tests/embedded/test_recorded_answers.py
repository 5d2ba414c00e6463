"""The log of answers on a platform of real processes: gateway, server, shipper and object store."""

import json
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, NotFoundError, PipelineError
from mlops_pipeline.clients.s3 import Credentials, ObjectStore
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.answers import Wanted, read_answers
from mlops_pipeline.platforms.embedded.servers import program_prefix
from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.settings.answers import AnswersSettings
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in
from mlops_pipeline_tests.serving import servers

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]

ROW = [5.1, 3.5, 1.4, 0.2]


def publish(rig: Rig, folder: Path) -> str:
    digest = servers.digest_of(folder)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"iris/{digest}/{file.relative_to(folder).as_posix()}"
            rig.platform.object_store().upload("models", key, file)
    return f"s3://models/iris/{digest}"


def answers(rig: Rig, **wanted: Any) -> list[dict[str, Any]]:
    try:
        return read_answers(rig.platform.object_store(), "iris", Wanted(**wanted))
    except NotFoundError:
        return []


def wait_for(rig: Rig, *identifiers: str) -> dict[str, dict[str, Any]]:
    """Return the answers with these ids as soon as all of them can be read."""

    def describe_missing() -> str | None:
        there = {row["id"] for row in answers(rig)}
        return ", ".join(set(identifiers) - there) or None

    wait_until("these answers", describe_missing, timeout=60, interval=0.5)
    return {row["id"]: row for row in answers(rig)}


def ask_by_grpc(rig: Rig, identifier: str) -> None:
    request = v2.ModelInferRequest(model_name="classifier", id=identifier)
    tensor = request.inputs.add(name="features", datatype="FP64", shape=[1, 4])
    tensor.contents.fp64_contents.extend(ROW)
    with grpc.insecure_channel(urlsplit(rig.platform.gateway_url()).netloc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=v2.ModelInferRequest.SerializeToString,
            response_deserializer=v2.ModelInferResponse.FromString,
        )
        told = (("seldon", "toy"), ("namespace", "seldon"))
        assert infer(request, metadata=told, timeout=20).id == identifier


def dropped(rig: Rig) -> float:
    """Return how many rows the server says that it dropped for a full spool."""
    text = httpx.get(rig.url("metrics"), timeout=20).text
    line = next(x for x in text.splitlines() if 'mlops_answer_rows_total{fate="spool_full"}' in x)
    return float(line.split()[-1])


def test_answers_are_recorded_uploaded_joined_and_never_waited_for(tmp_path: Path) -> None:
    folder = servers.make_iris(tmp_path / "iris")
    chosen = AnswersSettings(enabled=True, mask=("x1",), spool_megabytes=1)
    with rig_in(tmp_path / "home", server_command=(), ready_timeout=60.0, answers=chosen) as rig:
        rig.up()
        annotations = {
            "mlops-pipeline/answers": json.dumps({"mask": [], "columns": ["x0", "x1", "x2", "x3"]})
        }
        uri = publish(rig, folder)
        rig.apply(predictor(uri, annotations=annotations), name="toy")
        _records(rig, uri.rpartition("/")[2])
        _keeps_the_key_to_writing(rig)
        _outlasts_the_store(rig)
        off = Rig(rig.home, rig.settings.model_copy(update={"answers": AnswersSettings()}))
        changes = off.up()
        assert "answer_shipper" not in changes
        assert not [n for n in off._supervisor.names() if "shipper" in n]
        assert not (rig.home / "answers" / "shipper.json").exists()
        off.apply(predictor(uri, annotations=annotations), name="toy")
        assert httpx.post(off.url(), json=_body(), timeout=20).status_code == 200
        environment = [
            off._supervisor.files.find(name) or ""
            for name in off._supervisor.names()
            if name.startswith(program_prefix("toy", "seldon"))
        ]
        assert environment
        assert not [text for text in environment if "MLOPS_RECORDING" in text]


def _body(rows: int = 1) -> dict[str, Any]:
    chance = random.Random(rows)
    made = [[chance.random() for _ in ROW] for _ in range(rows)] if rows > 1 else [ROW]
    return {"data": {"ndarray": made}}


def _records(rig: Rig, digest: str) -> None:
    """Requests by REST and gRPC and a feedback come out again, without the masked column."""
    headers = {"Seldon-Puid": "by-rest"}
    answered = httpx.post(rig.url(), json=_body(), headers=headers, timeout=20)
    assert answered.json()["meta"]["puid"] == "by-rest"
    httpx.post(rig.url(), json={"data": {"ndarray": [["secret"]]}}, headers=headers, timeout=20)
    ask_by_grpc(rig, "by-grpc")
    truth = {"data": {"names": ["class"], "ndarray": [["setosa"]]}}
    told = {"id": "by-grpc", "reward": 1.0, "truth": truth}
    assert httpx.post(rig.url("api/v1.0/feedback"), json=told, timeout=20).status_code == 200
    found = wait_for(rig, "by-rest", "by-grpc")
    row = found["by-grpc"]
    assert (row["input"], row["columns"]) == ([[5.1, 1.4, 0.2]], ["x0", "x2", "x3"])
    assert (row["protocol"], row["transport"], row["digest"]) == ("v2", "grpc", digest)
    assert (row["reward"], row["truth"]) == (1.0, [["setosa"]])
    assert (row["namespace"], row["deployment"], row["predictor"]) == ("seldon", "toy", "default")
    (error,) = answers(rig, status="error")
    assert (error["status"], error["input"]) == (400, None)
    assert [row["id"] for row in answers(rig, status="ok", digest=digest[:8])] != []
    assert "secret" not in json.dumps(answers(rig))


def _keeps_the_key_to_writing(rig: Rig) -> None:
    """The shipper's key neither reads nor lists, and writes in no other bucket."""
    file = rig.home / "answers" / "shipper.json"
    assert file.stat().st_mode & 0o777 == 0o600
    said = json.loads(file.read_text())
    key = Credentials(said["access_key_id"], said["secret_access_key"])
    client = ObjectStore(said["endpoint"], key, attempts=1, is_ours=True)
    client.put("answers", "other/2020-01-01/1.jsonl.gz", b"")
    for forbidden in (
        lambda: client.get("answers", "other/2020-01-01/1.jsonl.gz"),
        lambda: client.sizes("answers", ""),
        lambda: client.put("models", "x", b""),
        lambda: client.ensure_bucket("mine"),
    ):
        with pytest.raises((AccessDeniedError, PipelineError)):
            forbidden()
    logs = "".join(path.read_text(errors="replace") for path in (rig.home / "logs").glob("*.log"))
    assert said["secret_access_key"] not in logs
    # The retention: the first `up` of a day deletes what is too old.
    (rig.home / "answers" / "expired.txt").unlink()
    rig.ensure("answer_shipper")
    assert "other/2020-01-01/1.jsonl.gz" not in rig.platform.object_store().sizes("answers", "")


def _outlasts_the_store(rig: Rig) -> None:
    """While the store is down no answer waits; what has no room is dropped and counted."""
    rig.stop("object_store")
    headers = {"Seldon-Puid": "meanwhile"}
    slowest = 0.0
    with httpx.Client(timeout=20) as client:
        client.post(rig.url(), json=_body(), headers=headers).raise_for_status()
        for _ in range(100):
            begin = time.monotonic()
            client.post(rig.url(), json=_body()).raise_for_status()
            slowest = max(slowest, time.monotonic() - begin)
        assert slowest < 2.0
        for _ in range(25):
            client.post(rig.url(), json=_body(rows=1500)).raise_for_status()
    wait_until("a dropped row", lambda: None if dropped(rig) else "none yet", timeout=30)
    rig.ensure("object_store")
    wait_for(rig, "meanwhile")
