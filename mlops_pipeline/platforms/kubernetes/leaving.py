"""Taking our layers out of a cluster in which somebody else lives too."""

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
_STAYS = "stays: somebody else's things are in it, or not all of it may be seen"
_FORMER = "stays: its layer is not asked for any more; ask for it and run this again"
"""Without the namespace, what the layer has made outside of it would lead nowhere."""


@runtime_checkable
class Shared(Protocol):
    """A layer that others may stand on, besides our own."""

    def users(self) -> Sequence[str]:
        """Return what of somebody else's needs the layer: `SeldonDeployment team/model`."""


def leave(layers: Sequence[Layer]) -> dict[str, str]:
    """Remove the layers, the last one first, and return those that stay, with the reason.

    One that somebody else uses stays, and all that it stands on.

    Raises:
        PipelineError: a layer could not be removed; those above it are.
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
    """Delete our namespaces but those in use, and return a sentence for each other that stays.

    `former` are those of layers that are not asked for any more.

    Raises:
        PipelineError: one is still there.
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
    """Return a sentence for each layer that stays, and for what other state folders made."""
    return (
        *(f"{name} stays, {reason}" for name, reason in kept.items()),
        *(f"{name} stays: another state folder made it" for name in made_elsewhere(api)),
    )


def _shown(users: Sequence[str]) -> list[str]:
    more = [f"and {len(users) - _SHOWN} more"] if len(users) > _SHOWN else []
    return [*(f"{user} of somebody else" for user in users[:_SHOWN]), *more]
