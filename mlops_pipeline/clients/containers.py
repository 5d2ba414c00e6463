"""Docker or Podman, by its command line."""

import secrets
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.clients.engine_images import LOAD_TIMEOUT, EngineImages, ImageInfo
from mlops_pipeline.clients.engine_program import REMEDY, TIMEOUT, EngineInfo
from mlops_pipeline.clients.errors import NotFoundError, PipelineError
from mlops_pipeline.clients.process import pipe

_CTR = ("ctr", "--namespace=k8s.io")
"""What asks containerd for what Kubernetes has there."""


@dataclass(frozen=True)
class Network:
    """A container network. Subnets come in no fixed order of address families."""

    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    addresses: tuple[str, ...]
    """What containers in it have now, without prefix lengths."""


@dataclass(frozen=True)
class PortMapping:
    """A port of a container that the machine listens for."""

    container_port: int
    host_address: str
    host_port: int
    protocol: str = "tcp"


@dataclass(frozen=True)
class ContainerInfo:
    """One container as it is now."""

    name: str
    id: str
    image: str
    """The reference that it was made from."""
    running: bool
    ports: tuple[PortMapping, ...]
    created: str
    """RFC 3339."""
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, shown to a container."""

    source: Path
    target: str
    writable: bool = False


class EngineApi(Protocol):
    """What is asked of a container engine: the real one and the fake of the tests have it."""

    def info(self) -> EngineInfo:
        """Return what the engine is and has."""

    def network(self, name: str) -> Network:
        """Return the network."""

    def containers(self, *, label: str = "") -> tuple[ContainerInfo, ...]:
        """Return the containers with that label (`key` or `key=value`), stopped ones too."""

    def inspect(self, name: str) -> ContainerInfo:
        """Return the container."""

    def resume(self, container: str) -> None:
        """Start a container that has stopped, as it was made."""

    def halt(self, container: str) -> None:
        """Stop a container and keep what is in it."""

    def has_image(self, reference: str) -> bool:
        """Say whether the engine has the image."""

    def labelled_images(self, *, label: str) -> tuple[str, ...]:
        """Return the references of the images with that label (`key=value`), the newest first."""

    def image_id(self, reference: str) -> str:
        """Return `sha256:…`."""

    def image_size(self, reference: str) -> int:
        """Return the image's bytes on disk."""

    def find_image(self, reference: str) -> ImageInfo | None:
        """Return what the image is, or None where the engine does not have it."""

    def pull(self, reference: str, *, platform: str, timeout: float) -> None:
        """Get the image from its registry."""

    def tag(self, reference: str, name: str) -> None:
        """Give the image another name too."""

    def save(
        self, references: Sequence[str], archive: Path, *, platform: str, timeout: float
    ) -> None:
        """Write images for a platform into one archive."""

    def load(self, archive: Path, *, timeout: float = LOAD_TIMEOUT) -> None:
        """Take the images of an archive."""

    def build(
        self,
        context: Path,
        *,
        dockerfile: Path,
        tag: str,
        timeout: float,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        network: str = "default",
    ) -> None:
        """Build an image."""

    def push(self, reference: str, *, timeout: float) -> None:
        """Send the image to the registry that its name begins with."""

    def is_pushed(self, reference: str, *, plain_http: bool = False) -> bool:
        """Say whether the registry that its name begins with has the image."""

    def remove_image(self, reference: str) -> bool:
        """Remove the image; return False where there is none."""

    def run(
        self,
        image: str,
        command: Sequence[str],
        *,
        timeout: float,
        mounts: Sequence[Mount] = (),
        network: str = "none",
        user: str = "",
        environment: Mapping[str, str] | None = None,
        entrypoint: str = "",
    ) -> str:
        """Run a command in a new container of the image and return its standard output."""

    def exec(
        self, container: str, command: Sequence[str], *, timeout: float, stdin: Path | None = None
    ) -> str:
        """Run a command in a running container and return its standard output."""

    def images_in(self, node: str) -> frozenset[str]:
        """Return the references of the images that the containerd of a node has, in full."""

    def import_archive(self, archive: Path, node: str, *, timeout: float) -> None:
        """Give the images of an archive to the containerd of a node."""

    def copy_image(
        self, reference: str, node: str, *, timeout: float, also: Sequence[str] = ()
    ) -> None:
        """Give an image of the engine to the containerd of a node, with no file between."""


class ContainerEngine(EngineImages):
    """The engine behind a program: its containers, its images, and those of the nodes of kind.

    Every method raises, besides what it says itself:

        CommandError: the program is missing, failed or ran out of time.
        UnavailableError: the engine does not answer.
    """

    def network(self, name: str) -> Network:
        """Return the network.

        Raises:
            NotFoundError: there is none of that name.
        """
        [found] = self._inspect("network", [name])
        configured = found.get("IPAM", {}).get("Config") or found.get("subnets") or []
        held = (found.get("Containers") or {}).values()
        addresses = (
            str(container.get(family) or "").partition("/")[0]
            for container in held
            for family in ("IPv4Address", "IPv6Address")
        )
        return Network(
            subnets=_values(configured, "Subnet", "subnet"),
            gateways=_values(configured, "Gateway", "gateway"),
            addresses=tuple(filter(None, addresses)),
        )

    def containers(self, *, label: str = "") -> tuple[ContainerInfo, ...]:
        """Return the containers with that label (`key` or `key=value`), stopped ones too."""
        query = ["--filter", f"label={label}"] if label else []
        listed = self._run(
            ["ps", "--all", "--no-trunc", "--format", "{{.ID}}", *query],
            purpose="list the containers",
        ).split()
        if not listed:
            return ()
        try:
            return tuple(_container(found) for found in self._inspect("container", listed))
        except NotFoundError:  # One went away since it was listed.
            there = (self._find(name) for name in listed)
            return tuple(container for container in there if container is not None)

    def inspect(self, name: str) -> ContainerInfo:
        """Return the container.

        Raises:
            NotFoundError: there is none of that name.
        """
        [found] = self._inspect("container", [name])
        return _container(found)

    def resume(self, container: str) -> None:
        """Start a container that has stopped, as it was made; nothing where it runs.

        Raises:
            NotFoundError: there is none of that name.
        """
        self._run(["start", container], purpose=f"start the container {container} again")

    def halt(self, container: str) -> None:
        """Stop a container and keep what is in it; nothing where it does not run.

        Raises:
            NotFoundError: there is none of that name.
        """
        self._run(["stop", container], purpose=f"stop the container {container}")

    def run(
        self,
        image: str,
        command: Sequence[str],
        *,
        timeout: float,
        mounts: Sequence[Mount] = (),
        network: str = "none",
        user: str = "",
        environment: Mapping[str, str] | None = None,
        entrypoint: str = "",
    ) -> str:
        """Run a command in a new container of the image and return its standard output.

        The container is gone afterwards, also when it takes longer than `timeout` seconds.

        Raises:
            NotFoundError: the engine does not have the image.
        """
        name = f"mlops-pipeline-{secrets.token_hex(6)}"
        options = ["--rm", "--pull", "never", "--name", name, "--network", network]
        options += [part for mount in mounts for part in ("--mount", _mount(mount))]
        for variable, value in (environment or {}).items():
            options += ["--env", f"{variable}={value}"]
        if user:
            options += ["--user", user]
        if entrypoint:
            options += ["--entrypoint", entrypoint]
        try:
            return self._run(
                ["run", *options, image, *command],
                purpose=f"run {command[0] if command else 'a container'} in {image}",
                timeout=timeout,
            )
        except BaseException:
            # Ending the program does not end the container.
            with suppress(PipelineError):
                self._run(["rm", "--force", name], purpose=f"remove the container {name}")
            raise

    def exec(
        self, container: str, command: Sequence[str], *, timeout: float, stdin: Path | None = None
    ) -> str:
        """Run a command in a running container and return its standard output.

        Raises:
            NotFoundError: there is no such container.
        """
        interactive = ["--interactive"] if stdin is not None else []
        return self._run(
            ["exec", *interactive, container, *command],
            purpose=f"run {command[0]} in the container {container}",
            timeout=timeout,
            stdin=stdin,
        )

    def images_in(self, node: str) -> frozenset[str]:
        """Return the references of the images that the containerd of a node has, in full.

        Raises:
            NotFoundError: there is no such node.
        """
        listed = self.exec(node, [*_CTR, "images", "ls", "-q"], timeout=TIMEOUT)
        return frozenset(listed.split())

    def import_archive(self, archive: Path, node: str, *, timeout: float) -> None:
        """Give the images of an archive to the containerd of a node.

        Raises:
            NotFoundError: there is no such node.
        """
        self._run(
            self._importing(node),
            purpose=f"load the images of {archive} into the node {node}",
            timeout=timeout,
            stdin=archive,
        )

    def copy_image(
        self, reference: str, node: str, *, timeout: float, also: Sequence[str] = ()
    ) -> None:
        """Give an image of the engine to the containerd of a node, with no file between.

        `also` are others that go with it: layers that they share go once.

        Raises:
            NotFoundError: there is no such image or node.
        """
        for each in (reference, *also):
            self.image_id(each)
        with self._errors():
            pipe(
                [self._program, "save", *self._several(1 + len(also)), reference, *also],
                [self._program, *self._importing(node)],
                purpose=f"copy the image {reference} into the node {node}",
                timeout=timeout,
                remedy=REMEDY,
            )

    def _find(self, name: str) -> ContainerInfo | None:
        try:
            return self.inspect(name)
        except NotFoundError:
            return None

    def _importing(self, node: str) -> list[str]:
        """Return what kind itself imports with (`pkg/cluster/nodeutils/util.go`)."""
        dump = self.exec(node, ["containerd", "config", "dump"], timeout=TIMEOUT)
        return [
            *("exec", "--privileged", "--interactive", node, *_CTR, "images", "import"),
            *("--all-platforms", "--digests", f"--snapshotter={_snapshotter(dump)}", "-"),
        ]


def full_reference(reference: str) -> str:
    """Return the reference as containerd writes it: `x:1` is `docker.io/library/x:1`."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost"):
        first, rest = "docker.io", name
    if first in ("docker.io", "index.docker.io"):
        first, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    tagged = at or ":" in rest
    return f"{first}/{rest}" + (f"@{digest}" if at else "" if tagged else ":latest")


def _values(entries: Sequence[Mapping[str, Any]], *names: str) -> tuple[str, ...]:
    return tuple(str(entry[name]) for entry in entries for name in names if entry.get(name))


def _container(found: Mapping[str, Any]) -> ContainerInfo:
    ports = found["NetworkSettings"].get("Ports") or found["HostConfig"].get("PortBindings") or {}
    return ContainerInfo(
        name=str(found["Name"]).removeprefix("/"),
        id=str(found["Id"]),
        image=str(found["Config"]["Image"]),
        running=bool(found["State"]["Running"]),
        ports=tuple(
            _port(name, mapping) for name, mapped in ports.items() for mapping in mapped or ()
        ),
        created=str(found["Created"]),
        labels=dict(found["Config"].get("Labels") or {}),
    )


def _port(name: str, mapping: Mapping[str, str]) -> PortMapping:
    port, _, protocol = name.partition("/")
    return PortMapping(int(port), mapping["HostIp"], int(mapping["HostPort"]), protocol)


def _mount(mount: Mount) -> str:
    # In CSV, as the option is read: a path may hold a comma.
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    quoted = ['"' + field.replace('"', '""') + '"' for field in fields]
    return ",".join(quoted if mount.writable else [*quoted, "readonly"])


def _snapshotter(dump: str) -> str:
    """Read what containerd unpacks images with off its configuration, of any version."""
    config = tomllib.loads(dump)
    plugins = config["plugins"]
    if config["version"] == 2:
        return str(plugins["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"])
    return str(plugins["io.containerd.cri.v1.images"]["snapshotter"])
