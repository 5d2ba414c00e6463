"""The buckets of any S3: whether they exist, and creating them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.waiting import Clock, wait_until
from mlops_pipeline.platforms.layers import Broken, Drifted, LayerState, Ready

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects

BUCKETS = ("models", "datasets")


def observe(client: "Objects") -> LayerState:
    """Request each bucket, signed with the client's key."""
    try:
        missing = _missing_from(client)
    except (UnavailableError, ConfigurationError) as error:
        return Broken.by(error)
    return Drifted((f"buckets are missing: {', '.join(missing)}",)) if missing else Ready()


def ensure(
    client: "Callable[[], Objects]", *, timeout: float, clock: Clock, hint: str
) -> tuple[str, ...]:
    """Create the missing buckets as soon as the store answers, and return their names.

    Raises:
        AccessDeniedError: the store refuses the key permanently.
        UnavailableError: it did not answer in time.
    """
    made: list[str] = []

    def make(store: "Objects") -> None:
        made.extend(bucket for bucket in _missing_from(store) if store.ensure_bucket(bucket))

    _when_it_answers(client, make, timeout=timeout, clock=clock, hint=hint)
    return tuple(made)


def require(
    client: "Callable[[], Objects]", *, timeout: float, clock: Clock, hint: str, remedy: str
) -> None:
    """Wait until the store answers, and refuse to continue if a bucket is missing; create none.

    Raises:
        ConfigurationError: has the missing buckets, and the `remedy`.
        AccessDeniedError: the store refuses the key permanently.
        UnavailableError: it did not answer in time.
    """
    missing: list[str] = []

    def look(store: "Objects") -> None:
        missing.extend(_missing_from(store))

    _when_it_answers(client, look, timeout=timeout, clock=clock, hint=hint)
    if missing:
        raise ConfigurationError(f"buckets are missing: {', '.join(missing)}; {remedy}")


def _when_it_answers(
    client: "Callable[[], Objects]",
    act: "Callable[[Objects], None]",
    *,
    timeout: float,
    clock: Clock,
    hint: str,
) -> None:
    def describe_unready() -> str | None:
        try:
            act(client())
        except AccessDeniedError:
            raise
        except UnavailableError as error:
            return str(error)
        return None

    wait_until(
        "the object store", describe_unready, timeout=timeout, clock=clock, interval=0.2, hint=hint
    )


def _missing_from(client: "Objects") -> list[str]:
    """Return the missing buckets; this needs no right to list all buckets."""
    return [bucket for bucket in BUCKETS if not _has(client, bucket)]


def _has(client: "Objects", bucket: str) -> bool:
    try:
        client.sizes(bucket, ".there/")
    except NotFoundError:
        return False
    return True
