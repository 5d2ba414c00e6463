"""What the object store keeps of releases: evidence of one in progress, records, verdicts."""

import logging

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConflictError, IntegrityError
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.desired import DesiredState, read_annotations
from mlops_pipeline.delivery.history import place_for, record_serving
from mlops_pipeline.delivery.references import MODELS_BUCKET
from mlops_pipeline.delivery.releases import records
from mlops_pipeline.delivery.releases.evidence import Evidence, parse_evidence, to_json
from mlops_pipeline.delivery.releases.refusing import record_verdict
from mlops_pipeline.delivery.releases.state import UNDONE, Decision, Release
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import SeldonDeployment

_log = logging.getLogger(__name__)


class Archive:
    """The evidence, the records and the verdicts of one model's releases on a platform."""

    def __init__(self, spec: ModelSpec, platform: Platform) -> None:
        self._spec = spec
        self._platform = platform
        server = spec.server
        self._key = (
            f"{spec.name}/release-evidence/{platform.name}/{server.namespace}/"
            f"{server.deployment}.json"
        )

    def evidence(self, release: Release) -> Evidence:
        """Return what was counted in this release; nothing yet for one that has just begun.

        Raises:
            UnavailableError: the object store does not answer.
        """
        data = self._platform.object_store().find(MODELS_BUCKET, self._key)
        if data is None:
            return Evidence(release.id)
        try:
            known = parse_evidence(data, where=f"{MODELS_BUCKET}/{self._key}")
        except IntegrityError as error:
            # Counting starts again: a release needs more answers then, and decides on no others.
            _log.warning("%s. Counting starts again", error)
            return Evidence(release.id)
        began_as = release.id.removesuffix(UNDONE)
        return known if known.release == began_as else Evidence(release.id)

    def save_evidence(self, evidence: Evidence) -> None:
        """Write what was counted, in place of what was counted before.

        Raises:
            UnavailableError: the object store did not take it.
        """
        store = self._platform.object_store()
        store.put(MODELS_BUCKET, self._key, to_json(evidence))

    def keep(self, release: Release, decision: Decision) -> None:
        """Write the record of a release that has ended.

        Raises:
            UnavailableError: the object store did not take it.
        """
        record = records.ReleaseRecord(release, decision, self.evidence(release))
        try:
            records.keep(record, self._spec, self._platform)
        except ConflictError as error:
            _log.warning("%s", error)  # What was written first stays.

    def settle(self, release: Release, there: SeldonDeployment | None, *, by: str) -> None:
        """Write everything that follows from the end of a release. What is known is not repeated.

        Raises:
            UnavailableError: the object store did not take it.
        """
        assert release.ended is not None
        ref, place = (
            ref_to(self._spec.name, release.candidate),
            place_for(self._spec, self._platform),
        )
        log = VerdictLog(self._platform.object_store())
        record_verdict(log, ref, release, release.ended, place=place)
        if there is not None:
            if (desired := read_annotations(there.metadata.annotations)) is not None:
                DesiredState(self._spec, self._platform).keep(desired)
            record_serving(None, there, platform=self._platform, by=by)
        self.keep(release, release.ended)
