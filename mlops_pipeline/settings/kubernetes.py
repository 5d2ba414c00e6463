"""The settings of the platform on an existing cluster."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from mlops_pipeline.settings.fields import Table, Url, changed
from mlops_pipeline.settings.layers import (
    IstioSettings,
    LayerSettings,
    MetalLBSettings,
    SeldonSettings,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
_OptionalName = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$", max_length=253)
]
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*")
_Place = Annotated[str, StringConstraints(pattern=r"^[-a-z0-9]+/[-.a-z0-9]+$")]
_Url = Annotated[Url, StringConstraints(pattern=r"^(https?://[^\s/]+)?$")]


class ExistingMetalLB(MetalLBSettings):
    """MetalLB, or a load balancer that the cluster already has."""

    install: bool = Field(
        False, description="Install MetalLB. If false, the cluster must have its own load balancer."
    )
    addresses: str = Field(
        "",
        description="Addresses for MetalLB: `first-last` or a prefix in the nodes' network that "
        "nothing else uses. Required with install = true.",
    )

    @model_validator(mode="after")
    def _has_addresses(self) -> "ExistingMetalLB":
        if self.install and not self.addresses:
            raise ValueError("install = true requires addresses; free addresses cannot be detected")
        return self


class ExistingIstio(IstioSettings):
    """The ingress gateway: installed by this project, or existing."""

    install: bool = Field(True, description="Install Istio. If false, the existing Istio is used.")
    gateway: _Place = Field(
        "istio-system/seldon-gateway",
        description="`namespace/name` of the existing Gateway, with install = false.",
    )
    service: _Place = Field(
        "istio-system/istio-ingressgateway",
        description="`namespace/name` of the existing gateway's Service, with install = false.",
    )
    address: _Url = Field(
        "",
        description="URL of the existing gateway, as reached from this machine. Empty: `http://` "
        "and the address of its Service.",
    )

    @property
    def reference(self) -> str:
        """The Gateway that routes are bound to, as `namespace/name`."""
        return self.gateway

    @model_validator(mode="after")
    def _names_only_what_exists(self) -> "ExistingIstio":
        if self.install and (named := changed(self, "gateway", "service", "address")):
            raise ValueError(f"{', '.join(named)}: allowed only with install = false")
        if not self.install and self.tls != "off":
            raise ValueError(
                "tls is not allowed with install = false; the existing gateway defines it"
            )
        return self


class ExistingSeldon(SeldonSettings):
    """Seldon Core: installed by this project, or existing."""

    install: bool = Field(
        True, description="Install Seldon Core. If false, the existing Seldon Core is used."
    )
    namespace: Name = Field(
        "seldon-system", description="Namespace of the existing operator, with install = false."
    )

    @model_validator(mode="after")
    def _names_only_what_exists(self) -> "ExistingSeldon":
        if self.install and changed(self, "namespace"):
            raise ValueError("namespace: allowed only with install = false")
        return self


class ImagesSettings(Table):
    """How the model server's images reach the nodes."""

    delivery: Literal["registry", "kind", "none"] = Field(
        "registry",
        description="How the model server's images reach the nodes. `registry`: pushed to a "
        "registry; the nodes pull them. `kind`: loaded into the nodes of a kind cluster, like "
        "all other images. `none`: you load them into the nodes.",
    )
    registry: str = Field(
        "",
        description="Registry that the images are pushed to, such as "
        "`registry.example.com/team`. The container engine must be logged in.",
    )
    plain_http: bool = Field(False, description="The registry does not use TLS.")
    pull_secret: _OptionalName = Field(
        "",
        description="Secret that the nodes pull these images with. It must be in the namespace "
        "of the models.",
    )
    cluster: _OptionalName = Field(
        "", description="Name of the kind cluster, with delivery = kind."
    )

    @model_validator(mode="after")
    def _fits(self) -> "ImagesSettings":
        if (self.delivery == "kind") != bool(self.cluster):
            raise ValueError("delivery = kind and cluster must be set together")
        if self.registry and not _REGISTRY.fullmatch(self.registry):
            raise ValueError(f"registry = {self.registry!r} is not a valid prefix of an image name")
        return self


class KubernetesSettings(LayerSettings):
    """All settings of the platform on an existing cluster."""

    platform: ClassVar[str] = "kubernetes"

    context: str = Field(
        "",
        description="Kubeconfig context to use. Required: the current context is never used.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="Kubeconfig file, which is only read. Default: KUBECONFIG, or ~/.kube/config.",
    )
    namespace: Name = Field(
        "seldon", description="Namespace of the models that use the default namespace `seldon`."
    )
    engine: Literal["docker", "podman"] = Field(
        "docker",
        description="Container engine that builds the model server's image and tests models in it.",
    )
    metallb: ExistingMetalLB = Field(default_factory=ExistingMetalLB, description="MetalLB.")
    istio: ExistingIstio = Field(default_factory=ExistingIstio, description="Istio.")
    seldon: ExistingSeldon = Field(default_factory=ExistingSeldon, description="Seldon Core.")
    images: ImagesSettings = Field(
        default_factory=ImagesSettings, description="Images of the model server."
    )

    @model_validator(mode="after")
    def _installs_what_it_needs(self) -> "KubernetesSettings":
        if self.samples.bookinfo and not self.istio.install:
            raise ValueError("samples.bookinfo requires istio.install = true")
        return self

    @property
    def models_namespace(self) -> str:
        """Namespace of the models that use the default namespace."""
        return self.namespace

    @property
    def load_balancer(self) -> str:
        """Name of the layer that assigns addresses to Services of type LoadBalancer."""
        return "metallb" if self.metallb.install else "cluster"
