"""Removing our layers from a cluster that others use too."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from mlops_pipeline.clients.kubernetes import NAMESPACE, KubernetesApi
from mlops_pipeline.platforms.kubernetes.objects.endings import wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.ownership import (
    made_elsewhere,
    our_namespaces,
    remove_namespace,
)
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Layer

_SHOWN = 5
_STAYS = "stays: it contains objects of somebody else, or some of its content cannot be read"
_FORMER = "stays: the settings no longer enable its layer; enable it and run this again"
"""If the namespace were deleted, the layer's objects outside of it would have no target."""


@runtime_checkable
class Shared(Protocol):
    """A layer that others may use, besides our own layers."""

    def users(self) -> Sequence[str]:
        """Name the objects of others that need the layer: `SeldonDeployment team/model`."""


def leave(layers: Sequence[Layer]) -> dict[str, str]:
    """Remove the layers in reverse order. Return those that stay, with the reasons.

    A layer that somebody else uses stays, with all layers that it requires.

    Raises:
        PipelineError: a layer could not be removed; those above it are removed.
    """
    kept: dict[str, str] = {}
    for layer in reversed(layers):
        above = [o.name for o in layers if o.name in kept and layer.name in o.requires]
        users = list(layer.users()) if isinstance(layer, Shared) else []
        if users or above:
            kept[layer.name] = f"for {', '.join([*above, *_shown(users)])}"
        else:
            layer.remove()
    return kept


def remove_namespaces(
    parts: Parts, *, used: Collection[str], former: Collection[str]
) -> tuple[str, ...]:
    """Delete our unused namespaces, and return a sentence for each one that stays.

    `former` has the namespaces of layers that the settings no longer enable.

    Raises:
        PipelineError: a namespace still exists.
    """
    api, timeout, clock = parts.api(), parts.settings.ready_timeout, parts.clock
    ours = [name for name in our_namespaces(api) if name not in used]
    names = [name for name in ours if name not in former]
    stays = [
        name
        for name in names
        if not remove_namespace(api, name) and api.find(NAMESPACE, name) is not None
    ]
    for name in names:
        if name not in stays:
            wait_for_end(api, NAMESPACE, name, timeout=timeout, clock=clock)
    return (
        *(f"the namespace {name} {_STAYS}" for name in stays),
        *(f"the namespace {name} {_FORMER}" for name in ours if name in former),
    )


def describe(api: KubernetesApi, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each layer that stays, and for what other state folders created."""
    return (
        *(f"{name} stays, {reason}" for name, reason in kept.items()),
        *(f"{name} stays: another state folder created it" for name in made_elsewhere(api)),
    )


def _shown(users: Sequence[str]) -> list[str]:
    more = [f"and {len(users) - _SHOWN} more"] if len(users) > _SHOWN else []
    return [*(f"{user} of somebody else" for user in users[:_SHOWN]), *more]
