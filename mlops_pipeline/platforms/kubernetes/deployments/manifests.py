"""Translates our SeldonDeployment to the object that is applied to a cluster, and back.

The object has the given manifest in an annotation. A reader gets that manifest, unless somebody
changed the object by hand: then the reader gets the object's current state.

Seldon's operator 1.17 handles each field in its `controllers` and in `defaults.go`:
https://github.com/SeldonIO/seldon-core/tree/v1.17.1/operator
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mlops_pipeline.clients.errors import ConfigurationError, InvalidManifestError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, Manifest
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_ours
from mlops_pipeline.platforms.seldon import (
    CPU_ANNOTATION,
    MANAGED_BY,
    MEMORY_ANNOTATION,
    MEMORY_LIMIT_ANNOTATION,
    PREDICTOR_ANNOTATION,
    Graph,
    Metadata,
    Predictor,
    SeldonDeployment,
    Spec,
    parse,
)
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION
from mlops_pipeline.serving.frameworks import FORWARDER, IMPLEMENTATION, get_served
from mlops_pipeline.serving.signing.policy import TRUST
from mlops_pipeline.settings.layers import Resources, ServingSettings
from mlops_pipeline.settings.models import check_resources

Image = Callable[[str], str]
"""Returns the reference of our serving image for an implementation."""
APPLIED_ANNOTATION = "mlops-pipeline/applied"
"""On the SeldonDeployment: the given manifest."""
IMAGE_ANNOTATION = "mlops-pipeline/serving-image"
"""On a predictor: the image that its pods serve with. A new image replaces the pods."""
TRUST_ANNOTATION = "mlops-pipeline/trust"
"""On a predictor: a digest of which signatures its pods accept. Other keys replace the pods."""
TEMPLATE_ANNOTATION = "mlops-pipeline/template"
"""On a predictor: a digest of what its pods run. The operator copies it to Deployment and pods."""
NO_ENGINE_ANNOTATION = "seldon.io/no-engine"
TF_SERVING = "tfserving"
"""The container that loads the model, behind the unit's own container
(`TFServingContainerName`)."""
METRICS_PORT = {"name": "metrics", "containerPort": 6000, "protocol": "TCP"}
"""The port that the operator gives to the first predictor's unit. Without it, the operator numbers
the ports across predictors, so deleting one predictor replaces the pods of the next ones
(`defaults.go`)."""
TF_SERVING_PORT = 2001
"""The HTTP port of that container (`TfServingRestPort`)."""
_NAME_LENGTH = 63
_NOT_RUN = frozenset({"traffic", "replicas", "progressDeadlineSeconds"})
"""Fields of a predictor that can change without a change of its pods."""

_KUBECTL_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_USER = 8888
"""The user that Seldon's pods run as (`defaultUserID` of its chart)."""
_ROUTED_SECONDS = 5
"""Seconds from the announcement that a pod ends until its server gets the signal to stop.

The gateway learns of the end within a second and then sends no more requests. An idle machine needs
a tenth of that; the rest is for a busy one."""
_END_SECONDS = _ROUTED_SECONDS + 15
"""Seconds until Kubernetes kills a pod. The server finishes its requests within 10 s."""
_SERVING = ServingSettings()
_NONE_KEPT: Mapping[str, Manifest] = {}


class Manifests:
    """Writes and reads the SeldonDeployments of a cluster.

    `secret` is the Secret that artifacts are read with if a manifest names none. `image` is None if
    upstream's images serve, which do not support our probes. Each container names its image; the
    operator respects that except for the container before TF Serving. `pull_secret` is the Secret
    that nodes pull it with. `engine` puts Seldon's executor before each model. `deadline` is the
    number of seconds in which a pod must become ready. `serving` has the resources of the
    containers. `trust` returns which signatures of artifacts count, for our own image; empty: none
    is verified.
    """

    def __init__(
        self,
        *,
        secret: str,
        image: Image | None,
        pull_secret: str = "",
        engine: bool = False,
        deadline: float = 240,
        serving: ServingSettings = _SERVING,
        trust: Callable[[], str] = lambda: "",
    ) -> None:
        self.secret = secret
        self._image = image
        self._pull_secret = pull_secret
        self._engine = engine
        self._deadline = max(1, round(deadline))
        self._serving = serving
        self._trust = trust

    @property
    def are_ours(self) -> bool:
        """Whether our own image serves."""
        return self._image is not None

    def secret_of(self, predictor: Predictor) -> str:
        """Return the name of the Secret that the predictor's artifact is read with."""
        return predictor.graph.env_secret_ref_name or self.secret

    def require_servers(self, deployment: SeldonDeployment) -> None:
        """Require that the images in use serve each model, and that the split is not sticky.

        Raises:
            ConfigurationError: upstream's images serve, and there is none for a framework.
            InvalidManifestError: the split is sticky.
        """
        _require_random_split(deployment)
        served = (get_served(p.graph.implementation) for p in deployment.spec.predictors)
        lacking = {row.implementation for row in served if not (self.are_ours or row.is_upstream)}
        if lacking:
            raise ConfigurationError(
                f"could not apply {deployment.namespace}/{deployment.name}: Seldon has no image "
                f"for {', '.join(sorted(lacking))}; set `serving.images` of the platform to own"
            )

    def place(self, deployment: SeldonDeployment) -> SeldonDeployment:
        """Return the deployment with the names that its predictors have in the cluster.

        A digest of its pods is appended to the name of a predictor that says so by
        `PREDICTOR_ANNOTATION`. So a change of the pods makes another predictor: its pods start
        beside the serving ones, and the traffic moves when they are proved.

        So it is with every predictor that has Seldon's executor, where replacing pods under one
        name would lose requests: the executor closes its port as soon as it gets the signal to stop
        (Seldon gives its container no preStop), and when the executor is turned on or off, Seldon's
        operator changes the Service's port before the new pods are ready. Other predictors keep the
        name that their manifest gave them, as does one that was read from the cluster.
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
        """Return the manifest to apply.

        `kept` has predictors of the cluster, by their names there, that must not change, except for
        their traffic.
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
        """Return the given deployment, or the current state if somebody changed it by hand.

        For a deployment of somebody else, the fields that this project knows are returned: its
        predictors with their models and traffic. Other fields of Seldon's are omitted.
        """
        given = _given(manifest)
        if given is not None and _is_untouched(manifest, self.render(given)):
            return given
        return _as_it_stands(manifest)

    def annotating(self, manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
        """Return the patch that annotates a deployment, and the given manifest in its annotation.

        Manual changes stay, and are still reported as manual changes.
        """
        given = _given(manifest)
        applied = {APPLIED_ANNOTATION: _plain(given.annotated(annotations))} if given else {}
        # A merge patch removes what is null.
        changed = {name: text or None for name, text in annotations.items()}
        return {"metadata": {"annotations": {**changed, **applied}}}

    def standing(self, manifest: Manifest) -> SeldonDeployment:
        """Return what `read` returns, but each predictor with its name in the cluster."""
        given = _given(manifest)
        if given is not None and _is_untouched(manifest, self.render(given)):
            return self.place(given)
        return _as_it_stands(manifest)

    def edits(self, manifest: Manifest) -> Mapping[str, str]:
        """Return predictor → what somebody changed by hand since it was applied.

        The keys are the predictors' names in the cluster. An object that an older version of this
        project wrote, or that has another image, does not count as changed.
        """
        if (given := _given(manifest)) is None:
            return {}
        names = (p.name for p in self.place(given).spec.predictors)
        placed = dict(zip(names, given.spec.predictors, strict=True))
        return dict(_edits(manifest, given, placed))

    def difference(self, manifest: Manifest, wanted: SeldonDeployment) -> str:
        """Say how the settings differ from how a deployment of ours serves; empty if not at all."""
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
        """Say whether somebody changed by hand the pods of a deployment of ours."""
        found = manifest["spec"].get("predictors") or ()
        ours = _given(manifest) is not None
        return ours and not all(_is_template_whole(manifest, predictor) for predictor in found)

    def _place_images(
        self, component: dict[str, Any], predictor: Predictor, protocol: str, image: Image
    ) -> None:
        """Set the containers' images and the pull secret."""
        if self._pull_secret:
            component["spec"]["imagePullSecrets"] = [{"name": self._pull_secret}]
        for container in component["spec"]["containers"]:
            loads = container["name"] == loader(predictor, protocol)
            container["image"] = image(predictor.graph.implementation if loads else FORWARDER)
            if loads:
                # Otherwise its files choose what loads them, and a class among them would run.
                said = {"name": IMPLEMENTATION, "value": predictor.graph.implementation}
                trust = self._trust()
                container["env"] = [said, *([{"name": TRUST, "value": trust}] if trust else [])]

    def _placed(
        self, deployment: SeldonDeployment, predictor: Predictor, plain: Mapping[str, Any]
    ) -> Predictor:
        if TEMPLATE_ANNOTATION in predictor.annotations:
            return predictor
        stem = predictor.stem
        annotations = self._predictor(deployment, predictor, {**plain, "name": stem})["annotations"]
        if not (has_engine(annotations) or PREDICTOR_ANNOTATION in annotations):
            return predictor
        suffix = f"-{annotations[TEMPLATE_ANNOTATION][:8]}"
        marks = {PREDICTOR_ANNOTATION: stem, TEMPLATE_ANNOTATION: ""}
        return predictor.model_copy(
            update={
                "name": stem[: _NAME_LENGTH - len(suffix)] + suffix,
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
            if trust := self._trust():
                annotations[TRUST_ANNOTATION] = hashlib.sha256(trust.encode()).hexdigest()[:12]
            component = _component(predictor, deployment.spec.protocol, self._serving)
            self._place_images(component, predictor, deployment.spec.protocol, self._image)
            template["componentSpecs"] = [component]
        annotations[TEMPLATE_ANNOTATION] = _digest(deployment, template)
        return {
            **template,
            # Without a number, the operator keeps the current number of replicas.
            "replicas": deployment.replicas(predictor),
            "progressDeadlineSeconds": self._deadline,
        }


def _require_random_split(deployment: SeldonDeployment) -> None:
    if deployment.sticky is not None:
        raise InvalidManifestError(
            f"could not apply {deployment.namespace}/{deployment.name}: a cluster does not support "
            f"the annotation {STICKY_ANNOTATION}. Seldon's operator writes the VirtualService, and "
            "its VirtualService splits requests between predictors at random. Remove the "
            "annotation, or use the embedded platform. Nothing was changed"
        )


def has_engine(annotations: Mapping[str, str]) -> bool:
    """Say whether Seldon's executor runs before the model of a predictor with `annotations`."""
    return annotations.get(NO_ENGINE_ANNOTATION, "").lower() != "true"


def is_named_in_answers(annotations: Mapping[str, str]) -> bool:
    """Say whether answers of a predictor with `annotations` carry its name: our own server's do."""
    return IMAGE_ANNOTATION in annotations and not has_engine(annotations)


def loader(predictor: Predictor, protocol: str) -> str:
    """Return the name of the container that loads the predictor's model."""
    return TF_SERVING if _has_forwarder(predictor, protocol) else predictor.graph.name


def _has_forwarder(predictor: Predictor, protocol: str) -> bool:
    """Say whether the unit's container translates requests for TF Serving's own protocol."""
    framework = get_served(predictor.graph.implementation)
    return framework.behind_forwarder and protocol != "tensorflow"


def _digest(deployment: SeldonDeployment, template: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal characters that change whenever the pods' content changes."""
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
    """Return the resources of the container that loads the model."""
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
            f"the resources of the predictor {predictor.name} are invalid: {error}; correct the "
            "model's ServerSpec or the settings of `serving`"
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
    """Return the manifest that the object was created from; None if we did not create it."""
    text = (manifest["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    if text is None or not is_ours(manifest):
        return None
    try:
        return parse(json.loads(text))
    except (ValueError, InvalidManifestError):
        return None


def _is_untouched(manifest: Manifest, rendered: Manifest) -> bool:
    """Say whether the object equals what was applied; labels that others added do not count."""
    there, ours = manifest["metadata"], rendered["metadata"]
    return bool(manifest["spec"] == rendered["spec"]) and all(
        ours[key].items() <= (there.get(key) or {}).items() for key in ("labels", "annotations")
    )


def _edits(
    manifest: Manifest, given: SeldonDeployment, placed: Mapping[str, Predictor]
) -> Iterator[tuple[str, str]]:
    """Yield (predictor, change). The first predictor also reports the removed ones.

    `placed` has the given predictors by the names that they get in the cluster today.
    """
    applied = {p.name: p for p in given.spec.predictors}
    there = manifest["spec"].get("predictors") or ()
    names = [_given_name(p, applied, placed) for p in there]
    gone = sorted(applied.keys() - set(names))
    for place, (found, name) in enumerate(zip(there, names, strict=True)):
        told = [f"the predictor {n} was removed" for n in gone] if place == 0 else []
        if name not in applied:
            told.append("it was added")
        else:
            told += _changes(manifest, found, given, applied[name])
        if told:
            yield found["name"], "; ".join(told)


def _given_name(
    predictor: Mapping[str, Any], applied: Mapping[str, Predictor], placed: Mapping[str, Predictor]
) -> str:
    """Return the name that a predictor of the cluster has in the given manifest.

    Other settings than of today have placed it under a name that only its stem tells.
    """
    name, annotations = str(predictor["name"]), predictor.get("annotations") or {}
    if name in placed:
        return placed[name].name
    return name if name in applied else str(annotations.get(PREDICTOR_ANNOTATION, name))


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
    if not told and not _is_template_whole(manifest, found):
        yield "its pods' specification was changed"


def _is_template_whole(manifest: Manifest, predictor: Mapping[str, Any]) -> bool:
    """Say whether a predictor still matches the digest in its annotation."""
    annotations, spec = dict(predictor.get("annotations") or {}), manifest["spec"]
    written = str(annotations.pop(TEMPLATE_ANNOTATION, ""))
    return written == _digest_of(
        manifest["metadata"]["name"],
        spec.get("protocol", Spec.model_fields["protocol"].default),
        spec.get("annotations", {}),
        {**predictor, "annotations": annotations},
    )


def _serving_of(manifest: Manifest) -> dict[str, set[str]]:
    """Return a readable name of each setting → its values in the predictors."""
    there = [p.get("annotations") or {} for p in manifest["spec"].get("predictors") or ()]
    return {
        "Seldon's executor (seldon.engine)": {"on" if has_engine(p) else "off" for p in there},
        "the serving image": {p.get(IMAGE_ANNOTATION, "Seldon's") for p in there},
        "the digest of the trusted keys (signing)": {
            p.get(TRUST_ANNOTATION, "none") for p in there
        },
    }


def _as_it_stands(manifest: Manifest) -> SeldonDeployment:
    """Return the object's current state as this project's SeldonDeployment.

    The predictors keep the digest of what their pods run. A wanted deployment has no such digest,
    so a deployment that was changed by hand never equals a wanted one.
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
    """Return the predictors that get mirrored requests."""
    mirrors = (_first_route(service).get("mirror") for service in virtual_services)
    return {str(mirror.get("subset", "")) for mirror in mirrors if mirror}


def _first_route(service: Manifest) -> Mapping[str, Any]:
    """Return the first HTTP route. The operator writes the HTTP rules before the gRPC rules."""
    first: Mapping[str, Any] = next(iter(service["spec"].get("http") or ()), {})
    return first
