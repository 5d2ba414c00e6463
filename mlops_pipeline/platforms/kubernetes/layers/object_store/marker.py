"""An object that shows whether the store can return what it holds.

SeaweedFS lists names as soon as it answers. It has their content only when its volumes are
registered, seconds later after a restart: until then it reports that there is no such object.

A write may take longer. For 15 s after a restart, its master assigns no place for new data, and the
filer retries until it does: such a write is answered after up to 20 s, within the patience of a
client. https://github.com/seaweedfs/seaweedfs/pull/8529
"""

from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.clients.waiting import Clock, wait_until
from mlops_pipeline.platforms.layers import Broken, LayerState, Ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_pipeline.clients.s3 import Objects

BUCKET, KEY = "models", ".there/marker"
_CONTENT = b"there" * 1000
"""Too long for SeaweedFS to keep it beside the name."""


def observe(client: "Objects") -> LayerState:
    """Read the object."""
    try:
        reason = _describe_unread(client)
    except (UnavailableError, ConfigurationError) as error:
        return Broken.by(error)
    return Broken(reason) if reason else Ready()


def ensure(client: "Callable[[], Objects]", *, timeout: float, clock: Clock) -> None:
    """Store the object if it is missing, and return when it can be read.

    Raises:
        WaitTimeoutError: it could not be read; has what was last seen.
    """

    def describe_unready() -> str | None:
        try:
            if _describe_unread(client()):
                client().put(BUCKET, KEY, _CONTENT)
            return _describe_unread(client())
        except UnavailableError as error:
            return str(error)

    wait_until(
        "the objects in the object store",
        describe_unready,
        timeout=timeout,
        clock=clock,
        interval=0.2,
        hint="see `mlops-pipeline logs object_store`",
    )


def _describe_unread(client: "Objects") -> str | None:
    try:
        client.get(BUCKET, KEY)  # `find` would not tell a lost object from one that comes later.
    except NotFoundError:
        return (
            f"the object store does not return {BUCKET}/{KEY}, which shows whether it can be read"
        )
    return None
