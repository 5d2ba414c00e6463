"""The object store in the shared cluster: what is stored stays, whatever is broken on purpose."""

import base64
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, ConfigurationError
from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    KubernetesApi,
)
from mlops_pipeline.clients.s3 import Credentials, ObjectStore
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.object_store.external import ExternalStore
from mlops_pipeline.platforms.kubernetes.object_store.seaweedfs import POD_ENDPOINT, SeaweedStore
from mlops_pipeline.platforms.kubernetes.parts import KindParts
from mlops_pipeline.platforms.layers import Broken, Drifted, Ready
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import ObjectStoreSettings

pytestmark = pytest.mark.kind

STORAGE = "mlops-storage"
NAME = "seaweedfs"
KEYS = "seaweedfs-credentials"
RCLONE = "seldon-rclone-secret"


@pytest.fixture
def store(parts: KindParts) -> Iterator[SeaweedStore]:
    """The store as the settings of the shared cluster want it; so it is left."""
    layer = SeaweedStore(parts)
    layer.ensure()
    yield layer
    layer.ensure()


@pytest.fixture
def namespace(cluster_api: KubernetesApi) -> Iterator[str]:
    """The name of a namespace that is gone afterwards."""
    name = f"mlops-test-{secrets.token_hex(4)}"
    yield name
    cluster_api.delete(NAMESPACE, name)


def data(api: KubernetesApi, name: str, namespace: str) -> dict[str, str]:
    found = api.get(SECRET, name, namespace=namespace)
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def test_it_is_ready_and_a_second_time_changes_nothing(store: SeaweedStore) -> None:
    state = store.observe()
    assert isinstance(state, Ready)
    assert state.facts["size"] == "5Gi"
    assert store.ensure().action == "unchanged"


def test_it_stores_and_refuses_other_keys(store: SeaweedStore) -> None:
    client = store.client()
    client.put("models", "test/kept", b"kept")
    assert client.get("models", "test/kept") == b"kept"
    stranger = ObjectStore(client.endpoint, Credentials("stranger", "x" * 40), attempts=1)
    with pytest.raises(AccessDeniedError):
        stranger.get("models", "test/kept")
    client.delete("models", "test/kept")


def test_its_log_shows_no_key(store: SeaweedStore, cluster_api: KubernetesApi) -> None:
    key = data(cluster_api, KEYS, STORAGE)
    log = cluster_api.log("seaweedfs-0", namespace=STORAGE, lines=10_000)
    assert key["AWS_ACCESS_KEY_ID"] not in log
    assert key["AWS_SECRET_ACCESS_KEY"] not in log


def _no_pod(api: KubernetesApi) -> None:
    api.delete(POD, "seaweedfs-0", namespace=STORAGE)


def _stopped(api: KubernetesApi) -> None:
    api.patch(STATEFUL_SET, NAME, {"spec": {"replicas": 0}}, namespace=STORAGE)


def _no_stateful_set(api: KubernetesApi) -> None:
    api.delete(STATEFUL_SET, NAME, namespace=STORAGE)


def _no_service(api: KubernetesApi) -> None:
    api.delete(SERVICE, NAME, namespace=STORAGE)


def _no_keys(api: KubernetesApi) -> None:
    api.delete(SECRET, KEYS, namespace=STORAGE)


@pytest.mark.parametrize("harm", [_no_pod, _stopped, _no_stateful_set, _no_service, _no_keys])
def test_what_is_stored_survives_what_somebody_breaks(
    store: SeaweedStore, cluster_api: KubernetesApi, harm: Callable[[KubernetesApi], None]
) -> None:
    store.client().put("models", "test/kept", b"kept")
    harm(cluster_api)
    wait_until(
        "the store to be seen broken",
        lambda: None if isinstance(store.observe(), Broken) else "it is ready",
        timeout=60,
    )
    assert store.ensure().action == "repaired"
    assert store.client().get("models", "test/kept") == b"kept"
    store.client().delete("models", "test/kept")


def test_removed_and_brought_up_again_it_has_everything(store: SeaweedStore) -> None:
    store.client().put("datasets", "test/kept", b"kept")
    store.remove()
    assert store.ensure().action in ("created", "repaired")
    assert store.client().get("datasets", "test/kept") == b"kept"
    store.client().delete("datasets", "test/kept")


def test_a_namespace_gets_the_secret_and_new_keys(
    store: SeaweedStore, cluster_api: KubernetesApi, namespace: str
) -> None:
    assert store.ensure_secret(namespace) is True
    assert store.ensure_secret(namespace) is False
    before = data(cluster_api, RCLONE, namespace)
    assert before["RCLONE_CONFIG_S3_ENDPOINT"] == POD_ENDPOINT
    _no_keys(cluster_api)
    store.ensure()
    after = data(cluster_api, RCLONE, namespace)
    assert after["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] != before["RCLONE_CONFIG_S3_ACCESS_KEY_ID"]


def test_an_edited_secret_is_a_difference(
    store: SeaweedStore, cluster_api: KubernetesApi, namespace: str
) -> None:
    store.ensure_secret(namespace)
    change = {"data": {"RCLONE_RETRIES": "OTk="}}
    cluster_api.patch(SECRET, RCLONE, change, namespace=namespace)
    assert store.observe() == Drifted((f"the store's Secret is out of date in: {namespace}",))
    assert store.ensure().action == "updated"


def test_the_volume_of_kinds_own_class_cannot_grow(store: SeaweedStore, parts: KindParts) -> None:
    larger = KindSettings(
        cluster=parts.settings.cluster, object_store=ObjectStoreSettings(size="6Gi")
    )
    with pytest.raises(ConfigurationError, match=r"set kind\.object_store\.size to 5Gi"):
        SeaweedStore(replace(parts, settings=larger)).ensure()
    assert isinstance(store.observe(), Ready)


def test_pods_copy_an_object_with_the_secret(
    store: SeaweedStore, parts: KindParts, cluster_api: KubernetesApi, namespace: str
) -> None:
    """By the service's name, as the initializer of a model does."""
    parts.images.ensure("seldon")
    store.client().put("models", "test/copied/file", b"copied")
    store.ensure_secret(namespace)
    copies = {
        "name": "copy",
        "image": "docker.io/seldonio/rclone-storage-initializer:1.17.1",
        "imagePullPolicy": "IfNotPresent",
        "args": ["-v", "s3://models/test/copied", "/tmp/copied"],
        "envFrom": [{"secretRef": {"name": RCLONE}}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "copy", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [copies]},
    }

    def describe() -> str | None:
        found = cluster_api.get(POD, "copy", namespace=namespace)
        phase = found.get("status", {}).get("phase")
        return None if phase in ("Succeeded", "Failed") else f"it is {phase}"

    wait_until(
        "the service account",
        lambda: (
            None
            if cluster_api.find(SERVICE_ACCOUNT, "default", namespace=namespace)
            else "not there"
        ),
        timeout=30,
    )
    cluster_api.apply(pod)
    wait_until("the copy", describe, timeout=60, interval=0.5)
    log = cluster_api.log("copy", namespace=namespace)
    assert "Copied (new)" in log
    store.client().delete("models", "test/copied/file")


def test_a_store_of_somebody_else_is_used_as_it_is(
    store: SeaweedStore, parts: KindParts, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = data(parts.api(), KEYS, STORAGE)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, key[name])
    endpoint = store.client().endpoint
    settings = KindSettings(
        cluster=parts.settings.cluster, object_store=ObjectStoreSettings(endpoint=endpoint)
    )
    external = ExternalStore(replace(parts, settings=settings))
    assert external.ensure_secret(namespace) is True
    assert external.ensure().facts["address"] == endpoint
    assert isinstance(external.observe(), Ready)
    assert data(parts.api(), RCLONE, namespace)["RCLONE_CONFIG_S3_ENDPOINT"] == endpoint
