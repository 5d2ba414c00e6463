"""`sign` and `keys` say what they did, and when servers learn of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops_pipeline.cli.signing import revoke, rotate, sign, trust
from mlops_pipeline.clients.errors import RefusedError
from mlops_pipeline.delivery.artifacts import ArtifactStore, artifact_store
from mlops_pipeline.platforms.embedded.platform import EmbeddedPlatform
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.kubernetes.existing import KubernetesPlatform
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.signing.keys import fingerprint, make_private, public_pem
from mlops_pipeline.serving.signing.policy import parse_policy
from mlops_pipeline.settings import Settings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, published_files


def _context(home: Path, platform: object) -> Any:
    return SimpleNamespace(
        settings=Settings(home=home),
        platform=platform,
        artifacts=artifact_store(platform) if isinstance(platform, FakePlatform) else None,
        model=lambda _: REGISTERED,
    )


def _fake(home: Path, store: FakeObjectStore) -> FakePlatform:
    return FakePlatform(store, signing=Signing(home, SigningSettings()))


def _sign(home: Path, platform: FakePlatform, target: str) -> list[str]:
    return sign(_context(home, platform), target, output=None, on_wait=print)


def test_sign_signs_what_is_older_first(tmp_path: Path) -> None:
    store = FakeObjectStore()
    refs = []
    for name in ("one", "two"):
        manifest, files, evaluation = published_files(tmp_path / name, content=name)
        refs.append(ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation))
    platform = _fake(tmp_path / "home", store)

    said = _sign(tmp_path / "home", platform, f"toy/{refs[0].digest[:12]}")

    assert said[-1] == f"{refs[0].uri} is signed already"
    assert {line.split()[1].rstrip(",") for line in said[:-1]} == {ref.uri for ref in refs}
    assert all(artifact_store(platform).signatures.check(ref) for ref in refs)


def test_sign_replaces_the_signature_of_another_key(tmp_path: Path) -> None:
    store = FakeObjectStore()
    first, second = (_fake(tmp_path / name, store) for name in ("first", "second"))
    manifest, files, evaluation = published_files(tmp_path / "files")
    ref = artifact_store(first).publish(manifest, files=files, evaluation=evaluation)
    with pytest.raises(RefusedError, match="not trusted here"):
        artifact_store(second).exists(ref)

    assert _sign(tmp_path / "second", second, "toy") == [f"signed {ref.uri}"]

    assert artifact_store(second).exists(ref)


def test_each_cluster_has_a_store_of_its_own_and_its_pods_keep_their_keys(tmp_path: Path) -> None:
    given = [
        {"context": "one"},
        {"context": "two"},
        {"context": "one", "object_store": {"endpoint": "https://s3.example"}},
        {"context": "two", "object_store": {"endpoint": "https://s3.example"}},
    ]
    made = [KubernetesSettings.model_validate(fields) for fields in given]
    one, two, *shared = [KubernetesPlatform(tmp_path, each, bundle=None) for each in made]
    assert len({one.store_id, two.store_id, *(platform.store_id for platform in shared)}) == 3
    assert "also when they restart, until `mlops-pipeline up`" in one.pass_keys()


def test_servers_of_the_embedded_platform_learn_of_keys_when_they_start(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "home" / "embedded"
    platform = EmbeddedPlatform(folder, signing=Signing(home, SigningSettings()))
    context = _context(home, platform)
    theirs = make_private()
    (tmp_path / "theirs.pem").write_text(public_pem(theirs))
    assert trust(context, tmp_path / "theirs.pem")[-1].endswith("with `mlops-pipeline up`")
    EmbeddedFolder.at(folder).prepare()
    file = folder / "trust.json"

    assert "start again use the current keys" in rotate(context)[-1]
    known = fingerprint(public_pem(theirs))
    assert known in parse_policy(file.read_text()).trusted
    revoke(context, known)
    assert known in parse_policy(file.read_text()).revoked
    EmbeddedFolder.at(folder).purge()
