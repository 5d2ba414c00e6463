"""Manifests of people's own: what is known of the artifacts that they name is known here too."""

import re

from mlops_pipeline.clients.errors import IntegrityError, InvalidManifestError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.history import find_store, record_end, record_serving
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import refused
from mlops_pipeline.delivery.verdicts import Acceptance, VerdictLog, standing
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    ArtifactError,
    Manifest,
    parse_manifest,
)
from mlops_pipeline.serving.frameworks import find_served

_DIGEST = re.compile(r"[0-9a-f]{64}")


def apply_manifest(
    deployment: SeldonDeployment, *, platform: Platform, accept_refused: bool, by: str
) -> Change:
    """Apply a manifest, unless an artifact that it names does not fit it or is refused.

    Models without a manifest of ours are applied as they are. A URI names the same artifact
    whatever Secret it is read with: a copy of the store's keys leads past no check.

    Raises:
        InvalidManifestError: its implementation does not serve the artifact's framework.
        IntegrityError: the artifact is not the one that its folder is named by.
        RefusedError: blocking checks refuse the artifact, and that is not accepted.
    """
    although_refused = False
    for ref, refusals in check_manifest(
        deployment, platform=platform, accept_refused=accept_refused
    ).items():
        if refusals:
            although_refused = True
            VerdictLog(platform.object_store()).append(ref, Acceptance("refused", refusals, by))
    before = platform.deployments.find(deployment.name, namespace=deployment.namespace)
    change = platform.deployments.apply(deployment)
    record_serving(before, deployment, platform=platform, by=by, although_refused=although_refused)
    return change


def check_manifest(
    deployment: SeldonDeployment, *, platform: Platform, accept_refused: bool
) -> dict[ModelRef, dict[str, str]]:
    """Return each artifact of ours that a manifest names, with what refuses it. Changes nothing.

    Raises:
        InvalidManifestError: its implementation does not serve the artifact's framework.
        IntegrityError: the artifact is not the one that its folder is named by.
        RefusedError: blocking checks refuse the artifact, and that is not accepted.
    """
    found = {}
    for predictor in deployment.spec.predictors:
        ref = _checked(deployment, predictor, platform)
        if ref is not None:
            log = VerdictLog(platform.object_store())
            refusals = {j.check: j.sentence for j in standing(log.entries(ref)).refusals}
            if refusals and not accept_refused:
                raise refused(ref, refusals)
            found[ref] = refusals
    return found


def delete_deployment(name: str, *, namespace: str, platform: Platform, by: str) -> None:
    """Delete a deployment, and write down that what served there no longer does.

    Raises:
        NotFoundError: there is no such deployment.
    """
    before = platform.deployments.find(name, namespace=namespace)
    platform.deployments.delete(name, namespace=namespace)
    if before is not None:
        record_end(before, platform=platform, by=by)


def _checked(
    deployment: SeldonDeployment, predictor: Predictor, platform: Platform
) -> ModelRef | None:
    """Return the artifact of ours that a predictor serves, after a look at its manifest."""
    graph, store = predictor.graph, find_store(platform)
    if store is None:
        return None
    uri = graph.model_uri.rstrip("/")
    manifest = _find_manifest(store, uri)
    if manifest is None:
        return None
    where = f"{deployment.namespace}/{deployment.name}, predictor {predictor.name}"
    framework = find_served(graph.implementation)
    if framework is None or manifest.framework != framework.name:
        served = framework.name if framework else "no"
        raise InvalidManifestError(
            f"could not apply {where}: {graph.implementation} serves {served} models, and "
            f"{uri} holds a {manifest.framework} model; change the implementation or the modelUri. "
            "Nothing was changed"
        )
    folder = uri.rpartition("/")[2]
    if _DIGEST.fullmatch(folder) and folder != manifest.digest:
        raise IntegrityError(
            f"could not apply {where}: the folder {uri} is named by the digest {folder[:12]}, and "
            f"its manifest is of {manifest.digest[:12]}; somebody wrote into the object store. "
            "Nothing was changed"
        )
    return ref_to(manifest.name, manifest.digest)


def _find_manifest(store: Objects, uri: str) -> Manifest | None:
    """Return the manifest in a folder of the object store; None where there is none."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    found = store.find(bucket, f"{prefix}/{MANIFEST}")
    if found is None:
        return None
    try:
        return parse_manifest(found)
    except ArtifactError as error:
        raise IntegrityError(
            f"the artifact {uri} cannot be trusted: {error}. Nothing was changed"
        ) from error
