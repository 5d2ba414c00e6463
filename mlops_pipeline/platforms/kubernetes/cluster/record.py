"""What is written down about the kind cluster, so that the next command knows what the last did."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlops_pipeline.clients.files import PRIVATE, write_atomically
from mlops_pipeline.platforms.kubernetes.cluster.config import HostPorts

Stage = Literal["making", "made", "adopted", "removed"]


@dataclass(frozen=True)
class ClusterRecord:
    """What was last done with a cluster."""

    name: str
    stage: Stage
    """`making` is written before anything is made; `adopted` is somebody else's cluster."""
    node: str = ""
    """Id of the control plane's container, which no other cluster of that name has."""
    asked: HostPorts | None = None
    """Ports of this machine that were asked for; None: not known."""
    given: HostPorts | None = None
    """Those that were free then."""
    mirrors: Mapping[str, str] = field(default_factory=dict)
    bundle: str = ""
    """The folder of the bundle that it was made from; empty: it was made without one."""

    @classmethod
    def parse(cls, content: Any) -> "ClusterRecord":
        """Return the record that `asdict` made `content` of.

        Raises:
            TypeError: it is no record.
        """
        record = cls(**content)
        if not all(isinstance(p or {}, dict) for p in (record.asked, record.given, record.mirrors)):
            raise TypeError(f"its ports or mirrors are no objects: {content!r}")
        if not isinstance(record.bundle, str):
            raise TypeError(f"its bundle is no path: {content!r}")
        return record


class ClusterBook:
    """The record, in the JSON file `path`. Who writes holds the lock `layers`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> ClusterRecord | None:
        """Return what is known of the cluster `name`, or None.

        A file that cannot be read tells nothing; what a cluster is can be seen in it.
        """
        try:
            record = ClusterRecord.parse(json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return record if record.name == name else None

    def write(self, record: ClusterRecord) -> None:
        """Replace the record.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        write_atomically(self._path, json.dumps(asdict(record), indent=2), mode=PRIVATE)


def identity_of(home: Path) -> str:
    """Return a name for a state folder that no other one on this machine has; fits a label."""
    return "mlops-" + hashlib.sha256(f"{os.getuid()} {home}".encode()).hexdigest()[:10]
