"""A manifest of one's own gets no artifact past what is known of it."""

import json
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import (
    IntegrityError,
    InvalidManifestError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from mlops_pipeline.delivery.applying import (
    Judging,
    apply_manifest,
    delete_deployment,
    unproved,
)
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import COMPARED_WITH, PLACE, Judgement, VerdictLog, standing
from mlops_pipeline.platforms.layers import Absent, Broken, Change
from mlops_pipeline.platforms.seldon import SeldonDeployment, parse
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files


def _manifest(
    uri: str, implementation: str = "SKLEARN_SERVER", secret: str = ""
) -> SeldonDeployment:
    graph = {"name": "m", "implementation": implementation, "modelUri": uri}
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": "mine", "namespace": "seldon"},
            "spec": {
                "predictors": [{"name": "default", "graph": graph | {"envSecretRefName": secret}}]
            },
        }
    )


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    made.serving_environment.scores = [[float(n < 5), float(n >= 5)] for n in range(10)]
    return made


@pytest.fixture
def ref(platform: FakePlatform, tmp_path: Path) -> ModelRef:
    manifest, files, evaluation = published_files(tmp_path)
    return ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)


def _apply(platform: FakePlatform, manifest: SeldonDeployment, *, accept: bool = False) -> Change:
    judging = Judging([TOY], accept_refused=accept, by="a test")
    return apply_manifest(manifest, platform=platform, judging=judging)


def test_the_framework_has_to_fit(platform: FakePlatform, ref: ModelRef) -> None:
    with pytest.raises(
        InvalidManifestError, match=r"TENSORFLOW_SERVER serves tensorflow models, but .* sklearn"
    ):
        _apply(platform, _manifest(ref.uri, "TENSORFLOW_SERVER"))
    assert platform.deployments.list() == []
    assert _apply(platform, _manifest(ref.uri)).action == "created"


def test_the_digest_of_the_folder_has_to_be_that_of_the_manifest(
    platform: FakePlatform, ref: ModelRef
) -> None:
    other = "0" * 64
    key = f"toy/{ref.digest}/manifest.json"
    platform.store.objects["models", f"toy/{other}/manifest.json"] = platform.store.objects[
        "models", key
    ]
    with pytest.raises(IntegrityError, match=f"to have the digest {other[:12]}"):
        _apply(platform, _manifest(f"s3://models/toy/{other}"))
    fields = json.loads(platform.store.objects["models", key])
    platform.store.objects["models", key] = json.dumps(fields | {"framework": "x"}).encode()
    with pytest.raises(IntegrityError, match="could not verify the artifact"):
        _apply(platform, _manifest(ref.uri))
    assert platform.deployments.list() == []


def test_a_refused_artifact_is_refused_wherever_it_lies(
    platform: FakePlatform, ref: ModelRef
) -> None:
    log = VerdictLog(platform.store)
    log.append(ref, Judgement("accuracy", passed=False, sentence="accuracy 0.36"))
    for (bucket, key), data in list(platform.store.objects.items()):
        copied = key.replace(f"toy/{ref.digest}/", "copies/mine/")
        platform.store.objects[bucket, copied] = data
    for uri in (ref.uri, f"{ref.uri}/", "s3://models/copies/mine"):
        with pytest.raises(RefusedError, match=r"refused by accuracy: accuracy 0\.36"):
            _apply(platform, _manifest(uri))
    assert platform.deployments.list() == []

    _apply(platform, _manifest(ref.uri), accept=True)

    marked = standing(log.entries(ref))
    assert marked.is_accepted_although_refused
    assert [period.although_refused for period in marked.served] == [True]
    delete_deployment("mine", namespace="seldon", platform=platform, by="a test")
    assert standing(log.entries(ref)).served[0].until is not None


def test_one_that_was_never_judged_is_judged_first(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    log = VerdictLog(platform.store)
    manifest, files, evaluation = published_files(tmp_path / "bad", content="bad", accuracy=0.36)
    bad = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)
    with pytest.raises(RefusedError, match="accuracy_at_least_threshold"):
        _apply(platform, _manifest(bad.uri))
    assert standing(log.entries(bad)).state == "refused"
    _apply(platform, _manifest(ref.uri))
    assert len(standing(log.entries(ref)).judged) == 3


def test_one_of_a_model_that_is_not_registered_cannot_be_judged(
    platform: FakePlatform, ref: ModelRef
) -> None:
    judging = Judging([], accept_refused=False, by="a test")
    with pytest.raises(RefusedError, match="no model with this name is registered here"):
        apply_manifest(_manifest(ref.uri), platform=platform, judging=judging)


def test_a_deployment_beside_the_models_own_does_not_switch_a_comparison_off(
    platform: FakePlatform, ref: ModelRef
) -> None:
    _apply(platform, _manifest(ref.uri))
    here = place_for(TOY, platform)
    worse = Judgement("not_worse", False, "6 rows lost", {COMPARED_WITH: "b", PLACE: here})
    log = VerdictLog(platform.store)
    log.append(ref, worse)
    with pytest.raises(RefusedError, match="6 rows lost"):
        _apply(platform, _manifest(ref.uri))


def test_only_the_refused_artifact_is_accepted_and_only_after_it_serves(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = VerdictLog(platform.store)
    manifest, files, evaluation = published_files(tmp_path / "bad", content="bad", accuracy=0.36)
    bad = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)
    (whole,) = _manifest(ref.uri).spec.predictors
    (part,) = _manifest(bad.uri).spec.predictors
    both = (
        whole.model_copy(update={"traffic": 90}),
        part.model_copy(update={"name": "canary", "traffic": 10}),
    )
    canary = _manifest(ref.uri)
    canary = canary.model_copy(update={"spec": canary.spec.model_copy(update={"predictors": both})})

    def fail(_: SeldonDeployment) -> Change:
        raise UnavailableError("the gateway does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(platform.deployments, "apply", fail)
        with pytest.raises(UnavailableError):
            _apply(platform, canary, accept=True)
    assert standing(log.entries(bad)).accepted == ()

    _apply(platform, canary, accept=True)

    assert [p.although_refused for p in standing(log.entries(ref)).served] == [False]
    assert standing(log.entries(ref)).accepted == ()
    assert [p.although_refused for p in standing(log.entries(bad)).served] == [True]
    assert standing(log.entries(bad)).is_accepted_although_refused


def test_a_store_without_an_address_is_not_taken_for_none(
    platform: FakePlatform, ref: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise NotFoundError("the object store is missing")

    _apply(platform, _manifest(ref.uri))
    monkeypatch.setattr(platform, "object_store", fail)
    platform.layers[0].state = Broken("its Service has no address")
    with pytest.raises(UnavailableError, match="could not read the verdicts on artifacts"):
        _apply(platform, _manifest(ref.uri))
    with pytest.raises(UnavailableError, match="could not read the verdicts on artifacts"):
        delete_deployment("mine", namespace="seldon", platform=platform, by="a test")
    platform.layers[0].state = Absent()
    assert _apply(platform, _manifest("s3://elsewhere/theirs")).action == "created"


def test_models_of_others_are_applied_as_they_are(platform: FakePlatform) -> None:
    platform.store.put("models", "theirs/model.joblib", b"x")
    for uri in ("s3://models/theirs", "s3://elsewhere/theirs"):
        assert _apply(platform, _manifest(uri)).action in ("created", "updated")
        _apply(platform, _manifest(uri, secret="keys-of-another-store"))


def test_another_secret_gets_no_artifact_past_its_checks(
    platform: FakePlatform, ref: ModelRef
) -> None:
    log = VerdictLog(platform.store)
    with pytest.raises(InvalidManifestError):
        _apply(platform, _manifest(ref.uri, "TENSORFLOW_SERVER", secret="copy-of-our-keys"))
    _apply(platform, _manifest(ref.uri, secret="copy-of-our-keys"))
    assert standing(log.entries(ref)).served == ()

    log.append(ref, Judgement("accuracy", passed=False, sentence="accuracy 0.36"))
    with pytest.raises(RefusedError, match=r"accuracy 0\.36"):
        _apply(platform, _manifest(ref.uri, secret="copy-of-our-keys"))


@pytest.mark.parametrize("left", ["the files", "the files and a refusal"])
def test_what_is_left_of_an_artifact_without_a_manifest_is_refused(
    platform: FakePlatform, ref: ModelRef, left: str
) -> None:
    log = VerdictLog(platform.store)
    if "refusal" in left:
        log.append(ref, Judgement("accuracy", passed=False, sentence="accuracy 0.36"))
    platform.store.delete("models", f"toy/{ref.digest}/manifest.json")
    for accept in (False, True):
        with pytest.raises(
            IntegrityError, match=r"has no manifest\.json\. The artifact was deleted"
        ):
            _apply(platform, _manifest(ref.uri), accept=accept)
    assert platform.deployments.list() == []
    assert not standing(log.entries(ref)).served


@pytest.mark.parametrize(
    "uri", ["gs://seldon-models/v1.18.2/sklearn/iris", "pvc://claim/iris", "own://bucket/iris"]
)
def test_a_model_from_elsewhere_is_applied_where_an_initializer_reads_it(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    manifest = _manifest(uri)
    with pytest.raises(InvalidManifestError, match=f"not {uri}; run `mlops-pipeline import {uri}"):
        _apply(platform, manifest)
    assert platform.deployments.list() == []
    monkeypatch.setattr(platform, "reads_elsewhere", True)
    assert _apply(platform, manifest).action == "created"
    assert unproved(manifest) == [uri]


def test_a_model_of_the_object_store_is_not_called_unproved(ref: ModelRef) -> None:
    assert unproved(_manifest(ref.uri)) == []


@pytest.mark.parametrize(
    "place",
    [
        "s3://models/{}/1",
        "mys3://models/{}",
        "mys3://models//{}/",
        "mys3://x/../models/{}",
        "mine://backup/models/{}/1",
    ],
)
def test_another_remote_or_folder_gets_no_refused_artifact_past_its_checks(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(platform, "reads_elsewhere", True)
    manifest, files, evaluation = published_files(tmp_path / "bad", content="bad", accuracy=0.36)
    bad = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)
    uri = place.format(f"toy/{bad.digest}")
    with pytest.raises(RefusedError, match="accuracy_at_least_threshold"):
        _apply(platform, _manifest(uri, secret="mine"))
    assert platform.deployments.list() == []
    copy = place.format(f"theirs/{'0' * 64}")
    assert _apply(platform, _manifest(copy)).action == "created", "an artifact of another store"


@pytest.mark.parametrize("scheme", ["https", "http", "ftp", "file", "HTTPS"])
def test_a_uri_that_no_initializer_reads_is_refused(scheme: str) -> None:
    with pytest.raises(
        InvalidManifestError, match=f"does not read {scheme.lower()}://; run `mlops"
    ):
        _manifest(f"{scheme}://host/model.joblib")
