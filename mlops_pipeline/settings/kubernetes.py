"""The settings of the platform on a cluster that is there already."""

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
    """Who gives Services of type LoadBalancer addresses."""

    install: bool = Field(
        False, description="Install MetalLB. Otherwise the cluster has a load balancer of its own."
    )
    addresses: str = Field(
        "",
        description="`first-last` or a prefix of addresses in the nodes' network that nothing else "
        "uses; with install it has to be set.",
    )

    @model_validator(mode="after")
    def _has_addresses(self) -> "ExistingMetalLB":
        if self.install and not self.addresses:
            raise ValueError("install needs addresses: nobody else knows which ones are free")
        return self


class ExistingIstio(IstioSettings):
    """The ingress gateway: one of ours, or one that is there."""

    install: bool = Field(True, description="Install Istio. Otherwise the one there is used.")
    gateway: _Place = Field(
        "istio-system/seldon-gateway",
        description="`namespace/name` of the Gateway that is there, with install = false.",
    )
    service: _Place = Field(
        "istio-system/istio-ingressgateway",
        description="`namespace/name` of the Service of the gateway that is there.",
    )
    address: _Url = Field(
        "",
        description="URL by which the gateway that is there is reached from here. Empty: "
        "`http://` and the address of its Service.",
    )

    @property
    def reference(self) -> str:
        """The Gateway that routes are bound to, as `namespace/name`."""
        return self.gateway

    @model_validator(mode="after")
    def _is_told_what_it_uses(self) -> "ExistingIstio":
        if self.install and (named := changed(self, "gateway", "service", "address")):
            raise ValueError(f"{', '.join(named)}: only with install = false")
        if not self.install and self.tls != "off":
            raise ValueError("tls is that of the gateway that is there, with install = false")
        return self


class ExistingSeldon(SeldonSettings):
    """Seldon Core: ours, or one that is there."""

    install: bool = Field(True, description="Install Seldon Core. Otherwise the one there is used.")
    namespace: Name = Field(
        "seldon-system", description="Where the operator that is there runs, with install = false."
    )

    @model_validator(mode="after")
    def _is_told_what_it_uses(self) -> "ExistingSeldon":
        if self.install and changed(self, "namespace"):
            raise ValueError("namespace: only with install = false")
        return self


class ImagesSettings(Table):
    """How the images of the model server come to the nodes."""

    delivery: Literal["registry", "kind", "none"] = Field(
        "registry",
        description="`registry`: pushed, and pulled by the nodes. `kind`: loaded into the nodes of "
        "a kind cluster, as are all others. `none`: somebody brings them to the nodes.",
    )
    registry: str = Field(
        "",
        description="Where they are pushed, `registry.example.com/team`, with the login that the "
        "container engine has.",
    )
    plain_http: bool = Field(False, description="That registry has no TLS.")
    pull_secret: _OptionalName = Field(
        "", description="Secret in the namespace of the models that nodes pull them with."
    )
    cluster: _OptionalName = Field(
        "", description="Name of the kind cluster, with delivery = kind."
    )

    @model_validator(mode="after")
    def _fits(self) -> "ImagesSettings":
        if (self.delivery == "kind") != bool(self.cluster):
            raise ValueError("delivery = kind needs cluster, and cluster needs it")
        if self.registry and not _REGISTRY.fullmatch(self.registry):
            raise ValueError(f"registry = {self.registry!r} is no start of an image's name")
        return self


class KubernetesSettings(LayerSettings):
    """Everything of the platform on a cluster that is there."""

    platform: ClassVar[str] = "kubernetes"

    context: str = Field(
        "",
        description="Context of the kubeconfig to work on. It has to be named: the current context "
        "is never taken.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="The kubeconfig, which is only read. Default: KUBECONFIG, or ~/.kube/config.",
    )
    namespace: Name = Field(
        "seldon", description="Namespace of the models that name no other one than `seldon`."
    )
    engine: Literal["docker", "podman"] = Field(
        "docker", description="What builds the image of the model server, and tries models in it."
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
            raise ValueError("samples.bookinfo is installed with istio.install = true only")
        return self

    @property
    def models_namespace(self) -> str:
        """Where models are deployed that name no other namespace than the default."""
        return self.namespace

    @property
    def load_balancer(self) -> str:
        """The layer that gives addresses."""
        return "metallb" if self.metallb.install else "cluster"
