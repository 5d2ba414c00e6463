"""The settings of the kind platform: one table per layer."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from mlops_pipeline.settings.fields import Port, Seconds, Table

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
_Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")]


class ClusterSettings(Table):
    """The kind cluster."""

    name: _Name = Field("seldon", description="Name of the kind cluster.")
    engine: Literal["docker", "podman"] = Field(
        "docker", description="What runs the nodes, as containers."
    )
    node_image: str = Field(
        "",
        description="Image of the nodes. Empty: the bundle's, or the one pinned by digest in this "
        "version.",
    )
    workers: Annotated[int, Field(ge=0, le=9)] = Field(
        0,
        description="Worker nodes besides the control plane, which takes pods where there is none.",
    )
    listen_address: IPv4Address = Field(
        IPv4Address("127.0.0.1"),
        description="Address of this machine that the ports are mapped on.",
    )
    http_port: Port = Field(
        80,
        description="Port of this machine mapped to port 80 of the control plane; the next "
        "free one from 8080 on where it is taken.",
    )
    https_port: Port = Field(
        443,
        description="Port of this machine mapped to port 443 of the control plane; the next "
        "free one from 8443 on where it is taken.",
    )
    mirrors: dict[str, str] = Field(
        default_factory=dict,
        description="Registry → URL that the nodes pull its images from instead.",
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


class ObjectStoreSettings(Table):
    """S3: SeaweedFS in the cluster, or one that is there."""

    size: _Quantity = Field("5Gi", description="Size of the volume of SeaweedFS.")
    endpoint: str = Field(
        "",
        description="URL of another S3, reachable from here and from pods; then none is made. Its "
        "keys come from where AWS's tools look: AWS_ACCESS_KEY_ID, or the profile.",
    )
    region: str = Field("us-east-1", description="Region of that S3.")
    profile: str = Field("", description="Profile of ~/.aws that holds its keys.")


class ServingSettings(Table):
    """The model servers."""

    images: Literal["own", "upstream"] = Field(
        "own",
        description="`own`: built here from the libraries that train. `upstream`: Seldon's, with "
        "TensorFlow Serving of the version that matches training.",
    )


class SamplesSettings(Table):
    """Applications that prove a layer."""

    bookinfo: bool = Field(False, description="Install Istio's Bookinfo and check /productpage.")


class KindSettings(Table):
    """Everything of the kind platform."""

    cluster: ClusterSettings = Field(default_factory=ClusterSettings, description="The cluster.")
    ingress_nginx: bool = Field(
        False, description="Also install ingress-nginx, which its maintainers retired in 2026."
    )
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
