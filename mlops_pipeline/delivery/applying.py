"""Manifests of people's own: what is known of the artifacts that they name is known here too."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    InvalidManifestError,
    RefusedError,
    UnavailableError,
)
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.artifacts import (
    ArtifactStore,
    check_for_servers,
    find_ref,
    find_ref_in,
    ref_to,
)
from mlops_pipeline.delivery.desired import without_desired
from mlops_pipeline.delivery.history import Refusals, find_store, record_end, record_serving
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import find_refusals, refused
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment, is_elsewhere
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    Manifest,
    parse_manifest,
)
from mlops_pipeline.serving.frameworks import get_served
from mlops_pipeline.serving.signing.statement import SIGNATURE

_REGISTERED = "model_is_registered"
_UNREGISTERED = "no model with this name is registered here, so its checks cannot run"
"""Stands as a check, and what it says, for an artifact whose thresholds nobody knows."""
_SIGN_GOOGLE = (
    f"run `mlops-pipeline sign {{uri}} --output {SIGNATURE}` and upload that file beside the model"
)
_SIGN_COPY = (
    f"run `mlops-pipeline sign ./FOLDER` on a copy of its files and put {SIGNATURE} beside them"
)
_WARN = 'To serve unsigned models too, set signing.mode = "warn"'
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Judging:
    """By what the artifacts of a manifest are judged."""

    models: Sequence[ModelSpec]
    """The registered ones: their thresholds."""
    accept_refused: bool
    by: str
    """The command."""
    find_elsewhere: Callable[[str, str], bytes | None] | None = None
    """(folder, name) → a file of a public `gs://` folder, None if it lacks it. None: no look."""
    most_bytes: int = MOST_BYTES
    """Folders of more are refused where every file of them is read."""


@dataclass(frozen=True)
class Checked:
    """What is known of a manifest that may be applied."""

    accepted: Mapping[ModelRef, Refusals]
    """The artifacts of ours that are refused and accepted, with what refuses each."""
    warnings: tuple[str, ...] = ()
    """What a person should know before it is applied."""


def apply_manifest(
    deployment: SeldonDeployment,
    *,
    platform: Platform,
    judging: Judging,
    checked: Checked | None = None,
) -> Change:
    """Apply a manifest, unless an artifact that it names does not fit it or is refused.

    Models without a manifest of ours are applied as they are. A URI names the same artifact
    whatever Secret or remote it is read with: a copy of the store's keys leads past no check. A
    desired state or a release in the manifest is left out: it belongs to the deployment that was
    exported. `checked` is what `check_manifest` returned; without it, the manifest is checked here.

    Raises:
        InvalidManifestError: its implementation does not serve the artifact's framework.
        IntegrityError: the artifact is not the one that its folder is named by.
        RefusedError: blocking checks refuse the artifact, and that is not accepted; or a model has
            no signature that counts.
    """
    checked = checked or check_manifest(deployment, platform=platform, judging=judging)
    deployment = without_desired(deployment)
    before = platform.deployments.find(deployment.name, namespace=deployment.namespace)
    change = platform.deployments.apply(deployment)
    record_serving(before, deployment, platform=platform, by=judging.by, accepted=checked.accepted)
    return change


def check_manifest(
    deployment: SeldonDeployment, *, platform: Platform, judging: Judging
) -> Checked:
    """Say which artifacts of ours are refused and accepted, and what nobody here can verify.

    Artifacts from before signatures are signed first. What was never judged on the facts of now is
    judged, as by a rollback. Deploys nothing.

    Raises:
        InvalidManifestError: its implementation does not serve the artifact's framework, or the
            platform's servers cannot read the modelUri.
        IntegrityError: the artifact is not the one that its folder is named by.
        RefusedError: blocking checks refuse the artifact, and that is not accepted; or a model has
            no signature that counts.
    """
    _require_readable(deployment, platform)
    if (store := find_store(platform)) is None:
        return Checked({})
    judge, specs = Judge(platform, by=judging.by), {spec.name: spec for spec in judging.models}
    judge.sign_older()
    accepted: dict[ModelRef, Refusals] = {}
    warnings: list[str] = []
    for predictor in deployment.spec.predictors:
        where = f"{deployment.namespace}/{deployment.name}, predictor {predictor.name}"
        ref = _checked(where, predictor, store, judge, judging)
        if not isinstance(ref, ModelRef):
            warnings += [ref] if ref else []
            continue
        spec = specs.get(ref.name)
        refusals = find_refusals(spec, ref, judge) if spec else {_REGISTERED: _UNREGISTERED}
        if refusals and not judging.accept_refused:
            raise refused(ref, refusals)
        if refusals:
            accepted[ref] = refusals
    return Checked(accepted, tuple(warnings))


def unproved(deployment: SeldonDeployment) -> list[str]:
    """Return the modelUris of a manifest that are read from elsewhere: nobody proves what answers.

    There is no artifact's manifest to compare them with, and no digest in the answers.
    """
    uris = (predictor.graph.model_uri for predictor in deployment.spec.predictors)
    return [uri for uri in uris if is_elsewhere(uri)]


def _require_readable(deployment: SeldonDeployment, platform: Platform) -> None:
    if platform.reads_elsewhere or not (found := unproved(deployment)):
        return
    raise InvalidManifestError(
        f"could not apply {deployment.namespace}/{deployment.name}: the platform {platform.name} "
        f"reads models only from its object store, and not {', '.join(found)}; run "
        f"`mlops-pipeline import {found[0]} --model NAME`. Nothing was changed"
    )


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
    where: str, predictor: Predictor, store: Objects, judge: Judge, judging: Judging
) -> ModelRef | str | None:
    """Return the artifact of ours that a predictor serves, its manifest and signature checked.

    Of another model, a sentence for people if only its server can verify it.
    """
    graph, platform, signatures = predictor.graph, judge.platform, judge.artifacts.signatures
    uri = graph.model_uri.rstrip("/")
    named = find_ref_in(uri)
    secret = graph.env_secret_ref_name
    is_foreign = is_elsewhere(uri) or secret not in ("", platform.object_store_secret())
    if is_foreign:
        _require_verifiable(uri, platform)
    # A remote of somebody's own may lead to this very store, and a folder be one of an artifact.
    if named is not None and (is_elsewhere(uri) or uri.startswith(f"{named.uri}/")):
        uri = named.uri
    manifest = _find_manifest(store, uri) if uri.startswith("s3://") else None
    if manifest is None:
        _require_none_of_ours(store, uri, where)
        if is_foreign:
            return _check_elsewhere(where, predictor, platform, judging)
        signatures.check_place(uri, most_bytes=judging.most_bytes)
        return None
    served = get_served(graph.implementation).name
    if manifest.framework != served:
        raise InvalidManifestError(
            f"could not apply {where}: {graph.implementation} serves {served} models, but "
            f"{uri} contains a {manifest.framework} model; change the implementation or the "
            "modelUri. Nothing was changed"
        )
    folder = uri.rpartition("/")[2]
    if _DIGEST.fullmatch(folder) and folder != manifest.digest:
        raise IntegrityError(
            f"could not apply {where}: expected the manifest in {uri} to have the digest "
            f"{folder[:12]}, got {manifest.digest[:12]}; somebody changed the object store. "
            "Nothing was changed"
        )
    ref = ref_to(manifest.name, manifest.digest)
    if uri != ref.uri:
        signatures.check_place(uri, most_bytes=judging.most_bytes)
    else:
        check_for_servers(judge.artifacts, ref, they_verify=platform.verifies_when_loading)
    return ref


def _require_verifiable(uri: str, platform: Platform) -> None:
    """Refuse a model that this machine does not read, if its server looks at no signature.

    Raises:
        RefusedError: signatures are required, and nobody would verify this one.
    """
    if platform.signing.is_required and not platform.verifies_when_loading:
        raise RefusedError(
            f"could not apply a manifest with {uri}: Seldon's own servers verify no signature, and "
            f"this machine does not read that place. Run `mlops-pipeline import {uri} --model "
            "NAME`, or set `serving.images` of the platform to own. Nothing was changed"
        )


def _check_elsewhere(
    where: str, predictor: Predictor, platform: Platform, judging: Judging
) -> str | None:
    """Look for the signature of a model in another store; say what its server will do.

    Raises:
        RefusedError: signatures are required, and it is known that this one has none that counts.
    """
    if not platform.signing.is_required:
        return None
    uri, is_google = predictor.graph.model_uri, predictor.graph.model_uri.startswith("gs://")
    reason = "this machine does not read that place"
    is_public = predictor.graph.env_secret_ref_name in ("", platform.object_store_secret())
    if is_google and is_public and judging.find_elsewhere:
        try:
            found = judging.find_elsewhere(uri, SIGNATURE)
        except (ConfigurationError, UnavailableError) as error:
            reason = str(error)
        else:
            if found is None:
                raise RefusedError(
                    f"could not apply {where}: {uri} has no {SIGNATURE}, so its server would "
                    f"refuse it. Run `mlops-pipeline import {uri} --model NAME`, which copies and "
                    f"signs the model. If the bucket is yours, {_SIGN_GOOGLE.format(uri=uri)}. "
                    f"{_WARN}. Nothing was changed"
                )
            platform.signing.check_key(found, what=uri, target=f"{uri} --output {SIGNATURE}")
            return None
    how = _SIGN_GOOGLE.format(uri=uri) if is_google else _SIGN_COPY
    return (
        f"{where}: the signature of {uri} was not verified ({reason}). Its server refuses the "
        f"model unless a trusted key signed it: {how}. {_WARN}"
    )


def _require_none_of_ours(store: Objects, uri: str, where: str) -> None:
    """Refuse what is left of an artifact of ours that has lost its manifest.

    Raises:
        IntegrityError: the folder has the name of an artifact, and files but no manifest.
    """
    ref = find_ref(uri)
    if ref is not None and ArtifactStore(store).size(ref):
        raise IntegrityError(
            f"could not apply {where}: {uri} has no {MANIFEST}. The artifact was deleted in part, "
            f"or never published completely. Train it again with `mlops-pipeline up {ref.name}`, "
            f"or choose one from `mlops-pipeline models {ref.name}`. Nothing was changed"
        )


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
            f"could not verify the artifact {uri}: {error}. Nothing was changed"
        ) from error
