"""How releases ended: a record of each, kept beside the artifacts for good.

::

    models/<model>/releases/<platform>/<namespace>/<deployment>/<release id>.json
"""

from dataclasses import dataclass

from mlops_pipeline.delivery.releases.evidence import Evidence
from mlops_pipeline.delivery.releases.state import Decision, Release


@dataclass(frozen=True)
class ReleaseRecord:
    """A release that has ended."""

    release: Release
    """Its state before the end."""
    decision: Decision
    evidence: Evidence
