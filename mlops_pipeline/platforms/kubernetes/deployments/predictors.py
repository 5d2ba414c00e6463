"""The predictors of a SeldonDeployment as they are applied to a cluster: what their pods run.

Seldon's operator 1.17 handles each field in its `controllers` and in `defaults.go`:
https://github.com/SeldonIO/seldon-core/tree/v1.17.1/operator
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.platforms.kubernetes.deployments.written import (
    IMAGE_ANNOTATION,
    NO_ENGINE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TRUST_ANNOTATION,
    template_digest,
)
from mlops_pipeline.platforms.seldon import (
    CPU_ANNOTATION,
    MEMORY_ANNOTATION,
    MEMORY_LIMIT_ANNOTATION,
    Predictor,
    SeldonDeployment,
)
from mlops_pipeline.serving.frameworks import FORWARDER, IMPLEMENTATION, get_served
from mlops_pipeline.serving.signing.policy import TRUST
from mlops_pipeline.settings.layers import Resources, ServingSettings
from mlops_pipeline.settings.models import check_resources

Image = Callable[[str], str]
"""Returns the reference of our serving image for an implementation."""
TF_SERVING = "tfserving"
"""The container that loads the model, behind the unit's own container
(`TFServingContainerName`)."""
METRICS_PORT = {"name": "metrics", "containerPort": 6000, "protocol": "TCP"}
"""The port that the operator gives to the first predictor's unit. Without it, the operator numbers
the ports across predictors, so deleting one predictor replaces the pods of the next ones
(`defaults.go`)."""
TF_SERVING_PORT = 2001
"""The HTTP port of that container (`TfServingRestPort`)."""
_USER = 8888
"""The user that Seldon's pods run as (`defaultUserID` of its chart)."""
_ROUTED_SECONDS = 5
"""Seconds from the announcement that a pod ends until its server gets the signal to stop.

The gateway learns of the end within a second and then sends no more requests. An idle machine needs
a tenth of that; the rest is for a busy one."""
_END_SECONDS = _ROUTED_SECONDS + 15
"""Seconds until Kubernetes kills a pod. The server finishes its requests within 10 s."""


class Predictors:
    """Writes predictors by the settings: `Manifests` says what each one means."""

    def __init__(
        self,
        *,
        secret: str,
        image: Image | None,
        pull_secret: str,
        engine: bool,
        deadline: float,
        serving: ServingSettings,
        trust: Callable[[], str],
    ) -> None:
        self.secret = secret
        self.image = image
        self._pull_secret = pull_secret
        self._engine = engine
        self._deadline = max(1, round(deadline))
        self._serving = serving
        self._trust = trust

    def secret_of(self, predictor: Predictor) -> str:
        """Return the name of the Secret that the predictor's artifact is read with."""
        return predictor.graph.env_secret_ref_name or self.secret

    def render(
        self, deployment: SeldonDeployment, predictor: Predictor, plain: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a predictor of the deployment. `plain` is its manifest, with its name there."""
        annotations = dict(predictor.annotations)
        annotations.pop(TEMPLATE_ANNOTATION, None)
        if not self._engine:
            annotations.setdefault(NO_ENGINE_ANNOTATION, "true")
        graph = {**plain["graph"], "envSecretRefName": self.secret_of(predictor)}
        template = {**plain, "annotations": annotations, "graph": graph}
        if not predictor.shadow:
            template.pop("shadow", None)
        if self.image is not None:
            annotations[IMAGE_ANNOTATION] = self.image(predictor.graph.implementation)
            if trust := self._trust():
                annotations[TRUST_ANNOTATION] = hashlib.sha256(trust.encode()).hexdigest()[:12]
            component = _component(predictor, deployment.spec.protocol, self._serving)
            self._place_images(component, predictor, deployment.spec.protocol, self.image)
            template["componentSpecs"] = [component]
        spec = deployment.spec
        content = (deployment.name, spec.protocol, spec.annotations, template)
        annotations[TEMPLATE_ANNOTATION] = template_digest(*content)
        return {
            **template,
            # Without a number, the operator keeps the current number of replicas.
            "replicas": deployment.replicas(predictor),
            "progressDeadlineSeconds": self._deadline,
        }

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


def loader(predictor: Predictor, protocol: str) -> str:
    """Return the name of the container that loads the predictor's model."""
    return TF_SERVING if _has_forwarder(predictor, protocol) else predictor.graph.name


def _has_forwarder(predictor: Predictor, protocol: str) -> bool:
    """Say whether the unit's container translates requests for TF Serving's own protocol."""
    framework = get_served(predictor.graph.implementation)
    return framework.behind_forwarder and protocol != "tensorflow"


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
