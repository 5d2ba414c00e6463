"""The SeldonDeployment: the manifest that every platform accepts.

Typed after `operator/apis/machinelearning.seldon.io/v1/seldondeployment_types.go` of Seldon Core
1.17.1. What its validating webhook refuses (`seldondeployment_webhook.go`) is refused here with the
same messages. Seldon's fields that no platform of this project supports are refused by name, except
fields without an effect: empty ones, and those that repeat the default.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION, Sticky, parse_sticky
from mlops_pipeline.serving.frameworks import find_served, get_served, implementations

GROUP = "machinelearning.seldon.io"
KIND = "SeldonDeployment"
DIGEST_ANNOTATION = "mlops-pipeline/artifact-digest"
"""On a predictor: the digest of the artifact that its servers return."""
PREDICTOR_ANNOTATION = "mlops-pipeline/predictor"
"""On a predictor: the stem of the names of its servers.

On Kubernetes, a digest of what the pods run is appended to it, so that two versions can stand side
by side. A predictor that gets another name in the manifest and keeps its stem keeps its servers."""
OUR_PREFIX = "mlops-pipeline/"
"""Of the annotations that this project writes."""
CPU_ANNOTATION = "mlops-pipeline/cpu"
MEMORY_ANNOTATION = "mlops-pipeline/memory"
MEMORY_LIMIT_ANNOTATION = "mlops-pipeline/memory-limit"
"""On a predictor: resources of the container that loads its model. They override the platform's
settings."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "mlops-pipeline"}

_REMOTE = r"[a-z][a-z0-9_-]*://[^\s/][^\s]*"
_UNREAD = ("http", "https", "ftp", "file")
_KUBECTL_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NAME_LENGTH = 63
_Name = Annotated[str, StringConstraints(pattern=_NAME, max_length=_NAME_LENGTH)]


def _check_implementation(name: str) -> str:
    if find_served(name) is None:
        raise ValueError(f"Input should be {' or '.join(map(repr, implementations()))}")
    return name


_Implementation = Annotated[str, AfterValidator(_check_implementation)]


def is_elsewhere(uri: str) -> bool:
    """Say whether a modelUri names a place outside of S3, such as `gs://bucket/model`.

    In a cluster, Seldon's initializer reads it: a remote of rclone, or a claim (`pvc://`).
    """
    return not uri.startswith("s3://") and re.fullmatch(_REMOTE, uri) is not None


def _check_model_uri(uri: str) -> str:
    if not uri:
        raise ValueError("Predictive unit modelUri required when using standalone servers")
    scheme = uri.partition("://")[0].lower()
    if scheme in _UNREAD:
        raise ValueError(
            f"Seldon's initializer does not read {scheme}://; run `mlops-pipeline import` to copy "
            "the model into the object store"
        )
    if is_elsewhere(uri):
        return uri
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+", uri):
        raise ValueError(
            "expected s3://<bucket>/<prefix> in this platform's object store or, on Kubernetes, "
            'gs://, pvc:// or another URI of rclone; see docs/serving.md, "A model from elsewhere"'
        )
    # rclone, which downloads the model in a cluster, resolves these segments. For S3 they are part
    # of the name, so other objects would be verified than downloaded.
    if {"", ".", ".."} & set(uri.removeprefix("s3://").removesuffix("/").split("/")):
        raise ValueError(
            "expected s3://<bucket>/<prefix> without `//` and the segments `.` and `..`"
        )
    return uri


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        defer_build=True,  # Definitions load this module and read no manifest.
    )
    _harmless: ClassVar[Mapping[str, Callable[[Any], bool]]] = {}
    """Unsupported field → function that says whether a value has no effect on serving."""

    @model_validator(mode="before")
    @classmethod
    def _pass_over_what_says_nothing(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        known = {name for field in cls.model_fields for name in (field, to_camel(field))}
        return {
            name: value
            for name, value in given.items()
            if value is not None
            and (name in known or not (_is_empty(value) or cls._is_harmless(name, value, given)))
        }

    @classmethod
    def _is_harmless(cls, name: object, value: object, given: Mapping[Any, Any]) -> bool:
        says_nothing = cls._harmless.get(str(name))
        return says_nothing is not None and says_nothing(value)


def _is_empty(value: object) -> bool:
    """Say whether the value is empty at every level: `[{"spec": {"containers": []}}]`."""
    if isinstance(value, Mapping):
        return all(_is_empty(part) for part in value.values())
    if isinstance(value, list | tuple):
        return all(_is_empty(part) for part in value)
    return value is None or value == ""


def _is_anything(_value: object) -> bool:
    return True


def _is_own_endpoint(value: object) -> bool:
    """Say whether an endpoint is the model's own container, which answers REST and gRPC anyway."""
    return isinstance(value, Mapping) and value.get("service_host") in (None, "", "localhost")


def _without_name(component: object, unit: object) -> object:
    """Return a component of `componentSpecs` without the name of the unit's own container.

    Seldon's operator adds this container with all its fields to the exported manifest.
    """
    if not isinstance(component, Mapping) or not isinstance(component.get("spec"), Mapping):
        return component
    containers = component["spec"].get("containers")
    if not isinstance(containers, list | tuple):
        return component
    rest = [
        {key: value for key, value in container.items() if (key, value) != ("name", unit)}
        if isinstance(container, Mapping)
        else container
        for container in containers
    ]
    return {**component, "spec": {**component["spec"], "containers": rest}}


class Parameter(_Part):
    """One parameter of a graph's unit, as the server gets it in PREDICTIVE_UNIT_PARAMETERS."""

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
    _harmless = {
        "endpoint": _is_own_endpoint,
        # The platform has its own storage initializer.
        "storageInitializerImage": lambda image: "storage-initializer" in str(image),
    }


class Predictor(_Part):
    """One version of the model, with its share of the traffic."""

    name: _Name
    graph: Graph
    replicas: Annotated[int, Field(ge=0, le=32)] = 1
    traffic: Annotated[int, Field(ge=0, le=100)] = 0
    shadow: bool = False
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    # The timeout of a rollout is a setting of the platform.
    _harmless = {"progressDeadlineSeconds": _is_anything}

    @classmethod
    def _is_harmless(cls, name: object, value: object, given: Mapping[Any, Any]) -> bool:
        if name == "componentSpecs" and isinstance(value, list | tuple):
            graph = given.get("graph")
            unit = graph.get("name") if isinstance(graph, Mapping) else None
            return all(_is_empty(_without_name(component, unit)) for component in value)
        return super()._is_harmless(name, value, given)

    @property
    def stem(self) -> str:
        """What its servers are called by: a candidate that is promoted keeps them."""
        return self.annotations.get(PREDICTOR_ANNOTATION, self.name)

    @property
    def digest(self) -> str:
        """The artifact digest annotated on it; empty for a manifest written by hand."""
        return self.annotations.get(DIGEST_ANNOTATION, "")


class Metadata(_Part):
    """Name, namespace, labels and annotations."""

    name: _Name
    namespace: Annotated[_Name, BeforeValidator(lambda name: name or "default")] = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    # Fields that an API server adds, or that only the life of an object in it depends on. The name
    # is required, and `generateName` has no effect beside it.
    _harmless = dict.fromkeys(
        (
            *("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink"),
            *("uid", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers"),
            *("generateName", "ownerReferences"),
        ),
        _is_anything,
    )

    @field_validator("annotations", mode="after")
    @classmethod
    def _forget_what_kubectl_applied(cls, annotations: dict[str, str]) -> dict[str, str]:
        return {key: text for key, text in annotations.items() if key != _KUBECTL_ANNOTATION}

    @field_validator("annotations", mode="after")
    @classmethod
    def _check_sticky(cls, annotations: dict[str, str]) -> dict[str, str]:
        if STICKY_ANNOTATION in annotations:
            parse_sticky(annotations[STICKY_ANNOTATION])
        return annotations


class Spec(_Part):
    """What to serve, and how."""

    predictors: tuple[Predictor, ...]
    protocol: Literal["", "seldon", "tensorflow", "v2", "kfserving"] = "seldon"
    name: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    replicas: Annotated[int, Field(ge=0, le=32)] | None = None
    # Every server answers REST and gRPC. OAuth was a part of Seldon's former API gateway.
    _harmless = {
        "transport": {"rest", "grpc"}.__contains__,
        "serverType": {"rpc"}.__contains__,
        "oauth_key": _is_anything,
        "oauth_secret": _is_anything,
    }

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
    _harmless = {"status": _is_anything}

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.metadata.namespace

    @property
    def sticky(self) -> Sticky | None:
        """What decides which predictor answers a request; None: chance."""
        text = self.metadata.annotations.get(STICKY_ANNOTATION)
        return parse_sticky(text) if text is not None else None

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest for Kubernetes, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True) | {
            "apiVersion": self.api_version,
            "kind": self.kind,
        }

    def annotated(self, annotations: Mapping[str, str]) -> "SeldonDeployment":
        """Return the deployment with these annotations of its metadata; empty ones are removed."""
        given = {**self.metadata.annotations, **annotations}
        annotations = {
            name: text for name, text in given.items() if text or name not in annotations
        }
        metadata = self.metadata.model_copy(update={"annotations": annotations})
        return self.model_copy(update={"metadata": metadata})

    def replicas(self, predictor: Predictor) -> int:
        """Return the number of servers of a predictor; the default is the deployment's."""
        if "replicas" in predictor.model_fields_set or self.spec.replicas is None:
            return predictor.replicas
        return self.spec.replicas

    def traffic(self) -> dict[str, int]:
        """Return each predictor's percentage of the live traffic; 0 for a shadow."""
        live = [p for p in self.spec.predictors if not p.shadow]
        if len(live) == 1:
            return {live[0].name: 100}
        return {p.name: p.traffic for p in live}


def main_predictor(deployment: SeldonDeployment) -> Predictor:
    """Return the predictor that gets most of the live requests."""
    shares = deployment.traffic()
    live = (p for p in deployment.spec.predictors if not p.shadow)
    return max(live, key=lambda p: shares[p.name])


def is_same_request(one: SeldonDeployment | None, other: SeldonDeployment | None) -> bool:
    """Say whether both ask for the same: the spec, and what this project writes on it.

    What other people annotate does not count.
    """
    return _request(one) == _request(other)


def _request(deployment: SeldonDeployment | None) -> object:
    if deployment is None:
        return None
    annotations = deployment.metadata.annotations.items()
    return deployment.spec, {k: text for k, text in annotations if k.startswith(OUR_PREFIX)}


def is_name(text: str) -> bool:
    """Say whether this is a valid name of a deployment or namespace."""
    return len(text) <= _NAME_LENGTH and re.fullmatch(_NAME, text) is not None


def between(
    there: SeldonDeployment, wanted: SeldonDeployment, shares: Mapping[str, int]
) -> list[SeldonDeployment]:
    """Return the intermediate steps, so that only ready predictors get traffic.

    `shares` is the percentage of the traffic that each ready predictor of `there` gets. First,
    wanted predictors that are not ready are added without traffic. Then, if some predictors are
    removed, the wanted ones get their traffic and the removed ones get none. Existing predictors
    keep their positions until the last step, `wanted` itself, because Seldon's operator numbers
    the ports of containers with other names in the order of predictors.
    """
    names = {p.name for p in wanted.spec.predictors}
    going = [p for p in there.spec.predictors if shares.get(p.name) and p.name not in names]
    places = {p.name: place for place, p in enumerate(there.spec.predictors)}
    beside = sorted(
        (*wanted.spec.predictors, *going), key=lambda p: places.get(p.name, len(places))
    )
    steps = []
    if any(share and name not in shares for name, share in wanted.traffic().items()):
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
            f"expected a SeldonDeployment manifest (a mapping), got {type(manifest).__name__}"
        )
    try:
        return SeldonDeployment.model_validate(dict(manifest))
    except ValidationError as error:
        title = _title({**manifest, "kind": KIND})
        reasons = "; ".join(_sentences([dict(e) for e in error.errors(include_url=False)]))
        raise InvalidManifestError(
            f"{title} is invalid: {reasons}; correct the manifest and apply it again. Nothing was "
            "changed"
        ) from error
    except RecursionError as error:
        raise _nested_too_deeply() from error


def _nested_too_deeply() -> InvalidManifestError:
    return InvalidManifestError(
        "could not read the manifest: it is nested too deeply; correct it and apply it again. "
        "Nothing was changed"
    )


@dataclass(frozen=True)
class Documents:
    """Content of a file of manifests."""

    deployments: tuple[SeldonDeployment, ...]
    """In the order of the file."""
    others: tuple[str, ...] = ()
    """Kind and name of each object of another kind."""


def parse_manifests(text: str) -> Documents:
    """Validate every SeldonDeployment of a file, YAML or JSON, of one or more documents.

    Lists, as `kubectl get -o yaml` writes them, are expanded.

    Raises:
        InvalidManifestError: it is not YAML, contains no SeldonDeployment, or one is refused; every
            reason of every document.
    """
    documents = _documents(text)
    deployments: list[SeldonDeployment] = []
    others: list[str] = []
    reasons: list[str] = []
    for found in _objects(documents):
        if isinstance(found, Mapping) and found.get("kind") not in (KIND, None):
            others.append(_title(found))
            continue
        try:
            deployments.append(parse(found))
        except InvalidManifestError as error:
            reasons.append(str(error))
    if reasons:
        raise InvalidManifestError("\n".join(reasons))
    if not deployments:
        raise InvalidManifestError(
            f"expected a {KIND} in the manifest, found {', '.join(others) or 'nothing'}; nothing "
            "was changed"
        )
    return Documents(tuple(deployments), tuple(others))


class _Loader(yaml.SafeLoader):
    """Reads a date as text, as kubectl does: `deployed: 2024-01-01` is a valid annotation."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _documents(text: str) -> list[object]:
    try:
        return [json.loads(text)]  # With tabs it is not YAML.
    except ValueError:
        pass
    except RecursionError as error:
        raise _nested_too_deeply() from error
    try:
        return list(yaml.load_all(text, _Loader))
    except RecursionError as error:
        raise _nested_too_deeply() from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidManifestError(
            f"the manifest is neither YAML nor JSON: {error}; nothing was changed"
        ) from error


def _objects(documents: Iterable[object]) -> Iterator[object]:
    """Yield each object of the documents, and of the lists in them."""
    for document in documents:
        kind = document.get("kind") if isinstance(document, Mapping) else None
        if isinstance(document, Mapping) and str(kind).endswith("List"):
            items = document.get("items") or ()
            if not isinstance(items, list | tuple):
                raise InvalidManifestError(
                    f"expected a list in `items`, got {type(items).__name__}"
                )
            yield from items
        elif document is not None:
            yield document


def _title(manifest: Mapping[Any, Any]) -> str:
    metadata = manifest.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
    return f"{manifest.get('kind')} {name}"


def _sentences(errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a message per error; for a unit of another server, missing fields are not reported."""
    others = {
        error["loc"][:-1]
        for error in errors
        if error["loc"][-1:] == ("implementation",) and error["type"] == "missing"
    }
    return [
        _sentence(error)
        for error in errors
        if not (error["loc"][:-1] in others and error["loc"][-1] in ("model_uri", "modelUri"))
    ]


def _sentence(error: Mapping[str, Any]) -> str:
    path = ".".join(_ALIASES.get(str(part), str(part)) for part in error["loc"]) or "spec"
    if error["type"] == "extra_forbidden":
        return f"{path}: is not supported by this project{_ADVICE.get(path.split('.')[-1], '')}"
    if error["type"] == "missing" and path.endswith("implementation"):
        return f"{path}: required value; supported: {', '.join(implementations())}"
    if error["type"] == "missing":
        return f"{path}: required value"
    if path.endswith("children"):
        return f"{path}: graphs with children are not supported by this project"
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = error.get("input")
    return f"{path}: {message}" + (f" (got {shown!r})" if isinstance(shown, str | int) else "")


_ALIASES = {
    field: to_camel(field)
    for part in (Graph, Predictor, Metadata, Spec, SeldonDeployment)
    for field in part.model_fields
}
_ADVICE = {
    "componentSpecs": (
        " (custom containers; set CPU and memory with the predictor's annotations "
        f"{CPU_ANNOTATION}, {MEMORY_ANNOTATION} and {MEMORY_LIMIT_ANNOTATION})"
    ),
}


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
        reasons.append(f"Traffic must sum to 100 for multiple predictors (got {total})")
    if len(live) == 1 and total not in (0, 100):
        reasons.append(f"Traffic must sum be 100 for a single predictor when set (got {total})")
    return reasons


def _bad_servers(spec: Spec) -> list[str]:
    return [
        f"Prepackaged server does not handle tensorflow protocol {p.graph.implementation}"
        for p in spec.predictors
        if spec.protocol == "tensorflow"
        and "tensorflow" not in get_served(p.graph.implementation).protocols
    ]
