"""A SeldonDeployment of a cluster as it stands there, whoever made or changed it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.clients.kubernetes import Manifest
from mlops_pipeline.platforms.kubernetes.deployments.written import (
    APPLIED_ANNOTATION,
    IMAGE_ANNOTATION,
    NAMES_ANNOTATION,
    NO_ENGINE_ANNOTATION,
    STAGE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TRUST_ANNOTATION,
)
from mlops_pipeline.platforms.seldon import (
    Graph,
    Metadata,
    Predictor,
    SeldonDeployment,
    Spec,
    parse,
)

_KUBECTL_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_HIDDEN = {APPLIED_ANNOTATION, NAMES_ANNOTATION, STAGE_ANNOTATION, _KUBECTL_ANNOTATION}
_NO_NAMES: Mapping[str, str] = {}


def as_it_stands(manifest: Manifest, names: Mapping[str, str] = _NO_NAMES) -> SeldonDeployment:
    """Return the object's current state as this project's SeldonDeployment.

    The predictors keep the digest of what their pods run. A wanted deployment has no such digest,
    so a deployment that was changed by hand never equals a wanted one. `names` is a predictor's
    name in the cluster → the one to return.
    """
    plain = {
        **_known(SeldonDeployment, manifest),
        "metadata": _metadata(manifest["metadata"]),
        "spec": {
            **_known(Spec, manifest["spec"]),
            "predictors": [
                _renamed(_plain_predictor(p), names)
                for p in manifest["spec"].get("predictors") or ()
            ],
        },
    }
    try:
        return parse(plain)
    except InvalidManifestError:
        return _unchecked(plain)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations") or {}
    return {
        **_known(Metadata, metadata),
        "annotations": {key: text for key, text in annotations.items() if key not in _HIDDEN},
    }


def _renamed(plain: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a predictor with the name that its manifest gave it; one of others may have none."""
    name = str(plain.get("name"))
    return {**plain, "name": names[name]} if name in names else plain


def _plain_predictor(predictor: Mapping[str, Any]) -> dict[str, Any]:
    annotations = dict(predictor.get("annotations") or {})
    annotations.pop(IMAGE_ANNOTATION, None)
    annotations.pop(TRUST_ANNOTATION, None)
    if TEMPLATE_ANNOTATION in annotations:
        annotations.pop(NO_ENGINE_ANNOTATION, None)
    return {
        **_known(Predictor, predictor),
        "annotations": annotations,
        "graph": {
            key: value
            for key, value in _known(Graph, predictor.get("graph") or {}).items()
            if key != "children"
        },
    }


def _known(model: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the model has, by their names in a manifest."""
    names = {field.alias or name for name, field in model.model_fields.items()}
    return {key: value for key, value in fields.items() if key in names and value is not None}


def _unchecked(plain: Mapping[str, Any]) -> SeldonDeployment:
    """Return a deployment that this project would refuse; it is only shown, never applied."""
    metadata, spec = plain["metadata"], plain["spec"]
    return SeldonDeployment.model_construct(
        metadata=Metadata.model_construct(**_by_field(Metadata, metadata)),
        spec=Spec.model_construct(
            **{
                **_by_field(Spec, spec),
                "predictors": tuple(_unchecked_predictor(p) for p in spec["predictors"]),
            }
        ),
    )


def _unchecked_predictor(plain: Mapping[str, Any]) -> Predictor:
    graph: dict[str, Any] = {"implementation": "", "model_uri": "", "name": ""}
    graph |= {**_by_field(Graph, plain["graph"]), "parameters": ()}
    fields = {**_by_field(Predictor, plain), "graph": Graph.model_construct(**graph)}
    return Predictor.model_construct(**{"name": "", **fields})


def _by_field(model: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    return {names[key]: value for key, value in fields.items()}
