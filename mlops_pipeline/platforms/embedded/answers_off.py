"""What ends the log of answers after the settings disable it."""

from typing import TYPE_CHECKING

from mlops_pipeline.platforms.answers import SHIPPER
from mlops_pipeline.platforms.embedded.state import answer_spool, shipper_config
from mlops_pipeline.platforms.embedded.supervised import LayerParts
from mlops_pipeline.platforms.shipper import ship_rest

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore


def end_recording(parts: LayerParts, store: "ObjectStore") -> None:
    """Stop the shipper, delete its key, and upload what it left in the spool.

    A server that still records goes on until its deployment is applied: the next call uploads what
    it has written.
    """
    if parts.supervisor.files.has(SHIPPER):
        with parts.locks.held("state", purpose="stop to record answers"):
            parts.supervisor.drop([SHIPPER])
    shipper_config(parts.state).unlink(missing_ok=True)
    ship_rest(answer_spool(parts.state), store)
