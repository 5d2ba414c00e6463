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
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from mlops_pipeline.clients.errors import DAMAGES
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.references import DatasetRef, ModelRef

COMPARED_WITH = "compared_with"
"""Fact of a judgement: the digest of the artifact that it was compared with; empty: with none."""
PLACE = "place"
"""Fact of a judgement: where the artifact is to serve, for one that is about that place alone."""
UNEVALUATED = "unevaluated"
"""Fact of a judgement: the artifact was published without a hold-out set, so nothing is known of
its quality."""
READABLE = "verdicts_can_be_read"
"""Stands as the name of a check where an entry of the log is damaged: what it said may have been a
refusal."""
_KEY_TIME = "%Y%m%dT%H%M%S.%fZ"
_FORMAT = 1
"""Of the entries. Kinds that this version does not know are passed over in newer ones alone."""
_READERS = 8
"""Entries that are read at once."""
_KEPT = 20_000
"""Entries that a process keeps, of all logs."""


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

    @property
    def is_unevaluated(self) -> bool:
        """Whether it failed only because there is no hold-out set."""
        return not self.passed and bool(self.facts.get(UNEVALUATED))

    def is_about(self, place: str) -> bool:
        """Return whether it says something of serving at the place."""
        return self.facts.get(PLACE, place) == place


AcceptanceKind = Literal["refused", "worse", "unevaluated"]


@dataclass(frozen=True)
class Acceptance:
    """A person has accepted a refused artifact, once."""

    kind: AcceptanceKind
    """By `--accept-refused`, by `--accept-worse` or by `--accept-unevaluated`."""
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
_TYPES: dict[str, type] = {
    "passed": bool,
    "although_refused": bool,
    "facts": dict,
    "checks": dict,
}
"""Fields of entries that are no text."""


@dataclass(frozen=True)
class Period:
    """A time in which an artifact served."""

    place: str
    since: str
    until: str | None
    """None: it serves, as far as the log knows."""
    although_refused: bool


State = Literal["unjudged", "passed", "refused", "unevaluated", "serving", "served"]


@dataclass(frozen=True)
class Standing:
    """What the log of one artifact or snapshot says of it, whatever the surroundings are now."""

    state: "State"
    """`unjudged`: a blocking check was never evaluated. `refused` stands before the others, then
    `unevaluated`: there is no hold-out set, and nothing else refuses it."""
    passed: bool
    """Whether it passed every blocking check, whether or not it served."""
    judged: Mapping[str, Judgement]
    """Check → its newest judgement."""
    refusals: tuple[Judgement, ...]
    """The newest judgements that failed, unless accepted as worse. A comparison with another
    artifact refuses only what never served by right at the place that the comparison is about."""
    accepted: tuple[Acceptance, ...]
    """The oldest first."""
    served: tuple[Period, ...]
    """The oldest first."""

    @property
    def is_unevaluated(self) -> bool:
        """Whether a check refuses it because it has no hold-out set, accepted or not."""
        return any(judgement.is_unevaluated for judgement in self.refusals)

    def served_by_right(self, place: str | None = None) -> tuple[Period, ...]:
        """Return the times in which it served without being refused, at the place or anywhere."""
        return _by_right(self.served, place)

    @property
    def refused_by(self) -> tuple[str, ...]:
        """The names of the checks that refuse it."""
        return tuple(judgement.check for judgement in self.refusals)

    @property
    def accepted_refusals(self) -> set[str]:
        """The checks that a person accepted with `--accept-refused` or `--accept-unevaluated`."""
        kept = (a for a in self.accepted if a.kind != "worse")
        return {check for acceptance in kept for check in acceptance.checks}

    @property
    def is_accepted_although_refused(self) -> bool:
        """Whether a person accepted it with `--accept-refused` or `--accept-unevaluated`."""
        return any(acceptance.kind != "worse" for acceptance in self.accepted)

    def describe(self) -> str:
        """Return the standing in a few words, for a table."""
        if not self.refusals:
            return self.state
        words = f"refused by {', '.join(self.refused_by)}"
        if self.state == "unevaluated":
            words = self.state
        if self.is_accepted_although_refused:
            words += " (accepted)"
        return words


def standing(
    entries: Iterable[Entry], *, required: Collection[str] = (), place: str | None = None
) -> Standing:
    """Return what the entries of one digest say of it.

    `required` names the blocking checks: without a judgement of each one it has not passed. With
    `place`, judgements that are about another place are passed over.
    """
    ordered = sorted(entries, key=lambda entry: entry.time)
    judged: dict[str, Judgement] = {}
    for entry in ordered:
        if isinstance(entry, Judgement) and (place is None or entry.is_about(place)):
            known = judged.get(entry.check)
            if not (known and known.is_comparison and entry.facts.get(COMPARED_WITH) == ""):
                judged[entry.check] = entry
    periods = _periods(ordered)
    refusals = tuple(
        judgement
        for judgement in judged.values()
        if not judgement.passed
        and not (judgement.is_comparison and _by_right(periods, judgement.facts.get(PLACE)))
        and not is_accepted_as_worse(judgement, ordered)
    )
    passed = bool(judged) and set(required) <= judged.keys() and not refusals
    return Standing(
        state=_state(refusals, periods, passed=passed),
        passed=passed,
        judged=judged,
        refusals=refusals,
        accepted=tuple(entry for entry in ordered if isinstance(entry, Acceptance)),
        served=periods,
    )


def is_accepted_as_worse(judgement: Judgement, entries: Iterable[Entry]) -> bool:
    """Return whether a person has accepted what this judgement says: it, and no later one.

    The artifact that starts to serve at that place uses the acceptance up.
    """
    later = [entry for entry in entries if entry.time > judgement.time]
    accepted = [
        entry.time
        for entry in later
        if isinstance(entry, Acceptance)
        and entry.kind == "worse"
        and judgement.check in entry.checks
    ]
    return bool(accepted) and not any(
        isinstance(entry, ServingStarted)
        and judgement.is_about(entry.place)
        and entry.time > max(accepted)
        for entry in later
    )


def is_accepted_unevaluated(judgement: Judgement, entries: Iterable[Entry]) -> bool:
    """Return whether a person has accepted that the artifact is unevaluated, once and for all."""
    return judgement.is_unevaluated and any(
        isinstance(entry, Acceptance) and entry.kind != "worse" and judgement.check in entry.checks
        for entry in entries
    )


def _state(refusals: Sequence[Judgement], periods: Sequence[Period], *, passed: bool) -> State:
    if refusals:
        return "unevaluated" if all(j.is_unevaluated for j in refusals) else "refused"
    if periods:
        return "serving" if any(period.until is None for period in periods) else "served"
    return "passed" if passed else "unjudged"


def _by_right(periods: Sequence[Period], place: str | None) -> tuple[Period, ...]:
    return tuple(p for p in periods if not p.although_refused and place in (None, p.place))


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
        self, store: Objects, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._now = now

    def append(self, ref: DatasetRef | ModelRef, entry: Entry) -> Entry:
        """Write an entry and return it with its time, which is after that of every earlier one.

        The clocks of two machines differ: an acceptance must not be older than what it accepts.

        Raises:
            UnavailableError: the object store did not take it.
        """
        moment = max([self._now(), *(_just_after(known) for known in self.entries(ref))])
        stamped = replace(entry, time=moment.isoformat(timespec="microseconds"))
        name = f"{moment.strftime(_KEY_TIME)}-{uuid.uuid4().hex[:8]}.json"
        kind = next(name for name, made in _KINDS.items() if isinstance(entry, made))
        self._store.put(
            _bucket(ref),
            f"{ref.name}/verdicts/{ref.digest}/{name}",
            json.dumps(
                {"entry": kind, "format": _FORMAT, **asdict(stamped)}, indent=2, sort_keys=True
            ).encode(),
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

    def standings(
        self, name: str, *, required: Collection[str] = (), place: str | None = None
    ) -> dict[str, Standing]:
        """Return digest → standing of every artifact of the model that the log knows."""
        return {
            digest: standing(entries, required=required, place=place)
            for digest, entries in self.of_model(name).items()
        }

    def _read(self, bucket: str, prefix: str) -> dict[str, list[Entry]]:
        """Read what this process has not read yet. An entry that changes gets another tag."""
        tags = sorted(self._store.etags(bucket, prefix).items())
        read = {named: _read_already[named] for named in tags if named in _read_already}
        if new := [named for named in tags if named not in read]:
            with ThreadPoolExecutor(_READERS) as readers:
                found = readers.map(lambda named: self._store.get(bucket, named[0]), new)
                for named, data in zip(new, found, strict=True):
                    read[named] = _parse(named[0], data)
            if len(_read_already) < _KEPT:
                _read_already.update(read)
        entries: dict[str, list[Entry]] = {}
        for named in tags:
            if (entry := read[named]) is not None:
                entries.setdefault(named[0].split("/")[2], []).append(entry)
        return entries


def _just_after(entry: Entry) -> datetime:
    """Return the next moment after an entry; the beginning of time if its own cannot be read."""
    if not entry.time:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(entry.time) + timedelta(microseconds=1)


_read_already: dict[tuple[str, str], Entry | None] = {}
"""(key, entity tag) → entry: the same key with the same content is the same entry in any store."""


def _bucket(ref: DatasetRef | ModelRef) -> str:
    return "datasets" if isinstance(ref, DatasetRef) else "models"


def _parse(key: str, data: bytes) -> Entry | None:
    """Read an entry; None for a kind that a newer version writes."""
    try:
        return _entry(json.loads(data))
    except DAMAGES as error:
        return Judgement(
            READABLE,
            passed=False,
            sentence=f"could not read the entry {key} of the object store: {error!r}",
            time=_time_in(key),
        )


def _entry(fields: Mapping[str, Any]) -> Entry | None:
    made = _KINDS.get(fields["entry"])
    if made is None and fields["format"] > _FORMAT:
        return None
    if made is None:
        raise ValueError(f"unknown type of entry {fields['entry']!r}")
    given = {name: fields[name] for name in made.__dataclass_fields__ if name in fields}
    for name, value in given.items():
        if not _is_typed(value, _TYPES.get(name, str)):
            raise ValueError(f"{name} has the wrong type: {value!r}")
    if made is Acceptance and given["kind"] not in get_args(AcceptanceKind):
        raise ValueError(f"unknown kind {given['kind']!r}")
    if datetime.fromisoformat(given["time"]).tzinfo is None:
        raise ValueError(f"the time {given['time']} has no time zone")
    return made(**given)


def _is_typed(value: Any, kind: type) -> bool:
    texts = value.values() if isinstance(value, dict) else ()
    return type(value) is kind and all(isinstance(text, str) for text in texts)


def _time_in(key: str) -> str:
    try:
        stamp = key.rpartition("/")[2].partition("-")[0]
        moment = datetime.strptime(stamp, _KEY_TIME).replace(tzinfo=UTC)
    except ValueError:
        return ""
    return moment.isoformat(timespec="microseconds")
