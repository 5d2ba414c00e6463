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
        "docker", description="Container engine that runs the nodes."
    )
    node_image: str = Field(
        "",
        description="Node image. Empty: the image in the bundle, or the version pinned by digest "
        "in this release.",
    )
    workers: Annotated[int, Field(ge=0, le=9)] = Field(
        0,
        description="Number of worker nodes. With 0, pods run on the control plane.",
    )
    listen_address: IPv4Address = Field(
        IPv4Address("127.0.0.1"),
        description="Address of this machine that the ports are mapped on. With reach = ports, "
        "this includes the ports of the gateway and the object store.",
    )
    http_port: Port = Field(
        80,
        description="Port of this machine that is mapped to port 80 of the control plane. If it "
        "is in use, the next free port from 8080 is used.",
    )
    https_port: Port = Field(
        443,
        description="Port of this machine that is mapped to port 443 of the control plane. If it "
        "is in use, the next free port from 8443 is used.",
    )
    reach: Literal["auto", "addresses", "ports"] = Field(
        "auto",
        description="How this machine reaches the gateway and the object store. `addresses`: at "
        "their MetalLB addresses; this machine must be in the container network. `ports`: "
        "through the three ports below. `auto`: `addresses` on Linux, otherwise `ports`.",
    )
    gateway_port: Port = Field(
        8180,
        description="Port of this machine for the gateway, if reached through ports. If it is in "
        "use, the next free port from 8180 is used.",
    )
    gateway_https_port: Port = Field(
        8543,
        description="Port of this machine for port 443 of the gateway, if reached through ports. "
        "If it is in use, the next free port from 8543 is used.",
    )
    object_store_port: Port = Field(
        8433,
        description="Port of this machine for the object store, if reached through ports. If it "
        "is in use, the next free port from 8433 is used.",
    )
    mirrors: dict[str, Url] = Field(
        default_factory=dict,
        description="Registry → URL of the mirror that the nodes pull its images from.",
    )


class KindSettings(LayerSettings):
    """All settings of the kind platform."""

    platform: ClassVar[str] = "kind"

    cluster: ClusterSettings = Field(default_factory=ClusterSettings, description="The cluster.")
    ingress_nginx: bool = Field(
        False, description="Also install ingress-nginx. Its maintainers retired it in 2026."
    )
