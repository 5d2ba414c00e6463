"""Who judges artifacts and snapshots, and remembers each verdict where they are stored.

Dagster shows copies of these verdicts. What is refused is decided by the log in the object store:
it is the same in every run, in every instance and in the command line.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_pipeline.clients.errors import (
    CommandError,
    IntegrityError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.temporary import without_temporary
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.artifacts import artifact_store
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.verdicts import (
    COMPARED_WITH,
    READABLE,
    Acceptance,
    AcceptanceKind,
    Entry,
    Judgement,
    VerdictLog,
    is_accepted_as_worse,
    is_accepted_unevaluated,
)
from mlops_pipeline.platforms.platform import Platform

Facts = Mapping[str, str]
_VERDICTS = (CommandError, IntegrityError, NotFoundError)
"""Errors that say something of what is judged: its trial failed, it was changed, it is not there.
Whoever raises one for another reason turns it into an UnavailableError first."""


@dataclass(frozen=True)
class Verdict:
    """Whether a proposition holds, why, and what was seen."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Criterion:
    """What must hold of a snapshot or an artifact before anything is built on it."""

    name: str
    """A proposition, the name of its check."""
    description: str
    facts: "Callable[[Judge, Any], Facts]"
    """What decides beside the bytes of what is judged, looked up without a trial: thresholds, the
    serving environment, the artifact to compare with."""
    decide: "Callable[[Judge, Any], Verdict]"


@dataclass(frozen=True)
class Unmet:
    """A criterion that does not let pass."""

    criterion: str
    refused: bool
    """False: it was not evaluated on what decides now."""
    sentence: str
    is_unevaluated: bool = False
    """Whether it refuses only because the artifact has no hold-out set."""

    def describe(self) -> str:
        """Return the criterion and why it does not let pass."""
        why = f"failed ({self.sentence})" if self.refused else self.sentence
        return f"{self.criterion} {why}"


class Judge:
    """Evaluates criteria on a platform, keeps the verdicts, and knows those of before."""

    def __init__(self, platform: Platform, *, by: str) -> None:
        """`by` is the command or the Dagster run that asks."""
        store = platform.object_store()
        self.platform = platform
        self.by = by
        self.artifacts = artifact_store(platform)
        self.datasets = DatasetStore(store)
        self.log = VerdictLog(store)

    def sign_older(self) -> None:
        """Sign what existed before artifacts were signed; see `adopt`.

        Raises:
            PipelineError: the key cannot be used, or the object store did not answer.
        """
        adopt(self.platform)

    def evaluate(
        self,
        criterion: Criterion,
        ref: DatasetRef | ModelRef,
        *,
        accepts_worse: bool = False,
        accepts_unevaluated: bool = False,
    ) -> Verdict:
        """Decide, and write the verdict down where it is news.

        With `accepts_worse` a failed comparison with another artifact passes, once. With
        `accepts_unevaluated` an artifact without a hold-out set passes, from now on.

        Raises:
            PipelineError: it could not be evaluated here and now (a store that does not answer, a
                full disk, a missing image); that is no verdict.
        """
        facts: Facts = {}
        try:
            facts = criterion.facts(self, ref)
            verdict = criterion.decide(self, ref)
        except _VERDICTS as error:
            verdict = Verdict(passed=False, description=without_temporary(str(error)))
        judgement = Judgement(
            criterion.name, verdict.passed, verdict.description, dict(facts), self.by
        )
        self._remember(ref, judgement)
        if judgement.is_unevaluated and (accepts_unevaluated or self._is_accepted(judgement, ref)):
            return self._accept("unevaluated", ref, judgement, verdict)
        if accepts_worse and not verdict.passed and judgement.is_comparison:
            return self._accept("worse", ref, judgement, verdict)
        return verdict

    def _is_accepted(self, judgement: Judgement, ref: DatasetRef | ModelRef) -> bool:
        return is_accepted_unevaluated(judgement, self.log.entries(ref))

    def _accept(
        self,
        kind: AcceptanceKind,
        ref: DatasetRef | ModelRef,
        judgement: Judgement,
        verdict: Verdict,
    ) -> Verdict:
        """Write down that a person accepts what failed, and return that it passes."""
        if kind == "worse" or not self._is_accepted(judgement, ref):
            accepted = {judgement.check: verdict.description}
            self.log.append(ref, Acceptance(kind, accepted, self.by))
        how = "once" if kind == "worse" else "from now on"
        return Verdict(
            passed=True,
            description=f"{verdict.description}; accepted {how} by --accept-{kind}",
            metadata={**verdict.metadata, "accepted": True},
        )

    def find_unmet(
        self, criteria: Sequence[Criterion], ref: DatasetRef | ModelRef
    ) -> tuple[Unmet, ...]:
        """Return what keeps from building on `ref` now, by the newest verdict of each criterion.

        A verdict counts on the facts that it was given on. Evaluates nothing.

        Raises:
            UnavailableError: the object store did not answer.
        """
        entries = self.log.entries(ref)
        found = (self._unmet(criterion, ref, entries) for criterion in criteria)
        return (*_damaged(entries), *(unmet for unmet in found if unmet is not None))

    def judge_anew(
        self, criteria: Sequence[Criterion], ref: DatasetRef | ModelRef
    ) -> tuple[Unmet, ...]:
        """Return what refuses `ref`, evaluating what was never evaluated on the facts of now."""
        unmet = self.find_unmet(criteria, ref)
        unknown = {u.criterion for u in unmet if not u.refused}
        for criterion in criteria:
            if criterion.name in unknown:
                self.evaluate(criterion, ref)
        return self.find_unmet(criteria, ref) if unknown else unmet

    def _unmet(
        self, criterion: Criterion, ref: DatasetRef | ModelRef, entries: Sequence[Entry]
    ) -> Unmet | None:
        try:
            facts = criterion.facts(self, ref)
        except UnavailableError:
            raise
        except PipelineError as error:
            return Unmet(criterion.name, refused=False, sentence=f"cannot be evaluated: {error}")
        if facts.get(COMPARED_WITH) == "":
            return None
        judgement = _newest(entries, criterion.name, facts)
        if judgement is None:
            return Unmet(criterion.name, refused=False, sentence=_shown(ref, facts))
        if judgement.passed or is_accepted_as_worse(judgement, entries):
            return None
        if is_accepted_unevaluated(judgement, entries):
            return None
        return Unmet(
            criterion.name,
            refused=True,
            sentence=judgement.sentence,
            is_unevaluated=judgement.is_unevaluated,
        )

    def _remember(self, ref: DatasetRef | ModelRef, judgement: Judgement) -> None:
        """Write a judgement down, unless the last word on its check says the same."""
        said = [entry for entry in self.log.entries(ref) if _is_on(entry, judgement.check)]
        if said and isinstance(last := said[-1], Judgement) and _same(last, judgement):
            return
        self.log.append(ref, judgement)


def _is_on(entry: Entry, check: str) -> bool:
    if isinstance(entry, Acceptance):
        return check in entry.checks
    return isinstance(entry, Judgement) and entry.check == check


def _same(one: Judgement, other: Judgement) -> bool:
    return (one.passed, one.sentence, one.facts) == (other.passed, other.sentence, other.facts)


def _newest(entries: Sequence[Entry], check: str, facts: Facts) -> Judgement | None:
    judgements = (e for e in reversed(entries) if isinstance(e, Judgement) and e.check == check)
    return next((judgement for judgement in judgements if judgement.facts == facts), None)


def _damaged(entries: Iterable[Entry]) -> list[Unmet]:
    return [
        Unmet(READABLE, refused=True, sentence=entry.sentence)
        for entry in entries
        if isinstance(entry, Judgement) and entry.check == READABLE
    ]


def _shown(ref: DatasetRef | ModelRef, facts: Facts) -> str:
    known = ", ".join(f"{name} {value[:16]}" for name, value in facts.items() if value)
    return f"was not evaluated on {ref.digest[:12]}" + (f" with {known}" if known else "")
