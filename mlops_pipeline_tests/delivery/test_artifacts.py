from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.clients.errors import IntegrityError, NotFoundError, UnavailableError
from mlops_pipeline.delivery.artifacts import BUCKET, ArtifactStore, ref_to
from mlops_pipeline.delivery.deploying import deployed_ref, seldon_deployment
from mlops_pipeline.delivery.pruning import unreferenced
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import Judgement, ServingStarted, VerdictLog
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files


def test_a_published_artifact_comes_back_whole(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    artifacts = ArtifactStore(FakeObjectStore())

    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)

    assert ref.uri == f"s3://models/toy/{manifest.digest}"
    assert artifacts.manifest(ref) == manifest
    assert artifacts.download(ref, tmp_path / "copy").files == manifest.files
    assert artifacts.find_by_inputs("toy", inputs_digest="inputs-of-weights") == ref
    assert artifacts.find_by_inputs("toy", inputs_digest="others") is None
    assert np.array_equal(artifacts.holdout(ref).y, [0] * 5 + [1] * 5)


def test_publishing_twice_keeps_the_first_manifest(tmp_path: Path) -> None:
    artifacts = ArtifactStore(FakeObjectStore())
    first = published_files(tmp_path / "a", created="2026-01-01")
    again = published_files(tmp_path / "b", created="2026-02-02")

    refs = [artifacts.publish(m, files=f, evaluation=e) for m, f, e in (first, again)]

    assert refs[0] == refs[1]
    assert artifacts.manifest(refs[0]).created == "2026-01-01"


@pytest.mark.parametrize("answered", range(5))
def test_an_interrupted_publication_leaves_nothing_to_deploy(tmp_path: Path, answered: int) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore(fail_after=answered)
    artifacts, ref = ArtifactStore(store), ref_to("toy", manifest.digest)

    with pytest.raises(UnavailableError, match="network went away"):
        artifacts.publish(manifest, files=files, evaluation=evaluation)

    whole = answered == 4  # everything but the index of inputs
    assert artifacts.exists(ref) == whole
    assert artifacts.find_by_inputs("toy", inputs_digest=manifest.inputs_digest) is None
    store.fail_after = None
    assert artifacts.publish(manifest, files=files, evaluation=evaluation) == ref
    assert artifacts.download(ref, tmp_path / "copy") == manifest


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda o, key: o.__setitem__((BUCKET, key), b"other"), "changed: model.joblib"),
        (lambda o, key: o.pop((BUCKET, key)), "missing: model.joblib"),
        (lambda o, key: o.__setitem__((BUCKET, key + ".bak"), b""), "extra: model.joblib.bak"),
    ],
)
def test_a_damaged_artifact_is_named(tmp_path: Path, damage: object, complaint: str) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    ref = ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation)

    damage(store.objects, f"toy/{ref.digest}/model.joblib")  # type: ignore[operator]

    with pytest.raises(IntegrityError, match=complaint):
        ArtifactStore(store).download(ref, tmp_path / "copy")


def test_a_manifest_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    ref = ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation)
    moved = ref_to("toy", "0" * 64)
    store.objects[BUCKET, f"toy/{moved.digest}/manifest.json"] = manifest.to_json().encode()

    with pytest.raises(IntegrityError, match=ref.digest):
        ArtifactStore(store).manifest(moved)


def test_a_changed_holdout_set_is_refused(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    ref = ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation)
    store.objects[BUCKET, f"toy/evaluations/{ref.digest}/holdout.npz"] = b"other"

    with pytest.raises(IntegrityError, match=r"holdout\.npz"):
        ArtifactStore(store).holdout(ref)


def test_a_listed_manifest_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    artifacts = ArtifactStore(store)
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)
    tags = artifacts.etags(ref)

    store.silent = {"get"}
    assert [found.complete for found in artifacts.list("toy")] == [True]
    assert artifacts.etags(ref) == tags
    with pytest.raises(UnavailableError):
        artifacts.manifest(ref)

    store.silent = set()
    key = (BUCKET, f"toy/{ref.digest}/manifest.json")
    content, store.objects[key] = store.objects[key], b"{}"
    assert [found.complete for found in artifacts.list("toy")] == [False]
    with pytest.raises(IntegrityError):
        artifacts.etags(ref)
    del store.objects[key]
    with pytest.raises(NotFoundError):
        artifacts.etags(ref)
    store.objects[key] = content
    assert [found.complete for found in artifacts.list("toy")] == [True]


def test_an_absent_artifact_says_how_to_list_them() -> None:
    with pytest.raises(NotFoundError, match="mlops-pipeline models toy"):
        ArtifactStore(FakeObjectStore()).manifest(ref_to("toy", "1" * 64))


def test_evidence_is_found_out_once(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    artifacts = ArtifactStore(FakeObjectStore())
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)

    assert [_note(artifacts, ref, n) for n in (1, 2)] == [1, 1]


def _note(artifacts: ArtifactStore, ref: ModelRef, number: int) -> int:
    return artifacts.evidence(
        ref, "e", make=lambda: {"n": number}, parse=lambda found: int(found["n"])
    )


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b'{"n": "x"}', b"[" * 100_000])
def test_damaged_evidence_is_found_out_again(tmp_path: Path, damaged: bytes) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    artifacts = ArtifactStore(store)
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)
    store.put("models", f"{ref.name}/evaluations/{ref.digest}/e.json", damaged)
    assert [_note(artifacts, ref, n) for n in (1, 2)] == [1, 1]


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b"7"])
def test_a_damaged_record_of_inputs_counts_as_none(tmp_path: Path, damaged: bytes) -> None:
    manifest, files, evaluation = published_files(tmp_path)
    store = FakeObjectStore()
    artifacts = ArtifactStore(store)
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)
    inputs = manifest.inputs_digest
    assert artifacts.find_by_inputs(ref.name, inputs_digest=inputs) == ref
    store.put("models", f"{ref.name}/inputs/{inputs}.json", damaged)
    assert artifacts.find_by_inputs(ref.name, inputs_digest=inputs) is None


def test_prune_counts_only_good_artifacts_and_keeps_the_last_served_ones(tmp_path: Path) -> None:
    platform = FakePlatform()
    artifacts, log = ArtifactStore(platform.store), VerdictLog(platform.store)
    refs = []
    for day in range(1, 8):
        manifest, files, evaluation = published_files(
            tmp_path / str(day), content=f"v{day}", created=f"2026-01-0{day}"
        )
        refs.append(artifacts.publish(manifest, files=files, evaluation=evaluation))
    served, before, passed, *refused, unjudged = refs
    for place in ("fake a/b", "fake c/d"):
        log.append(before, ServingStarted(place))
        log.append(served, ServingStarted(place))
    log.append(passed, Judgement("accuracy", passed=True, sentence="0.97"))
    for ref in refused:
        log.append(ref, Judgement("accuracy", passed=False, sentence="0.36"))

    def pruned(keep: int) -> list[ModelRef]:
        found = unreferenced(artifacts, platform.deployments, log=log, models=["toy"], keep=keep)
        return [artifact.ref for artifact in reversed(found)]

    assert pruned(3) == refused
    assert pruned(1) == refused
    assert pruned(0) == [before, passed, *refused, unjudged]
    platform.deployments.damaged = ("mine.yaml is damaged",)
    with pytest.raises(UnavailableError, match=r"nothing was removed: mine\.yaml is damaged"):
        pruned(3)


def test_prune_never_names_a_deployed_artifact(tmp_path: Path) -> None:
    platform = FakePlatform()
    artifacts = ArtifactStore(platform.store)
    refs = []
    for day in range(1, 6):
        manifest, files, evaluation = published_files(
            tmp_path / str(day), content=f"v{day}", created=f"2026-01-0{day}"
        )
        refs.append(artifacts.publish(manifest, files=files, evaluation=evaluation))
    half = "a" * 64
    platform.store.put(BUCKET, f"toy/{half}/model.joblib", b"half")
    platform.deployments.apply(seldon_deployment(TOY, refs[0], secret="s"))

    log = VerdictLog(platform.store)
    for ref in refs:
        log.append(ref, Judgement("accuracy", passed=True, sentence="0.97"))

    found = unreferenced(artifacts, platform.deployments, log=log, models=["toy"], keep=2)

    assert {a.ref.digest for a in found} == {refs[1].digest, refs[2].digest, half}
    artifacts.delete(refs[1])
    assert not artifacts.exists(refs[1])
    assert not platform.store.sizes(BUCKET, f"toy/{refs[1].digest}")
    assert deployed_ref(TOY, platform) == refs[0]
