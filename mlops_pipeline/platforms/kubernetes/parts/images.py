"""Which images the nodes have, and loading the missing ones."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mlops_pipeline.clients.containers import EngineApi, full_reference
from mlops_pipeline.clients.errors import AccessDeniedError, ConfigurationError
from mlops_pipeline.clients.kind import KindApi
from mlops_pipeline.platforms.sources import Sources

_TIMEOUT = 600.0
"""Seconds to load one archive or image into one node."""
_PUSH_TIMEOUT = 1800.0
"""Seconds to push one image to a registry: 0.5 GB, possibly over a slow network."""


LOCAL = "localhost"
"""The prefix of our images' names without a registry.

No registry has images of localhost, so a node that lacks such an image reports it at once."""


class Images(Protocol):
    """The places that must have a cluster's images, and a way to bring missing images there."""

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours here and on the nodes. Contacts nothing."""

    def places(self) -> tuple[str, ...]:
        """Name the places that must have our images; empty if there is no cluster."""

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return place → the references that it lacks, without places that lack none."""

    def ensure(self, group: str) -> tuple[str, ...]:
        """Bring upstream's missing images of a group to their places, and return their references.

        Does nothing if nodes pull them.
        """

    def ensure_local(self, *references: str) -> bool:
        """Bring the engine's images to places that lack them. Return whether any was missing."""


class NodeImages:
    """The images in the nodes of the kind cluster `cluster_name`.

    A reference may be short: `x:1` and `docker.io/library/x:1` are the same image.
    """

    def __init__(
        self,
        engine: EngineApi,
        kind: Callable[[], KindApi],
        sources: Sources,
        cluster_name: str,
    ) -> None:
        self._engine = engine
        self._kind = kind
        self._sources = sources
        self._cluster = cluster_name

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours."""
        return f"{LOCAL}/{repository}"

    def places(self) -> tuple[str, ...]:
        """Return the names of the nodes; empty if there is no cluster."""
        return tuple(self._kind().nodes(self._cluster))

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return node → the references that it lacks, without nodes that lack none.

        Empty if there is no cluster.

        Raises:
            PipelineError: kind or the engine does not answer.
        """
        wanted = tuple(references)
        lacking = {}
        for node in self.places():
            held = self._engine.images_in(node)
            if lacked := frozenset(r for r in wanted if full_reference(r) not in held):
                lacking[node] = lacked
        return lacking

    def ensure(self, group: str) -> tuple[str, ...]:
        """Load the group's missing images into every node. Return the missing references, sorted.

        Does nothing without archives of the group: nodes pull what they lack.

        Raises:
            PipelineError: an archive is not available, or a node did not accept it.
        """
        archives = self._sources.archives(group)
        if not archives:
            return ()
        lacking = self.missing(image for archive in archives for image in archive.images)
        for node, lacked in lacking.items():
            for archive in archives:
                if lacked & set(archive.images):
                    self._engine.import_archive(archive.path, node, timeout=_TIMEOUT)
        return tuple(sorted(set().union(*lacking.values())))

    def ensure_local(self, *references: str) -> bool:
        """Copy images from the engine to the nodes that lack them. Return whether any did.

        Each content needs a tag of its own: a node keeps an existing image of that name. Several
        images are sent in one stream, which contains shared layers only once.

        Raises:
            NotFoundError: the engine does not have one.
            PipelineError: a node did not accept them.
        """
        lacking = self.missing(references)
        for node, lacked in lacking.items():
            first, *also = (reference for reference in references if reference in lacked)
            self._engine.copy_image(first, node, timeout=_TIMEOUT, also=also)
        return bool(lacking)


class RegistryImages:
    """Our images are in a registry, from which nodes pull them; other images are at upstream's.

    `registry` is the prefix of their names; `plain_http` says that it has no TLS.
    """

    def __init__(self, engine: EngineApi, registry: str, *, plain_http: bool) -> None:
        self._engine = engine
        self._registry = registry
        self._plain_http = plain_http

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours: below the registry.

        Raises:
            ConfigurationError: no registry is set.
        """
        if not self._registry:
            raise ConfigurationError(
                "no registry is set from which nodes can pull the model server's images: set "
                "kubernetes.images.registry to one that this machine may push to (`docker login` "
                "first), or set kubernetes.images.delivery to another method"
            )
        return f"{self._registry}/{repository}"

    def places(self) -> tuple[str, ...]:
        """Return the registry."""
        return (self._registry,)

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return registry → the references that it lacks; empty if it lacks none.

        A reference that may not be read counts as missing: many registries deny access to a
        repository that does not exist. The push shows whether the login is refused.

        Raises:
            PipelineError: it does not answer.
        """
        lacked = frozenset(r for r in references if not self._has(full_reference(r)))
        return {self._registry: lacked} if lacked else {}

    def _has(self, reference: str) -> bool:
        try:
            return self._engine.is_pushed(reference, plain_http=self._plain_http)
        except AccessDeniedError:
            return False

    def ensure(self, group: str) -> tuple[str, ...]:
        """Do nothing: nodes pull upstream's images."""
        return ()

    def ensure_local(self, *references: str) -> bool:
        """Push the images that the registry lacks. Return whether it lacked any.

        Raises:
            AccessDeniedError: the registry refuses the engine's login.
            PipelineError: it does not answer, or did not accept an image.
        """
        lacking = self.missing(references).get(self._registry, frozenset())
        for reference in references:
            if reference in lacking:
                self._engine.push(full_reference(reference), timeout=_PUSH_TIMEOUT)
        return bool(lacking)


class BroughtImages:
    """Somebody brings the images to the nodes in any way: nothing is verified or done."""

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours."""
        return f"{LOCAL}/{repository}"

    def places(self) -> tuple[str, ...]:
        """Return the nodes, which this machine cannot examine."""
        return ("the nodes",)

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return nothing: a pod reports a missing image at its start."""
        return {}

    def ensure(self, group: str) -> tuple[str, ...]:
        """Do nothing."""
        return ()

    def ensure_local(self, *references: str) -> bool:
        """Do nothing."""
        return False
