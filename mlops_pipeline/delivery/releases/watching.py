"""Looks at both versions of a release: what they counted, whether they live, what they answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.delivery.releases.archive import Archive
from mlops_pipeline.delivery.releases.evidence import Evidence, accumulate
from mlops_pipeline.delivery.releases.machine import Action, RollBack, Wait, next_step
from mlops_pipeline.delivery.releases.manifests import find_versions
from mlops_pipeline.delivery.releases.replaying import replay
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.traffic import Traffic
from mlops_pipeline.platforms.platform import Platform, PredictorStatus
from mlops_pipeline.platforms.seldon import SeldonDeployment

_LOOKS_AT_SERVERS = 3
"""Times that the candidate must be seen without a ready server before it is rolled back."""
_BETWEEN_LOOKS = 1.0
"""Seconds between them."""


class Watcher:
    """Observes the deployment of one model during a release."""

    def __init__(
        self,
        spec: ModelSpec,
        platform: Platform,
        *,
        traffic: Traffic,
        archive: Archive,
        now: Callable[[], datetime],
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._deployments = platform.deployments
        self._traffic = traffic
        self._archive = archive
        self._now = now
        self._clock = clock

    def observe(self, there: SeldonDeployment, release: Release) -> Evidence:
        """Return the evidence with what the servers have counted since the last look."""
        known, versions = self._archive.evidence(release), find_versions(there, release)
        if release.phase == "ended" or versions is None or versions.stable is None:
            return known
        return accumulate(
            known,
            self._deployments.counts(there.name, namespace=there.namespace),
            release=release,
            candidate_predictor=versions.candidate.name,
            stable_predictor=versions.stable.name,
            now=self._now(),
        )

    def look(self, there: SeldonDeployment, release: Release) -> tuple[Action, Evidence | None]:
        """Return what follows, and what was counted.

        A candidate that is dead is rolled back although the object store is away, and one that is
        worse although somebody changed objects of the deployment by hand.
        """
        if moved := self._traffic.describe_move(there, release):
            return Wait(moved, needs_person=True), None
        status = self._status(there)
        if dead := self._describe_dead(there, release, status):
            return RollBack(dead), None
        evidence = self.observe(there, release)
        action = next_step(release, evidence, now=self._now())
        if not isinstance(action, RollBack) and (edited := self._traffic.describe_edit(status)):
            action = Wait(edited, needs_person=True)
        return action, evidence

    def _describe_dead(
        self, there: SeldonDeployment, release: Release, status: Sequence[PredictorStatus]
    ) -> str:
        """Say why no server of the candidate is ready, look after look; empty if one is.

        A server that still loads its model is not dead. If the stable version has no ready server
        either, the reason is not the candidate. `status` is that of the first look.
        """
        versions = find_versions(there, release)
        if versions is None or versions.stable is None:
            return ""
        names = [predictor.name for predictor in there.spec.predictors]
        places = names.index(versions.candidate.name), names.index(versions.stable.name)
        reason = ""
        for number in range(_LOOKS_AT_SERVERS):
            if number:
                self._clock.sleep(_BETWEEN_LOOKS)
                status = self._status(there)
            if len(status) <= max(places):
                return ""
            candidate, stable = (status[place] for place in places)
            if candidate.replicas or candidate.state != "failed" or not stable.replicas:
                return ""
            reason = candidate.reason
        return f"no server of the candidate is ready: {reason}"

    def _status(self, there: SeldonDeployment) -> tuple[PredictorStatus, ...]:
        return self._deployments.status(there.name, namespace=there.namespace)

    def replay(self, release: Release) -> None:
        """Send hold-out rows to both versions, and add what they answered to the evidence.

        Raises:
            UnavailableError: a version has no ready server, or time was over.
        """
        there, versions = self._traffic.require(release)
        servers = self._deployments.servers(there.name, namespace=there.namespace)
        tallies = replay(
            replace(self._spec, release=release.plan),
            self._traffic.rows(release.candidate),
            stable=servers.get(versions.require_stable().name, ()),
            candidate=servers.get(versions.candidate.name, ()),
        )
        evidence = self._archive.evidence(release)
        if not evidence.steps:
            return  # Somebody removed it. The next look counts first, and then asks again.
        last = replace(evidence.steps[-1], replayed=tallies)
        self._archive.save_evidence(replace(evidence, steps=(*evidence.steps[:-1], last)))
