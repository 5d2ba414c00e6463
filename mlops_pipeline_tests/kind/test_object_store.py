"""The object store in the shared cluster: what is stored stays, whatever is broken on purpose."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

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
from mlops_pipeline.platforms.kubernetes.layers.object_store.external import ExternalStore
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import (
    POD_ENDPOINT,
    SeaweedStore,
)
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
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


@pytest.mark.parametrize(
    "harm",
    [
        *(pytest.param(harm, marks=pytest.mark.long) for harm in (_no_pod, _stopped, _no_service)),
        _no_stateful_set,
    ],
)
def test_what_is_stored_survives_what_somebody_breaks(
    store: SeaweedStore, cluster_api: KubernetesApi, harm: Callable[[KubernetesApi], None]
) -> None:
    store.client().put("models", "test/kept", b"kept")
    harm(cluster_api)
    _repair(store)
    assert store.client().get("models", "test/kept") == b"kept"
    store.client().delete("models", "test/kept")


def _repair(store: SeaweedStore) -> None:
    """Repair the store as soon as it is seen broken."""
    wait_until(
        "the store to be seen broken",
        lambda: None if isinstance(store.observe(), Broken) else "it is ready",
        timeout=60,
    )
    assert store.ensure().action == "repaired"


def _restart(store: SeaweedStore, api: KubernetesApi) -> None:
    """Delete the store's pod; return as soon as the layer is ready with another one."""
    before = api.get(POD, "seaweedfs-0", namespace=STORAGE)["metadata"]["uid"]
    _no_pod(api)

    def describe_unready() -> str | None:
        pod = api.find(POD, "seaweedfs-0", namespace=STORAGE)
        if pod is None or pod["metadata"]["uid"] == before:
            return "the pod is the one before"
        state = store.observe()
        return None if isinstance(state, Ready) else str(state)

    wait_until("the store with another pod", describe_unready, timeout=120, interval=0.1)


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.long)])
def test_ready_after_a_restart_it_reads_at_once_and_takes_what_is_written(
    store: SeaweedStore, cluster_api: KubernetesApi, times: int
) -> None:
    kept = secrets.token_bytes(10_000)  # Too long to be kept beside the name.
    store.client().put("models", "test/kept", kept)
    for _ in range(times):
        _restart(store, cluster_api)
        assert store.client(patience=5, attempts=1).get("models", "test/kept") == kept
        new = secrets.token_bytes(10_000)
        store.client().put("models", "test/new", new)
        assert store.client().get("models", "test/new") == new
    for name in ("kept", "new"):
        store.client().delete("models", f"test/{name}")


@pytest.mark.long
def test_removed_and_brought_up_again_it_has_everything(store: SeaweedStore) -> None:
    store.client().put("datasets", "test/kept", b"kept")
    store.remove()
    assert store.ensure().action in ("created", "repaired")
    assert store.client().get("datasets", "test/kept") == b"kept"
    store.client().delete("datasets", "test/kept")


def test_a_namespace_gets_the_secret_and_new_keys_which_find_what_was_stored(
    store: SeaweedStore, cluster_api: KubernetesApi, namespace: str
) -> None:
    store.client().put("models", "test/kept", b"kept")
    assert store.ensure_secret(namespace) is True
    assert store.ensure_secret(namespace) is False
    before = data(cluster_api, RCLONE, namespace)
    assert before["RCLONE_CONFIG_S3_ENDPOINT"] == POD_ENDPOINT
    cluster_api.delete(SECRET, KEYS, namespace=STORAGE)
    _repair(store)
    after = data(cluster_api, RCLONE, namespace)
    assert after["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] != before["RCLONE_CONFIG_S3_ACCESS_KEY_ID"]
    assert store.client().get("models", "test/kept") == b"kept"
    store.client().delete("models", "test/kept")


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
    assert "Copied (new)" in log_of(cluster_api, copies, namespace=namespace)
    store.client().delete("models", "test/copied/file")


def log_of(api: KubernetesApi, container: dict[str, Any], *, namespace: str) -> str:
    """Run a pod to its end, and return what its container has written."""
    name = container["name"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }

    def describe() -> str | None:
        phase = api.get(POD, name, namespace=namespace).get("status", {}).get("phase")
        return None if phase in ("Succeeded", "Failed") else f"it is {phase}"

    def describe_account() -> str | None:
        found = api.find(SERVICE_ACCOUNT, "default", namespace=namespace)
        return None if found is not None else "not there"

    wait_until("the service account", describe_account, timeout=30)
    api.apply(pod)
    wait_until(f"the end of {name}", describe, timeout=60, interval=0.5)
    return api.log(name, namespace=namespace)


ATTACK = """
import json, socket, ssl, sys, urllib.error, urllib.request

def ask(port, secure=lambda connection: connection):
    # What a gRPC client says first; a server that takes anybody answers with its settings.
    text = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4" + bytes(5)
    with socket.create_connection((address, port), timeout=5) as plain:
        try:
            with secure(plain) as connection:
                connection.sendall(text)
                said = connection.recv(9)
        except ssl.SSLError as error:
            return error.reason
        except ConnectionResetError:
            said = b""
    return "gRPC" if said[3:4] == b"\\x04" else "no gRPC"

def without_certificate(connection):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection)

address, found = sys.argv[1], {}
for port in (8333, 18333, 9333, 19333, 8080, 18080, 8888, 18888, 7333, 8111, 23646, 33646):
    try:
        found[port] = ask(port)
    except OSError as error:
        found[port] = type(error).__name__
found["18333 by TLS"] = ask(18333, without_certificate)
for path in ("", "models", "models?list-type=2", "datasets"):
    try:
        found[path] = urllib.request.urlopen(f"http://{address}:8333/{path}", timeout=5).status
    except urllib.error.HTTPError as error:
        found[path] = error.code
print(json.dumps(found))
"""


def test_another_pod_gets_nothing_without_a_key(
    store: SeaweedStore, parts: KindParts, cluster_api: KubernetesApi, namespace: str
) -> None:
    """At the address of the pod itself, where no Service chooses the ports."""
    store.ensure_secret(namespace)  # Which makes the namespace.
    pod = cluster_api.get(POD, "seaweedfs-0", namespace=STORAGE)
    attacker = {
        "name": "attacker",
        "image": ServingImage(parts).reference("SKLEARN_SERVER"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", ATTACK, pod["status"]["podIP"]],
    }
    found = json.loads(log_of(cluster_api, attacker, namespace=namespace))
    closed = ("9333", "19333", "8080", "18080", "8888", "18888", "7333", "8111", "23646", "33646")
    assert {port: found.pop(port) for port in closed} == dict.fromkeys(
        closed, "ConnectionRefusedError"
    )
    assert (found.pop("8333"), found.pop("18333")) == ("no gRPC", "no gRPC")
    assert "ALERT" in found.pop("18333 by TLS")
    assert set(found.values()) == {403}


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
