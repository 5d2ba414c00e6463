"""A manifest of one's own gets no artifact past what is known of it."""

import json
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import IntegrityError, InvalidManifestError, RefusedError
from mlops_pipeline.delivery.applying import apply_manifest, delete_deployment
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import Judgement, VerdictLog, standing
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.seldon import SeldonDeployment, parse
from mlops_pipeline_tests.fakes import FakePlatform
from mlops_pipeline_tests.toy import published_files


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
    return FakePlatform()


@pytest.fixture
def ref(platform: FakePlatform, tmp_path: Path) -> ModelRef:
    manifest, files, evaluation = published_files(tmp_path)
    return ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)


def _apply(platform: FakePlatform, manifest: SeldonDeployment, *, accept: bool = False) -> Change:
    return apply_manifest(manifest, platform=platform, accept_refused=accept, by="a test")


def test_the_framework_has_to_fit(platform: FakePlatform, ref: ModelRef) -> None:
    with pytest.raises(
        InvalidManifestError, match=r"TENSORFLOW_SERVER serves tensorflow models, and .* sklearn"
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
    with pytest.raises(IntegrityError, match=f"named by the digest {other[:12]}"):
        _apply(platform, _manifest(f"s3://models/toy/{other}"))
    fields = json.loads(platform.store.objects["models", key])
    platform.store.objects["models", key] = json.dumps(fields | {"framework": "x"}).encode()
    with pytest.raises(IntegrityError, match="cannot be trusted"):
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
