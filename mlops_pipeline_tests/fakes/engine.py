"""A container engine in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlops_pipeline.clients.containers import ContainerInfo, Mount, Network, full_reference
from mlops_pipeline.clients.engine_images import ImageInfo
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline_tests.fakes.kubernetes import matches


@dataclass(frozen=True)
class EngineCall:
    """Something that an engine was asked to run."""

    where: str
    """An image for `run`, a container for `exec`."""
    command: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """An image that was built."""

    context: Path
    dockerfile: Path
    tag: str
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    target: str


_INFO = EngineInfo("27.0.0", 2, 4, 16 << 30, "/var/lib/docker")


_IMAGE = ImageInfo("linux/amd64", frozenset())


class FakeEngine:
    """A container engine with images, containers, networks, and images in nodes.

    `archives` says what an archive holds. `outputs` answers commands: the first entry whose words
    all stand in the command. `unavailable` is why the engine does not answer. `registry` has what
    can be pulled.
    """

    def __init__(
        self,
        *,
        images: Iterable[str] = (),
        containers: Iterable[ContainerInfo] = (),
        networks: Mapping[str, Network] | None = None,
        node_images: Mapping[str, Iterable[str]] | None = None,
        archives: Mapping[Path, Iterable[str]] | None = None,
        outputs: Sequence[tuple[Sequence[str], str]] = (),
        info: EngineInfo = _INFO,
        unavailable: str = "",
        registry: Iterable[str] = (),
    ) -> None:
        self.images = {full_reference(image) for image in images}
        self.registry = {full_reference(image) for image in registry}
        self.image_infos: dict[str, ImageInfo] = {}
        self.pulled: list[str] = []
        self.saved: list[tuple[str, ...]] = []
        self.node_images = {
            node: {full_reference(image) for image in held}
            for node, held in (node_images or {}).items()
        }
        self.outputs = list(outputs)
        self.unavailable = unavailable
        self.calls: list[EngineCall] = []
        self.builds: list[Build] = []
        self.loaded: list[Path] = []
        self.imported: list[tuple[Path, str]] = []
        self.copied: list[tuple[str, str]] = []
        self.pushed: set[str] = set()
        self.refused: PipelineError | None = None
        self._archives = dict(archives or {})
        self._containers = {c.name: c for c in containers}
        self._networks = dict(networks or {})
        self._info = info

    def start(self, container: ContainerInfo) -> None:
        """Make the container be there."""
        self._containers[container.name] = container

    def stop(self, name: str) -> None:
        """Make the container be gone, with what it holds."""
        self._containers.pop(name, None)
        self.node_images.pop(name, None)

    def info(self) -> EngineInfo:
        self._maybe_fail()
        return self._info

    def network(self, name: str) -> Network:
        self._maybe_fail()
        if name not in self._networks:
            raise NotFoundError(f"there is no container network {name}")
        return self._networks[name]

    def containers(self, *, label: str = "") -> tuple[ContainerInfo, ...]:
        self._maybe_fail()
        return tuple(c for c in self._containers.values() if matches(c.labels, label))

    def inspect(self, name: str) -> ContainerInfo:
        self._maybe_fail()
        if name not in self._containers:
            raise NotFoundError(f"there is no container {name}")
        return self._containers[name]

    def resume(self, container: str) -> None:
        self._containers[container] = replace(self.inspect(container), running=True)

    def halt(self, container: str) -> None:
        self._containers[container] = replace(self.inspect(container), running=False)

    def has_image(self, reference: str) -> bool:
        self._maybe_fail()
        return full_reference(reference) in self.images

    def labelled_images(self, *, label: str) -> tuple[str, ...]:
        self._maybe_fail()
        key, _, value = label.partition("=")
        built = [b.tag for b in reversed(self.builds) if b.labels.get(key) == value]
        return tuple(tag for tag in built if self.has_image(tag))

    def find_image(self, reference: str) -> ImageInfo | None:
        self._maybe_fail()
        name = full_reference(reference)
        return self.image_infos.get(name, _IMAGE) if name in self.images else None

    def pull(self, reference: str, *, platform: str, timeout: float) -> None:
        self._maybe_fail()
        name, _, digest = reference.partition("@")
        if full_reference(name) not in self.registry:
            raise CommandError(f"could not pull the image {reference}: not found")
        self.pulled.append(reference)
        self.images.add(full_reference(reference))
        known = frozenset({digest} if digest else ())
        self.image_infos[full_reference(reference)] = ImageInfo(platform, known)

    def tag(self, reference: str, name: str) -> None:
        self._require_image(reference)
        self.images.add(full_reference(name))
        if (info := self.image_infos.get(full_reference(reference))) is not None:
            self.image_infos[full_reference(name)] = info

    def save(
        self, references: Sequence[str], archive: Path, *, platform: str, timeout: float
    ) -> None:
        for reference in references:
            self._require_image(reference)
        self.saved.append(tuple(references))
        archive.write_text("\n".join(references))

    def image_id(self, reference: str) -> str:
        self._require_image(reference)
        return f"sha256:{full_reference(reference)}"

    def image_size(self, reference: str) -> int:
        self._require_image(reference)
        return 500 << 20

    def load(self, archive: Path, *, timeout: float = 0) -> None:
        self._maybe_fail()
        self.loaded.append(archive)
        self.images |= self._held(archive)

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
        self._maybe_fail()
        self.builds.append(Build(context, dockerfile, tag, arguments or {}, labels or {}, target))
        self.images.add(full_reference(tag))

    def push(self, reference: str, *, timeout: float) -> None:
        self._require_image(reference)
        if self.refused:
            raise self.refused
        self.pushed.add(reference)

    def is_pushed(self, reference: str, *, plain_http: bool = False) -> bool:
        self._maybe_fail()
        if self.refused:
            raise self.refused
        return reference in self.pushed

    def remove_image(self, reference: str) -> bool:
        there = self.has_image(reference)
        self.images.discard(full_reference(reference))
        return there

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
        self._require_image(image)
        self.calls.append(
            EngineCall(image, tuple(command), tuple(mounts), network, user, environment or {})
        )
        return self._output(command)

    def exec(
        self, container: str, command: Sequence[str], *, timeout: float, stdin: Path | None = None
    ) -> str:
        self.inspect(container)
        self.calls.append(EngineCall(container, tuple(command)))
        return self._output(command)

    def images_in(self, node: str) -> frozenset[str]:
        self._maybe_fail()
        return frozenset(self.node_images.get(node, ()))

    def import_archive(self, archive: Path, node: str, *, timeout: float) -> None:
        self._maybe_fail()
        self.imported.append((archive, node))
        self.node_images.setdefault(node, set()).update(self._held(archive))

    def copy_image(
        self, reference: str, node: str, *, timeout: float, also: Sequence[str] = ()
    ) -> None:
        for each in (reference, *also):
            self._require_image(each)
            self.copied.append((each, node))
            self.node_images.setdefault(node, set()).add(full_reference(each))

    def _held(self, archive: Path) -> set[str]:
        return {full_reference(image) for image in self._archives.get(archive, ())}

    def _output(self, command: Sequence[str]) -> str:
        for words, output in self.outputs:
            if all(word in command for word in words):
                return output
        return ""

    def _require_image(self, reference: str) -> None:
        if not self.has_image(reference):
            raise NotFoundError(f"the engine has no image {reference}")

    def _maybe_fail(self) -> None:
        if self.unavailable:
            raise UnavailableError(f"the container engine does not answer: {self.unavailable}")
