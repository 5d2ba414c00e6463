"""Our SeldonDeployment, what is applied to a cluster for it, and the way back.

What is applied holds the manifest as it was given, in an annotation. So whoever reads it gets that
manifest back, unless somebody changed the object by hand: then it is what stands there now.

What Seldon's operator 1.17 does with each field is in its `controllers` and in `defaults.go`:
https://github.com/SeldonIO/seldon-core/tree/v1.17.1/operator
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, Manifest
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_ours
from mlops_pipeline.platforms.seldon import (
    CPU_ANNOTATION,
    MANAGED_BY,
    MEMORY_ANNOTATION,
    MEMORY_LIMIT_ANNOTATION,
    Graph,
    Metadata,
    Predictor,
    SeldonDeployment,
    Spec,
    parse,
)
from mlops_pipeline.serving.frameworks import FORWARDER, get_served
from mlops_pipeline.settings.layers import Resources, ServingSettings
from mlops_pipeline.settings.models import check_resources

Image = Callable[[str], str]
"""Returns the reference of our serving image for an implementation."""
APPLIED_ANNOTATION = "mlops-pipeline/applied"
"""On the SeldonDeployment: the manifest that was given."""
IMAGE_ANNOTATION = "mlops-pipeline/serving-image"
"""On a predictor: the image that its pods serve with. A new one replaces them."""
TEMPLATE_ANNOTATION = "mlops-pipeline/template"
"""On a predictor and, by the operator, on its Deployment and pods: a digest of what they run."""
PREDICTOR_ANNOTATION = "mlops-pipeline/predictor"
"""On a predictor that has another name in the cluster: the name that its manifest gave it."""
NO_ENGINE_ANNOTATION = "seldon.io/no-engine"
TF_SERVING = "tfserving"
"""The container that loads the model behind the unit's own (`TFServingContainerName`)."""
METRICS_PORT = {"name": "metrics", "containerPort": 6000, "protocol": "TCP"}
"""What the operator gives to the container of a first predictor's unit. Without it, it counts on
from one predictor to the next, and replaces pods where one before them goes (`defaults.go`)."""
TF_SERVING_PORT = 2001
"""Its port for HTTP (`TfServingRestPort`)."""
_NAME_LENGTH = 63
_NOT_RUN = frozenset({"traffic", "replicas", "progressDeadlineSeconds"})
"""What of a predictor can change without its pods."""

_KUBECTL_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_USER = 8888
"""The user that Seldon's pods run as (`defaultUserID` of its chart)."""
_ROUTED_SECONDS = 5
"""From the end of a pod announced to its server told to stop. The gateway hears of the end within
a second and sends nothing more; an idle machine needs a tenth of that, a busy one has the rest."""
_END_SECONDS = _ROUTED_SECONDS + 15
"""The server finishes in 10 s what is in flight."""
_SERVING = ServingSettings()
_NONE_KEPT: Mapping[str, Manifest] = {}


class Manifests:
    """Writes and reads the SeldonDeployments of a cluster.

    `secret` is the Secret that artifacts are read with where a manifest names none. `image` is None
    where upstream's images serve, which know nothing of our probes. With `explicit` each container
    names it, where the operator was not told of it. `pull_secret` is what nodes pull it with.
    `engine` puts Seldon's executor before each model. `deadline` is the seconds in which a pod must
    become ready, `serving` says what its containers are given.
    """

    def __init__(
        self,
        *,
        secret: str,
        image: Image | None,
        explicit: bool = False,
        pull_secret: str = "",
        engine: bool = False,
        deadline: float = 240,
        serving: ServingSettings = _SERVING,
    ) -> None:
        self.secret = secret
        self._image = image
        self._explicit = explicit
        self._pull_secret = pull_secret
        self._engine = engine
        self._deadline = max(1, round(deadline))
        self._serving = serving

    @property
    def are_ours(self) -> bool:
        """Whether our own image serves."""
        return self._image is not None

    def secret_of(self, predictor: Predictor) -> str:
        """Return the name of the Secret that the predictor's artifact is read with."""
        return predictor.graph.env_secret_ref_name or self.secret

    def place(self, deployment: SeldonDeployment) -> SeldonDeployment:
        """Return the deployment with the names that its predictors have in the cluster.

        A predictor with Seldon's executor has a digest of its pods in its name. So other pods are
        another predictor: they start beside those that serve, and the traffic moves when they are
        ready. Pods cannot be replaced under one name without loss: the executor closes its port as
        soon as it is told to stop (Seldon gives its container no preStop), and where the executor
        comes or goes, Seldon's operator changes the Service's port before new pods are ready.
        A predictor that was read from the cluster keeps its name.
        """
        spec = deployment.spec
        plain = deployment.to_manifest()["spec"]["predictors"]
        placed = [self._placed(deployment, *p) for p in zip(spec.predictors, plain, strict=True)]
        return deployment.model_copy(
            update={"spec": spec.model_copy(update={"predictors": tuple(placed)})}
        )

    def render(
        self, deployment: SeldonDeployment, *, kept: Mapping[str, Manifest] = _NONE_KEPT
    ) -> dict[str, Any]:
        """Return what is applied.

        `kept` are predictors that stay as they stand in the cluster, but for their traffic, by
        their names there.
        """
        given = _plain(deployment)
        placed = self.place(deployment)
        manifest = placed.to_manifest()
        metadata, spec = manifest["metadata"], manifest["spec"]
        return {
            "apiVersion": SELDON_DEPLOYMENT.api_version,
            "kind": SELDON_DEPLOYMENT.kind,
            "metadata": {
                **metadata,
                "namespace": deployment.namespace,
                "labels": {**metadata.get("labels", {}), **MANAGED_BY},
                "annotations": {**metadata.get("annotations", {}), APPLIED_ANNOTATION: given},
            },
            "spec": {
                **spec,
                "predictors": [
                    {**kept[predictor.name], "traffic": predictor.traffic}
                    if predictor.name in kept
                    else self._predictor(placed, predictor, plain)
                    for predictor, plain in zip(
                        placed.spec.predictors, spec["predictors"], strict=True
                    )
                ],
            },
        }

    def read(self, manifest: Manifest) -> SeldonDeployment:
        """Return the deployment that was given, or what stands there if that was changed by hand.

        One of somebody else's is returned as far as this project has words for it: its predictors
        with their models and traffic. What only Seldon knows of it is left out.
        """
        given = _given(manifest)
        if given is not None and _is_untouched(manifest, self.render(given)):
            return given
        return _as_it_stands(manifest)

    def annotating(self, manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
        """Return the change that annotates a deployment, and the manifest that was given with it.

        What somebody changed by hand stays, and stays visible as such.
        """
        given = _given(manifest)
        applied = {APPLIED_ANNOTATION: _plain(given.annotated(annotations))} if given else {}
        return {"metadata": {"annotations": {**annotations, **applied}}}

    def standing(self, manifest: Manifest) -> SeldonDeployment:
        """Return what `read` does, each predictor by the name that it has in the cluster."""
        given = _given(manifest)
        if given is not None and _is_untouched(manifest, self.render(given)):
            return self.place(given)
        return _as_it_stands(manifest)

    def edits(self, manifest: Manifest) -> Mapping[str, str]:
        """Say by predictor what somebody changed by hand since it was applied; else empty.

        Each is named as it is in the cluster. That an older version of this project wrote it, or
        with another image, is no such change.
        """
        given = _given(manifest)
        return dict(_edits(manifest, given)) if given is not None else {}

    def difference(self, manifest: Manifest, wanted: SeldonDeployment) -> str:
        """Say what the settings change about how a deployment of ours serves; empty if nothing."""
        if not is_ours(manifest):
            return ""
        there, asked = (_serving_of(m) for m in (manifest, self.render(wanted)))
        return "; ".join(
            f"{what} is {', '.join(sorted(there[what]))}, the settings say "
            f"{', '.join(sorted(asked[what]))}"
            for what in asked
            if there[what] != asked[what]
        )

    def has_other_pods(self, manifest: Manifest) -> bool:
        """Say whether somebody changed by hand what the pods of a deployment of ours run."""
        found = manifest["spec"].get("predictors") or ()
        ours = _given(manifest) is not None
        return ours and not all(_is_template_whole(manifest, predictor) for predictor in found)

    def _place_images(
        self, component: dict[str, Any], predictor: Predictor, protocol: str, image: Image
    ) -> None:
        """Say which images the containers run and how they are pulled, where it must be said."""
        if self._pull_secret:
            component["spec"]["imagePullSecrets"] = [{"name": self._pull_secret}]
        if not self._explicit:
            return
        for container in component["spec"]["containers"]:
            loads = container["name"] == loader(predictor, protocol)
            container["image"] = image(predictor.graph.implementation if loads else FORWARDER)

    def _placed(
        self, deployment: SeldonDeployment, predictor: Predictor, plain: Mapping[str, Any]
    ) -> Predictor:
        if TEMPLATE_ANNOTATION in predictor.annotations:
            return predictor
        annotations = self._predictor(deployment, predictor, plain)["annotations"]
        if not has_engine(annotations):
            return predictor
        suffix = f"-{annotations[TEMPLATE_ANNOTATION][:8]}"
        marks = {PREDICTOR_ANNOTATION: predictor.name, TEMPLATE_ANNOTATION: ""}
        return predictor.model_copy(
            update={
                "name": predictor.name[: _NAME_LENGTH - len(suffix)] + suffix,
                "annotations": {**predictor.annotations, **marks},
            }
        )

    def _predictor(
        self, deployment: SeldonDeployment, predictor: Predictor, plain: Mapping[str, Any]
    ) -> dict[str, Any]:
        annotations = dict(predictor.annotations)
        annotations.pop(TEMPLATE_ANNOTATION, None)
        if not self._engine:
            annotations.setdefault(NO_ENGINE_ANNOTATION, "true")
        graph = {**plain["graph"], "envSecretRefName": self.secret_of(predictor)}
        template = {**plain, "annotations": annotations, "graph": graph}
        if self._image is not None:
            annotations[IMAGE_ANNOTATION] = self._image(predictor.graph.implementation)
            component = _component(predictor, deployment.spec.protocol, self._serving)
            self._place_images(component, predictor, deployment.spec.protocol, self._image)
            template["componentSpecs"] = [component]
        annotations[TEMPLATE_ANNOTATION] = _digest(deployment, template)
        return {
            **template,
            # Where none are asked for, the operator keeps as many as there were.
            "replicas": deployment.replicas(predictor),
            "progressDeadlineSeconds": self._deadline,
        }


def has_engine(annotations: Mapping[str, str]) -> bool:
    """Say by a predictor's annotations whether Seldon's executor stands before its model."""
    return annotations.get(NO_ENGINE_ANNOTATION, "").lower() != "true"


def loader(predictor: Predictor, protocol: str) -> str:
    """Return the name of the container that loads the predictor's model."""
    return TF_SERVING if _has_forwarder(predictor, protocol) else predictor.graph.name


def _has_forwarder(predictor: Predictor, protocol: str) -> bool:
    """The unit's own container hands requests to TF Serving, where that speaks another protocol."""
    framework = get_served(predictor.graph.implementation)
    return framework.behind_forwarder and protocol != "tensorflow"


def _digest(deployment: SeldonDeployment, template: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal characters that change whenever what the pods run does."""
    spec = deployment.spec
    return _digest_of(deployment.name, spec.protocol, spec.annotations, template)


def _digest_of(
    name: str, protocol: str, annotations: Mapping[str, str], template: Mapping[str, Any]
) -> str:
    kept = {key: value for key, value in template.items() if key not in _NOT_RUN}
    content = [name, protocol, annotations, kept]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _component(predictor: Predictor, protocol: str, serving: ServingSettings) -> dict[str, Any]:
    name, resources = predictor.graph.name, _resources(predictor, serving)
    if _has_forwarder(predictor, protocol):
        containers = [
            _container(name, port="http", resources=serving.forwarder),
            _container(TF_SERVING, port=TF_SERVING_PORT, resources=resources),
        ]
    else:
        containers = [_container(name, port="http", resources=resources)]
    containers[0]["ports"] = [METRICS_PORT]
    return {
        "spec": {
            "containers": containers,
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": _END_SECONDS,
            "automountServiceAccountToken": False,
            # A Service called `mlserver` must not become the variable MLSERVER_PORT.
            "enableServiceLinks": False,
        }
    }


def _resources(predictor: Predictor, serving: ServingSettings) -> Resources:
    """Return what the container is given that loads the model."""
    usual, own = serving.resources_of(predictor.graph.implementation), predictor.annotations
    given = Resources.model_construct(
        cpu=own.get(CPU_ANNOTATION, usual.cpu),
        memory=own.get(MEMORY_ANNOTATION, usual.memory),
        memory_limit=own.get(MEMORY_LIMIT_ANNOTATION, usual.memory_limit),
    )
    try:
        check_resources(cpu=given.cpu, memory=given.memory, memory_limit=given.memory_limit)
    except ValueError as error:
        raise InvalidManifestError(
            f"the predictor {predictor.name} cannot be given its resources: {error}, in the "
            "model's ServerSpec or in the settings of `serving`"
        ) from error
    return given


def _container(name: str, *, port: str | int, resources: Resources) -> dict[str, Any]:
    return {
        "name": name,
        "resources": {
            "requests": {"cpu": resources.cpu, "memory": resources.memory},
            "limits": {"memory": resources.memory_limit},
        },
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": port},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": port},
            "initialDelaySeconds": 180,  # The port opens when the model is loaded.
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_ROUTED_SECONDS)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _plain(deployment: SeldonDeployment) -> str:
    return json.dumps(deployment.to_manifest(), sort_keys=True, separators=(",", ":"))


def _given(manifest: Manifest) -> SeldonDeployment | None:
    """Return the manifest that the object was made from; None where it was not made by us."""
    text = (manifest["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    if text is None or not is_ours(manifest):
        return None
    try:
        return parse(json.loads(text))
    except (ValueError, InvalidManifestError):
        return None


def _is_untouched(manifest: Manifest, rendered: Manifest) -> bool:
    """Say whether the object is what was applied; labels that others hang on it do not count."""
    there, ours = manifest["metadata"], rendered["metadata"]
    return bool(manifest["spec"] == rendered["spec"]) and all(
        ours[key].items() <= (there.get(key) or {}).items() for key in ("labels", "annotations")
    )


def _edits(manifest: Manifest, given: SeldonDeployment) -> Iterator[tuple[str, str]]:
    """Yield predictor → what was changed; what is gone is told of the first that is left."""
    applied = {p.name: p for p in given.spec.predictors}
    there = manifest["spec"].get("predictors") or ()
    gone = sorted(applied.keys() - {_given_name(p, applied) for p in there})
    for place, found in enumerate(there):
        name = _given_name(found, applied)
        told = [f"the predictor {n} was taken away" for n in gone] if place == 0 else []
        if name not in applied:
            told.append("it was added")
        else:
            told += _changes(manifest, found, given, applied[name])
        if told:
            yield found["name"], "; ".join(told)


def _given_name(predictor: Mapping[str, Any], applied: Mapping[str, Predictor]) -> str:
    """Return the name that the manifest gave to a predictor of the cluster."""
    name, annotations = str(predictor["name"]), predictor.get("annotations") or {}
    return name if name in applied else str(annotations.get(PREDICTOR_ANNOTATION, name))


def _changes(
    manifest: Manifest, found: Mapping[str, Any], given: SeldonDeployment, applied: Predictor
) -> Iterator[str]:
    """Name what differs: the fields that people change, else that something its pods run does."""
    graph = found.get("graph") or {}
    compared = (
        ("traffic", found.get("traffic", 0), applied.traffic),
        ("replicas", found.get("replicas"), given.replicas(applied)),
        ("modelUri", graph.get("modelUri", ""), applied.graph.model_uri),
    )
    told = [f"its {key} is {now}, applied was {was}" for key, now, was in compared if now != was]
    yield from told
    if not told and not _is_template_whole(manifest, found):
        yield "what its pods run is not what was applied"


def _is_template_whole(manifest: Manifest, predictor: Mapping[str, Any]) -> bool:
    """Say whether a predictor still is what its own digest was made of."""
    annotations, spec = dict(predictor.get("annotations") or {}), manifest["spec"]
    written = str(annotations.pop(TEMPLATE_ANNOTATION, ""))
    return written == _digest_of(
        manifest["metadata"]["name"],
        spec.get("protocol", Spec.model_fields["protocol"].default),
        spec.get("annotations", {}),
        {**predictor, "annotations": annotations},
    )


def _serving_of(manifest: Manifest) -> dict[str, set[str]]:
    """Return what the predictors serve with, as people call it."""
    there = [p.get("annotations") or {} for p in manifest["spec"].get("predictors") or ()]
    return {
        "Seldon's executor (seldon.engine)": {"on" if has_engine(p) else "off" for p in there},
        "the serving image": {p.get(IMAGE_ANNOTATION, "Seldon's") for p in there},
    }


def _as_it_stands(manifest: Manifest) -> SeldonDeployment:
    """Return what the object says now, in this project's words.

    The digest of what its pods run stays on its predictors: nothing that is asked for has one, so
    what was changed by hand equals nothing that is asked for.
    """
    plain = {
        **_known(SeldonDeployment, manifest),
        "metadata": _metadata(manifest["metadata"]),
        "spec": {
            **_known(Spec, manifest["spec"]),
            "predictors": [_plain_predictor(p) for p in manifest["spec"].get("predictors") or ()],
        },
    }
    try:
        return parse(plain)
    except InvalidManifestError:
        return _unchecked(plain)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {APPLIED_ANNOTATION, _KUBECTL_ANNOTATION}
    annotations = metadata.get("annotations") or {}
    return {
        **_known(Metadata, metadata),
        "annotations": {key: text for key, text in annotations.items() if key not in hidden},
    }


def _plain_predictor(predictor: Mapping[str, Any]) -> dict[str, Any]:
    annotations = dict(predictor.get("annotations") or {})
    annotations.pop(IMAGE_ANNOTATION, None)
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
    """Return the fields that the model has, by the names that they have in a manifest."""
    names = {field.alias or name for name, field in model.model_fields.items()}
    return {key: value for key, value in fields.items() if key in names and value is not None}


def _unchecked(plain: Mapping[str, Any]) -> SeldonDeployment:
    """Return a deployment that this project would refuse, to be shown and never applied."""
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


def traffic_of(virtual_services: Sequence[Manifest]) -> dict[str, int]:
    """Return predictor → percent of the live requests, as the gateway routes them."""
    shares: dict[str, int] = {}
    for service in virtual_services:
        for route in _first_route(service).get("route") or ():
            shares[str(route["destination"].get("subset", ""))] = int(route.get("weight", 0))
    if len(shares) == 1:
        return dict.fromkeys(shares, 100)
    return shares


def mirrors_of(virtual_services: Sequence[Manifest]) -> set[str]:
    """Return the predictors that get copies of requests."""
    mirrors = (_first_route(service).get("mirror") for service in virtual_services)
    return {str(mirror.get("subset", "")) for mirror in mirrors if mirror}


def _first_route(service: Manifest) -> Mapping[str, Any]:
    """The operator writes HTTP's rules first, gRPC's after them."""
    first: Mapping[str, Any] = next(iter(service["spec"].get("http") or ()), {})
    return first
