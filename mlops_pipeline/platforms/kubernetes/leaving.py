"""Taking our layers out of a cluster in which somebody else lives too."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.platforms.layers import Layer

_SHOWN = 5


@runtime_checkable
class Shared(Protocol):
    """A layer that others may stand on, besides our own."""

    def users(self) -> Sequence[str]:
        """Return what of somebody else's needs the layer: `SeldonDeployment team/model`."""


def leave(layers: Sequence[Layer], *, here: Collection[str] = ()) -> dict[str, str]:
    """Remove the layers, the last one first, and return those that stay, with the reason.

    One that somebody else uses stays, and all that it stands on. `here` are the names of those
    that are on this machine alone: one that cannot be removed keeps nothing in the cluster.

    Raises:
        PipelineError: a layer in the cluster could not be removed; those above it are.
    """
    kept: dict[str, str] = {}
    for layer in reversed(layers):
        above = [o.name for o in layers if o.name in kept and layer.name in o.requires]
        users = list(layer.users()) if isinstance(layer, Shared) else []
        if users or above:
            kept[layer.name] = f"for {', '.join([*above, *_shown(users)])}"
        elif failed := _remove(layer, may_fail=layer.name in here):
            kept[layer.name] = failed
    return kept


def describe(kept: dict[str, str]) -> tuple[str, ...]:
    """Return a sentence for each layer that stays."""
    return tuple(f"{name} stays, {reason}" for name, reason in kept.items())


def _remove(layer: Layer, *, may_fail: bool) -> str:
    """Remove the layer; return why it could not be, where it may fail."""
    try:
        layer.remove()
    except PipelineError as error:
        if not may_fail:
            raise
        return f"since it could not be removed: {error}"
    return ""


def _shown(users: Sequence[str]) -> list[str]:
    more = [f"and {len(users) - _SHOWN} more"] if len(users) > _SHOWN else []
    return [*(f"{user} of somebody else" for user in users[:_SHOWN]), *more]
