"""The settings of the layers that every platform on Kubernetes has: one table per layer."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from mlops_pipeline.serving.frameworks import Framework, frameworks, get_served
from mlops_pipeline.settings.fields import Seconds, Table, Url
from mlops_pipeline.settings.models import (
    DEFAULT_NAMESPACE,
    Processors,
    Quantity,
    check_resources,
)


class MetalLBSettings(Table):
    """Addresses for Services of type LoadBalancer."""

    addresses: str = Field(
        "",
        description="Addresses for MetalLB: `first-last` or a prefix in the subnet of the "
        "container network. Empty: an unused range near the end of the subnet.",
    )


class IstioSettings(Table):
    """The ingress gateway."""

    tls: Literal["off", "self-signed", "files"] = Field(
        "off", description="Source of the certificate for port 443."
    )
    certificate: Path | None = Field(
        None, description="PEM file with the certificate chain, for tls = files."
    )
    private_key: Path | None = Field(
        None, description="PEM file with the private key, for tls = files."
    )
    https_redirect: bool = Field(False, description="Redirect HTTP to HTTPS. Requires tls.")

    @property
    def reference(self) -> str:
        """The Gateway that routes are bound to, as `namespace/name`."""
        return "istio-system/seldon-gateway"

    @model_validator(mode="after")
    def _fits(self) -> "IstioSettings":
        if (self.tls == "files") != (self.certificate is not None and self.private_key is not None):
            raise ValueError("tls = files, certificate and private_key must be set together")
        if self.https_redirect and self.tls == "off":
            raise ValueError("https_redirect requires tls")
        return self


class SeldonSettings(Table):
    """Seldon Core."""

    version: str = Field(
        "1.17.1",
        description="Version of the chart seldon-core-operator. 1.17.1 is the last version under "
        "the Apache License 2.0. From 1.18.0, the Business Source License 1.1 applies, which "
        "does not allow production use.",
    )
    usage_metrics: bool = Field(
        False, description="Let Seldon's spartakus report usage data to Seldon."
    )
    engine: bool = Field(
        False,
        description="Run Seldon's executor in front of each model. Pods take 20 s longer to start.",
    )
    keys_by_default: bool = Field(
        False,
        description="Let Seldon's operator add the Secret `seldon-rclone-secret`, which contains "
        "the object store's keys, to every model whose manifest has no `envSecretRefName`. In a "
        "namespace without this Secret, such models do not start, even if they are read from "
        "another store.",
    )


class ObjectStoreSettings(Table):
    """S3: SeaweedFS in the cluster, or an existing service."""

    size: Quantity = Field("5Gi", description="Size of SeaweedFS's volume.")
    storage_class: str = Field(
        "", description="Storage class of that volume. Empty: the cluster's default."
    )
    endpoint: Url = Field(
        "",
        description="URL of an existing S3 service, reachable from this machine and from pods. "
        "SeaweedFS is then not installed. The buckets `models` and `datasets` must exist. "
        "Keys are read from the usual AWS sources: AWS_ACCESS_KEY_ID, or the profile.",
    )
    region: str = Field("us-east-1", description="Region of that S3 service.")
    profile: str = Field("", description="Profile in ~/.aws with the keys of that S3 service.")


_CPU = "CPU request: `0.5` or `500m`."
_MEMORY = "Memory request."
_LIMIT = "Memory limit: a container that exceeds it is killed."


class Resources(Table):
    """Resources of a container in a model's pods."""

    cpu: Processors = Field("50m", description=_CPU)
    memory: Quantity = Field("256Mi", description=_MEMORY)
    memory_limit: Quantity = Field("1Gi", description=_LIMIT)

    @model_validator(mode="after")
    def _fits(self) -> "Resources":
        check_resources(cpu=self.cpu, memory=self.memory, memory_limit=self.memory_limit)
        return self


class ForwarderResources(Resources):
    """Resources of the forwarder in front of a server that loads a model."""

    cpu: Processors = Field("20m", description=_CPU)
    memory: Quantity = Field("64Mi", description=_MEMORY)
    memory_limit: Quantity = Field("512Mi", description=_LIMIT)


class _Serving(Table):
    """The model servers."""

    images: Literal["own", "upstream"] = Field(
        "own",
        description="`own`: images built on this machine, with the libraries that train. "
        "`upstream`: Seldon's images, with the version of TensorFlow Serving that matches "
        "training.",
    )
    forwarder: ForwarderResources = Field(
        default_factory=ForwarderResources, description="Forwarder in front of TENSORFLOW_SERVER."
    )

    def resources_of(self, implementation: str) -> Resources:
        """Return the resources of the container that loads a model.

        Raises:
            LookupError: no framework has this implementation.
        """
        resources: Resources = getattr(self, get_served(implementation).name)
        return resources


def _table_of(framework: Framework) -> tuple[type[Resources], Any]:
    """Return the settings table of a framework's containers, and its field."""
    usual = framework.resources
    table = create_model(
        f"{framework.name.title()}Resources",
        __base__=Resources,
        __doc__=f"Resources of a container with {framework.title}.",
        cpu=(Processors, Field(usual.cpu, description=_CPU)),
        memory=(Quantity, Field(usual.memory, description=_MEMORY)),
        memory_limit=(Quantity, Field(usual.memory_limit, description=_LIMIT)),
    )
    return table, Field(default_factory=table, description=f"{framework.implementation}.")


if TYPE_CHECKING:

    class ServingSettings(_Serving):
        """The model servers, with a table of `Resources` per framework, named after it."""

else:
    ServingSettings = create_model(
        "ServingSettings",
        __base__=_Serving,
        __doc__=_Serving.__doc__,
        **{framework.name: _table_of(framework) for framework in frameworks()},
    )


class SamplesSettings(Table):
    """Sample applications that test a layer."""

    bookinfo: bool = Field(
        False, description="Install Istio's Bookinfo sample and check /productpage."
    )


class LayerSettings(Table):
    """Settings that the Kubernetes platforms share."""

    platform: ClassVar[str]
    """Name of the platform and of its table."""

    metallb: MetalLBSettings = Field(default_factory=MetalLBSettings, description="MetalLB.")
    istio: IstioSettings = Field(default_factory=IstioSettings, description="Istio.")
    seldon: SeldonSettings = Field(default_factory=SeldonSettings, description="Seldon Core.")
    object_store: ObjectStoreSettings = Field(
        default_factory=ObjectStoreSettings, description="S3."
    )
    serving: ServingSettings = Field(
        default_factory=ServingSettings, description="The model servers."
    )
    samples: SamplesSettings = Field(
        default_factory=SamplesSettings, description="Sample applications that test a layer."
    )
    ready_timeout: Seconds = Field(
        240.0, description="Timeout in seconds for a layer or a deployment to become ready."
    )

    @property
    def models_namespace(self) -> str:
        """Namespace of the models that use the default namespace."""
        return DEFAULT_NAMESPACE

    @property
    def load_balancer(self) -> str:
        """Name of the layer that assigns addresses to Services of type LoadBalancer."""
        return "metallb"
