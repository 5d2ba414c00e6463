"""The settings of the kind platform: its cluster, and the layers on it."""

from ipaddress import IPv4Address
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from mlops_pipeline.settings.fields import Port, Table, Url
from mlops_pipeline.settings.layers import LayerSettings

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]


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
        description="Address of this machine that the ports are mapped on, with reach = ports "
        "those of the gateway and the object store too.",
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
    reach: Literal["auto", "addresses", "ports"] = Field(
        "auto",
        description="How this machine reaches the gateway and the object store. `addresses`: at "
        "those that MetalLB gives, which takes a container network that this machine is in. "
        "`ports`: by the three ports below. `auto`: `addresses` on Linux, else `ports`.",
    )
    gateway_port: Port = Field(
        8180,
        description="Port of this machine for the gateway, where it is reached by ports; the next "
        "free one from 8180 on where it is taken.",
    )
    gateway_https_port: Port = Field(
        8543,
        description="Port of this machine for the gateway's port 443, where it is reached by "
        "ports; the next free one from 8543 on where it is taken.",
    )
    object_store_port: Port = Field(
        8433,
        description="Port of this machine for the object store, where it is reached by ports; "
        "the next free one from 8433 on where it is taken.",
    )
    mirrors: dict[str, Url] = Field(
        default_factory=dict,
        description="Registry → URL that the nodes pull its images from instead.",
    )


class KindSettings(LayerSettings):
    """Everything of the kind platform."""

    platform: ClassVar[str] = "kind"

    cluster: ClusterSettings = Field(default_factory=ClusterSettings, description="The cluster.")
    ingress_nginx: bool = Field(
        False, description="Also install ingress-nginx, which its maintainers retired in 2026."
    )
