"""What images the nodes have, and giving them those that are missing."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mlops_pipeline.clients.containers import EngineApi, full_reference
from mlops_pipeline.clients.errors import AccessDeniedError, ConfigurationError
from mlops_pipeline.clients.kind import KindApi
from mlops_pipeline.platforms.kubernetes.sources import Sources

_TIMEOUT = 600.0
"""Seconds that one archive or image may take into one node."""
_PUSH_TIMEOUT = 1800.0
"""Seconds that one image may take into a registry: 0.5 GB go over a network that may be slow."""


LOCAL = "localhost"
"""How the names of our images begin that are for no registry.

None has what is of localhost: a node that lacks such an image says so at once.
"""


class Images(Protocol):
    """Where the images are that a cluster runs, and bringing there what is missing."""

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours, here and for the nodes. Contacts nothing."""

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

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours."""
        return f"{LOCAL}/{repository}"

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


class RegistryImages:
    """Images of ours in a registry, which nodes pull from; others they pull from upstream's.

    `registry` is how their names begin; `plain_http` that it has no TLS.
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
                "no registry is set from which nodes could pull the images of the model server: "
                "set kubernetes.images.registry to one that this machine may push to "
                "(`docker login` first), or kubernetes.images.delivery to another way"
            )
        return f"{self._registry}/{repository}"

    def places(self) -> tuple[str, ...]:
        """Return the registry."""
        return (self._registry,)

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the registry → which of the references it lacks; nothing where it lacks none.

        What it does not let us look at counts as lacking: many say so of a repository that is not
        there yet. Whether the login is refused is decided by the push.

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
        """Push what the registry lacks; return whether that was any.

        Raises:
            AccessDeniedError: the registry refuses the engine's login.
            PipelineError: it does not answer, or did not take an image.
        """
        lacking = self.missing(references).get(self._registry, frozenset())
        for reference in references:
            if reference in lacking:
                self._engine.push(full_reference(reference), timeout=_PUSH_TIMEOUT)
        return bool(lacking)


class BroughtImages:
    """Images that somebody brings to the nodes, by whatever way: nothing is looked at or done."""

    def name(self, repository: str) -> str:
        """Return the full name of an image of ours."""
        return f"{LOCAL}/{repository}"

    def places(self) -> tuple[str, ...]:
        """Return the nodes, which nobody can look into."""
        return ("the nodes",)

    def missing(self, references: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return nothing: what a pod lacks is told when it starts."""
        return {}

    def ensure(self, group: str) -> tuple[str, ...]:
        """Do nothing."""
        return ()

    def ensure_local(self, *references: str) -> bool:
        """Do nothing."""
        return False
