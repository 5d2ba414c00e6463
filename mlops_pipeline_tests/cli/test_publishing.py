"""What cannot be published or accepted is refused before a byte is fetched or served."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mlops_pipeline.cli.importing import import_uri
from mlops_pipeline.cli.publishing import describe
from mlops_pipeline.cli.rollback import published_last
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.publishing import Published
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.file_server import FileServer, serving
from mlops_pipeline_tests.toy import REGISTERED, published_files


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/model.joblib": b"weights"})) as made:
        yield made


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"holdout": "good.csv", "is_unevaluated": True}, "--unevaluated does not; give one"),
        ({"holdout": "missing.csv"}, r"missing\.csv does not exist"),
        ({"holdout": "bad.csv"}, "has the columns x0, but not x1, target"),
        ({"sha256": "abc"}, "expected 64 hexadecimal digits in --sha256, got 'abc'"),
        ({"is_store_down": True}, "the store does not answer"),
    ],
)
def test_what_cannot_be_published_is_not_fetched(
    tmp_path: Path,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    complaint: str,
) -> None:
    (tmp_path / "bad.csv").write_text("x0\n1\n")
    (tmp_path / "good.csv").write_text("x0,x1,target\n1,2,low\n")
    platform = FakePlatform()

    def fail(*_: object) -> bytes:
        raise UnavailableError("the store does not answer")

    if options.get("is_store_down"):
        monkeypatch.setattr(platform.store, "find", fail)
    settings = SimpleNamespace(mirror="", max_artifact_bytes=1000, datasets={})
    context: Any = SimpleNamespace(settings=settings, platform=platform)
    with pytest.raises(PipelineError, match=complaint):
        import_uri(
            context,
            REGISTERED,
            f"{server.url}/model.joblib",
            holdout=tmp_path / options["holdout"] if "holdout" in options else None,
            is_unevaluated=bool(options.get("is_unevaluated")),
            sha256=options.get("sha256", ""),
            from_platform=False,
            console=Console(quiet=True),
        )
    assert server.requests == []


@pytest.mark.parametrize("option", ["accept_refused", "accept_unevaluated"])
def test_who_accepts_an_artifact_names_it(tmp_path: Path, option: str) -> None:
    platform = FakePlatform()
    judge = Judge(platform, by="a test")
    with pytest.raises(NotFoundError, match="no artifact of it was published"):
        published_last("toy", judge, {option: True})
    manifest, files, evaluation = published_files(tmp_path)
    manifest = replace(manifest, inputs_digest="")  # As of one that was trained elsewhere.
    ref = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)
    flag = f"--{option.replace('_', '-')}"
    line = f"`mlops-pipeline deploy toy --digest {ref.digest[:12]} {flag}`"
    with pytest.raises(ConfigurationError, match=line):
        published_last("toy", judge, {option: True})
    assert published_last("toy", judge, {option: False}) == ref.digest


def test_what_was_passed_over_is_said(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    ref = ArtifactStore(FakePlatform().store).publish(manifest, files=files, evaluation=evaluation)
    lines = describe(Published(ref, manifest, (), (".git/", "src/__pycache__/")), REGISTERED)
    assert "passed over, because they are not part of a model: .git/, src/__pycache__/" in lines
    assert "passed over" not in " ".join(describe(Published(ref, manifest, ()), REGISTERED))
