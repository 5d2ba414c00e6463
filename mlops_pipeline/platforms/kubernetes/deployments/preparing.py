"""What the pods of a deployment read, made and required before they start."""

import logging
from typing import Protocol

from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi, Manifest
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.kubernetes.objects.ownership import ensure_namespace
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.seldon import SeldonDeployment, is_elsewhere

_log = logging.getLogger(__name__)


class Artifacts(Protocol):
    """What deployments need from the object store's layer."""

    def client(self) -> Objects:
        """Return a client of the store.

        Raises:
            NotFoundError: the layer is absent.
        """

    def ensure_secret(self, namespace: str) -> bool:
        """Write the Secret that pods in a namespace read artifacts with."""


class Preparation:
    """Makes the namespace of deployments and the Secret in it, and looks for their artifacts."""

    def __init__(self, parts: Parts, manifests: Manifests, artifacts: Artifacts) -> None:
        self._parts = parts
        self._manifests = manifests
        self._artifacts = artifacts

    def prepare(
        self, api: KubernetesApi, deployment: SeldonDeployment, before: Manifest | None
    ) -> None:
        """Create the namespace and the Secret for the pods, and require what they will read.

        `before` is the object of the cluster.

        Nothing is required for predictors that the cluster has already: the object store may be
        away. rclone reports success if the prefix does not exist, although it copies nothing.

        Raises:
            NotFoundError: a Secret, a bucket or an artifact does not exist.
        """
        namespace = deployment.namespace
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        ensure_namespace(api, namespace, timeout=timeout, clock=clock)
        served = _served(before)
        for predictor in self._manifests.place(deployment, before).spec.predictors:
            uri, secret = predictor.graph.model_uri, self._manifests.secret_of(predictor)
            is_served = (predictor.name, uri) in served
            if secret == self._manifests.secret:
                self._ensure_secret(namespace, is_required=not is_served)
                if not is_served and not is_elsewhere(uri):
                    _require_artifact(self._artifacts.client(), uri)
            elif api.find(SECRET, secret, namespace=namespace) is None and not is_served:
                raise NotFoundError(
                    f"the Secret {secret} does not exist in the namespace {namespace}; create it, "
                    "or set envSecretRefName to another one"
                )

    def _ensure_secret(self, namespace: str, *, is_required: bool) -> None:
        try:
            self._artifacts.ensure_secret(namespace)
        except (NotFoundError, UnavailableError):
            if is_required:
                raise
            _log.warning("could not write the keys of the object store into %s", namespace)


def _served(there: Manifest | None) -> set[tuple[str, str]]:
    """Return the predictors of the cluster, each with its modelUri."""
    found = (there["spec"].get("predictors") or ()) if there is not None else ()
    return {(p["name"], str((p.get("graph") or {}).get("modelUri", ""))) for p in found}


def _require_artifact(store: Objects, uri: str) -> None:
    """Refuse a modelUri without objects.

    Raises:
        NotFoundError: the bucket does not exist, or the prefix has no objects.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not store.sizes(bucket, prefix.rstrip("/") + "/"):
        raise NotFoundError(f"there are no objects below {uri}; publish the artifact first")
