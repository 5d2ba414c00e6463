"""What this project wrote on a SeldonDeployment of a cluster, and what others changed since.

The object has the given manifest in an annotation, and the names that its predictors have there. On
the way from one manifest to the next it has the one whose traffic it routes: a process that is
killed leaves the state before the change, or the one after it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.clients.kubernetes import Manifest
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_ours
from mlops_pipeline.platforms.seldon import (
    Predictor,
    SeldonDeployment,
    Spec,
    parse,
)

APPLIED_ANNOTATION = "mlops-pipeline/applied"
"""On the SeldonDeployment: the given manifest."""
NAMES_ANNOTATION = "mlops-pipeline/names"
"""On the SeldonDeployment: predictor by its name in the cluster → its name in that manifest."""
STAGE_ANNOTATION = "mlops-pipeline/stage"
"""On a SeldonDeployment on the way to another manifest: a digest of its specification."""
IMAGE_ANNOTATION = "mlops-pipeline/serving-image"
"""On a predictor: the image that its pods serve with. A new image replaces the pods."""
TRUST_ANNOTATION = "mlops-pipeline/trust"
"""On a predictor: a digest of which signatures its pods accept. Other keys replace the pods."""
TEMPLATE_ANNOTATION = "mlops-pipeline/template"
"""On a predictor: a digest of what its pods run. The operator copies it to Deployment and pods.

A predictor that is read from the cluster has it where the current settings would make other pods.
Applied again, also with another name, it stays as it is."""
NO_ENGINE_ANNOTATION = "seldon.io/no-engine"
GATEWAY_ANNOTATION = "seldon.io/istio-gateway"
"""On a SeldonDeployment: the Gateway that its route is bound to."""
_NOT_RUN = frozenset({"traffic", "replicas", "progressDeadlineSeconds"})
"""Fields of a predictor that can change without a change of its pods."""


def find_given(manifest: Manifest) -> SeldonDeployment | None:
    """Return the manifest that the object was created from; None if we did not create it."""
    text = _annotation(manifest, APPLIED_ANNOTATION)
    if text is None or not is_ours(manifest):
        return None
    try:
        return parse(json.loads(text))
    except (ValueError, InvalidManifestError):
        return None


def find_names(manifest: Manifest) -> dict[str, str]:
    """Return a predictor's name in the cluster → its name in the given manifest.

    Empty for an object that an older version of this project wrote.
    """
    try:
        found = json.loads(_annotation(manifest, NAMES_ANNOTATION) or "{}")
        return {str(key): str(name) for key, name in found.items()}
    except (ValueError, AttributeError):
        return {}


def guessed_names(
    manifest: Manifest, given: SeldonDeployment, placed: SeldonDeployment
) -> dict[str, str]:
    """Return what `find_names` would, for an object of an older version.

    `placed` is `given` with the names that the predictors get in the cluster today. Other settings
    than of today have placed them under names that only their order, or their stems, tell.
    """
    there = manifest["spec"].get("predictors") or ()
    asked = [p.name for p in given.spec.predictors]
    known = dict(zip((p.name for p in placed.spec.predictors), asked, strict=True))
    if len(there) == len(asked) and not any(p["name"] in known for p in there):
        stems = [p.stem for p in given.spec.predictors]
        if all(p["name"].startswith(stem[:54]) for p, stem in zip(there, stems, strict=True)):
            return {p["name"]: name for p, name in zip(there, asked, strict=True)}
    return {p["name"]: known.get(p["name"], p["name"]) for p in there}


def is_stage(manifest: Manifest) -> bool:
    """Say whether the object is on the way to another manifest, and nobody else changed it."""
    written = _annotation(manifest, STAGE_ANNOTATION)
    return written is not None and written == stage_digest(manifest["spec"])


def stage_digest(spec: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal characters for a specification as it is applied."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def is_whole(manifest: Manifest, given: SeldonDeployment, names: Mapping[str, str]) -> bool:
    """Say whether the object is as it was applied, with whatever settings.

    Labels and annotations that others added do not count. `names` is predictor → given name.
    """
    there, asked = manifest["metadata"], given.to_manifest()
    if not all(
        (asked["metadata"].get(key) or {}).items() <= (there.get(key) or {}).items()
        for key in ("labels", "annotations")
    ):
        return False
    if is_stage(manifest):
        return True
    if _annotation(manifest, STAGE_ANNOTATION) is not None:
        return False
    found = [names.get(p["name"]) for p in manifest["spec"].get("predictors") or ()]
    return (
        found == [p.name for p in given.spec.predictors]
        and _rest(manifest["spec"]) == _rest(asked["spec"])
        and not edits(manifest, given, names)
    )


def edits(
    manifest: Manifest, given: SeldonDeployment, names: Mapping[str, str]
) -> Mapping[str, str]:
    """Return predictor → what somebody changed by hand since it was applied.

    The keys are names in the cluster. An object that an older version of this project wrote, or
    that has another image, does not count as changed. The first predictor also reports the removed
    ones.
    """
    if is_stage(manifest):
        return {}
    applied = {p.name: p for p in given.spec.predictors}
    there = manifest["spec"].get("predictors") or ()
    asked = [names.get(p["name"], p["name"]) for p in there]
    gone = sorted(applied.keys() - set(asked))
    told: dict[str, list[str]] = {p["name"]: [] for p in there}
    if there:
        told[there[0]["name"]] += [f"the predictor {name} was removed" for name in gone]
    for found, name in zip(there, asked, strict=True):
        if name in applied:
            told[found["name"]] += _changes(manifest, found, given, applied[name])
        else:
            told[found["name"]].append("it was added")
    return {name: "; ".join(reasons) for name, reasons in told.items() if reasons}


def is_template_whole(manifest: Manifest, predictor: Mapping[str, Any]) -> bool:
    """Say whether a predictor still matches the digest in its annotation."""
    annotations, spec = dict(predictor.get("annotations") or {}), manifest["spec"]
    written = str(annotations.pop(TEMPLATE_ANNOTATION, ""))
    content = (
        manifest["metadata"]["name"],
        spec.get("protocol", Spec.model_fields["protocol"].default),
        spec.get("annotations", {}),
        {**predictor, "annotations": annotations},
    )
    return written in (template_digest(*content), _digest(*content))


def template_digest(
    name: str, protocol: str, annotations: Mapping[str, str], template: Mapping[str, Any]
) -> str:
    """Return 16 hexadecimal characters that change whenever the pods' content changes.

    `name`, `protocol` and `annotations` are the deployment's, `template` is a predictor without its
    own digest.
    """
    says_nothing = {"shadow"} if not template.get("shadow") else set()
    kept = {key: value for key, value in template.items() if key not in says_nothing}
    return _digest(name, protocol, annotations, kept)


def _digest(
    name: str, protocol: str, annotations: Mapping[str, str], template: Mapping[str, Any]
) -> str:
    """Return the digest with every field; an older version wrote `shadow: false` into it."""
    kept = {key: value for key, value in template.items() if key not in _NOT_RUN}
    content = [name, protocol, annotations, kept]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _rest(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "predictors"}


def _annotation(manifest: Manifest, name: str) -> str | None:
    found: str | None = (manifest["metadata"].get("annotations") or {}).get(name)
    return found


def _changes(
    manifest: Manifest, found: Mapping[str, Any], given: SeldonDeployment, applied: Predictor
) -> Iterator[str]:
    """Yield the differences in the fields that people usually change, else one for all others."""
    graph = found.get("graph") or {}
    compared = (
        ("traffic", found.get("traffic", 0), applied.traffic),
        ("replicas", found.get("replicas"), given.replicas(applied)),
        ("modelUri", graph.get("modelUri", ""), applied.graph.model_uri),
    )
    told = [f"its {key} is {now} instead of {was}" for key, now, was in compared if now != was]
    yield from told
    if not told and not is_template_whole(manifest, found):
        yield "its pods' specification was changed"
