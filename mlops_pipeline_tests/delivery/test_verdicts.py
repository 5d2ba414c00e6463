"""What is once found out about an artifact stays known, and says how it stands."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.delivery.artifacts import ArtifactStore, ref_to
from mlops_pipeline.delivery.references import DatasetRef
from mlops_pipeline.delivery.verdicts import (
    COMPARED_WITH,
    READABLE,
    Acceptance,
    Entry,
    Judgement,
    ServingEnded,
    ServingStarted,
    VerdictLog,
    is_accepted_as_worse,
    standing,
)
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore

REF = ref_to("toy", "a" * 64)
PLACE = "embedded seldon/toy-model"
GOOD = Judgement("accuracy", passed=True, sentence="accuracy 0.97")
BAD = Judgement("accuracy", passed=False, sentence="accuracy 0.36")
WORSE = Judgement("not_worse", passed=False, sentence="10 rows lost", facts={COMPARED_WITH: "b"})


class Clock:
    """Goes on by a minute each time it is asked."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time


@pytest.fixture
def store() -> FakeObjectStore:
    return FakeObjectStore()


@pytest.fixture
def log(store: FakeObjectStore) -> VerdictLog:
    return VerdictLog(store, now=Clock())


def _after(log: VerdictLog, *entries: Entry) -> list[Entry]:
    for entry in entries:
        log.append(REF, entry)
    return log.entries(REF)


def test_entries_come_back_in_the_order_of_their_times(
    log: VerdictLog, store: FakeObjectStore
) -> None:
    entries: list[Entry] = [
        GOOD,
        ServingStarted(PLACE, by="up"),
        Acceptance("worse", {"not_worse": "10 rows lost"}, by="up --accept-worse"),
        ServingEnded(PLACE, "replaced"),
    ]
    written = [log.append(REF, entry) for entry in entries]
    assert log.entries(REF) == written
    assert [e.time for e in written] == [
        f"2026-03-01T12:0{minute}:00.000000+00:00" for minute in (1, 2, 3, 4)
    ]
    keys = [key for _, key in store.objects]
    assert keys[0].startswith(f"toy/verdicts/{'a' * 64}/20260301T120100.000000Z-")
    assert log.of_model("toy") == {REF.digest: written}


def test_verdicts_on_a_dataset_lie_with_the_datasets(
    log: VerdictLog, store: FakeObjectStore
) -> None:
    snapshot = DatasetRef("toy", f"s3://datasets/toy/{'c' * 64}", "c" * 64)
    log.append(snapshot, BAD)
    assert [bucket for bucket, _ in store.objects] == ["datasets"]
    assert standing(log.entries(snapshot)).refused_by == ("accuracy",)
    assert log.of_model("toy") == {}


def test_the_log_is_not_an_artifact_and_outlives_it(
    log: VerdictLog, store: FakeObjectStore
) -> None:
    log.append(REF, BAD)
    artifacts = ArtifactStore(store)
    assert artifacts.list("toy") == []
    artifacts.delete(REF)
    assert log.standings("toy")[REF.digest].state == "refused"


def test_an_artifact_stands_as_its_newest_judgements_say(log: VerdictLog) -> None:
    assert standing([]).state == "unjudged"
    assert standing(_after(log, GOOD), required=["accuracy"]).state == "passed"
    assert standing(log.entries(REF), required=["accuracy", "other"]).state == "unjudged"
    refused = standing(_after(log, BAD))
    assert (refused.state, refused.describe()) == ("refused", "refused by accuracy")
    assert [j.sentence for j in refused.refusals] == ["accuracy 0.36"]
    assert standing(_after(log, GOOD)).state == "passed"


def test_it_served_from_when_to_when(log: VerdictLog) -> None:
    serving = standing(_after(log, GOOD, ServingStarted(PLACE)))
    assert (serving.state, serving.served[0].until) == ("serving", None)
    other = "kind seldon/toy-model"
    served = standing(_after(log, ServingStarted(other), ServingEnded(PLACE), ServingEnded(other)))
    assert served.state == "served"
    assert [(p.place, p.since[11:16], (p.until or "")[11:16]) for p in served.served] == [
        (PLACE, "12:02", "12:04"),
        (other, "12:03", "12:05"),
    ]


def test_a_comparison_refuses_only_what_never_served_by_right(log: VerdictLog) -> None:
    assert standing(_after(log, GOOD, WORSE)).refused_by == ("not_worse",)
    by_force = standing(_after(log, ServingStarted(PLACE, although_refused=True)))
    assert (by_force.state, by_force.served_by_right(PLACE)) == ("refused", ())
    assert standing(_after(log, ServingStarted(PLACE))).state == "serving"
    assert standing(_after(log, BAD)).refused_by == ("accuracy",)


def test_a_worse_one_is_accepted_once(log: VerdictLog) -> None:
    accepted = Acceptance("worse", {"not_worse": "10 rows lost"})
    assert standing(_after(log, GOOD, WORSE, accepted)).state == "passed"
    assert standing(_after(log, WORSE)).state == "refused"


def test_an_acceptance_is_used_up_by_the_artifact_that_serves_by_it(log: VerdictLog) -> None:
    here = replace(WORSE, facts={**WORSE.facts, "place": PLACE})
    accepted = Acceptance("worse", {"not_worse": "10 rows lost"})
    elsewhere = "embedded seldon/another"
    assert is_accepted_as_worse(*_last_and_all(_after(log, here, accepted), here))
    assert is_accepted_as_worse(*_last_and_all(_after(log, ServingStarted(elsewhere)), here))
    assert not is_accepted_as_worse(*_last_and_all(_after(log, ServingStarted(PLACE)), here))
    assert is_accepted_as_worse(*_last_and_all(_after(log, accepted), here))


def _last_and_all(entries: list[Entry], like: Judgement) -> tuple[Judgement, list[Entry]]:
    judged = [e for e in entries if isinstance(e, Judgement) and e.check == like.check]
    return judged[-1], entries


def test_a_comparison_refuses_at_the_place_that_it_is_about(log: VerdictLog) -> None:
    here = replace(WORSE, facts={**WORSE.facts, "place": PLACE})
    elsewhere = "embedded seldon/scratch"
    entries = _after(log, GOOD, here, ServingStarted(elsewhere))
    assert standing(entries, place=PLACE).refused_by == ("not_worse",)
    assert standing(entries, place=elsewhere).state == "serving"
    assert standing(_after(log, ServingStarted(PLACE)), place=PLACE).refused_by == ()


def test_a_verdict_without_a_reference_replaces_none_with_one(log: VerdictLog) -> None:
    alone = replace(WORSE, passed=True, sentence="no other", facts={COMPARED_WITH: ""})
    assert standing(_after(log, alone, WORSE, alone)).refused_by == ("not_worse",)
    better = replace(WORSE, passed=True, facts={COMPARED_WITH: "c"})
    assert standing(_after(log, better)).passed


def test_one_that_passes_after_it_was_accepted_has_passed(log: VerdictLog) -> None:
    entries = _after(log, BAD, ServingStarted(PLACE, although_refused=True), GOOD)
    stands = standing(entries, required=["accuracy"])
    assert (stands.state, stands.passed) == ("serving", True)
    assert not standing(entries, required=["accuracy", "other"]).passed


def test_an_unreadable_log_is_not_an_empty_log(log: VerdictLog, store: FakeObjectStore) -> None:
    log.append(REF, GOOD)
    for silent in ("get", "sizes"):
        store.silent = {silent}
        with pytest.raises(UnavailableError):
            VerdictLog(store).entries(REF)
        with pytest.raises(UnavailableError):
            VerdictLog(store).standings("toy")


def test_an_entry_is_read_once(log: VerdictLog, store: FakeObjectStore) -> None:
    log.append(REF, GOOD)
    assert log.entries(REF)
    store.silent = {"get"}
    assert log.standings("toy")[REF.digest].passed


def test_a_refused_one_that_was_accepted_stays_marked(log: VerdictLog) -> None:
    accepted = Acceptance("refused", {"accuracy": "accuracy 0.36"}, by="rollback")
    marked = standing(_after(log, BAD, accepted))
    assert marked.state == "refused"
    assert marked.describe() == "refused by accuracy (accepted)"


def test_a_damaged_entry_refuses(log: VerdictLog, store: FakeObjectStore) -> None:
    log.append(REF, GOOD)
    (place,) = store.objects
    store.objects[place] = store.objects[place][:20]
    refused = standing(log.entries(REF))
    assert refused.refused_by == (READABLE,)
    assert place[1] in refused.refusals[0].sentence


def test_what_a_newer_version_writes_is_passed_over(
    log: VerdictLog, store: FakeObjectStore
) -> None:
    log.append(REF, BAD)
    ((bucket, key),) = store.objects
    fields = json.loads(store.objects[bucket, key])
    store.objects[bucket, key] = json.dumps({**fields, "severity": "high"}).encode()
    store.objects[bucket, key + "2"] = json.dumps({"entry": "release", "format": 2}).encode()
    assert standing(log.entries(REF)).refused_by == ("accuracy",)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        (GOOD, {"passed": "false"}),
        (GOOD, {"passed": 1}),
        (GOOD, {"facts": None}),
        (GOOD, {"facts": {"compared_with": 5}}),
        (GOOD, {"time": 5}),
        (GOOD, {"time": ""}),
        (GOOD, {"sentence": None}),
        (GOOD, {"entry": "judgment"}),
        (GOOD, {"entry": "judgment", "format": "2"}),
        (GOOD, {"entry": ["judgement"]}),
        (Acceptance("worse", {"accuracy": ""}), {"checks": ["accuracy"]}),
        (Acceptance("worse", {"accuracy": ""}), {"kind": "both"}),
        (ServingStarted(PLACE), {"although_refused": "no"}),
        (ServingEnded(PLACE), {"place": None}),
        (ServingEnded(PLACE), {"time": "2024-01-01T00:00:00"}),
    ],
)
def test_an_entry_with_a_field_of_another_type_refuses(
    log: VerdictLog, store: FakeObjectStore, entry: Entry, change: dict[str, Any]
) -> None:
    log.append(REF, entry)
    ((place, data),) = store.objects.items()
    store.objects[place] = json.dumps({**json.loads(data), **change}).encode()
    assert standing(log.entries(REF)).refused_by == (READABLE,)


@pytest.mark.parametrize("text", ["", "[]", "null", "5", "[" * 100_000])
def test_an_invalid_entry_refuses(log: VerdictLog, store: FakeObjectStore, text: str) -> None:
    log.append(REF, GOOD)
    (place,) = store.objects
    store.objects[place] = text.encode()
    assert standing(log.entries(REF)).refused_by == (READABLE,)


def test_a_verdict_that_cannot_be_written_is_not_passed_over() -> None:
    with pytest.raises(UnavailableError):
        VerdictLog(FakeObjectStore(fail_after=0)).append(REF, BAD)


def test_an_entry_is_newer_than_every_earlier_one(store: FakeObjectStore) -> None:
    """The machine that judged is five minutes ahead of the one on which a person accepts."""
    ahead = VerdictLog(store, now=lambda: datetime(2026, 3, 1, 12, 5, tzinfo=UTC))
    judged = ahead.append(REF, WORSE)
    behind = VerdictLog(store, now=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    accepted = behind.append(REF, Acceptance("worse", {"not_worse": "10 rows lost"}))
    assert accepted.time > judged.time
    assert is_accepted_as_worse(*_last_and_all(behind.entries(REF), WORSE))
    assert behind.append(REF, ServingStarted(PLACE)).time > accepted.time
    assert [type(entry) for entry in behind.entries(REF)] == [Judgement, Acceptance, ServingStarted]
