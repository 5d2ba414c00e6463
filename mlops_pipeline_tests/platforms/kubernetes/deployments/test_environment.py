"""Trying an artifact in the image that pods serve with."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.clients.containers import Mount
from mlops_pipeline.clients.errors import CommandError, IntegrityError, UnavailableError
from mlops_pipeline.platforms.embedded.environment import LocalServingEnvironment
from mlops_pipeline.platforms.kubernetes.deployments.environment import ImageServingEnvironment
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.platform import ServingEnvironment
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.platforms.kubernetes.rig import Rig


class PredictingEngine(FakeEngine):
    """Its containers write scores, and note who may read what they are given."""

    def __init__(self, scores: Any) -> None:
        super().__init__()
        self.scores = scores
        self.modes: dict[str, int] = {}
        self.entrypoint = ""

    def run(self, image: str, command: Sequence[str], **options: Any) -> str:
        self.entrypoint = options.pop("entrypoint")
        mounts: Sequence[Mount] = options["mounts"]
        for mount in mounts:
            for path in (mount.source, *mount.source.rglob("*")):
                self.modes[path.relative_to(mount.source.parent).as_posix()] = (
                    path.stat().st_mode & 0o777
                )
        (written,) = (mount.source for mount in mounts if mount.writable)
        np.save(written / "scores.npy", np.asarray(self.scores))
        return super().run(image, command, **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An artifact as it was downloaded: for this user alone."""
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True, mode=0o700)
    for name in ("manifest.json", "1/saved_model.pb"):
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((2, 4)))
    path.chmod(0o600)
    return path


def an_environment(tmp_path: Path, engine: FakeEngine, *, built: bool = True) -> Any:
    serving = ServingImage(Rig(tmp_path / "state", engine=engine).parts)
    if built:
        for implementation in ("SKLEARN_SERVER", "TENSORFLOW_SERVER"):
            engine.images.add(serving.reference(implementation))
    environment: ServingEnvironment = ImageServingEnvironment(
        engine, serving, temporary=tmp_path / "tmp"
    )
    return environment


def test_an_artifact_is_tried_in_the_image_of_its_server(
    tmp_path: Path, model: Path, rows: Path
) -> None:
    engine = PredictingEngine([[0.25, 0.75], [1, 0]])
    (tmp_path / "tmp").mkdir()
    environment = an_environment(tmp_path, engine)
    scores = environment.predict(
        model,
        rows,
        implementation="TENSORFLOW_SERVER",
        parameters=(("signature_name", "predict_images"),),
    )
    assert scores == [[0.25, 0.75], [1.0, 0.0]]
    (call,) = engine.calls
    assert call.where.startswith("localhost/mlops-pipeline/serving-tensorflow:")
    assert call.where.endswith(environment.fingerprint())
    assert (call.network, call.user, engine.entrypoint) == ("none", "", "python")
    assert call.command[:3] == ("-m", "mlops_pipeline.serving", "predict")
    told = json.loads(call.command[call.command.index("--parameters") + 1])
    assert told == [{"name": "signature_name", "value": "predict_images", "type": "STRING"}]
    given, written = call.mounts
    assert (given.writable, written.writable) == (False, True)
    assert given.source.parents[1] == tmp_path / "tmp"
    assert not given.source.parent.exists()


def test_another_user_reads_what_it_is_given_and_nobody_comes_there(
    tmp_path: Path, model: Path, rows: Path
) -> None:
    engine = PredictingEngine([[1.0], [2.0]])
    an_environment(tmp_path, engine).predict(
        model, rows, implementation="SKLEARN_SERVER", parameters=()
    )
    assert engine.modes == {
        "given": 0o755,
        "given/rows.npy": 0o644,
        "given/model": 0o755,
        "given/model/manifest.json": 0o644,
        "given/model/1": 0o755,
        "given/model/1/saved_model.pb": 0o644,
        "written": 0o777,
    }
    assert os.stat(model / "manifest.json").st_mode & 0o777 == 0o600


def test_an_image_that_is_not_built_is_said_before_anything(
    tmp_path: Path, model: Path, rows: Path
) -> None:
    environment = an_environment(tmp_path, PredictingEngine([[1.0]]), built=False)
    with pytest.raises(UnavailableError, match="up serving_image"):
        environment.predict(model, rows, implementation="SKLEARN_SERVER", parameters=())


def test_scores_that_are_no_table_are_refused(tmp_path: Path, model: Path, rows: Path) -> None:
    environment = an_environment(tmp_path, PredictingEngine([1.0, 2.0]))
    with pytest.raises(IntegrityError, match=r"shape \(2,\)"):
        environment.predict(model, rows, implementation="SKLEARN_SERVER", parameters=())


def test_why_an_artifact_does_not_load_is_passed_on(
    tmp_path: Path, model: Path, rows: Path
) -> None:
    class Refusing(PredictingEngine):
        def run(self, image: str, command: Sequence[str], **options: Any) -> str:
            raise CommandError("exited with 4: the model does not load")

    environment = an_environment(tmp_path, Refusing([]))
    with pytest.raises(CommandError, match="does not load"):
        environment.predict(model, rows, implementation="SKLEARN_SERVER", parameters=())


def test_upstreams_servers_are_stood_for_by_the_libraries_here(
    tmp_path: Path, model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KindSettings.model_validate({"serving": {"images": "upstream"}})
    rig = Rig(tmp_path / "state", settings=settings)
    environment = ImageServingEnvironment(
        rig.engine, ServingImage(rig.parts), temporary=tmp_path / "tmp"
    )
    here = LocalServingEnvironment(temporary=tmp_path)
    monkeypatch.setattr(LocalServingEnvironment, "predict", lambda *_, **__: [[1.0]])
    assert environment.fingerprint() == f"upstream-{here.fingerprint()}"
    assert environment.predict(model, rows, implementation="TENSORFLOW_SERVER", parameters=()) == [
        [1.0]
    ]
    assert rig.engine.calls == []
