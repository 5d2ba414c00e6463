"""What follows from the evidence, in every state, and what never follows from any evidence."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.catalog.releasing import (
    STRATEGIES,
    WHEN_SILENT,
    ReleaseSpec,
    Step,
    faults,
)
from mlops_pipeline.delivery.releases.evidence import METRICS, Evidence, Tally
from mlops_pipeline.delivery.releases.machine import (
    Action,
    Ask,
    Expose,
    Finish,
    Promote,
    Replay,
    RollBack,
    Wait,
    next_step,
)
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.weighing import (
    replay_threshold,
    threshold,
    weigh,
    with_look,
)
from mlops_pipeline_tests.delivery.releases.made import (
    clean,
    evidence,
    later,
    release,
    short,
    step,
)

BAD = {"errors": Tally(9, 60, 1, 180)}
"""15 % of the candidate's answers fail, of the stable version's 0.6 %."""


def _decide(of: Release, *steps: Any, at: float = 20) -> Action:
    return next_step(of, evidence(*steps), now=later(at))


def test_missing_answers_are_waited_for() -> None:
    action = _decide(release(), step(share=5, live=clean(40, share=5)))
    assert action == Wait("40 of 100 answers; 60 are missing")


def test_enough_clean_answers_raise_the_share() -> None:
    action = _decide(release(), step(share=5, live=clean(100, share=5)))
    assert isinstance(action, Expose)
    assert action.step == 1
    assert "failed answers: 0 of 100 of the candidate, 0 of 1900 of the stable" in action.reason


def test_answers_of_another_step_do_not_count_as_this_steps_minimum() -> None:
    of = release(step=1)
    action = _decide(of, step(0, 5, live=clean(500, share=5)), step(1, 25, live=clean(70)))
    assert action == Wait("70 of 100 answers; 30 are missing")


def test_a_rate_above_its_limit_keeps_the_share() -> None:
    live = clean(100, share=5) | {"errors": Tally(2, 100, 38, 1900)}
    action = _decide(release(), step(share=5, live=live))
    assert action == Wait(
        "failed answers: 2 of 100 of the candidate, 38 of 1900 of the stable version; "
        "2 % exceeds the limit of 1 %"
    )


def test_a_rate_above_its_limit_in_this_step_alone_keeps_the_share() -> None:
    before = step(0, 5, live=clean(1000, share=5))
    live = clean(100) | {"errors": Tally(2, 100, 6, 300)}
    assert isinstance(_decide(release(step=1), before, step(1, 25, live=live)), Wait)


def test_the_evidence_of_all_steps_promotes() -> None:
    plan = ReleaseSpec("canary", (Step(5), Step(25), Step(50)))
    steps = [step(0, 5, live=clean(100, share=5)), step(1, 25, live=clean(100))]
    short_of = step(2, 50, live=clean(98, share=50))
    assert isinstance(_decide(release(plan, step=2), *steps, short_of), Wait)
    action = _decide(release(plan, step=2), *steps, step(2, 50, live=clean(100, share=50)))
    assert isinstance(action, Promote)
    assert "failed answers: 0 of 300 of the candidate" in action.reason
    assert "below 0.994 % with a confidence of 95 % (limit 1 %)" in action.reason


def test_what_a_promotion_lacks_is_counted() -> None:
    action = _decide(release(short()), step(live=clean(120)))
    assert action == Wait(
        "failed answers: 0 of 120; 179 further answers without one bound the rate below 1 % "
        "with a confidence of 95 %"
    )


def test_a_metric_that_nobody_counted_does_not_promote() -> None:
    live = {"errors": clean(5000)["errors"]}
    action = _decide(release(short()), step(live=live))
    assert isinstance(action, Wait)
    assert "slow answers: no answer was counted, because the stable" in action.missing


def test_a_worse_candidate_is_rolled_back_with_the_figures() -> None:
    action = _decide(release(), step(live=BAD))
    assert isinstance(action, RollBack)
    assert "failed answers: 9 of 60 of the candidate, 1 of 180" in action.reason
    assert "reaches 200 (alpha 0.01, 2 metrics)" in action.reason


def test_slow_answers_roll_back_too() -> None:
    live = {"errors": Tally(0, 100, 0, 300), "slow": Tally(40, 100, 6, 300)}
    action = _decide(release(), step(live=live))
    assert isinstance(action, RollBack)
    assert action.reason.startswith("slow answers: 40 of 100")


def test_an_equal_candidate_is_not_rolled_back_however_high_both_rates_are() -> None:
    live = {"errors": Tally(500, 1000, 1500, 3000)}
    assert isinstance(_decide(release(short()), step(live=live)), Wait)


def test_evidence_of_several_steps_is_multiplied() -> None:
    part = Tally(4, 100, 0, 300)
    of = release(step=1)
    assert not isinstance(_decide(of, step(1, live={"errors": part})), RollBack)
    both = [step(0, live={"errors": part}), step(1, live={"errors": part})]
    assert isinstance(_decide(of, *both), RollBack)


@pytest.mark.parametrize("phase", ["observing", "asking"])
@pytest.mark.parametrize("is_paused", [True, False])
def test_a_bad_candidate_is_rolled_back_in_every_phase(phase: Any, is_paused: bool) -> None:  # noqa: FBT001
    of = release(short(approval=True), phase=phase, is_paused=is_paused)
    assert isinstance(_decide(of, step(live=BAD)), RollBack)


def test_a_paused_release_waits_whatever_its_evidence() -> None:
    of = release(short(), is_paused=True)
    assert isinstance(_decide(of, step(live=clean(1000)), at=1e6), Wait)


def test_evidence_of_another_release_counts_as_none() -> None:
    other = replace(evidence(step(live=BAD)), release="an earlier one")
    assert next_step(release(), other, now=later(20)) == Wait("0 of 100 answers; 100 are missing")


# Time over


def test_a_person_is_asked_after_the_steps_time_and_late_answers_continue() -> None:
    of = release(short())
    action = _decide(of, step(live=clean(250)), at=61)
    assert isinstance(action, Ask)
    assert "49 further answers" in action.reason
    asking = replace(of, phase="asking", step_since=later(61).isoformat())
    assert isinstance(_decide(asking, step(live=clean(250)), at=62), Ask)
    assert isinstance(_decide(asking, step(live=clean(299)), at=63), Promote)


def test_an_approval_is_required_even_if_all_evidence_is_there() -> None:
    of = release(short(approval=True))
    assert isinstance(_decide(of, step(live=clean(400))), Ask)
    assert isinstance(_decide(replace(of, phase="asking"), step(live=clean(4000))), Ask)


def test_an_approval_is_only_required_for_the_promotion() -> None:
    of = release(ReleaseSpec("canary", approval=True))
    assert isinstance(_decide(of, step(share=5, live=clean(100, share=5))), Expose)
    asking = replace(of, phase="asking")
    assert isinstance(_decide(asking, step(share=5, live=clean(100, share=5))), Ask)


def test_silence_rolls_back_if_the_plan_says_so() -> None:
    of = release(short(when_silent="roll_back"))
    assert isinstance(_decide(of, step(live=clean(40)), at=59), Wait)
    action = _decide(of, step(live=clean(40)), at=60)
    assert isinstance(action, RollBack)
    assert action.reason.startswith("the step's 60 s are over: 40 of 100 answers")
    assert isinstance(_decide(replace(of, phase="asking"), step(live=clean(40)), at=99), Ask)


def test_hold_out_rows_are_replayed_once_and_then_decide_with_a_label() -> None:
    of = release(short(when_silent="replay"))
    assert isinstance(_decide(of, step(live=clean(3)), at=59), Wait)
    assert isinstance(_decide(of, step(live=clean(3)), at=60), Replay)
    done = replace(of, is_replayed=True)
    action = _decide(done, step(live=clean(3), replayed=clean(45)), at=61)
    assert isinstance(action, Promote)
    assert (
        "replayed hold-out rows: failed answers: 0 of 45 of the candidate, 0 of 135 of the stable "
        "version; at most 6.44 % with a confidence of 95 % (limit 1 %; 45 distinct rows can show "
        "no less than 6.44 %)"
    ) in action.reason
    assert isinstance(_decide(done, step(live=clean(3)), at=61), Ask)


def test_a_replay_without_time_over_decides_nothing() -> None:
    done = release(short(when_silent="replay"), is_replayed=True)
    assert isinstance(_decide(done, step(live=clean(3), replayed=clean(45)), at=59), Wait)


def test_a_failed_row_of_a_replay_keeps_the_share() -> None:
    done = release(short(when_silent="replay"), is_replayed=True)
    replayed = clean(45) | {"errors": Tally(4, 45, 4, 45)}
    action = _decide(done, step(live=clean(3), replayed=replayed), at=61)
    assert isinstance(action, Ask)
    assert "4 of 45 of the candidate, 4 of 45 of the stable version (replayed)" in action.reason


def test_rows_on_which_only_the_candidate_fails_roll_back() -> None:
    done = release(short(when_silent="replay"), is_replayed=True)
    replayed = clean(45) | {"errors": Tally(20, 45, 0, 45)}
    action = _decide(done, step(live=clean(3), replayed=replayed), at=61)
    assert isinstance(action, RollBack)
    assert action.reason.startswith("replayed hold-out rows: failed answers: 20 of 45")


def test_a_rate_above_its_limit_is_not_replayed() -> None:
    of = release(short(when_silent="replay"))
    live = clean(100) | {"errors": Tally(2, 100, 6, 300)}
    assert isinstance(_decide(of, step(live=live), at=60), Ask)


def test_disagreement_without_a_shadow_needs_hold_out_rows() -> None:
    of = release(short(max_disagreement=0.1))
    assert isinstance(_decide(of, step(live=clean(200))), Wait)
    assert isinstance(_decide(of, step(live=clean(400))), Replay)
    done = replace(of, is_replayed=True)
    rows = Tally(1, 100, 0, 100)
    action = _decide(done, step(live=clean(400), replayed={"disagreement": rows}))
    assert isinstance(action, Promote)
    many = Tally(60, 100, 0, 100)
    action = _decide(done, step(live=clean(400), replayed={"disagreement": many}))
    assert isinstance(action, RollBack)
    assert isinstance(_decide(done, step(live=clean(400))), Wait)
    assert isinstance(_decide(done, step(live=clean(400)), at=61), Ask)


# Strategies


def test_an_ab_test_only_asks() -> None:
    of = release(ReleaseSpec("ab", when_silent="roll_back"))
    live = clean(400, share=50)
    action = _decide(of, step(share=50, live=live))
    assert isinstance(action, Ask)
    assert "a person decides which version wins" in action.reason
    assert isinstance(_decide(of, step(share=50, live=clean(9, share=50)), at=8 * 86_400), Ask)


def test_a_shadow_is_compared_pair_by_pair_and_promoted() -> None:
    of = release(short("shadow"))
    both = {"errors": Tally(40, 1000, 40, 1000)}
    assert isinstance(_decide(of, step(share=100, live=both)), Wait)
    worse = {"errors": Tally(40, 1000, 10, 1000)}
    assert isinstance(_decide(of, step(share=100, live=worse)), RollBack)
    equal = Tally(0, 400, 0, 400)
    action = _decide(of, step(share=100, live={"errors": equal, "slow": equal}))
    assert isinstance(action, Promote)


def test_a_shadow_counts_disagreement_live() -> None:
    of = release(short("shadow", max_disagreement=0.1))
    equal = Tally(0, 400, 0, 400)
    live = {"errors": equal, "slow": equal, "disagreement": Tally(20, 400)}
    assert isinstance(_decide(of, step(share=100, live=live)), Promote)
    live["disagreement"] = Tally(90, 400)
    assert isinstance(_decide(of, step(share=100, live=live)), RollBack)


def test_a_candidate_with_all_traffic_is_held_against_the_limit() -> None:
    of = release(short("blue_green"))
    good = Tally(1, 600, 0, 0)
    live = {"errors": good, "slow": good}
    assert isinstance(_decide(of, step(share=100, live=live)), Promote)
    assert isinstance(_decide(of, step(share=100, live={"errors": Tally(8, 60)})), RollBack)


def test_a_stable_version_that_answers_nothing_leaves_the_limit() -> None:
    assert isinstance(_decide(release(), step(live={"errors": Tally(5, 10)})), Wait)
    assert isinstance(_decide(release(), step(live={"errors": Tally(8, 60)})), RollBack)


# After the promotion


def test_the_former_version_is_removed_after_its_time() -> None:
    of = release(short(keep_seconds=300), phase="kept")
    assert _decide(of, at=100) == Wait("the former version stays ready for 200 s more")
    assert isinstance(_decide(of, at=300), Finish)


def test_a_candidate_that_breaks_after_its_promotion_is_rolled_back() -> None:
    of = release(short(), phase="kept")
    before = step(live=clean(300))
    assert isinstance(_decide(of, before, step(1, 100, live={"errors": Tally(8, 60)})), RollBack)


def test_a_person_who_promoted_in_spite_of_the_rate_is_not_overruled() -> None:
    of = release(short(), phase="kept")
    kept = step(1, 100, live={"errors": Tally(9, 200)})
    assert isinstance(_decide(of, step(live={"errors": Tally(4, 100, 12, 300)}), kept), Wait)
    assert isinstance(_decide(of, kept), Wait)


# Any state


def _tally(counts: tuple[int, ...]) -> Tally:
    return Tally(min(counts[:2]), max(counts[:2]), min(counts[2:]), max(counts[2:]))


COUNT = st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 3000))
CLEAN = st.builds(Tally, st.integers(0, 2), st.integers(2, 3000), st.integers(0, 9), st.just(9000))
EQUAL = st.builds(
    lambda events, answers: Tally(events, answers, 3 * events, 3 * answers),
    st.integers(0, 30),
    st.integers(30, 600),
)
ANY = st.tuples(COUNT, COUNT, COUNT, COUNT).map(_tally)
TALLIES = st.one_of(
    st.dictionaries(st.sampled_from(METRICS), ANY),
    st.fixed_dictionaries(dict.fromkeys(METRICS, CLEAN)),
    st.fixed_dictionaries(dict.fromkeys(METRICS, EQUAL)),
)
STEPS = st.builds(Step, st.integers(1, 100), st.integers(0, 300), st.sampled_from((20.0, 1000.0)))
PLANS = st.builds(
    ReleaseSpec,
    strategy=st.sampled_from(STRATEGIES),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    alpha=st.sampled_from((1e-6, 0.01, 0.5)),
    confidence=st.sampled_from((0.5, 0.95, 0.999)),
    max_errors=st.sampled_from((0.001, 0.01, 0.2, 0.9)),
    max_slow=st.sampled_from((0.01, 0.15, 0.9)),
    max_disagreement=st.sampled_from((None, 0.01, 0.3)),
    when_silent=st.sampled_from(WHEN_SILENT),
    approval=st.booleans(),
)
RELEASES = st.builds(
    release,
    PLANS,
    phase=st.sampled_from(("observing", "observing", "asking", "kept", "ended")),
    step=st.integers(0, 3),
    step_since=st.sampled_from(("", "yesterday", later(0).isoformat())),
    is_paused=st.booleans(),
    is_replayed=st.booleans(),
)
PARTS = st.lists(st.tuples(st.integers(1, 100), TALLIES, TALLIES), max_size=4)


@settings(deadline=None, max_examples=150)
@given(RELEASES, PARTS, st.sampled_from((0.0, 30.0, 1e4)))
def test_every_state_has_an_answer_and_traffic_rises_only_with_evidence(
    of: Release, parts: list[Any], at: float
) -> None:
    steps = [step(n, share, live=a, replayed=b) for n, (share, a, b) in enumerate(parts)]
    known = evidence(*steps)
    action = next_step(of, known, now=later(at))
    if of.phase == "ended":
        assert isinstance(action, Finish)
        return
    weighed = weigh(of, known)
    is_bad = any(
        w.log_e >= math.log(threshold(of.plan))
        or w.log_e_replayed >= math.log(replay_threshold(of.plan))
        for w in weighed
    )
    if is_bad:
        assert isinstance(action, RollBack)
        return
    if isinstance(action, RollBack):
        assert of.plan.when_silent == "roll_back"
        assert (of.phase, of.plan.strategy == "ab", of.is_paused) == ("observing", False, False)
    if of.is_paused:
        assert isinstance(action, Wait)
    elif of.phase == "kept":
        assert isinstance(action, Wait | Finish)
    else:
        assert not isinstance(action, Finish)
    if isinstance(action, Replay):
        assert not of.is_replayed
    if isinstance(action, Expose | Promote):
        _assert_evidence(of, known, action)


def _assert_evidence(of: Release, known: Evidence, action: Expose | Promote) -> None:
    steps = of.plan.effective_steps()
    assert of.plan.strategy != "ab"
    assert not (of.phase == "asking" and of.plan.approval)
    weighed = weigh(of, known)
    for found in weighed:
        for tally in (found.step, found.whole):
            assert tally.candidate_events <= found.limit * tally.candidate_answers + 1e-9
    answers = weighed[0].step.candidate_answers
    assert answers >= steps[of.step].answers or (of.is_replayed and of.plan.when_silent == "replay")
    if isinstance(action, Expose):
        assert action.step == of.step + 1 < len(steps)
        return
    assert not of.plan.approval
    assert of.step == len(steps) - 1
    for found in weighed:
        assert found.bound < found.limit or (of.is_replayed and found.replayed.candidate_answers)


def test_the_generated_plans_are_valid() -> None:
    """Otherwise the test above would say nothing about plans that exist."""
    plan = ReleaseSpec("canary", (Step(1, 0, 1.0),), alpha=1e-6, max_disagreement=0.9)
    assert list(faults(plan)) == []


def test_a_look_has_what_plots_need() -> None:
    known = with_look(evidence(step(live=BAD)), release(), now=later(20))
    (look,) = known.looks
    assert (look.time, look.share, look.answers) == (later(20).isoformat(), 5, 60)
    assert look.e_values["errors"] > 200
    assert look.e_values["slow"] == 1
    endless = with_look(
        evidence(step(live={"errors": Tally(10**6, 10**6)})), release(), now=later(20)
    )
    assert endless.looks[0].e_values["errors"] < 1e300
