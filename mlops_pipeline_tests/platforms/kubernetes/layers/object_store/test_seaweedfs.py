import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import s3
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    FatalStateError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.layers.object_store import keys
from mlops_pipeline.platforms.kubernetes.layers.object_store import manifests as store_manifests
from mlops_pipeline.platforms.kubernetes.layers.object_store.manifests import (
    NETWORK_POLICY,
    bytes_of,
)
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import SeaweedStore
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig, waiting_pod

STORAGE = "mlops-storage"
NAME = "seaweedfs"
KEYS = "seaweedfs-credentials"
RCLONE = "seldon-rclone-secret"


class Store(FakeObjectStore):
    """The store in the cluster, whose pod reads the keys only when it starts."""

    def __init__(self, api: FakeKubernetes) -> None:
        super().__init__()
        self.read = ""
        """The keys that its pod has read."""
        self._sent = self._fingerprint = self._remedy = ""
        self.buckets = set()
        self.unanswered = 0
        """Requests that are not answered."""
        self.unregistered = 0
        """Requests for objects that are answered before the volumes are registered."""
        self._api = api
        api.when_applied("StatefulSet", self._start)

    def _start(self, manifest: Manifest) -> None:
        template = manifest["spec"]["template"]["metadata"]
        if (fingerprint := template["annotations"]["mlops-pipeline/keys"]) != self._fingerprint:
            self._fingerprint, self.read = fingerprint, data(self._api)["s3.json"]

    def at(self, endpoint: str, key: s3.Credentials, **options: Any) -> "Store":
        """Return it as a client."""
        self.endpoint = endpoint
        self._sent, self._remedy = key.secret_access_key, str(options["remedy"])
        assert data(self._api)["AWS_SECRET_ACCESS_KEY"] == self._sent
        return self

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        if f'"{self._sent}"' not in self.read:
            raise AccessDeniedError(f"the object store rejected the keys; {self._remedy}")
        if self.unanswered:
            self.unanswered -= 1
            raise UnavailableError("connection refused")
        return super().sizes(bucket, prefix)

    def get(self, bucket: str, key: str) -> bytes:
        if self.unregistered:
            self.unregistered -= 1
            raise NotFoundError(f"{bucket}/{key}: it does not exist")
        return super().get(bucket, key)

    def put(self, bucket: str, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.unregistered:
            raise UnavailableError("the store answered InternalError")
        super().put(bucket, key, data, if_absent=if_absent)


def data(api: FakeKubernetes, name: str = KEYS, namespace: str = STORAGE) -> dict[str, str]:
    """Return what a Secret holds."""
    found = api.get(SECRET, name, namespace=namespace)
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def pod_fingerprint(rig: HelmRig) -> str:
    pod = rig.api.get(STATEFUL_SET, NAME, namespace=STORAGE)["spec"]["template"]["metadata"]
    return str(pod["annotations"]["mlops-pipeline/keys"])


def run_stateful_sets(api: FakeKubernetes) -> None:
    """Let a StatefulSet that is applied run at once."""

    def run(manifest: Manifest) -> None:
        wanted = manifest["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), wanted)
        api.put({**manifest, "status": {**counts, "observedGeneration": 1}})

    api.when_applied("StatefulSet", run)


@pytest.fixture
def rig(tmp_path: Path) -> HelmRig:
    """A cluster without an object store."""
    made = HelmRig.make(tmp_path, {})
    run_stateful_sets(made.api)
    return made


@pytest.fixture
def store(rig: HelmRig, monkeypatch: pytest.MonkeyPatch) -> Store:
    """What answers at the address of the cluster's store."""
    made = Store(rig.api)
    monkeypatch.setattr(s3, "ObjectStore", made.at)
    return made


@pytest.fixture
def installed(rig: HelmRig, store: Store) -> HelmRig:
    """A cluster with our object store."""
    SeaweedStore(rig.parts).ensure()
    return rig


def test_without_a_cluster_it_is_absent_and_nothing_is_removed(rig: HelmRig) -> None:
    rig.parts.state.kubeconfig.unlink()
    layer = SeaweedStore(rig.parts)
    assert layer.observe() == Absent()
    layer.remove()
    with pytest.raises(NotFoundError):
        layer.client()


def test_in_an_empty_cluster_it_is_absent_and_has_no_client(rig: HelmRig) -> None:
    layer = SeaweedStore(rig.parts)
    assert layer.observe() == Absent()
    with pytest.raises(NotFoundError, match="mlops-pipeline up object_store"):
        layer.client()
    with pytest.raises(NotFoundError, match="the store has no keys"):
        layer.ensure_secret("team")
    assert rig.api.applied == []


def test_an_api_server_that_does_not_answer_breaks_it(rig: HelmRig) -> None:
    rig.api.stop()
    assert isinstance(SeaweedStore(rig.parts).observe(), Broken)


def test_it_comes_with_buckets_keys_and_a_secret_for_models(rig: HelmRig, store: Store) -> None:
    change = SeaweedStore(rig.parts).ensure()
    assert change.action == "created"
    assert change.facts["address"] == "http://172.18.255.9:8333" == store.endpoint
    assert change.facts["size"] == "5Gi"
    assert store.buckets == {"models", "datasets"}
    assert rig.rig.engine.imported[0][0].name == "storage.tar"
    assert isinstance(SeaweedStore(rig.parts).observe(), Ready)
    assert data(rig.api, RCLONE, "seldon")["RCLONE_CONFIG_S3_ENDPOINT"] == (
        "http://seaweedfs.mlops-storage.svc.cluster.local:8333"
    )


def test_a_second_time_changes_nothing(installed: HelmRig) -> None:
    applied = len(installed.api.applied)
    assert SeaweedStore(installed.parts).ensure().action == "unchanged"
    assert len(installed.api.applied) == applied


def test_only_the_key_of_its_secret_opens_it(installed: HelmRig) -> None:
    kept = data(installed.api)
    identity = json.loads(kept["s3.json"])["identities"][0]
    assert identity["credentials"] == [
        {"accessKey": kept["AWS_ACCESS_KEY_ID"], "secretKey": kept["AWS_SECRET_ACCESS_KEY"]}
    ]
    assert len(kept["AWS_SECRET_ACCESS_KEY"]) >= 40


def test_its_key_is_in_secrets_alone(installed: HelmRig) -> None:
    secret = data(installed.api)["AWS_SECRET_ACCESS_KEY"]
    coded = base64.b64encode(secret.encode()).decode()
    others = [m for m in installed.api.applied if m["kind"] != "Secret"]
    shown = [*map(repr, others), repr(SeaweedStore(installed.parts).observe())]
    assert not [text for text in shown if secret in text or coded in text]


def test_its_pod_may_do_little_and_listens_for_s3_alone(installed: HelmRig) -> None:
    found = installed.api.get(STATEFUL_SET, NAME, namespace=STORAGE)
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-master.telemetry=false"} <= set(
        container["command"]
    )
    policy = installed.api.get(NETWORK_POLICY, NAME, namespace=STORAGE)
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8333}]}]


def _no_stateful_set(rig: HelmRig) -> None:
    rig.api.drop(STATEFUL_SET, NAME, namespace=STORAGE)


def _stopped(rig: HelmRig) -> None:
    rig.api.patch(STATEFUL_SET, NAME, {"spec": {"replicas": 0}}, namespace=STORAGE)


def _no_service(rig: HelmRig) -> None:
    rig.api.drop(SERVICE, NAME, namespace=STORAGE)


def _no_policy(rig: HelmRig) -> None:
    rig.api.drop(NETWORK_POLICY, NAME, namespace=STORAGE)


def _no_volume(rig: HelmRig) -> None:
    rig.api.drop(PERSISTENT_VOLUME_CLAIM, NAME, namespace=STORAGE)


def _no_keys(rig: HelmRig) -> None:
    rig.api.drop(SECRET, KEYS, namespace=STORAGE)


def _half_a_key(rig: HelmRig) -> None:
    change = {"data": {"AWS_SECRET_ACCESS_KEY": None}}
    rig.api.patch(SECRET, KEYS, change, namespace=STORAGE)


def _no_readable_key(rig: HelmRig) -> None:
    change = {"data": {"AWS_SECRET_ACCESS_KEY": "////"}}
    rig.api.patch(SECRET, KEYS, change, namespace=STORAGE)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_no_stateful_set, "the StatefulSet mlops-storage/seaweedfs is missing"),
        (_stopped, "the StatefulSet mlops-storage/seaweedfs is scaled to 0"),
        (_no_service, "the Service mlops-storage/seaweedfs is missing"),
        (_no_policy, "the NetworkPolicy mlops-storage/seaweedfs is missing"),
        (_no_volume, "the PersistentVolumeClaim mlops-storage/seaweedfs is missing"),
        (_no_keys, "the Secret mlops-storage/seaweedfs-credentials has no key"),
        (_half_a_key, "the Secret mlops-storage/seaweedfs-credentials has no key"),
        (_no_readable_key, "the Secret mlops-storage/seaweedfs-credentials has no key"),
    ],
)
def test_what_it_lacks_breaks_it_and_is_repaired(
    installed: HelmRig, harm: Callable[[HelmRig], None], reason: str
) -> None:
    harm(installed)
    assert SeaweedStore(installed.parts).observe() == Broken(reason)
    assert SeaweedStore(installed.parts).ensure().action == "repaired"
    assert isinstance(SeaweedStore(installed.parts).observe(), Ready)


def test_its_keys_are_kept_whatever_else_is_repaired(installed: HelmRig) -> None:
    before = data(installed.api)
    _no_stateful_set(installed)
    SeaweedStore(installed.parts).ensure()
    assert data(installed.api) == before


def test_new_keys_reach_its_pod_and_every_secret(installed: HelmRig) -> None:
    layer = SeaweedStore(installed.parts)
    assert layer.ensure_secret("team") is True
    assert layer.ensure_secret("team") is False
    old = data(installed.api)

    before = pod_fingerprint(installed)
    _no_keys(installed)
    layer.ensure()
    new = data(installed.api)
    assert new["AWS_SECRET_ACCESS_KEY"] != old["AWS_SECRET_ACCESS_KEY"]
    assert pod_fingerprint(installed) != before
    for namespace in ("seldon", "team"):
        rclone = data(installed.api, RCLONE, namespace)
        assert rclone["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"] == new["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize("entry", ["grpc.crt", "grpc.key", "security.toml", "s3.json"])
def test_what_it_reads_is_compared_and_starts_it_again_where_it_was_damaged(
    installed: HelmRig, entry: str
) -> None:
    """SeaweedFS may run with what was damaged: it reads these files when it starts."""
    before = pod_fingerprint(installed)
    damaged = base64.b64encode(b"damaged").decode()
    installed.api.patch(SECRET, KEYS, {"data": {entry: damaged}}, namespace=STORAGE)
    state = SeaweedStore(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert f"the Secret {STORAGE}/{KEYS}" in state.differences[0]
    SeaweedStore(installed.parts).ensure()
    assert isinstance(SeaweedStore(installed.parts).observe(), Ready)
    assert data(installed.api)[entry] != "damaged"
    assert pod_fingerprint(installed) != before


@pytest.mark.parametrize(
    ("days", "unfit"), [(-2, True), (0, False), (3650 - 366, False), (3650 - 364, True)]
)
def test_its_certificate_is_good_now_and_for_a_year(
    installed: HelmRig, days: int, *, unfit: bool
) -> None:
    key = keys.find(installed.api, namespace=STORAGE)
    assert key is not None
    now = datetime.now(UTC) + timedelta(days=days)
    said = keys.describe_unfit(installed.api, key, namespace=STORAGE, now=now)
    assert (said is not None) is unfit


def test_a_secret_in_a_namespace_that_is_being_deleted_is_let_go(installed: HelmRig) -> None:
    layer = SeaweedStore(installed.parts)
    layer.ensure_secret("team")
    change = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(NAMESPACE, "team", change)
    _no_keys(installed)
    assert layer.ensure().action == "repaired"
    assert isinstance(layer.observe(), Ready)


def test_missing_buckets_are_a_difference(installed: HelmRig, store: Store) -> None:
    store.buckets.discard("models")
    assert SeaweedStore(installed.parts).observe() == Drifted(("buckets are missing: models",))
    assert SeaweedStore(installed.parts).ensure().action == "updated"
    assert store.buckets == {"models", "datasets"}


def test_a_pod_template_that_somebody_edited_is_a_difference(installed: HelmRig) -> None:
    found = installed.api.get(STATEFUL_SET, NAME, namespace=STORAGE)
    container = found["spec"]["template"]["spec"]["containers"][0]
    edited = {"containers": [{**container, "image": "chrislusf/seaweedfs:3.0"}]}
    change = {"spec": {"template": {"spec": edited}}}
    installed.api.patch(STATEFUL_SET, NAME, change, namespace=STORAGE)
    assert SeaweedStore(installed.parts).observe() == Drifted(
        ("the StatefulSet mlops-storage/seaweedfs differs from its manifest",)
    )
    assert SeaweedStore(installed.parts).ensure().action == "updated"


def test_a_secret_that_somebody_edited_is_a_difference(installed: HelmRig) -> None:
    change = {"data": {"RCLONE_RETRIES": "OTk="}}
    installed.api.patch(SECRET, RCLONE, change, namespace="seldon")
    assert SeaweedStore(installed.parts).observe() == Drifted(
        ("the store's Secret is out of date in: seldon",)
    )
    assert SeaweedStore(installed.parts).ensure().action == "updated"
    assert data(installed.api, RCLONE, "seldon")["RCLONE_RETRIES"] == "2"


def test_a_store_that_does_not_answer_yet_is_asked_again(rig: HelmRig, store: Store) -> None:
    store.unanswered = 5
    before = rig.rig.clock.now()
    SeaweedStore(rig.parts).ensure()
    assert rig.rig.clock.now() - before == pytest.approx(1.0)


def test_a_store_that_lists_what_it_cannot_give_yet_is_waited_for(
    installed: HelmRig, store: Store
) -> None:
    store.unregistered = 1
    state = SeaweedStore(installed.parts).observe()
    assert isinstance(state, Broken)
    assert "does not return models/.there/marker" in state.reason
    store.unregistered = 5
    before = installed.rig.clock.now()
    assert SeaweedStore(installed.parts).ensure().action == "repaired"
    assert store.unregistered == 0
    assert installed.rig.clock.now() - before == pytest.approx(0.6)
    assert isinstance(SeaweedStore(installed.parts).observe(), Ready)


def test_an_address_that_cannot_be_reached_is_told_with_what_to_do(
    installed: HelmRig, store: Store
) -> None:
    store.unanswered = 10_000
    assert SeaweedStore(installed.parts).observe() == Broken("connection refused")
    with pytest.raises(WaitTimeoutError, match=r"kind\.cluster\.reach = ports"):
        SeaweedStore(installed.parts).ensure()


def test_out_of_reach_of_addresses_it_is_reached_by_a_port_of_this_machine(
    rig: HelmRig, store: Store
) -> None:
    rig.by_ports()
    change = SeaweedStore(rig.parts).ensure()
    assert change.facts["address"] == "http://127.0.0.1:8433"
    service = rig.api.get(SERVICE, NAME, namespace=STORAGE)
    assert [p["nodePort"] for p in service["spec"]["ports"]] == [30083]
    assert isinstance(SeaweedStore(rig.parts).observe(), Ready)


def test_keys_that_the_store_refuses_end_the_wait_at_once(installed: HelmRig, store: Store) -> None:
    store.read = ""
    refused = Broken.needing_help(
        "the object store rejected the keys; delete the Secret "
        "mlops-storage/seaweedfs-credentials: the next `mlops-pipeline up object_store` creates "
        "new keys, and starts the store with them"
    )
    assert SeaweedStore(installed.parts).observe() == refused
    before = installed.rig.clock.now()
    with pytest.raises(AccessDeniedError):
        SeaweedStore(installed.parts).ensure()
    assert installed.rig.clock.now() == before
    _no_keys(installed)
    assert SeaweedStore(installed.parts).ensure().action == "repaired"
    assert isinstance(SeaweedStore(installed.parts).observe(), Ready)


def test_a_service_without_an_address_is_waited_for_and_told(installed: HelmRig) -> None:
    service = installed.api.get(SERVICE, NAME, namespace=STORAGE)
    installed.api.put({**service, "status": {}})
    assert SeaweedStore(installed.parts).observe() == Broken(
        "the object store has no address: no external IP was assigned to its Service"
    )
    installed.api._reactions.clear()
    with pytest.raises(WaitTimeoutError, match="no external IP was assigned to its Service"):
        SeaweedStore(installed.parts).ensure()


def test_a_pod_that_cannot_start_is_told(rig: HelmRig, store: Store) -> None:
    rig.api._reactions.clear()
    pod = waiting_pod("seaweedfs-0", STORAGE, app=NAME, reason="ErrImagePull", message="no host")
    labels = {"app.kubernetes.io/name": NAME}
    rig.api.put({**pod, "metadata": {**pod["metadata"], "labels": labels}})
    rig.api.delete = lambda *_, **__: True  # type: ignore[method-assign]
    with pytest.raises(FatalStateError, match="no host"):
        SeaweedStore(rig.parts).ensure()


def test_a_larger_volume_is_given_where_its_class_can(installed: HelmRig) -> None:
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard"},
        "allowVolumeExpansion": True,
    }
    change = {"spec": {"storageClassName": "standard"}}
    installed.api.patch(PERSISTENT_VOLUME_CLAIM, NAME, change, namespace=STORAGE)
    installed.set(object_store={"size": "10Gi"})
    state = SeaweedStore(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert state.differences == ("the volume has 5Gi, expected 10Gi",)
    with pytest.raises(ConfigurationError, match=r"set kind\.object_store\.size to 5Gi"):
        SeaweedStore(installed.parts).ensure()
    installed.api.put(storage_class)
    assert SeaweedStore(installed.parts).ensure().facts["size"] == "10Gi"


def test_a_volume_never_shrinks(installed: HelmRig) -> None:
    installed.set(object_store={"size": "1Gi"})
    with pytest.raises(ConfigurationError, match="its storage class does not allow a change"):
        SeaweedStore(installed.parts).ensure()


def test_the_same_size_in_another_unit_is_no_difference(installed: HelmRig) -> None:
    installed.set(object_store={"size": "5120Mi"})
    assert isinstance(SeaweedStore(installed.parts).observe(), Ready)
    _no_service(installed)
    assert SeaweedStore(installed.parts).ensure().action == "repaired"


def test_a_volume_that_somebody_deletes_is_told_and_not_hurried(installed: HelmRig) -> None:
    change = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(PERSISTENT_VOLUME_CLAIM, NAME, change, namespace=STORAGE)
    state = SeaweedStore(installed.parts).observe()
    assert isinstance(state, Broken)
    assert "is being deleted, with all stored data" in state.reason
    with pytest.raises(ConflictError, match="copy what you need"):
        SeaweedStore(installed.parts).ensure()


@pytest.mark.parametrize(
    ("resource", "name", "how"),
    [
        (STATEFUL_SET, NAME, "is being deleted"),
        (SERVICE, NAME, "is missing"),
        (SECRET, KEYS, "has no key"),
    ],
)
def test_what_is_being_deleted_counts_as_lost_and_is_waited_for(
    installed: HelmRig, resource: Resource, name: str, how: str
) -> None:
    change = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(resource, name, change, namespace=STORAGE)
    shown = f"the {resource.kind} {STORAGE}/{name}"
    before = installed.api.list(POD, namespace=STORAGE)
    assert SeaweedStore(installed.parts).observe() == Broken(f"{shown} {how}")
    with pytest.raises(WaitTimeoutError, match=f"the deletion of {shown}"):
        SeaweedStore(installed.parts).ensure()
    assert installed.api.list(POD, namespace=STORAGE) == before


def test_a_secret_of_models_that_is_being_deleted_is_waited_for(installed: HelmRig) -> None:
    change = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(SECRET, RCLONE, change, namespace="seldon")
    with pytest.raises(WaitTimeoutError, match=f"the deletion of the Secret seldon/{RCLONE}"):
        SeaweedStore(installed.parts).ensure_secret("seldon")


@pytest.mark.parametrize(
    ("resource", "kind"), [(STATEFUL_SET, "StatefulSet"), (PERSISTENT_VOLUME_CLAIM, "Persistent")]
)
def test_what_is_somebody_elses_is_left_alone(installed: HelmRig, resource: Any, kind: str) -> None:
    change = {"metadata": {"labels": None}}
    installed.api.patch(resource, NAME, change, namespace=STORAGE)
    _no_service(installed)
    with pytest.raises(ConflictError, match=kind):
        SeaweedStore(installed.parts).ensure()


def test_secrets_of_somebody_else_are_left_alone(installed: HelmRig) -> None:
    for name, namespace in ((KEYS, STORAGE), (RCLONE, "team")):
        metadata = {"name": name, "namespace": namespace}
        installed.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}})
    with pytest.raises(ConflictError, match=f"the Secret {STORAGE}/{KEYS} exists"):
        SeaweedStore(installed.parts).ensure()
    installed.api.drop(SECRET, KEYS, namespace=STORAGE)
    SeaweedStore(installed.parts).ensure()
    with pytest.raises(ConflictError, match="name another with envSecretRefName"):
        SeaweedStore(installed.parts).ensure_secret("team")


def test_removed_it_keeps_what_it_stores_and_how_to_read_it(installed: HelmRig) -> None:
    before = data(installed.api)
    layer = SeaweedStore(installed.parts)
    layer.remove()
    assert layer.observe() == Absent()
    assert installed.api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=STORAGE) is not None
    assert data(installed.api) == before
    assert layer.ensure().action == "created"
    assert data(installed.api) == before


def test_a_namespace_for_models_is_made_with_our_label(installed: HelmRig) -> None:
    SeaweedStore(installed.parts).ensure_secret("team")
    labels = installed.api.get(NAMESPACE, "team")["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "mlops-pipeline"}


@pytest.mark.parametrize(
    ("quantity", "size"), [("5Gi", 5 << 30), ("1.5Ki", 1536), ("2G", 2 * 10**9), ("7", 7)]
)
def test_quantities_in_bytes(quantity: str, size: int) -> None:
    assert bytes_of(quantity) == size


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="'5 apples' is not a quantity"):
        bytes_of("5 apples")
    assert store_manifests.volume("5Gi")["spec"]["accessModes"] == ["ReadWriteOnce"]
