"""The buckets of an S3, whoever runs it: whether they are there, and making them."""

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
    """Ask for each bucket, signed with the client's key."""
    try:
        missing = [bucket for bucket in BUCKETS if not _has(client, bucket)]
    except (UnavailableError, ConfigurationError) as error:
        return Broken(str(error))
    return Drifted((f"buckets are missing: {', '.join(missing)}",)) if missing else Ready()


def ensure(
    client: "Callable[[], Objects]", *, timeout: float, clock: Clock, hint: str
) -> tuple[str, ...]:
    """Make the buckets that are missing as soon as the store answers, and return their names.

    Raises:
        AccessDeniedError: the store refuses the key for good.
        UnavailableError: it did not answer in time.
    """
    made: list[str] = []

    def describe_unready() -> str | None:
        try:
            # What is there needs no right to list or make all buckets.
            missing = [bucket for bucket in BUCKETS if not _has(client(), bucket)]
            made.extend(bucket for bucket in missing if client().ensure_bucket(bucket))
        except AccessDeniedError:
            raise
        except UnavailableError as error:
            return str(error)
        return None

    wait_until(
        "the object store", describe_unready, timeout=timeout, clock=clock, interval=0.2, hint=hint
    )
    return tuple(made)


def _has(client: "Objects", bucket: str) -> bool:
    try:
        client.sizes(bucket, ".there/")
    except NotFoundError:
        return False
    return True
