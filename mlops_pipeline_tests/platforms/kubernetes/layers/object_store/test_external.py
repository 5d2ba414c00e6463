import base64
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import s3
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import SECRET
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.layers.object_store.external import ExternalStore
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import SeaweedStore
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig

ENDPOINT = "https://s3.example.com"
KEY = s3.Credentials("AKEXAMPLE", "secret-of-theirs", "token-of-theirs")


class Theirs(FakeObjectStore):
    """Somebody else's store."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets = {"models", "datasets", "photos"}
        self.error: Exception | None = None

    def at(self, endpoint: str, key: s3.Credentials, *, region: str, **options: Any) -> "Theirs":
        assert (endpoint, key, region) == (ENDPOINT, KEY, "eu-west-1")
        return self

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return super().sizes(bucket, prefix)


@pytest.fixture
def rig(tmp_path: Path) -> HelmRig:
    """A cluster, and settings that name another S3."""
    made = HelmRig.make(tmp_path, {})
    made.set(object_store={"endpoint": ENDPOINT, "region": "eu-west-1", "profile": "lab"})
    return made


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Theirs:
    made = Theirs()

    def standard_credentials(profile: str) -> s3.Credentials:
        assert profile == "lab"
        return KEY

    monkeypatch.setattr(s3, "ObjectStore", made.at)
    monkeypatch.setattr(s3, "standard_credentials", standard_credentials)
    return made


def test_the_settings_choose_the_store(rig: HelmRig) -> None:
    def chosen() -> type:
        return type(KindPlatform(rig.parts.state.home, rig.settings, bundle=None).layers[3])

    assert chosen() is ExternalStore
    rig.set()
    assert chosen() is SeaweedStore


def test_without_a_cluster_it_is_absent(rig: HelmRig, store: Theirs) -> None:
    rig.parts.state.kubeconfig.unlink()
    assert ExternalStore(rig.parts).observe() == Absent()


def test_a_missing_bucket_is_told_and_not_made(rig: HelmRig, store: Theirs) -> None:
    store.buckets = {"models", "photos"}
    layer = ExternalStore(rig.parts)
    remedy = f"create them at {ENDPOINT}; this project does not change that store"
    assert layer.observe() == Broken.needing_help(f"buckets are missing: datasets; {remedy}")
    with pytest.raises(ConfigurationError, match=f"buckets are missing: datasets; {remedy}"):
        layer.ensure()
    assert store.buckets == {"models", "photos"}
    assert rig.api.applied == []


def test_nothing_is_installed_but_the_secrets(rig: HelmRig, store: Theirs) -> None:
    layer = ExternalStore(rig.parts)
    change = layer.ensure()
    assert (change.action, change.facts["address"]) == ("unchanged", ENDPOINT)
    layer.ensure_secret("seldon")
    assert store.buckets == {"models", "datasets", "photos"}
    assert {m["kind"] for m in rig.api.applied} == {"Namespace", "Secret"}
    assert isinstance(layer.observe(), Ready)
    assert layer.ensure().action == "unchanged"


def test_servers_read_it_with_the_keys_of_this_machine(rig: HelmRig, store: Theirs) -> None:
    layer = ExternalStore(rig.parts)
    assert layer.ensure_secret("team") is True
    found = rig.api.get(SECRET, "seldon-rclone-secret", namespace="team")
    held = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
    assert held["RCLONE_CONFIG_S3_PROVIDER"] == "Other"
    assert held["RCLONE_CONFIG_S3_ENDPOINT"] == ENDPOINT
    assert held["RCLONE_CONFIG_S3_REGION"] == "eu-west-1"
    assert held["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] == "AKEXAMPLE"
    assert held["RCLONE_CONFIG_S3_SESSION_TOKEN"] == "token-of-theirs"
    assert "secret-of-theirs" not in repr(KEY)
    assert "token-of-theirs" not in repr(KEY)


def test_keys_that_changed_are_a_difference(
    rig: HelmRig, store: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ExternalStore(rig.parts).ensure_secret("seldon")
    change = {"data": {"RCLONE_CONFIG_S3_ACCESS_KEY_ID": "eA=="}}
    rig.api.patch(SECRET, "seldon-rclone-secret", change, namespace="seldon")
    assert ExternalStore(rig.parts).observe() == Drifted(("its Secret is out of date in: seldon",))
    assert ExternalStore(rig.parts).ensure().action == "updated"


def test_a_store_that_does_not_answer_is_told(rig: HelmRig, store: Theirs) -> None:
    store.error = UnavailableError("no such host")
    state = ExternalStore(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "no such host; check that kind.object_store.endpoint is right" in state.obstacle
    with pytest.raises(WaitTimeoutError, match=r"check that kind\.object_store\.endpoint is right"):
        ExternalStore(rig.parts).ensure()


def test_a_store_that_refuses_the_keys_is_told(rig: HelmRig, store: Theirs) -> None:
    store.error = AccessDeniedError("the object store rejected the keys")
    with pytest.raises(AccessDeniedError):
        ExternalStore(rig.parts).ensure()


def test_without_keys_it_is_broken_and_says_where_to_put_them(
    rig: HelmRig, store: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(profile: str) -> s3.Credentials:
        raise ConfigurationError("could not find a key; set AWS_ACCESS_KEY_ID")

    monkeypatch.setattr(s3, "standard_credentials", nothing)
    state = ExternalStore(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "AWS_ACCESS_KEY_ID" in state.reason
    with pytest.raises(ConfigurationError):
        ExternalStore(rig.parts).ensure()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:9000", "in a pod, that is the pod itself"),
        ("http://localhost:9000", "in a pod, that is the pod itself"),
        ("s3.example.com", "it is not a URL"),
    ],
)
def test_an_address_that_pods_cannot_reach_is_refused(
    rig: HelmRig, monkeypatch: pytest.MonkeyPatch, endpoint: str, reason: str
) -> None:
    made = Theirs()
    made.buckets = set()
    monkeypatch.setattr(s3, "ObjectStore", lambda *_, **__: made)
    monkeypatch.setattr(s3, "standard_credentials", lambda _: KEY)
    rig.set(object_store={"endpoint": endpoint})
    with pytest.raises(ConfigurationError, match=reason):
        ExternalStore(rig.parts).ensure()
    assert isinstance(ExternalStore(rig.parts).observe(), Broken)
    assert made.buckets == set()


def test_removing_it_leaves_it_alone(rig: HelmRig, store: Theirs) -> None:
    ExternalStore(rig.parts).ensure()
    ExternalStore(rig.parts).remove()
    assert store.buckets == {"models", "datasets", "photos"}
    with pytest.raises(NotFoundError):
        store.get("models", "x")
