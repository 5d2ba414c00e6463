"""The volume of the object store: its size, and its storage class."""

from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.clients.kubernetes import (
    PERSISTENT_VOLUME_CLAIM,
    STORAGE_CLASS,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.layers.object_store import manifests
from mlops_pipeline.platforms.kubernetes.layers.object_store.manifests import NAME, NAMESPACE
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.layers import Broken, Diagnosis, Drifted, LayerState, Ready
from mlops_pipeline.settings.layers import LayerSettings

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class StoreVolume:
    """The wanted volume and the existing one."""

    def __init__(self, settings: LayerSettings) -> None:
        self._settings = settings.object_store
        self._platform = settings.platform

    @property
    def manifest(self) -> Manifest:
        """The PersistentVolumeClaim."""
        return manifests.volume(self._settings.size, storage_class=self._settings.storage_class)

    def diagnose(self, api: KubernetesApi) -> Diagnosis:
        """Check, before anything is changed, whether the storage class exists."""
        what, wanted = "storage class", self._settings.storage_class
        if api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE) is not None:
            return Diagnosis(what, "the volume exists")
        found = {c["metadata"]["name"]: c for c in api.list(STORAGE_CLASS)}
        default = [
            name
            for name, c in found.items()
            if (c["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
        ]
        if chosen := ([wanted] if wanted in found else [] if wanted else default):
            return Diagnosis(what, chosen[0])
        seen = f"{wanted!r} does not exist" if wanted else "none is the default"
        return Diagnosis(
            what,
            f"{seen} (there are: {', '.join(sorted(found)) or 'none'})",
            "set kubernetes.object_store.storage_class to one of them, or "
            "kubernetes.object_store.endpoint to an S3",
        )

    def require(self, api: KubernetesApi) -> None:
        """Refuse an impossible volume, or one that somebody has deleted.

        Raises:
            ConfigurationError: its size cannot be changed.
            ConflictError: it will be deleted as soon as its pod ends.
        """
        self._refuse_lost(api)
        there, wanted = self.sizes(api)
        if there and wanted != there and not self._can_grow(api, there, wanted):
            raise ConfigurationError(
                f"could not resize the object store's volume to {wanted}: it has {there}, and its "
                f"storage class does not allow a change; set {self._platform}.object_store.size to "
                f"{there}"
            )

    def _refuse_lost(self, api: KubernetesApi) -> None:
        """Refuse a deleted volume: it exists only until the store's pod ends."""
        found = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        if found is not None and is_ending(found):
            raise ConflictError(
                "could not bring up the object store: somebody has deleted its volume, and "
                "everything in it will be lost when its pod ends; copy what you need, run "
                f"`kubectl delete statefulset {NAME} --namespace {NAMESPACE}` and then repeat this "
                "command"
            )

    def observe(self, api: KubernetesApi) -> LayerState:
        """Compare its size with the settings."""
        claim = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        if claim is None or is_ending(claim):
            how = "is missing" if claim is None else "is being deleted, with all stored data"
            return Broken(f"the PersistentVolumeClaim {NAMESPACE}/{NAME} {how}")
        there, wanted = self.sizes(api)
        if manifests.bytes_of(there) != manifests.bytes_of(wanted):
            return Drifted((f"the volume has {there}, expected {wanted}",))
        return Ready()

    def sizes(self, api: KubernetesApi) -> tuple[str, str]:
        """Return the requested size of the volume, empty without a volume, and the setting."""
        found = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        there = found["spec"]["resources"]["requests"]["storage"] if found is not None else ""
        return str(there), self._settings.size

    def _can_grow(self, api: KubernetesApi, there: str, wanted: str) -> bool:
        if manifests.bytes_of(wanted) <= manifests.bytes_of(there):
            return manifests.bytes_of(wanted) == manifests.bytes_of(there)
        claim = api.get(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        storage_class = api.find(STORAGE_CLASS, claim["spec"].get("storageClassName") or "")
        return bool((storage_class or {}).get("allowVolumeExpansion"))
