"""The object_store layer: SeaweedFS in the cluster, for this machine and for pods."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import (
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.bases.layer import Question, StoreLayer
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.layers.object_store import (
    buckets,
    keys,
    manifests,
    marker,
    rclone,
    service,
)
from mlops_pipeline.platforms.kubernetes.layers.object_store.manifests import (
    NAME,
    NAMESPACE,
    NODE_PORTS,
    PORT,
)
from mlops_pipeline.platforms.kubernetes.layers.object_store.volume import StoreVolume
from mlops_pipeline.platforms.kubernetes.objects.endings import (
    find_lasting,
    wait_for_end,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import (
    delete_ours,
    ensure_namespace,
    require_ours,
)
from mlops_pipeline.platforms.kubernetes.objects.states import (
    broken_by,
    with_obstacle,
    worst,
)
from mlops_pipeline.platforms.kubernetes.objects.workloads import describe_unready, wait_for
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Facts,
    LayerState,
    Ready,
)
from mlops_pipeline.settings.layers import LayerSettings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

POD_ENDPOINT = f"http://{NAME}.{NAMESPACE}.svc.cluster.local:{PORT}"
_GLANCE = 5.0
"""Seconds in which a store that is observed must answer."""
_ANSWER = 60.0
"""Seconds in which a store with a ready pod answers, if it can be reached at all."""
_REMEDY = (
    f"delete the Secret {NAMESPACE}/{keys.NAME}: the next `mlops-pipeline up object_store` creates "
    "new keys, and starts the store with them"
)

_MADE = (STATEFUL_SET, SERVICE, manifests.NETWORK_POLICY)


class SeaweedStore(StoreLayer):
    """SeaweedFS with a volume, our own keys, and Secrets with them for model servers."""

    name = "object_store"
    description = "S3-compatible storage (SeaweedFS) with the buckets for models and data sets."
    kinds = ("s3", "seaweedfs", "kubernetes")
    namespace = NAMESPACE
    sources = ("storage",)
    rights = manifests.RIGHTS
    addresses = 1
    ports = manifests.PORTS

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._volume = StoreVolume(parts.settings)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings install it, instead of using an existing one."""
        return not settings.object_store.endpoint

    @property
    def requires(self) -> tuple[str, ...]:
        """The layer that assigns an address to it."""
        return (self._parts.settings.load_balancer,)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether its volume has a storage class."""
        yield "storage class", lambda: self._volume.diagnose(api)

    def observe(self) -> LayerState:
        """Examine its pod, volume, keys, buckets, and the Secrets with its keys."""
        try:
            api = self._parts.api()
            return with_obstacle(self._observe(api), lambda: self._refuse(api))
        except NotFoundError:
            return Absent()
        except UnavailableError as error:
            return Broken.by(error)

    def ensure(self) -> Change:
        """Bring the store up with its buckets, and write the Secrets that servers read it with.

        Raises:
            ConfigurationError: its image is not available, or its volume cannot have the size.
            ConflictError: an object of its name belongs to somebody else.
            UnavailableError: it does not answer, or this machine cannot reach its address.
            FatalStateError: its pod cannot become ready.
        """
        return bring_up(self, self._parts, self._bring_up, purpose="bring up the object store")

    def _bring_up(self, steps: Steps) -> Facts:
        api = self._parts.api()
        self._parts.sources.require(self.sources)
        self._refuse(api)
        with steps.step("images"):
            self._parts.images.ensure("storage")
        self._start(api, steps)
        self._fill(api, steps)
        return self._facts(api)

    def remove(self) -> None:
        """Stop the store. Its volume, its keys and the Secrets with them stay."""
        if (api := self._parts.find_api()) is None:
            return
        with self._parts.locks.held("layers", purpose="stop the object store"):
            for resource in _MADE:
                delete_ours(api, resource, NAME, namespace=NAMESPACE)

    def users(self) -> tuple[str, ...]:
        """Return the SeldonDeployments of somebody else that read artifacts with our Secret."""
        by_default = self._parts.settings.seldon.keys_by_default
        return rclone.readers(self._parts.api(), by_default=by_default)

    def discard(self) -> None:
        """Delete the volume with all stored data, the keys and the Secrets with them.

        Raises:
            NotFoundError: there is no cluster.
        """
        api = self._parts.api()
        delete_ours(api, PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        delete_ours(api, SECRET, keys.NAME, namespace=NAMESPACE)
        rclone.delete_all(api)

    def client(self, *, patience: float = 30.0, attempts: int = 4) -> "ObjectStore":
        """Return a client with the store's own key; see `ObjectStore` for the options.

        Raises:
            NotFoundError: the layer is absent.
        """
        from mlops_pipeline.clients.s3 import ObjectStore

        api = self._parts.api()
        key = keys.find(api, namespace=NAMESPACE)
        endpoint = service.find_endpoint(self._parts)
        if key is None or endpoint is None:
            raise NotFoundError(
                "the object store is missing; bring it up with `mlops-pipeline up object_store`"
            )
        return ObjectStore(
            endpoint.url(port=PORT),
            key,
            advise=lambda: "see `mlops-pipeline logs object_store`",
            remedy=_REMEDY,
            patience=patience,
            attempts=attempts,
        )

    def ensure_secret(self, namespace: str) -> bool:
        """Write the Secret for reading artifacts in a namespace; return whether it changed.

        Raises:
            NotFoundError: the layer is absent.
            ConflictError: a Secret of that name exists and is not ours.
        """
        api = self._parts.api()
        key = keys.find(api, namespace=NAMESPACE)
        if key is None:
            raise NotFoundError(
                f"could not write the object store's Secret in {namespace}: the store has no keys; "
                "bring it up with `mlops-pipeline up object_store`"
            )
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        return self._secrets(api, key).ensure(namespace, timeout=timeout, clock=clock)

    def _observe(self, api: KubernetesApi) -> LayerState:
        stateful = api.find(STATEFUL_SET, NAME, namespace=NAMESPACE)
        if stateful is None and api.find(SERVICE, NAME, namespace=NAMESPACE) is None:
            return Absent()
        return worst(self._look(api)) or Ready(self._facts(api))

    def _look(self, api: KubernetesApi) -> Iterator[LayerState]:
        key = keys.find(api, namespace=NAMESPACE)
        if key is None:
            yield Broken(f"the Secret {NAMESPACE}/{keys.NAME} has no key")
            return
        yield broken_by(describe_unready(api, STATEFUL_SET, NAME, namespace=NAMESPACE))
        yield self._volume.observe(api)
        is_replaced = False
        if unfit := keys.describe_unfit(api, key, namespace=NAMESPACE):
            is_replaced = True
            yield Drifted((unfit,))
        for manifest in self._manifests(api):
            yield (state := _compare(api, manifest))
            is_replaced |= manifest["kind"] == STATEFUL_SET.kind and isinstance(state, Drifted)
        if service.find_endpoint(self._parts) is None:
            yield Broken(f"the object store has no address: {service.NONE_GIVEN}")
            return
        yield self._look_inside(is_replaced=is_replaced)
        if stale := self._secrets(api, key).stale():
            yield Drifted((f"the store's Secret is out of date in: {', '.join(stale)}",))

    def _look_inside(self, *, is_replaced: bool) -> LayerState:
        """Examine the buckets and an object; `is_replaced`: `ensure` will replace the pod."""
        there = buckets.observe(self._glance())
        if isinstance(there, Ready):
            there = marker.observe(self._glance())
        if is_replaced and isinstance(there, Broken) and there.obstacle:
            return Ready()  # The present pod may refuse the keys because it started with others.
        return there

    def _manifests(self, api: KubernetesApi) -> tuple[Manifest, ...]:
        fingerprint = keys.fingerprint(api, namespace=NAMESPACE)
        stateful_set = manifests.stateful_set(fingerprint=fingerprint)
        node_port = None if self._parts.reaches_addresses else NODE_PORTS[PORT]
        return (manifests.network_policy(), manifests.service(node_port), stateful_set)

    def _refuse(self, api: KubernetesApi) -> None:
        """Refuse objects of somebody else and an impossible volume, before anything is changed."""
        self.require_rights(api)
        for resource in (*_MADE, PERSISTENT_VOLUME_CLAIM):
            require_ours(api, resource, NAME, namespace=NAMESPACE, to="bring up the object store")
        self._volume.require(api)
        keys.require_ours(api, namespace=NAMESPACE)
        rclone.require_ours(api, namespace=self._parts.settings.models_namespace)

    def _start(self, api: KubernetesApi, steps: Steps) -> None:
        clock, timeout = self._parts.clock, self._parts.settings.ready_timeout
        with steps.step("store"):
            ensure_namespace(api, NAMESPACE, timeout=timeout, clock=clock)
            for resource in _MADE:
                wait_for_end(api, resource, NAME, namespace=NAMESPACE, timeout=timeout, clock=clock)
            keys.ensure(api, namespace=NAMESPACE, timeout=timeout, clock=clock)
            api.apply_all([self._volume.manifest, *self._manifests(api)])
            wait_for(self._parts, STATEFUL_SET, NAME, namespace=NAMESPACE)

    def _fill(self, api: KubernetesApi, steps: Steps) -> None:
        """Create the buckets and the Secrets after the store answers at its address."""
        clock, timeout = self._parts.clock, self._parts.settings.ready_timeout

        with steps.step("buckets"):
            service.wait_for_address(self._parts)
            hint, answer = self._parts.unreachable, self._parts.patience(_ANSWER)
            buckets.ensure(self._glance, timeout=answer, clock=clock, hint=hint)
            marker.ensure(self._glance, timeout=answer, clock=clock)
        key = keys.ensure(api, namespace=NAMESPACE, timeout=timeout, clock=clock)
        self._secrets(api, key).ensure_known(timeout=timeout, clock=clock)

    def _secrets(self, api: KubernetesApi, key: "Credentials") -> rclone.RcloneSecrets:
        namespace = self._parts.settings.models_namespace
        return rclone.RcloneSecrets(api, rclone.settings_of(POD_ENDPOINT, key), namespace=namespace)

    def _glance(self) -> "ObjectStore":
        return self.client(patience=_GLANCE, attempts=1)

    def _facts(self, api: KubernetesApi) -> Facts:
        endpoint = service.find_endpoint(self._parts)
        return {
            "address": endpoint.url(port=PORT) if endpoint is not None else "",
            "in_the_cluster": POD_ENDPOINT,
            "buckets": ", ".join(buckets.BUCKETS),
            "size": self._volume.sizes(api)[0],
            "version": manifests.VERSION,
        }


def _compare(api: KubernetesApi, manifest: Manifest) -> LayerState:
    """Compare an object with its manifest, by what an apply would change."""
    resource = Resource(manifest["apiVersion"], manifest["kind"])
    if find_lasting(api, resource, NAME, namespace=NAMESPACE) is None:
        return Broken(f"the {resource.kind} {NAMESPACE}/{NAME} is missing")
    if api.apply(manifest, dry_run=True).action != "unchanged":
        return Drifted((f"the {resource.kind} {NAMESPACE}/{NAME} differs from its manifest",))
    return Ready()
