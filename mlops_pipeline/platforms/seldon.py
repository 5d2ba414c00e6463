"""The SeldonDeployment: the one manifest that every platform takes.

Typed after `operator/apis/machinelearning.seldon.io/v1/seldondeployment_types.go` of Seldon Core
1.17.1; what its validating webhook refuses (`seldondeployment_webhook.go`) is refused here in its
words. Fields of Seldon's that no platform of this project supports are refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from mlops_pipeline.clients.errors import InvalidManifestError

GROUP = "machinelearning.seldon.io"
KIND = "SeldonDeployment"
DIGEST_ANNOTATION = "mlops-pipeline/artifact-digest"
"""On a predictor: the digest of the artifact that its servers answer with."""
CPU_ANNOTATION = "mlops-pipeline/cpu"
MEMORY_ANNOTATION = "mlops-pipeline/memory"
MEMORY_LIMIT_ANNOTATION = "mlops-pipeline/memory-limit"
"""On a predictor: what a pod's container that loads its model is given, instead of what the
platform's settings say."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "mlops-pipeline"}

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
_Implementation = Literal["SKLEARN_SERVER", "TENSORFLOW_SERVER"]


def _check_model_uri(uri: str) -> str:
    if not uri:
        raise ValueError("Predictive unit modelUri required when using standalone servers")
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+", uri):
        raise ValueError("this project reads models from s3://<bucket>/<prefix> alone")
    return uri


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Parameter(_Part):
    """One parameter of a graph's unit, as it reaches the server in PREDICTIVE_UNIT_PARAMETERS."""

    name: str
    value: str
    type: Literal["STRING", "INT", "FLOAT", "DOUBLE", "BOOL"] = "STRING"


class Graph(_Part):
    """The single unit of a predictor's graph: a prepackaged server with its model."""

    name: Annotated[_Name, StringConstraints(max_length=48)]
    implementation: _Implementation
    model_uri: Annotated[str, AfterValidator(_check_model_uri)] = Field("", validate_default=True)
    type: Literal["MODEL"] = "MODEL"
    parameters: tuple[Parameter, ...] = ()
    children: Annotated[tuple[Any, ...], Field(max_length=0)] = ()
    env_secret_ref_name: str = ""


class Predictor(_Part):
    """One version of the model, with its share of the traffic."""

    name: _Name
    graph: Graph
    replicas: Annotated[int, Field(ge=0, le=32)] = 1
    traffic: Annotated[int, Field(ge=0, le=100)] = 0
    shadow: bool = False
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The artifact digest annotated on it; empty for a manifest written by hand."""
        return self.annotations.get(DIGEST_ANNOTATION, "")


class Metadata(_Part):
    """Name, namespace and what people and tools hang on them."""

    name: _Name
    namespace: _Name = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Spec(_Part):
    """What to serve, and how."""

    predictors: tuple[Predictor, ...]
    protocol: Literal["", "seldon", "tensorflow", "v2", "kfserving"] = "seldon"
    name: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    replicas: Annotated[int, Field(ge=0, le=32)] | None = None

    @model_validator(mode="after")
    def _refuse_what_the_webhook_refuses(self) -> "Spec":
        if reasons := [*_unnamed(self), *_bad_traffic(self), *_bad_servers(self)]:
            raise ValueError("; ".join(reasons))
        return self


class SeldonDeployment(_Part):
    """A validated SeldonDeployment."""

    api_version: Literal[
        "machinelearning.seldon.io/v1",
        "machinelearning.seldon.io/v1alpha2",
        "machinelearning.seldon.io/v1alpha3",
    ] = "machinelearning.seldon.io/v1"
    kind: Literal["SeldonDeployment"] = "SeldonDeployment"
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.metadata.namespace

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest as Kubernetes takes it, without what was not given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True) | {
            "apiVersion": self.api_version,
            "kind": self.kind,
        }

    def replicas(self, predictor: Predictor) -> int:
        """Return how many servers a predictor has; where it does not say, the deployment's."""
        if "replicas" in predictor.model_fields_set or self.spec.replicas is None:
            return predictor.replicas
        return self.spec.replicas

    def traffic(self) -> dict[str, int]:
        """Return each predictor's percent of the live traffic; a shadow's is 0."""
        live = [p for p in self.spec.predictors if not p.shadow]
        if len(live) == 1:
            return {live[0].name: 100}
        return {p.name: p.traffic for p in live}


def between(there: SeldonDeployment, wanted: SeldonDeployment) -> list[SeldonDeployment]:
    """Return what comes between, so that traffic goes only to predictors that are there.

    First, where some are new, they come without traffic beside those that are there; then, where
    some go, the others have the traffic that is wanted and these have none. Those that are there
    stay in front until the last step, `wanted` itself: Seldon's operator numbers the ports of
    containers of other names in the order of predictors.
    """
    shares, names = there.traffic(), {p.name for p in wanted.spec.predictors}
    going = [p for p in there.spec.predictors if shares.get(p.name) and p.name not in names]
    places = {p.name: place for place, p in enumerate(there.spec.predictors)}
    beside = sorted(
        (*wanted.spec.predictors, *going), key=lambda p: places.get(p.name, len(places))
    )
    steps = []
    if wanted.traffic().keys() - shares.keys():
        steps.append(_shared_out(wanted, beside, shares))
    if going:
        steps.append(_shared_out(wanted, beside, wanted.traffic()))
    return [step for step in steps if sum(step.traffic().values()) == 100]


def _shared_out(
    wanted: SeldonDeployment, beside: Iterable[Predictor], shares: Mapping[str, int]
) -> SeldonDeployment:
    predictors = tuple(
        p if p.shadow else p.model_copy(update={"traffic": shares.get(p.name, 0)}) for p in beside
    )
    spec = wanted.spec.model_copy(update={"predictors": predictors})
    return wanted.model_copy(update={"spec": spec})


def parse(manifest: object) -> SeldonDeployment:
    """Validate a manifest.

    Raises:
        InvalidManifestError: every reason, each with the path of its field.
    """
    if not isinstance(manifest, Mapping):
        raise InvalidManifestError(
            f"a SeldonDeployment manifest is a mapping, not {type(manifest).__name__}"
        )
    try:
        return SeldonDeployment.model_validate(dict(manifest))
    except ValidationError as error:
        metadata = manifest.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
        reasons = "; ".join(_sentence(dict(part)) for part in error.errors(include_url=False))
        raise InvalidManifestError(
            f'SeldonDeployment "{name}" is invalid: {reasons}; '
            "mend the manifest and apply it again, nothing was changed"
        ) from error


def parse_yaml(text: str) -> SeldonDeployment:
    """Validate a manifest given as YAML or JSON.

    Raises:
        InvalidManifestError: not YAML, or refused.
    """
    try:
        return parse(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InvalidManifestError(f"the manifest is not YAML: {error}") from error


def _sentence(error: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in error["loc"]) or "spec"
    if error["type"] == "extra_forbidden":
        return f"{path}: is not supported by this project"
    if error["type"] == "missing":
        return f"{path}: required value"
    if path.endswith("children"):
        return f"{path}: graphs with children are not supported by this project"
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = error.get("input")
    return f"{path}: {message}" + (f" (it is {shown!r})" if isinstance(shown, str | int) else "")


def _unnamed(spec: Spec) -> list[str]:
    if not spec.predictors:
        return ["Graph contains no predictors"]
    names = [p.name for p in spec.predictors]
    return [
        f"Duplicate predictor name: {n}" for n in sorted({n for n in names if names.count(n) > 1})
    ]


def _bad_traffic(spec: Spec) -> list[str]:
    shadows = [p for p in spec.predictors if p.shadow]
    live = [p for p in spec.predictors if not p.shadow]
    total = sum(p.traffic for p in live)
    reasons = []
    if len(shadows) > 1:
        reasons.append("Multiple shadows are not allowed")
    if shadows and not live:
        reasons.append("Shadow can not exist as only predictor")
    if len(live) > 1 and total != 100:
        reasons.append(f"Traffic must sum to 100 for multiple predictors (it is {total})")
    if len(live) == 1 and total not in (0, 100):
        reasons.append(f"Traffic must sum be 100 for a single predictor when set (it is {total})")
    return reasons


def _bad_servers(spec: Spec) -> list[str]:
    return [
        f"Prepackaged server does not handle tensorflow protocol {p.graph.implementation}"
        for p in spec.predictors
        if spec.protocol == "tensorflow" and p.graph.implementation == "SKLEARN_SERVER"
    ]
