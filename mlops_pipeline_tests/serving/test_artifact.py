"""The manifest of an artifact, now and as it was."""

import hashlib
import json
from pathlib import Path

import pytest

from mlops_pipeline.serving.artifact import MANIFEST, ArtifactError, parse_manifest, verify
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
    with pytest.raises(ArtifactError, match="says digest"):
        parse_manifest(json.dumps(fields))
