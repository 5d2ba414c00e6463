"""Taking our layers out of a cluster in which somebody else lives too."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from mlops_pipeline.platforms.layers import Layer

_SHOWN = 5


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


def describe(kept: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each layer that stays."""
    return tuple(f"{name} stays, {reason}" for name, reason in kept.items())


def _shown(users: Sequence[str]) -> list[str]:
    more = [f"and {len(users) - _SHOWN} more"] if len(users) > _SHOWN else []
    return [*(f"{user} of somebody else" for user in users[:_SHOWN]), *more]
