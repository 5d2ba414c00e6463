"""Takes a release through all its steps, and kills its own process at the nth change.

`python -m mlops_pipeline_tests.embedded.killed_release POINT VERSION`. Exit code 0: it was over
before the nth change.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mlops_pipeline.delivery.releases import records
from mlops_pipeline.delivery.releases.archive import Archive
from mlops_pipeline.delivery.releases.traffic import Traffic
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.settings import load_settings
from mlops_pipeline_tests.embedded.release_rig import QUICK, ReleaseRig

POINTS = (
    *((Traffic, name) for name in ("start", "expose", "promote", "finish", "write")),
    *((Archive, name) for name in ("save_evidence", "keep", "settle")),
    *((EmbeddedDeployments, name) for name in ("apply", "annotate")),
    (VerdictLog, "append"),
    (records, "keep"),
)
"""What changes something during a release. It is killed before and after each of them."""


def main(point: int, version: int) -> None:
    """Release a version that exists; do not come back from the nth change."""
    left = [point]

    def pass_by() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in POINTS:
        setattr(owner, name, _counted(getattr(owner, name), pass_by))
    rig = ReleaseRig(build_platform("embedded", load_settings(platform="embedded")))
    rig.plan(**QUICK)
    rig.release(rig.artifact(version=version))
    rig.finish_keeping()


def _counted(method: Callable[..., Any], pass_by: Callable[[], None]) -> Callable[..., Any]:
    def counted(*given: Any, **named: Any) -> Any:
        pass_by()
        answer = method(*given, **named)
        pass_by()
        return answer

    return counted


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
