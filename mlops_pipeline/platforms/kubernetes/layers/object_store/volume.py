"""The volume of the object store: its size, and the storage class that makes it."""

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
    """The volume as the settings want it, and the one that is there."""

    def __init__(self, settings: LayerSettings) -> None:
        self._settings = settings.object_store
        self._platform = settings.platform

    @property
    def manifest(self) -> Manifest:
        """The PersistentVolumeClaim."""
        return manifests.volume(self._settings.size, storage_class=self._settings.storage_class)

    def diagnose(self, api: KubernetesApi) -> Diagnosis:
        """Look for the storage class, before anything is changed."""
        what, wanted = "storage class", self._settings.storage_class
        if api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE) is not None:
            return Diagnosis(what, "the volume is there")
        found = {c["metadata"]["name"]: c for c in api.list(STORAGE_CLASS)}
        default = [
            name
            for name, c in found.items()
            if (c["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
        ]
        if chosen := ([wanted] if wanted in found else [] if wanted else default):
            return Diagnosis(what, chosen[0])
        seen = f"there is no {wanted!r}" if wanted else "none is the default"
        return Diagnosis(
            what,
            f"{seen} (there are: {', '.join(sorted(found)) or 'none'})",
            "set kubernetes.object_store.storage_class to one of them, or endpoint to an S3",
        )

    def require(self, api: KubernetesApi) -> None:
        """Refuse a volume that cannot be had, or that somebody has deleted.

        Raises:
            ConfigurationError: its size cannot be changed.
            ConflictError: it goes as soon as its pod ends.
        """
        self._refuse_lost(api)
        there, wanted = self.sizes(api)
        if there and wanted != there and not self._can_grow(api, there, wanted):
            raise ConfigurationError(
                f"could not give the object store's volume {wanted}: it has {there}, and its "
                f"storage class cannot change that; set {self._platform}."
                f"object_store.size to {there}"
            )

    def _refuse_lost(self, api: KubernetesApi) -> None:
        """A volume that somebody deletes stays for as long as the store's pod is there."""
        found = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        if found is not None and is_ending(found):
            raise ConflictError(
                "could not bring up the object store: somebody has deleted its volume, which goes "
                "with everything in it as soon as its pod ends; copy what you need, run `kubectl "
                f"delete statefulset {NAME} --namespace {NAMESPACE}` and then this again"
            )

    def observe(self, api: KubernetesApi) -> LayerState:
        """Compare its size with the settings."""
        claim = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        if claim is None or is_ending(claim):
            how = "is not there" if claim is None else "is being deleted, with all that is stored"
            return Broken(f"the PersistentVolumeClaim {NAMESPACE}/{NAME} {how}")
        there, wanted = self.sizes(api)
        if manifests.bytes_of(there) != manifests.bytes_of(wanted):
            return Drifted((f"the volume has {there}, wanted is {wanted}",))
        return Ready()

    def sizes(self, api: KubernetesApi) -> tuple[str, str]:
        """Return the size that the volume was asked with, empty for no volume, and the setting."""
        found = api.find(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        there = found["spec"]["resources"]["requests"]["storage"] if found is not None else ""
        return str(there), self._settings.size

    def _can_grow(self, api: KubernetesApi, there: str, wanted: str) -> bool:
        if manifests.bytes_of(wanted) <= manifests.bytes_of(there):
            return manifests.bytes_of(wanted) == manifests.bytes_of(there)
        claim = api.get(PERSISTENT_VOLUME_CLAIM, NAME, namespace=NAMESPACE)
        storage_class = api.find(STORAGE_CLASS, claim["spec"].get("storageClassName") or "")
        return bool((storage_class or {}).get("allowVolumeExpansion"))
