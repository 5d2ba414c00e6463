"""What servers have counted since the last look is added, once, to the version that it is of."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.clients.errors import IntegrityError
from mlops_pipeline.delivery.releases.evidence import (
    MOST_BYTES,
    MOST_LOOKS,
    Calibration,
    Evidence,
    Look,
    Seen,
    Tally,
    accumulate,
    parse_evidence,
    thinned,
    to_json,
)
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts
from mlops_pipeline_tests.delivery.releases.made import (
    START,
    clean,
    evidence,
    later,
    predictor,
    release,
    server,
    step,
)


def _look(
    known: Evidence,
    at: float,
    candidate: Iterable[ServerCounts],
    stable: Iterable[ServerCounts],
    *,
    of: Release | None = None,
    lost: tuple[int | None, int | None] = (0, 0),
) -> Evidence:
    counts = (
        predictor("iris-candidate", *candidate, lost=lost[0]),
        predictor("iris", *stable, lost=lost[1]),
    )
    return _accumulate(known, counts, at, of or release())


def _accumulate(
    known: Evidence, counts: tuple[PredictorCounts, ...], at: float, of: Release
) -> Evidence:
    return accumulate(
        known,
        counts,
        release=of,
        candidate_predictor="iris-candidate",
        stable_predictor="iris",
        now=later(at),
    )


def _first(candidate: ServerCounts, stable: ServerCounts, **more: Any) -> Evidence:
    return _look(Evidence(""), 0, [candidate], [stable], **more)


def test_the_first_look_counts_nothing() -> None:
    known = _first(server("c", 12, 3), server("s", 1000, 20), lost=(4, 5))
    assert known.release == release().id
    assert known.steps[0].live == {"errors": Tally()}
    assert (known.steps[0].step, known.steps[0].share) == (0, 5)


def test_later_looks_count_the_difference_and_what_was_lost() -> None:
    known = _first(server("c", 12, 3), server("s", 1000, 20), lost=(4, 5))
    known = _look(known, 5, [server("c", 32, 4)], [server("s", 1400, 22)], lost=(6, 6))
    assert known.steps[0].live["errors"] == Tally(2, 20 + 2, 2, 400 + 2)
    again = _look(known, 9, [server("c", 32, 4)], [server("s", 1400, 22)], lost=(6, 6))
    assert again.steps[0].live == known.steps[0].live


def test_a_server_that_started_again_counts_from_zero() -> None:
    known = _first(server("c", 50, 5), server("s", 0))
    again = server("c", 60, 2, started=later(3).timestamp())
    assert _look(known, 5, [again], []).steps[0].live["errors"] == Tally(2, 60 + 2, 0, 0)


def test_counts_that_fall_are_those_of_another_process() -> None:
    known = _first(server("c", 50, 5), server("s", 0))
    assert _look(known, 5, [server("c", 7, 1)], []).steps[0].live["errors"] == Tally(1, 7 + 1, 0, 0)


def test_a_corrected_clock_does_not_start_a_server_again() -> None:
    known = _first(server("c", 50), server("s", 0))
    moved = replace(server("c", 55), started=server("c", 0).started + 0.4)
    assert _look(known, 5, [moved], []).steps[0].live["errors"].candidate_answers == 5


def test_a_new_server_counts_from_zero_and_a_gone_one_keeps_what_it_counted() -> None:
    known = _first(server("c1", 10), server("s", 0))
    known = _look(known, 5, [server("c1", 30)], [server("s", 0)])
    new = server("c2", 8, started=later(6).timestamp())
    known = _look(known, 10, [new], [server("s", 0)])
    assert known.steps[0].live["errors"].candidate_answers == 20 + 8
    known = _look(known, 15, [server("c1", 35), replace(new, answered=9)], [server("s", 0)])
    assert known.steps[0].live["errors"].candidate_answers == 28 + 5 + 1


def test_a_server_that_was_not_seen_at_first_counts_from_now_on() -> None:
    known = _first(server("c", 0), server("s1", 0))
    known = _look(known, 5, [], [server("s1", 0), server("s2", 90_000)])
    assert known.steps[0].live["errors"].stable_answers == 0
    known = _look(known, 9, [], [server("s1", 0), server("s2", 90_007)])
    assert known.steps[0].live["errors"].stable_answers == 7


def test_a_process_with_a_new_name_counts_on() -> None:
    known = _first(server("c", 0), server("iris-0", 1000))
    known = _look(known, 5, [], [server("iris-former-0", 1040)])
    assert known.steps[0].live["errors"].stable_answers == 40


def test_replicas_that_started_at_the_same_time_are_not_confused() -> None:
    since = later(1).timestamp()
    known = _first(server("c1", 10, started=since), server("s", 0))
    both = [server("c1", 15, started=since), server("c2", 30, started=since)]
    assert _look(known, 5, both, []).steps[0].live["errors"].candidate_answers == 5 + 30


def test_lost_requests_that_go_down_count_from_zero() -> None:
    known = _first(server("c", 0), server("s", 0), lost=(40, 7))
    known = _look(known, 5, [], [], lost=(3, 7))
    assert known.steps[0].live["errors"] == Tally(3, 3, 0, 0)


def test_a_gateway_that_does_not_tell_what_it_lost_counts_as_before() -> None:
    known = _first(server("c", 0), server("s", 0), lost=(4, None))
    known = _look(known, 5, [], [], lost=(None, 9))
    assert known.steps[0].live["errors"] == Tally()
    assert _look(known, 9, [], [], lost=(5, 11)).steps[0].live["errors"] == Tally(1, 1, 2, 2)


def test_a_predictor_that_nobody_counted_adds_nothing() -> None:
    known = _first(server("c", 5), server("s", 9))
    assert _accumulate(known, (), 5, release()).steps[0].live["errors"] == Tally()


def test_a_new_step_has_evidence_of_its_own() -> None:
    known = _look(_first(server("c", 0), server("s", 0)), 5, [server("c", 10)], [])
    second = release(step=1, step_since=later(6).isoformat())
    known = _look(known, 9, [server("c", 25)], [], of=second)
    assert [(s.step, s.share) for s in known.steps] == [(0, 5), (1, 25)]
    assert [s.live["errors"].candidate_answers for s in known.steps] == [10, 15]


def test_the_time_after_a_promotion_has_evidence_of_its_own() -> None:
    plan = ReleaseSpec("blue_green")
    known = _first(server("c", 0), server("s", 0), of=release(plan))
    known = _look(known, 5, [server("c", 9)], [], of=release(plan, phase="kept"))
    assert [(s.step, s.share) for s in known.steps] == [(0, 100), (1, 100)]


def test_evidence_of_another_release_is_dropped() -> None:
    known = replace(evidence(step(live=clean(99))), release="an earlier one")
    assert _look(known, 5, [server("c", 9)], []).steps[0].live == {"errors": Tally()}


# Slowness


def _slowness(known: Evidence) -> Tally | None:
    return known.steps[0].live.get("slow")


def test_the_limit_of_slowness_is_frozen_after_100_answers_and_then_counts() -> None:
    known = _first(server("c", 0), server("s", 0))
    known = _look(known, 11, [server("c", 1)], [server("s", 30)])
    known = _look(known, 12, [server("c", 2)], [server("s", 129, slow=(9, 3, 0, 0, 0))])
    assert known.steps[0].slow_over is None
    known = _look(known, 13, [server("c", 3)], [server("s", 131, slow=(9, 3, 0, 0, 0))])
    assert known.steps[0].slow_over == 0.05
    assert known.steps[0].calibration.answered == 101
    assert _slowness(known) is None
    known = _look(
        known,
        14,
        [server("c", 23, slow=(20, 19, 18, 0, 0))],
        [server("s", 181, slow=(15, 4, 1, 0, 0))],
    )
    assert _slowness(known) == Tally(18, 20, 1, 50)
    assert known.steps[0].slow_over == 0.05


def test_the_percentile_is_interpolated_and_doubled() -> None:
    """10 % take longer than 10 ms and 1 % longer than 25 ms: the percentile is 18.3 ms."""
    known = _look(_first(server("c", 0), server("s", 0)), 11, [], [server("s", 0)])
    known = _look(known, 12, [], [server("s", 1000, slow=(100, 10, 0, 0, 0))])
    assert known.steps[0].slow_over == 0.05
    known = _look(_first(server("c", 0), server("s", 0)), 11, [], [server("s", 0)])
    known = _look(known, 12, [], [server("s", 1000, slow=(49, 10, 0, 0, 0))])
    assert known.steps[0].slow_over == 0.025


@pytest.mark.parametrize(
    ("slow", "over"), [((100, 100, 100, 100, 2), 0.25), ((100, 100, 100, 100, 50), None)]
)
def test_a_slow_model_uses_the_largest_limit_that_shows_it(
    slow: tuple[int, ...], over: float | None
) -> None:
    known = _look(_first(server("c", 0), server("s", 0)), 11, [], [server("s", 0)])
    known = _look(known, 12, [], [server("s", 100, slow=slow)])
    assert known.steps[0].slow_over == over


def test_the_first_seconds_of_a_step_and_of_a_server_are_not_slow() -> None:
    known = evidence(replace(step(share=5), slow_over=0.05))
    start = later(20).timestamp()
    known = _look(known, 9, [server("c", 0)], [server("s", 0)])
    known = _look(known, 11, [server("c", 5, slow=(5, 5, 5, 5, 5))], [server("s", 5)])
    assert _slowness(known) == Tally()
    young = server("c2", 7, slow=(7, 7, 7, 7, 7), started=start)
    known = _look(known, 25, [young], [server("s", 9)])
    assert _slowness(known) == Tally(0, 0, 0, 4)
    known = _look(known, 31, [replace(young, answered=8)], [server("s", 9)])
    known = _look(known, 32, [replace(young, answered=10)], [server("s", 9)])
    assert _slowness(known) == Tally(0, 2, 0, 4)


def test_servers_with_other_limits_do_not_count_for_slowness() -> None:
    known = evidence(replace(step(share=5), slow_over=0.05))
    other = replace(server("c", 0), slower={"0.3": 0})
    known = _look(known, 11, [other], [server("s", 0)])
    known = _look(known, 12, [replace(other, answered=5)], [server("s", 4)])
    assert _slowness(known) == Tally(0, 0, 0, 4)
    assert known.steps[0].live["errors"].candidate_answers == 5


def test_a_server_that_is_still_loading_does_not_hide_the_others() -> None:
    known = evidence(replace(step(share=5), slow_over=0.05))
    loading = replace(server("c2", 0), slower={})
    known = _look(known, 11, [server("c", 0), loading], [server("s", 0)])
    slow = server("c", 5, slow=(5, 5, 5, 0, 0))
    known = _look(known, 12, [slow, loading], [server("s", 4)])
    assert _slowness(known) == Tally(5, 5, 0, 4)


def test_a_candidate_with_all_traffic_is_compared_with_the_time_before() -> None:
    plan = ReleaseSpec("blue_green")
    stable = server("s", 5000, slow=(100, 10, 0, 0, 0))
    known = _first(server("c", 0), stable, of=release(plan))
    assert known.steps[0].slow_over == 0.025
    kept = release(plan, phase="kept", step_since=later(60).isoformat())
    assert _look(known, 61, [], [], of=kept).steps[1].slow_over == 0.025


def test_a_stable_version_that_answered_too_little_sets_no_limit() -> None:
    known = _first(server("c", 0), server("s", 99), of=release(ReleaseSpec("blue_green")))
    assert known.steps[0].slow_over is None


# JSON


def test_evidence_survives_its_json() -> None:
    known = _look(_first(server("c", 1), server("s", 2)), 5, [server("c", 9, 1)], [server("s", 7)])
    full = replace(step(replayed=clean(45)), slow_over=0.1, calibration=Calibration(3, {"0.1": 1}))
    look = Look(START.isoformat(), 5, 8, {"errors": 1.5, "slow": 1e300})
    known = replace(known, steps=(*known.steps, full), looks=(look,))
    assert parse_evidence(to_json(known), where="here") == known


def _full(looks: int) -> Evidence:
    name = "iris-model-iris-candidate-0-classifier-7d4b9c6f5-x{:04}".format
    limits = {str(limit / 1000): 10**9 for limit in range(1, 14)}
    return Evidence(
        "r",
        steps=tuple(replace(step(n), live=clean(10**9), replayed=clean(45)) for n in range(21)),
        seen={name(n): Seen(1.7e9 + 0.123, 10**9, 10**9, limits, 1.7e9) for n in range(100)},
        looks=tuple(
            Look(later(n).isoformat(), 5, n, {"errors": 1e300 / 3, "slow": 1e-9 / 7})
            for n in range(looks)
        ),
    )


def test_the_json_of_the_largest_release_is_below_200_kb() -> None:
    known = parse_evidence(to_json(_full(400)), where="here")
    assert len(to_json(known)) < MOST_BYTES
    assert len(known.looks) == MOST_LOOKS
    assert (known.looks[0].answers, known.looks[-1].answers) == (0, 399)


def test_looks_are_spread_evenly_over_the_time() -> None:
    known: tuple[Look, ...] = ()
    for n in range(1000):
        known = thinned((*known, Look(later(n).isoformat(), 5, n, {})), 50)
    gaps = [after.answers - known[i].answers for i, after in enumerate(known[1:])]
    assert len(known) == 50
    assert max(gaps) <= 4 * 1000 / 49
    assert known[0].answers == 0
    assert known[-1].answers == 999


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"release": 1, "steps": [], "seen": {}, "lost": {}, "looks": []}',
        b'{"release": "r", "steps": [1], "seen": {}, "lost": {}, "looks": []}',
        b'{"release": "r", "steps": [], "seen": {}, "lost": {"p": -1}, "looks": []}',
        b'{"release": "r", "steps": [], "seen": {"s": 1}, "lost": {}, "looks": []}',
    ],
)
def test_damaged_evidence_says_what_to_do(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"s3://models/e.json.*release abort MODEL"):
        parse_evidence(data, where="s3://models/e.json")


@settings(deadline=None)
@given(st.data())
def test_a_damaged_field_never_passes_as_another_type(data: st.DataObject) -> None:
    """Any value in place of any other: it is read as valid evidence, or refused."""
    known = replace(_full(2), seen=dict(list(_full(2).seen.items())[:1]), steps=_full(2).steps[:1])
    given_ = json.loads(to_json(known))
    place: Any = given_
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(
        st.sampled_from([None, True, -1, 1.5, "x", [], {}, [1], {"a": "b"}, 10**30, float("nan")])
    )
    with contextlib.suppress(IntegrityError):
        known = parse_evidence(json.dumps(given_), where="here")
        assert parse_evidence(to_json(known), where="here") == known
