"""Docker or Podman, by its command line."""

import json
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    CommandError,
    ConflictError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.process import pipe, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TIMEOUT = 60.0
_LOAD_TIMEOUT = 300.0
_CTR = ("ctr", "--namespace=k8s.io")
"""What asks containerd for what Kubernetes has there."""
_CONTAINERD = "io.containerd.snapshotter.v1"
"""The driver's type where Docker keeps images in containerd's store."""
_SAVES_ONE_PLATFORM = 28
"""The first Docker whose `save` takes a platform (API 1.48)."""
_REMEDY = (
    "install Docker (https://docs.docker.com/engine/install/), or Podman and set "
    'kind.cluster.engine = "podman"'
)
_PREFIX = r"^(?:docker: )?(?:error response from daemon: .*|error: .*)"
"""How a complaint of the engine's own begins: what it runs writes to the same stream."""
_SILENT = re.compile(
    r"^(?:docker: )?(?:error: )?(?:got )?(?:error during connect|permission denied while trying to "
    r"connect|(?:cannot|failed to|unable to) connect to (?:the docker|podman)).*$",
    re.IGNORECASE | re.MULTILINE,
)
_ABSENT = re.compile(
    rf"{_PREFIX}(?:no such (?:image|container|object)|network .*not found|image not known).*$",
    re.IGNORECASE | re.MULTILINE,
)
_USED = re.compile(
    rf"{_PREFIX}(?:unable to (?:remove|delete)|image used by).*$", re.IGNORECASE | re.MULTILINE
)


_NO_MANIFEST = re.compile(r"no such manifest|manifest unknown|name unknown", re.IGNORECASE)
"""What a registry says of an image that it does not have."""
_NO_LOGIN = re.compile(
    r"^.*(?:unauthorized|authentication required|access to the resource is denied|"
    r"no basic auth credentials|insufficient_scope).*$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class EngineInfo:
    """The engine and what the machine gives it."""

    version: str
    cgroup_version: int
    cpus: int
    memory_bytes: int
    data_root: str
    """Where it keeps images and volumes, on the machine that it runs on."""
    architecture: str = ""
    """What it builds images for, in Go's words: `amd64`."""
    has_parts: bool = False
    """Whether it may have an image for one of its platforms alone, and saves what it is told of.

    Docker does from 28 on, where it keeps images in containerd's store.
    """


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
class ImageInfo:
    """An image that the engine has."""

    platform: str
    """`linux/amd64`."""
    digests: frozenset[str]
    """`sha256:…` under which registries gave it; none for one that was loaded or built."""


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

    def load(self, archive: Path, *, timeout: float = _LOAD_TIMEOUT) -> None:
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


class ContainerEngine:
    """The engine behind a program: `docker` or `podman`. Nothing is pulled by itself.

    Every method raises, besides what it says itself:

        CommandError: the program is missing, failed or ran out of time.
        UnavailableError: the engine does not answer.
    """

    def __init__(self, program: str = "docker") -> None:
        self._program = program

    def info(self) -> EngineInfo:
        """Return what the engine is and has."""
        found = json.loads(self._run(["info", "--format", "{{json .}}"], purpose="ask the engine"))
        return _podman_info(found) if "host" in found else _docker_info(found)

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

    def has_image(self, reference: str) -> bool:
        """Say whether the engine has the image."""
        try:
            self.image_id(reference)
        except NotFoundError:
            return False
        return True

    def labelled_images(self, *, label: str) -> tuple[str, ...]:
        """Return the references of the images with that label (`key=value`), the newest first.

        Those without a name are left out.
        """
        listed = self._run(
            [
                *("image", "ls", "--filter", f"label={label}", "--filter", "dangling=false"),
                *("--format", "{{.CreatedAt}}\t{{.Repository}}:{{.Tag}}"),
            ],
            purpose="list the images",
        )
        newest_first = sorted(listed.splitlines(), reverse=True)
        return tuple(line.rpartition("\t")[2] for line in newest_first)

    def image_id(self, reference: str) -> str:
        """Return `sha256:…`, which changes whenever the image does.

        Raises:
            NotFoundError: the engine does not have it.
        """
        [found] = self._inspect("image", [reference])
        identity = str(found["Id"])
        return identity if identity.startswith("sha256:") else f"sha256:{identity}"

    def image_size(self, reference: str) -> int:
        """Return the image's bytes on disk, with what it shares with others.

        Raises:
            NotFoundError: the engine does not have it.
        """
        [found] = self._inspect("image", [reference])
        return int(found["Size"])

    def find_image(self, reference: str) -> ImageInfo | None:
        """Return what the image is, or None where the engine does not have it."""
        try:
            [found] = self._inspect("image", [reference])
        except NotFoundError:
            return None
        names = (str(name) for name in found.get("RepoDigests") or ())
        return ImageInfo(
            platform=f"{found['Os']}/{found['Architecture']}",
            digests=frozenset(name.partition("@")[2] for name in names),
        )

    def pull(self, reference: str, *, platform: str, timeout: float) -> None:
        """Get the image from its registry, for `platform`: `linux/amd64`."""
        self._run(
            ["pull", "--quiet", "--platform", platform, reference],
            purpose=f"pull the image {reference}",
            timeout=timeout,
        )

    def tag(self, reference: str, name: str) -> None:
        """Give the image another name too.

        Raises:
            NotFoundError: the engine does not have it.
        """
        self._run(["tag", reference, name], purpose=f"call the image {reference} {name}")

    def save(
        self, references: Sequence[str], archive: Path, *, platform: str, timeout: float
    ) -> None:
        """Write images for a platform (`linux/amd64`) into one archive, shared layers but once.

        Raises:
            NotFoundError: the engine does not have one.
        """
        options = self._several(len(references))
        if self.info().has_parts:
            # Else the archive names those for other platforms too, without their layers, and a
            # node takes none of it (https://github.com/kubernetes-sigs/kind/issues/3795).
            options += ["--platform", platform]
        self._run(
            ["save", *options, "--output", str(archive), *references],
            purpose=f"save {', '.join(references)} to {archive}",
            timeout=timeout,
        )

    def load(self, archive: Path, *, timeout: float = _LOAD_TIMEOUT) -> None:
        """Take the images of an archive (`docker save`)."""
        self._run(
            ["load", "--input", str(archive)],
            purpose=f"load the images of {archive}",
            timeout=timeout,
        )

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
        """Build an image from the folder `context`.

        `network` is what its commands reach: `default`, `host` or `none`.
        """
        # Docker's builder without BuildKit would keep the container of a step that failed.
        command = [
            "build",
            "--force-rm",
            "--file",
            str(dockerfile),
            "--tag",
            tag,
            "--network",
            network,
        ]
        for name, value in (arguments or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        for name, value in (labels or {}).items():
            command += ["--label", f"{name}={value}"]
        if target:
            command += ["--target", target]
        self._run([*command, str(context)], purpose=f"build the image {tag}", timeout=timeout)

    def push(self, reference: str, *, timeout: float) -> None:
        """Send the image to the registry that its name begins with, with the engine's own login.

        Raises:
            AccessDeniedError: the registry refuses the login, or there is none.
            CommandError: it does not answer, or does not take the image.
        """
        with _at_the_registry(reference):
            self._run(
                ["push", "--quiet", reference],
                purpose=f"push the image {reference}",
                timeout=timeout,
            )

    def is_pushed(self, reference: str, *, plain_http: bool = False) -> bool:
        """Say whether the registry that its name begins with has the image.

        `plain_http` allows a registry without TLS; that of a push is the engine's own setting.

        Raises:
            AccessDeniedError: the registry refuses the login, or there is none.
            CommandError: it does not answer.
        """
        podman = Path(self._program).name == "podman"
        options = ["--tls-verify=false" if podman else "--insecure"] if plain_http else []
        try:
            with _at_the_registry(reference):
                self._run(
                    ["manifest", "inspect", *options, reference],
                    purpose=f"look for the image {reference} in its registry",
                )
        except CommandError as error:
            if _NO_MANIFEST.search(str(error)) is None:
                raise
            return False
        return True

    def remove_image(self, reference: str) -> bool:
        """Remove the image; return False where there is none.

        Raises:
            ConflictError: a container was made from it.
        """
        try:
            self._run(["image", "rm", reference], purpose=f"remove the image {reference}")
        except NotFoundError:
            return False
        return True

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
        listed = self.exec(node, [*_CTR, "images", "ls", "-q"], timeout=_TIMEOUT)
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
                remedy=_REMEDY,
            )

    def _several(self, count: int) -> list[str]:
        """Docker packs several by itself, Podman when it is told to."""
        podman = Path(self._program).name == "podman"
        return ["--multi-image-archive"] if podman and count > 1 else []

    def _find(self, name: str) -> ContainerInfo | None:
        try:
            return self.inspect(name)
        except NotFoundError:
            return None

    def _importing(self, node: str) -> list[str]:
        """Return what kind itself imports with (`pkg/cluster/nodeutils/util.go`)."""
        dump = self.exec(node, ["containerd", "config", "dump"], timeout=_TIMEOUT)
        return [
            *("exec", "--privileged", "--interactive", node, *_CTR, "images", "import"),
            *("--all-platforms", "--digests", f"--snapshotter={_snapshotter(dump)}", "-"),
        ]

    def _inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Ask for several at once: each call takes 20 ms and more."""
        shown = self._run([kind, "inspect", *names], purpose=f"look at the {kind} {names[0]}")
        return list(json.loads(shown))

    def _run(
        self,
        arguments: Sequence[str],
        *,
        purpose: str,
        timeout: float = _TIMEOUT,
        stdin: Path | None = None,
    ) -> str:
        with self._errors():
            return run(
                [self._program, *arguments],
                purpose=purpose,
                timeout=timeout,
                stdin=stdin,
                remedy=_REMEDY,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CommandError as error:
            what = str(error).partition(": `")[0]
            if said := _SILENT.search(str(error)):
                raise UnavailableError(
                    f"{what}: {said[0]} Start it (Docker: `sudo systemctl start docker`, or Docker "
                    "Desktop), and see to it that this user may use it"
                ) from error
            if said := _ABSENT.search(str(error)):
                raise NotFoundError(f"{what}: {said[0]}") from error
            if said := _USED.search(str(error)):
                raise ConflictError(f"{what}: {said[0]}") from error
            raise


@contextmanager
def _at_the_registry(reference: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        if (said := _NO_LOGIN.search(str(error))) is None:
            raise
        what, registry = str(error).partition(": `")[0], reference.partition("/")[0]
        raise AccessDeniedError(
            f"{what}: {said[0].strip()}; `docker login {registry}` gives this machine a login, and "
            "that has to be allowed to push"
        ) from error


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


def _docker_info(found: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        version=str(found["ServerVersion"]),
        cgroup_version=int(found["CgroupVersion"]),
        cpus=int(found["NCPU"]),
        memory_bytes=int(found["MemTotal"]),
        data_root=str(found["DockerRootDir"]),
        architecture=_architecture(found.get("Architecture")),
        has_parts=["driver-type", _CONTAINERD] in (found.get("DriverStatus") or [])
        and _major(found["ServerVersion"]) >= _SAVES_ONE_PLATFORM,
    )


def _major(version: object) -> int:
    found = re.match(r"\d+", str(version))
    return int(found[0]) if found else 0


def _podman_info(found: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        version=str(found["version"]["Version"]),
        cgroup_version=int(str(found["host"]["cgroupVersion"]).removeprefix("v")),
        cpus=int(found["host"]["cpus"]),
        memory_bytes=int(found["host"]["memTotal"]),
        data_root=str(found["store"]["graphRoot"]),
        architecture=_architecture(found["host"].get("arch")),
    )


def _architecture(found: object) -> str:
    """Return it in Go's words, as nodes say it: Docker has those of the kernel."""
    named = str(found or "")
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(named, named)


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
