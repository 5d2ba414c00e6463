"""The manifest of an artifact, now and as it was."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.serving import VERSION
from mlops_pipeline.serving.artifact import (
    _CIRCUMSTANCES,
    MANIFEST,
    NOTE,
    ArtifactError,
    Manifest,
    describe_excess,
    parse_manifest,
    saved_models,
    verify,
)
from mlops_pipeline.serving.bare import describe
from mlops_pipeline_tests.toy import published_files


def earlier_manifest(folder: Path) -> tuple[dict[str, object], Path]:
    """Return a manifest whose digest covers the files alone, as the first ones did."""
    manifest, files, _ = published_files(folder)
    lines = "".join(f"{sha}  {path}\n" for path, sha in sorted(manifest.files.items()))
    earlier = hashlib.sha256(lines.encode()).hexdigest()
    assert earlier != manifest.digest
    return json.loads(manifest.to_json()) | {"digest": earlier}, files


def test_an_earlier_artifact_keeps_the_digest_that_it_was_deployed_by(tmp_path: Path) -> None:
    fields, files = earlier_manifest(tmp_path)
    (files / MANIFEST).write_text(json.dumps(fields))
    manifest = verify(files)
    assert manifest.digest == fields["digest"]
    assert parse_manifest(manifest.to_json()) == manifest


def test_an_earlier_artifact_whose_files_were_changed_is_refused(tmp_path: Path) -> None:
    fields, files = earlier_manifest(tmp_path)
    (files / "model.joblib").write_text("something else")
    (files / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(ArtifactError, match=r"changed: model\.joblib"):
        verify(files)
    fields["files"] = {}
    with pytest.raises(ArtifactError, match="has the digest"):
        parse_manifest(json.dumps(fields))


def saved_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


def test_a_published_artifact_is_described_by_its_manifest(tmp_path: Path) -> None:
    manifest, files, _ = published_files(tmp_path)
    (files / MANIFEST).write_text(manifest.to_json())
    assert describe(files) == manifest
    (files / "model.joblib").write_text("something else")
    with pytest.raises(ArtifactError, match=r"changed: model\.joblib"):
        describe(files)


def test_a_bare_model_is_described_without_a_digest(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"model")
    (tmp_path / "metadata.yaml").write_text("name: iris")
    manifest = describe(tmp_path)
    assert (manifest.framework, manifest.digest, manifest.version) == ("sklearn", "", 1)


def test_a_bare_saved_model_has_the_version_of_its_folder(tmp_path: Path) -> None:
    for name in ("3", "20", "x"):
        saved_model(tmp_path / name)
    manifest = describe(tmp_path)
    assert (manifest.framework, manifest.digest, manifest.version) == ("tensorflow", "", 20)
    assert saved_models(tmp_path) == {3: tmp_path / "3", 20: tmp_path / "20"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "is empty"),
        (("net.pkl", "other.pb"), "contains net.pkl, other.pb"),
        (None, "cannot be read"),
    ],
)
def test_a_folder_without_a_model_is_described_in_a_sentence(
    tmp_path: Path, names: tuple[str, ...] | None, said: str
) -> None:
    folder = tmp_path / "models"
    if names is not None:
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x")
    with pytest.raises(ArtifactError, match=f"{said}.*set modelUri to the folder"):
        describe(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.keras", r"load_model\('model.keras'\).export\('1'\)\"`, and use the folder 1"),
        ("model.h5", r"load_model\('model.h5'\).export\('1'\)"),
        ("saved_model.pb", "must be in a numbered folder; move it and what is beside it to 1"),
    ],
)
def test_a_network_that_was_not_exported_is_refused_with_the_line_that_does(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(ArtifactError, match=said):
        describe(tmp_path)


def test_a_manifest_of_a_version_without_tasks_keeps_its_digest() -> None:
    manifest = Manifest("toy", "sklearn", {"model.joblib": "ab"}, inputs=(), outputs=())
    fields = json.loads(manifest.to_json())
    assert fields.pop("task") == ""
    covered = {k for k in fields if k not in _CIRCUMSTANCES and not k.startswith(NOTE)}
    content = {k: fields[k] for k in covered}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert fields["digest"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert parse_manifest(json.dumps(fields)) == manifest
    regression = replace(manifest, task="regression")
    assert regression.digest != manifest.digest
    assert parse_manifest(regression.to_json()) == regression


def test_what_does_not_fit_is_known_before_it_is_downloaded(tmp_path: Path) -> None:
    assert describe_excess(100, tmp_path / "not" / "yet", most=100) == ""
    assert "it has 101 bytes, and the maximum is 100 bytes" in describe_excess(
        101, tmp_path, most=100
    )
    free = shutil.disk_usage(tmp_path).free
    reason = describe_excess(10 * free, tmp_path, most=20 * free)
    assert "are free in" in reason
    assert str(tmp_path) in reason


def test_fields_of_a_later_version_are_passed_over_and_kept() -> None:
    manifest = Manifest("toy", "sklearn", {"model.joblib": "ab"}, inputs=(), outputs=())
    later = replace(manifest, later={"calibrated": [1, 2], f"{NOTE}reviewer": "Ada"})
    written = json.loads(later.to_json())
    assert (written["calibrated"], written["note_reviewer"]) == ([1, 2], "Ada")
    assert "later" not in written
    read = parse_manifest(json.dumps(written))
    assert (read, read.digest, read.to_json()) == (later, later.digest, later.to_json())
    assert parse_manifest(json.dumps(written | {"note_reviewer": "Eve"})).digest == later.digest
    assert later.digest != manifest.digest
    with pytest.raises(ArtifactError, match="has the digest"):
        parse_manifest(json.dumps(written | {"calibrated": [1, 3]}))


def test_a_manifest_without_the_optional_fields_keeps_its_digest() -> None:
    manifest = Manifest("toy", "sklearn", {"model.joblib": "ab"}, inputs=(), outputs=())
    fields = json.loads(manifest.to_json())
    assert fields.pop("note_writer") == VERSION
    assert not {"schema", "origin", "content_digest", "reproducible"} & fields.keys()
    earlier = parse_manifest(json.dumps(fields))
    assert (earlier.digest, earlier.note_writer) == (manifest.digest, "")
    assert json.loads(earlier.to_json()) == fields


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 2, "note_writer": "7.1.0"}, "an image of mlops-pipeline 7.1.0 "),
        ({"format": 2, "files": None, "note_writer": ["x"]}, "an image of the later version "),
        ({"format": "new"}, "has the format new, and mlops-pipeline"),
    ],
)
def test_a_manifest_of_a_later_format_says_which_image_serves_it(
    changed: dict[str, object], said: str
) -> None:
    manifest = Manifest("toy", "sklearn", {"model.joblib": "ab"}, inputs=(), outputs=())
    with pytest.raises(ArtifactError, match=r"reads the format 1: .*publish the model") as refused:
        parse_manifest(json.dumps(json.loads(manifest.to_json()) | changed))
    assert said in str(refused.value)
    assert VERSION in str(refused.value)
