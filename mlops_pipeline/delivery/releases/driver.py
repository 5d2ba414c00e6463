"""Takes releases from step to step: counts, decides by `machine.next_step`, applies one change.

Any process may do so, and be killed at any point: the state is on the deployment, and each change
of the traffic carries the next state. What is kept in the object store beside that (evidence,
records, verdicts) is made up for by the next step.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError, PipelineError
from mlops_pipeline.clients.waiting import MONOTONIC, Clock
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.archive import Archive
from mlops_pipeline.delivery.releases.evidence import Evidence
from mlops_pipeline.delivery.releases.machine import (
    Action,
    Ask,
    Expose,
    Finish,
    Promote,
    Replay,
    RollBack,
    Wait,
)
from mlops_pipeline.delivery.releases.state import (
    MOST_REASON,
    UNDONE,
    Decision,
    Outcome,
    Release,
    find_release,
    new_release,
)
from mlops_pipeline.delivery.releases.traffic import Traffic, require_something
from mlops_pipeline.delivery.releases.watching import Watcher
from mlops_pipeline.delivery.releases.weighing import with_look
from mlops_pipeline.platforms.platform import Platform

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a look at a release, or a step of it, came to."""

    release: Release | None
    """As it is now; None: none is in progress."""
    action: Action | None = None
    """What follows from the evidence, or what was just done."""
    decision: Decision | None = None
    """How the release ended in this step; after a promotion the former version may be kept."""
    evidence: Evidence | None = None

    @property
    def is_step(self) -> bool:
        """Whether the release ended, or something else than waiting follows or was done."""
        is_waiting = self.action is None or isinstance(self.action, Wait)
        return self.decision is not None or not is_waiting

    def describe(self) -> str:
        """Return a sentence for people: who has which share, why, and what comes next."""
        if self.decision is not None:
            return f"{self.decision.outcome.replace('_', ' ')}: {self.decision.reason}"
        if self.release is None:
            return "no release is in progress"
        return describe_release(self.release, self.action)


def describe_release(release: Release, action: Action | None = None) -> str:
    """Say how far a release is, and what it waits for."""
    digest, steps = release.candidate[:12], release.plan.effective_steps()
    if release.phase == "kept":
        shown = f"{digest} has all traffic; {release.stable[:12]} stays ready for a rollback"
    elif release.phase == "ended":
        shown = f"the release of {digest} has ended, and its record is not written yet"
    elif release.is_shadow:
        shown = f"{digest} gets copies of {release.share} % of the requests"
    elif release.share == 100:
        shown = f"{digest} has all traffic on trial; {release.stable[:12]} stays ready"
    else:
        shown = f"{digest} has {release.share} % of the traffic, {release.stable[:12]} the rest"
    if release.ended is None:
        shown += f"; step {release.step + 1} of {len(steps)}"
    if release.is_paused:
        shown += "; paused"
    if release.phase == "asking":
        shown += f"; waits for a decision: {release.reason}"
    elif isinstance(action, Wait):
        shown += f"; {action.missing}"
    elif action is not None:
        shown += f"; {action.reason}"
    return shown


class Releases:
    """The releases of one model's deployment on one platform."""

    def __init__(
        self,
        spec: ModelSpec,
        platform: Platform,
        *,
        by: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Clock = MONOTONIC,
    ) -> None:
        """`by` is the command or the Dagster run that looks."""
        self._spec = spec
        self._by = by
        self._now = now
        self._traffic = Traffic(spec, platform, by=by)
        self._archive = Archive(spec, platform)
        self._watcher = Watcher(
            spec, platform, traffic=self._traffic, archive=self._archive, now=now, clock=clock
        )

    def find(self) -> Release | None:
        """Return the release in progress, or None. Only the deployment is asked.

        Raises:
            IntegrityError: its annotation is damaged.
        """
        return find_release(self._traffic.find())

    def begin(self, ref: ModelRef, *, ends_pin: bool = False) -> Progress:
        """Start the artifact beside what serves, prove it alone, and give it the first share.

        A release in progress is superseded: its stable version stays the stable one.

        Raises:
            ConfigurationError: nothing is deployed that it could be compared with.
            ConflictError: somebody else changed the deployment in the meantime.
            PipelineError: the candidate does not start, or answers other scores; the stable version
                keeps all traffic.
        """
        if ends_pin:
            self._traffic.unpin()
        there = require_something(self._traffic.find(), ref)
        former = find_release(there)
        release = new_release(
            self._spec.release,
            ref.digest,
            stable=self._traffic.find_stable(there).digest,
            by=self._by,
            now=self._now(),
        )
        self._traffic.start(there, release)
        if former is not None:
            self.supersede(former, f"{ref.digest[:12]} is released instead")
        return Progress(release, Expose(0, "the candidate answers as it did after its training"))

    def look(self) -> Progress:
        """Count, and say what would follow. Changes nothing.

        Raises:
            UnavailableError: the platform or the object store does not answer.
        """
        there = self._traffic.find()
        release = find_release(there)
        if there is None or release is None:
            return Progress(None)
        if release.phase == "ended":
            return Progress(release, Finish("the record of the release is not written yet"))
        action, evidence = self._watcher.look(there, release)
        return Progress(release, action, evidence=evidence)

    def watch(self) -> Progress:
        """Look, and keep what was counted: the limit of slowness and the plots rest on each look.

        Raises:
            UnavailableError: the platform or the object store does not answer.
        """
        seen = self.look()
        if seen.release is None or seen.evidence is None:
            return seen
        evidence = with_look(seen.evidence, seen.release, now=self._now())
        self._archive.save_evidence(evidence)
        return replace(seen, evidence=evidence)

    def advance(self) -> Progress:
        """Look once, and take the step that follows, if one does.

        Raises:
            ConflictError: somebody else changed the deployment in the meantime; that stays.
            PipelineError: the step could not be taken; the traffic is as before.
        """
        seen = self.watch()
        release = seen.release
        if release is None:
            return seen
        if release.phase == "ended":
            self._traffic.confirm()
            return self._settle(release)
        return self._take(release, seen)

    def promote(self) -> Progress:
        """Give all traffic to the candidate, because a person says so.

        Raises:
            ConfigurationError: no release is in progress.
        """
        return self._promote(
            _require_running(self.find(), self._spec.name), f"a person promoted it ({self._by})"
        )

    def abort(self, reason: str = "") -> Progress:
        """Give all traffic back to the stable version; also after a promotion, while it is kept.

        The object store may be away: the next step writes the record then.

        Raises:
            ConfigurationError: no release is in progress.
        """
        there = self._traffic.find()
        try:
            release = find_release(there)
        except IntegrityError as error:
            assert there is not None
            self._traffic.leave_main(there)
            return Progress(None, decision=self._decision("aborted", str(error)))
        if release is None or release.phase == "ended":
            raise _none(self._spec.name)
        reason = reason or f"a person aborted it ({self._by})"
        outcome: Outcome = "rolled_back" if release.phase == "kept" else "aborted"
        return self._end(release, outcome, reason)

    def pause(self) -> Progress:
        """Keep the share; the candidate is still rolled back if it proves to be bad.

        Raises:
            ConfigurationError: no release is in progress.
        """
        return self._write(_require_running(self.find(), self._spec.name).changed(is_paused=True))

    def resume(self) -> Progress:
        """Go on after a pause or a question; the time of the step starts again.

        Raises:
            ConfigurationError: no release is in progress.
        """
        release = _require_running(self.find(), self._spec.name)
        again = {"phase": "observing", "reason": "", "step_since": self._stamp()}
        return self._write(release.changed(is_paused=False, **again))

    def supersede(self, release: Release, reason: str) -> None:
        """Keep the record of a release whose deployment was replaced meanwhile.

        That it could not be kept is logged: what replaced it serves already.
        """
        try:
            if release.ended is None:
                self._archive.keep(release, self._decision("superseded", reason))
            else:
                self._archive.settle(release, None, by=self._by)
        except PipelineError as error:
            _log.warning("could not keep the record of the release %s: %s", release.id, error)

    def _take(self, release: Release, seen: Progress) -> Progress:
        """Take the step that follows from the evidence."""
        action = seen.action
        if isinstance(action, Expose):
            following = release.changed(
                phase="observing",
                step=action.step,
                step_since=self._stamp(),
                is_replayed=False,
                reason="",
            )
            self._traffic.expose(release, following)
            return replace(seen, release=following)
        if isinstance(action, Replay):
            self._watcher.replay(release)
            return replace(seen, release=self._write(release.changed(is_replayed=True)).release)
        if isinstance(action, Ask) and release.phase != "asking":
            asking = self._write(release.changed(phase="asking", reason=action.reason))
            return replace(seen, release=asking.release)
        if isinstance(action, Promote):
            return self._promote(release, action.reason)
        if isinstance(action, RollBack):
            return self._end(release, "rolled_back", action.reason)
        if isinstance(action, Finish):
            self._archive.settle(release, self._traffic.find(), by=self._by)
            self._traffic.finish(release)
            return Progress(None, action, decision=release.ended)
        return seen

    def _promote(self, release: Release, reason: str) -> Progress:
        decision = self._decision("promoted", reason)
        ended = release.changed(
            phase="kept" if release.plan.keep_seconds else "ended",
            ended=decision,
            is_paused=False,
            reason="",
            step_since=decision.time,
        )
        self._traffic.promote(release, ended)
        return self._settle_later(ended)

    def _end(self, release: Release, outcome: Outcome, reason: str) -> Progress:
        """Give all traffic to the stable version."""
        ended = release.changed(
            id=f"{release.id}{UNDONE}" if release.phase == "kept" else release.id,
            phase="ended",
            ended=self._decision(outcome, reason),
            is_paused=False,
            reason="",
        )
        self._traffic.restore(release, ended)
        return self._settle_later(ended)

    def _settle_later(self, ended: Release) -> Progress:
        """Write down how a release ended; if that is not possible now, the next step does."""
        try:
            return self._settle(ended)
        except PipelineError as error:
            _log.warning("the release has ended, and its record is not written yet: %s", error)
            return Progress(ended, decision=ended.ended)

    def _settle(self, release: Release) -> Progress:
        """Write down how a release ended, and take its state off the deployment.

        After a promotion the state stays as long as the former version is kept.

        Raises:
            UnavailableError: the object store did not take it; the next step tries again.
        """
        self._archive.settle(release, self._traffic.find(), by=self._by)
        if release.phase == "kept":
            return Progress(release, decision=release.ended)
        self._traffic.write(None)
        return Progress(None, decision=release.ended)

    def _write(self, release: Release) -> Progress:
        self._traffic.write(release)
        return Progress(release)

    def _decision(self, outcome: Outcome, reason: str) -> Decision:
        return Decision(outcome, reason[:MOST_REASON], self._by, self._stamp())

    def _stamp(self) -> str:
        return self._now().isoformat(timespec="seconds")


def _require_running(release: Release | None, model: str) -> Release:
    if release is None or release.ended is not None:
        raise _none(model)
    return release


def _none(model: str) -> ConfigurationError:
    return ConfigurationError(
        f"no release of {model} is in progress; run `mlops-pipeline release history {model}` to "
        "see how the last ones ended. Nothing was changed"
    )
