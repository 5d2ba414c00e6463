"""What was found out about an artifact or a snapshot, and where it served: never forgotten.

One append-only log per digest, in the bucket of what it is about, outside of the digest::

    models/<model>/verdicts/<digest>/<time>-<unique>.json
    datasets/<model>/verdicts/<digest>/<time>-<unique>.json

An entry is written once (`If-None-Match: *`) and never changed. `prune` keeps the log where the
artifact goes, so an artifact that comes back has the history that it had.
"""

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal

from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.references import DatasetRef, ModelRef

COMPARED_WITH = "compared_with"
"""Fact of a judgement: the digest of the artifact that it was compared with; empty: with none."""
READABLE = "verdicts_can_be_read"
"""Stands as the name of a check where an entry of the log is damaged: what it said may have been a
refusal."""
_KEY_TIME = "%Y%m%dT%H%M%S.%fZ"
_READERS = 8
"""Entries that are read at once."""


@dataclass(frozen=True)
class Judgement:
    """One evaluation of a blocking check."""

    check: str
    passed: bool
    sentence: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """What it was judged by besides the judged bytes: thresholds, the serving environment, the
    artifact it was compared with. The same check on other facts is another question."""
    by: str = ""
    """The command or Dagster run."""
    time: str = ""
    """UTC, ISO 8601 with microseconds; given by the log."""

    @property
    def is_comparison(self) -> bool:
        """Whether it says how the artifact is beside another one, not how it is."""
        return bool(self.facts.get(COMPARED_WITH))


@dataclass(frozen=True)
class Acceptance:
    """A person has accepted a refused artifact, once."""

    kind: Literal["refused", "worse"]
    """By `--accept-refused` or by `--accept-worse`."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """The failed checks that were accepted, with the sentence of each."""
    by: str = ""
    time: str = ""


@dataclass(frozen=True)
class ServingStarted:
    """The artifact was deployed at a place, and answered."""

    place: str
    """`<platform> <namespace>/<deployment>`"""
    although_refused: bool = False
    """It is deployed only because a person has accepted it although it is refused."""
    by: str = ""
    time: str = ""


@dataclass(frozen=True)
class ServingEnded:
    """The artifact was replaced at the place, or its deployment deleted."""

    place: str
    reason: str = ""
    by: str = ""
    time: str = ""


Entry = Judgement | Acceptance | ServingStarted | ServingEnded
_KINDS: dict[str, type[Entry]] = {
    "judgement": Judgement,
    "acceptance": Acceptance,
    "serving_started": ServingStarted,
    "serving_ended": ServingEnded,
}


@dataclass(frozen=True)
class Period:
    """A time in which an artifact served."""

    place: str
    since: str
    until: str | None
    """None: it serves, as far as the log knows."""
    although_refused: bool


@dataclass(frozen=True)
class Standing:
    """What the log of one artifact or snapshot says of it, whatever the surroundings are now."""

    state: Literal["unjudged", "passed", "refused", "serving", "served"]
    """`unjudged`: a blocking check was never evaluated. `refused` stands before the others."""
    judged: Mapping[str, Judgement]
    """Check → its newest judgement."""
    refusals: tuple[Judgement, ...]
    """The newest judgements that failed, unless accepted as worse. A comparison with another
    artifact refuses only what never served by right."""
    accepted: tuple[Acceptance, ...]
    """The oldest first."""
    served: tuple[Period, ...]
    """The oldest first."""

    @property
    def served_by_right(self) -> tuple[Period, ...]:
        """The times in which it served without being refused."""
        return tuple(period for period in self.served if not period.although_refused)

    @property
    def refused_by(self) -> tuple[str, ...]:
        """The names of the checks that refuse it."""
        return tuple(judgement.check for judgement in self.refusals)

    @property
    def is_accepted_although_refused(self) -> bool:
        """Whether a person deployed it with `--accept-refused`."""
        return any(acceptance.kind == "refused" for acceptance in self.accepted)

    def describe(self) -> str:
        """Return the standing in a few words, for a table."""
        if not self.refusals:
            return self.state
        words = f"refused by {', '.join(self.refused_by)}"
        if self.is_accepted_although_refused:
            words += " (accepted)"
        return words


def standing(entries: Iterable[Entry], *, required: Collection[str] = ()) -> Standing:
    """Return what the entries of one digest say of it.

    `required` names the blocking checks: without a judgement of each one it has not passed.
    """
    ordered = sorted(entries, key=lambda entry: entry.time)
    judged: dict[str, Judgement] = {}
    for entry in ordered:
        if isinstance(entry, Judgement):
            judged[entry.check] = entry
    accepted = tuple(entry for entry in ordered if isinstance(entry, Acceptance))
    periods = _periods(ordered)
    by_right = any(not period.although_refused for period in periods)
    refusals = tuple(
        judgement
        for judgement in judged.values()
        if not judgement.passed
        and not (judgement.is_comparison and by_right)
        and not is_accepted_as_worse(judgement, accepted)
    )
    return Standing(
        state=_state(judged, refusals, periods, required),
        judged=judged,
        refusals=refusals,
        accepted=accepted,
        served=periods,
    )


def is_accepted_as_worse(judgement: Judgement, accepted: Iterable[Acceptance]) -> bool:
    """Return whether a person has accepted what this judgement says: it, and no later one."""
    return any(
        acceptance.kind == "worse"
        and judgement.check in acceptance.checks
        and acceptance.time > judgement.time
        for acceptance in accepted
    )


def _state(
    judged: Mapping[str, Judgement],
    refusals: Sequence[Judgement],
    periods: Sequence[Period],
    required: Collection[str],
) -> Literal["unjudged", "passed", "refused", "serving", "served"]:
    if refusals:
        return "refused"
    if periods:
        return "serving" if any(period.until is None for period in periods) else "served"
    return "passed" if judged and set(required) <= judged.keys() else "unjudged"


def _periods(ordered: Sequence[Entry]) -> tuple[Period, ...]:
    periods: list[Period] = []
    for entry in ordered:
        if isinstance(entry, ServingStarted):
            _close(periods, entry.place, entry.time)
            periods.append(Period(entry.place, entry.time, None, entry.although_refused))
        elif isinstance(entry, ServingEnded):
            _close(periods, entry.place, entry.time)
    return tuple(periods)


def _close(periods: list[Period], place: str, time: str) -> None:
    for number, period in enumerate(periods):
        if period.place == place and period.until is None:
            periods[number] = replace(period, until=time)


class VerdictLog:
    """The logs in the object store."""

    def __init__(
        self, store: Objects, *, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        self._store = store
        self._now = now

    def append(self, ref: DatasetRef | ModelRef, entry: Entry) -> Entry:
        """Write an entry and return it with its time.

        Raises:
            UnavailableError: the object store did not take it.
        """
        moment = self._now()
        stamped = replace(entry, time=moment.isoformat(timespec="microseconds"))
        name = f"{moment.strftime(_KEY_TIME)}-{uuid.uuid4().hex[:8]}.json"
        kind = next(name for name, made in _KINDS.items() if isinstance(entry, made))
        self._store.put(
            _bucket(ref),
            f"{ref.name}/verdicts/{ref.digest}/{name}",
            json.dumps({"entry": kind, **asdict(stamped)}, indent=2, sort_keys=True).encode(),
            if_absent=True,
        )
        return stamped

    def entries(self, ref: DatasetRef | ModelRef) -> list[Entry]:
        """Return the entries of one digest, the oldest first."""
        prefix = f"{ref.name}/verdicts/{ref.digest}/"
        return self._read(_bucket(ref), prefix).get(ref.digest, [])

    def of_model(self, name: str) -> dict[str, list[Entry]]:
        """Return digest → entries of every artifact of the model, pruned ones too."""
        return self._read("models", f"{name}/verdicts/")

    def standings(self, name: str, *, required: Collection[str] = ()) -> dict[str, Standing]:
        """Return digest → standing of every artifact of the model that the log knows."""
        return {
            digest: standing(entries, required=required)
            for digest, entries in self.of_model(name).items()
        }

    def _read(self, bucket: str, prefix: str) -> dict[str, list[Entry]]:
        keys = sorted(self._store.sizes(bucket, prefix))
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(lambda key: _parse(key, self._store.get(bucket, key)), keys)
            entries: dict[str, list[Entry]] = {}
            for key, entry in zip(keys, found, strict=True):
                if entry is not None:
                    entries.setdefault(key.split("/")[2], []).append(entry)
        return entries


def _bucket(ref: DatasetRef | ModelRef) -> str:
    return "datasets" if isinstance(ref, DatasetRef) else "models"


def _parse(key: str, data: bytes) -> Entry | None:
    """Read an entry; None for a kind that a newer version writes."""
    try:
        fields: dict[str, Any] = json.loads(data)
        made = _KINDS.get(fields["entry"])
        if made is None:
            return None
        known = made.__dataclass_fields__.keys()
        return made(**{name: value for name, value in fields.items() if name in known})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Judgement(
            READABLE,
            passed=False,
            sentence=f"the entry {key} of the object store cannot be read: {error!r}",
            time=_time_in(key),
        )


def _time_in(key: str) -> str:
    try:
        stamp = key.rpartition("/")[2].partition("-")[0]
        moment = datetime.strptime(stamp, _KEY_TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return moment.isoformat(timespec="microseconds")
