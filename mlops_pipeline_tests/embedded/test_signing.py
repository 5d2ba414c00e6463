"""A model server refuses what was altered in the store after it was signed, and says so."""

import os
import random
import signal
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.artifacts import BUCKET, artifact_store
from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform
from mlops_pipeline.platforms.embedded.programs import MARK
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.embedded.rig import deployment, predictor

pytestmark = pytest.mark.embedded


def test_an_altered_model_is_refused_by_its_server(tmp_path: Path) -> None:
    first, home = ports.first_free(random.randrange(20_000, 30_000, 50)), tmp_path / "embedded"
    options = EmbeddedOptions(
        gateway_port=first,
        object_store_port=first + 1,
        internal_port=first + 2,
        model_port=first + 12,
    )
    platform = EmbeddedPlatform(home, options, signing=Signing(tmp_path, SigningSettings()))
    try:
        for layer in platform.layers:
            layer.ensure()
        _refuse_what_was_altered(platform, tmp_path)
    finally:
        platform.purge()
        running.end_marked(MARK, EmbeddedFolder.at(home).identity, grace=1)


def _refuse_what_was_altered(platform: EmbeddedPlatform, folder: Path) -> None:
    files, evaluation = folder / "files", folder / "evaluation"
    files.mkdir()
    evaluation.mkdir()
    joblib.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), files / "model.joblib")
    tensors = (Tensor("x", (-1, 1), "FP64"),)
    manifest = Manifest("toy", "sklearn", hash_files(files), inputs=tensors, outputs=tensors)
    ref = artifact_store(platform).publish(manifest, files=files, evaluation=evaluation)
    wanted, deployments = deployment(predictor(ref.uri)), platform.deployments
    deployments.apply(wanted)

    # Somebody writes on this machine's copy, and the server starts again.
    trust = folder / "embedded" / "trust.json"
    assert "PRIVATE" not in trust.read_text()
    (copy,) = (folder / "embedded" / "models").iterdir()
    stored = (copy / "manifest.json").read_bytes()
    altered = stored.replace(b'"run_id": ""', b'"run_id": "other"')
    assert altered != stored
    (copy / "manifest.json").write_bytes(altered)
    (server,) = deployments._parts.records.list()[0].programs
    process = deployments._parts.servers._supervisor.running(server)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)

    def describe_unrefused() -> str | None:
        (status,) = deployments.status("toy", namespace="seldon")
        return None if "altered: manifest.json" in status.reason else status.reason

    wait_until("the refusal in the status", describe_unrefused, timeout=60)

    # Applying again repairs the copy, unless the object store itself was altered.
    key = f"toy/{ref.digest}/manifest.json"
    platform.object_store().put(BUCKET, key, altered)
    deployments.delete("toy", namespace="seldon")
    with pytest.raises(FatalStateError, match=r"altered: manifest\.json.*mlops-pipeline sign toy/"):
        deployments.apply(wanted)
    platform.object_store().put(BUCKET, key, stored)
    assert deployments.apply(wanted).action == "created"
