"""The record of the kind cluster: it tells the next command what the last one did."""

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
    """What the last command did with a cluster."""

    name: str
    stage: Stage
    """`making` is written before the creation starts; `adopted` is a cluster of somebody else."""
    node: str = ""
    """Id of the control plane's container, which is unique among clusters of that name."""
    asked: HostPorts | None = None
    """Requested ports of this machine; None: not known."""
    given: HostPorts | None = None
    """The ports that were free then."""
    mirrors: Mapping[str, str] = field(default_factory=dict)
    bundle: str = ""
    """The folder of the bundle that it was created from; empty if it was created without one."""

    @classmethod
    def parse(cls, content: Any) -> "ClusterRecord":
        """Return the record whose `asdict` is `content`.

        Raises:
            TypeError: it is not a record.
        """
        record = cls(**content)
        if not all(isinstance(p or {}, dict) for p in (record.asked, record.given, record.mirrors)):
            raise TypeError(f"expected objects as ports and mirrors, got {content!r}")
        if not isinstance(record.bundle, str):
            raise TypeError(f"expected a path as bundle, got {content!r}")
        return record


class ClusterBook:
    """The record, in the JSON file `path`. Writers must hold the lock `layers`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> ClusterRecord | None:
        """Return the record of the cluster `name`, or None.

        An unreadable file counts as no record; the cluster itself shows its state.
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
    """Return a name of a state folder, unique on this machine, that is valid in a label."""
    return "mlops-" + hashlib.sha256(f"{os.getuid()} {home}".encode()).hexdigest()[:10]
