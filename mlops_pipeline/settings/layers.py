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
        description="`first-last` or a prefix, in the subnet of the container network. Empty: a "
        "range near its end that nothing uses.",
    )


class IstioSettings(Table):
    """The ingress gateway."""

    tls: Literal["off", "self-signed", "files"] = Field(
        "off", description="Where the certificate of port 443 comes from."
    )
    certificate: Path | None = Field(None, description="PEM file of the chain, with tls = files.")
    private_key: Path | None = Field(None, description="PEM file of the key, with tls = files.")
    https_redirect: bool = Field(
        False, description="Answer plain HTTP with a redirect to HTTPS; needs tls."
    )

    @property
    def reference(self) -> str:
        """The Gateway that routes are bound to, as `namespace/name`."""
        return "istio-system/seldon-gateway"

    @model_validator(mode="after")
    def _fits(self) -> "IstioSettings":
        if (self.tls == "files") != (self.certificate is not None and self.private_key is not None):
            raise ValueError("tls = files needs certificate and private_key, and they need it")
        if self.https_redirect and self.tls == "off":
            raise ValueError("https_redirect needs tls")
        return self


class SeldonSettings(Table):
    """Seldon Core."""

    version: str = Field(
        "1.17.1",
        description="Version of the chart seldon-core-operator. 1.17.1 is the last one under the "
        "Apache License 2.0; from 1.18.0 on it is the Business Source License 1.1, which allows no "
        "production use.",
    )
    usage_metrics: bool = Field(False, description="Let Seldon's spartakus report usage to Seldon.")
    engine: bool = Field(
        False,
        description="Put Seldon's executor in front of each model; its pods take 20 s longer.",
    )
    keys_by_default: bool = Field(
        False,
        description="Let Seldon's operator give the Secret `seldon-rclone-secret`, with the keys "
        "of the object store, to every model whose manifest names no `envSecretRefName`. In "
        "namespaces without that Secret such models then do not start, wherever they are read "
        "from.",
    )


class ObjectStoreSettings(Table):
    """S3: SeaweedFS in the cluster, or one that is there."""

    size: Quantity = Field("5Gi", description="Size of the volume of SeaweedFS.")
    storage_class: str = Field(
        "", description="Storage class of that volume. Empty: the cluster's default."
    )
    endpoint: Url = Field(
        "",
        description="URL of another S3, reachable from here and from pods; then none is made. It "
        "has to have the buckets `models` and `datasets`. Its keys come from where AWS's tools "
        "look: AWS_ACCESS_KEY_ID, or the profile.",
    )
    region: str = Field("us-east-1", description="Region of that S3.")
    profile: str = Field("", description="Profile of ~/.aws that holds its keys.")


_CPU = "Processors that are kept for a container: `0.5`, or `500m`."
_MEMORY = "Memory that is kept for it."
_LIMIT = "Memory that it is ended at."


class Resources(Table):
    """What a container of a model's pods is given."""

    cpu: Processors = Field("50m", description=_CPU)
    memory: Quantity = Field("256Mi", description=_MEMORY)
    memory_limit: Quantity = Field("1Gi", description=_LIMIT)

    @model_validator(mode="after")
    def _fits(self) -> "Resources":
        check_resources(cpu=self.cpu, memory=self.memory, memory_limit=self.memory_limit)
        return self


class ForwarderResources(Resources):
    """The same for what stands before a server that loads a model."""

    cpu: Processors = Field("20m", description=_CPU)
    memory: Quantity = Field("64Mi", description=_MEMORY)
    memory_limit: Quantity = Field("512Mi", description=_LIMIT)


class _Serving(Table):
    """The model servers."""

    images: Literal["own", "upstream"] = Field(
        "own",
        description="`own`: built here from the libraries that train. `upstream`: Seldon's, with "
        "TensorFlow Serving of the version that matches training.",
    )
    forwarder: ForwarderResources = Field(
        default_factory=ForwarderResources, description="What stands before TENSORFLOW_SERVER."
    )

    def resources_of(self, implementation: str) -> Resources:
        """Return what the container is given that loads a model.

        Raises:
            LookupError: no framework has this implementation.
        """
        resources: Resources = getattr(self, get_served(implementation).name)
        return resources


def _table_of(framework: Framework) -> tuple[type[Resources], Any]:
    """Return the table of settings of a framework's containers, with its defaults."""
    usual = framework.resources
    table = create_model(
        f"{framework.name.title()}Resources",
        __base__=Resources,
        __doc__=f"What a container with {framework.title} is given.",
        cpu=(Processors, Field(usual.cpu, description=_CPU)),
        memory=(Quantity, Field(usual.memory, description=_MEMORY)),
        memory_limit=(Quantity, Field(usual.memory_limit, description=_LIMIT)),
    )
    return table, Field(default_factory=table, description=f"{framework.implementation}.")


if TYPE_CHECKING:

    class ServingSettings(_Serving):
        """The model servers, with a table of `Resources` for each framework, named by it."""

else:
    ServingSettings = create_model(
        "ServingSettings",
        __base__=_Serving,
        __doc__=_Serving.__doc__,
        **{framework.name: _table_of(framework) for framework in frameworks()},
    )


class SamplesSettings(Table):
    """Applications that prove a layer."""

    bookinfo: bool = Field(False, description="Install Istio's Bookinfo and check /productpage.")


class LayerSettings(Table):
    """What the platforms on Kubernetes share."""

    platform: ClassVar[str]
    """The name of the platform, which is that of its table."""

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
        default_factory=SamplesSettings, description="Applications that prove a layer."
    )
    ready_timeout: Seconds = Field(
        240.0, description="Seconds in which a layer or a deployment must become ready."
    )

    @property
    def models_namespace(self) -> str:
        """Where models are deployed that name no other namespace than the default."""
        return DEFAULT_NAMESPACE

    @property
    def load_balancer(self) -> str:
        """The layer that gives Services of type LoadBalancer their addresses."""
        return "metallb"
