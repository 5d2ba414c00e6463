"""What images the nodes have, and giving them those that are missing."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mlops_pipeline.clients.containers import EngineApi, full_reference
from mlops_pipeline.clients.kind import KindApi
from mlops_pipeline.platforms.kubernetes.sources import Sources

_TIMEOUT = 600.0
"""Seconds that one archive or image may take into one node."""


class Images(Protocol):
    """Where the images are that a cluster runs, and bringing there what is missing."""

    def name(self, reference: str) -> str:
        """Return how nodes know an image of ours. Contacts nothing."""

    def places(self) -> tuple[str, ...]:
        """Return where images of ours must be, in words; empty where there is no cluster."""

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return place → which of the references it lacks; places that lack none are left out."""

    def ensure(self, group: str) -> tuple[str, ...]:
        """Bring a group of upstream's images where they are missing, and return their references.

        Nothing is done where nodes pull them.
        """

    def ensure_local(self, *references: str) -> bool:
        """Bring images of the engine where they are missing; return whether any was."""


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

    def name(self, reference: str) -> str:
        """Return how nodes know an image of ours: as the engine does."""
        return reference

    def places(self) -> tuple[str, ...]:
        """Return the names of the nodes; none where there is no cluster."""
        return tuple(self._kind().nodes(self._cluster))

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return node → which of the references it lacks; nodes that lack none are left out.

        Empty where there is no cluster.

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
        """Give every node the group's images, and return the references that one lacked, sorted.

        Without archives of the group nothing is done: nodes pull what they lack.

        Raises:
            PipelineError: an archive cannot be had, or a node did not take it.
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
        """Give every node images of the engine; return whether one lacked any.

        A tag must be a new one for each content: an image of that name in a node is kept. Several
        images go in one stream, with the layers that they share but once.

        Raises:
            NotFoundError: the engine does not have one.
            PipelineError: a node did not take them.
        """
        lacking = self.missing(references)
        for node, lacked in lacking.items():
            first, *also = (reference for reference in references if reference in lacked)
            self._engine.copy_image(first, node, timeout=_TIMEOUT, also=also)
        return bool(lacking)
