"""A model server verifies before it imports or unpickles anything."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_pipeline.serving import artifact, loading
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import Place, read_settings
from mlops_pipeline.serving.signing.bundle import make_bundle
from mlops_pipeline.serving.signing.keys import fingerprint, make_private, public_pem
from mlops_pipeline.serving.signing.policy import Mode, Policy
from mlops_pipeline_tests.serving.servers import serve_in_vain

KEY = make_private()
PEM = public_pem(KEY)
POLICY = Policy(Mode.REQUIRED, {fingerprint(PEM): PEM})


class _Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(pickle.dumps(_Evil(tmp_path / "unpickled")))
    return folder


@pytest.fixture
def published(bare: Path) -> Path:
    manifest = Manifest(
        name="iris",
        framework="sklearn",
        files=artifact.hash_files(bare),
        inputs=(Tensor("x", (-1, 4), "FP64"),),
        outputs=(Tensor("y", (-1, 3), "FP64"),),
    )
    (bare / "manifest.json").write_text(manifest.to_json())
    return bare


def _sign(folder: Path, key: bytes = KEY) -> None:
    files, manifest = artifact.hash_files(folder), folder / "manifest.json"
    if manifest.exists():
        files["manifest.json"] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    (folder / "model.sig").write_bytes(make_bundle(files, name="iris", private_key=key))


@pytest.mark.parametrize("place", Place)
def test_a_signed_artifact_is_verified(published: Path, place: Place) -> None:
    _sign(published)
    assert loading.verify(published, place=place, policy=POLICY).name == "iris"
    (published / "model.sig").unlink()
    with pytest.raises(StartError, match=r"has no model\.sig.*`mlops-pipeline sign iris/") as no:
        loading.verify(published, place=place, policy=POLICY)
    assert no.value.code is ExitCode.ARTIFACT
    assert loading.verify(published, place=place).name == "iris"


def test_a_manifest_that_was_changed_where_the_digest_does_not_see_it(published: Path) -> None:
    _sign(published)
    text = (published / "manifest.json").read_text()
    (published / "manifest.json").write_text(text.replace('"run_id": ""', '"run_id": "other"'))
    assert loading.verify(published).run_id == "other"
    with pytest.raises(StartError, match=r"altered: manifest\.json"):
        loading.verify(published, policy=POLICY)


def test_a_model_without_a_manifest_is_signed_too(bare: Path) -> None:
    with pytest.raises(StartError, match=r"`mlops-pipeline sign URI"):
        loading.verify(bare, place=Place.POD, policy=POLICY)
    _sign(bare)
    assert loading.verify(bare, place=Place.POD, policy=POLICY).digest == ""
    (bare / "more.py").write_text("")
    with pytest.raises(StartError, match=r"not signed: more\.py"):
        loading.verify(bare, place=Place.POD, policy=POLICY)


@pytest.mark.parametrize("name", ["model.joblib", "code", "model.sig"])
def test_symbolic_links_are_refused(bare: Path, name: str) -> None:
    _sign(bare)
    moved = bare.parent / "moved"
    if name == "code":
        moved.mkdir()
    else:
        (bare / name).rename(moved)
    (bare / name).symlink_to(moved)
    with pytest.raises(StartError, match=rf"not signed: {name} \(a symbolic link\)"):
        loading.verify(bare, place=Place.POD, policy=POLICY)


def test_settings_say_which_signatures_count(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_text(POLICY.to_json())
    assert read_settings({}).signing == Policy()
    assert read_settings({"MLOPS_TRUST": POLICY.to_json()}).signing == POLICY
    assert read_settings({"MLOPS_TRUST_FILE": str(file)}).signing == POLICY
    for damaged in ({"MLOPS_TRUST": "{"}, {"MLOPS_TRUST_FILE": str(tmp_path / "missing")}):
        with pytest.raises(StartError, match="which signatures count") as refusal:
            read_settings(damaged)
        assert refusal.value.code is ExitCode.SETTINGS


@pytest.mark.embedded
@pytest.mark.parametrize("key", [None, make_private()])
def test_a_server_process_unpickles_nothing_of_what_it_refuses(
    published: Path, tmp_path: Path, key: bytes | None
) -> None:
    if key is not None:
        _sign(published, key)
    done = serve_in_vain(published, MLOPS_TRUST=POLICY.to_json())
    assert done.returncode == ExitCode.ARTIFACT, done.stderr
    assert "mlops-pipeline" in done.stderr
    assert not (tmp_path / "unpickled").exists()
