"""`up` follows releases: each step is a run, until there is nothing to wait for."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.cli import following, releasing
from mlops_pipeline.cli.following import Following, find_releases
from mlops_pipeline.cli.release_endings import Ending
from mlops_pipeline.cli.runs import Order, Outcome
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.resources.turn import LOCK
from mlops_pipeline_tests.cli.release_rig import CANARY, ReleaseRig, release_rig
from mlops_pipeline_tests.fakes.clocks import FakeClock

EASY = replace(CANARY, max_errors=0.5, max_slow=0.9)
"""Its bounds need few answers."""


class Followed(ReleaseRig):
    """Follows the release of the rig. A run is a call of the driver, as the asset's."""

    clock: FakeClock
    out: io.StringIO
    orders: list[Order]

    def follow(self, *, is_waiting: bool = True, before: Any = None) -> list[Ending]:
        console = Console(file=self.out, width=200)
        made = Following(self.context, "up toy", console, clock=self.clock)
        found = find_releases(self.context, [self.model]) if before is None else before
        return made.follow([self.model], before=found, is_waiting=is_waiting)

    def run(self, _context: Any, order: Order, **_: Any) -> Outcome:
        self.orders.append(order)
        progress = self.releases.advance()
        return Outcome("a-run", True, int(progress.decision is not None), (), (), ())

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    yield from _followed(tmp_path, monkeypatch, EASY)


def _followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, plan: ReleaseSpec
) -> Iterator[Followed]:
    with release_rig(folder, monkeypatch, plan) as made:
        made.__class__ = Followed
        assert isinstance(made, Followed)
        made.clock, made.out, made.orders = FakeClock(), io.StringIO(), []
        monkeypatch.setattr(following, "execute", made.run)
        yield made


def test_without_a_release_there_is_nothing_to_follow(rig: Followed) -> None:
    assert rig.follow() == []
    assert (rig.lines(), rig.clock.time) == ([], 1000.0)


def test_each_step_is_a_run_until_the_new_version_has_all_traffic(rig: Followed) -> None:
    rig.begin()
    rig.clock.steps.append(lambda: rig.answer(200))
    (ending,) = rig.follow()
    assert (ending.model, ending.code) == ("toy", 0)
    assert ending.sentence == (
        f"toy: {rig.new.digest[:12]} has all traffic; {rig.old.digest[:12]} is kept ready for "
        "300 s more, then `mlops-pipeline up toy` or the sensor stops it"
    )
    assert len(set(rig.lines())) == len(rig.lines()), "nothing is said twice"
    assert rig.served() == {rig.old.digest: 0, rig.new.digest: 100}
    assert [order.job for order in rig.orders] == ["toy_release"] * 2
    assert rig.orders[0].config == {"fake__toy__deployment": {"config": {"release": "advance"}}}
    said = " ".join(rig.lines())
    assert f"toy: {rig.new.digest[:12]} has 25 % of the traffic" in said
    assert f"toy: {rig.new.digest[:12]} has 50 % of the traffic" in said


def test_a_version_that_fails_is_rolled_back_and_has_an_exit_code_of_its_own(rig: Followed) -> None:
    rig.begin()
    rig.clock.steps.append(lambda: rig.answer(100, failed=60))
    (ending,) = rig.follow()
    assert ending.code == 5
    assert ending.sentence.startswith(
        f"toy: the release of {rig.new.digest[:12]} was rolled back: failed answers: "
    )
    assert rig.served() == {rig.old.digest: 100}


def test_a_release_that_ended_in_the_run_of_up_counts(rig: Followed) -> None:
    rig.begin()
    before = find_releases(rig.context, [rig.model])
    releasing.abort(rig.context, rig.model, pytest.fail, reason="no")
    (ending,) = rig.follow(before=before)
    assert (ending.code, ending.sentence) == (
        5,
        f"toy: the release of {rig.new.digest[:12]} was aborted: no",
    )


def test_another_command_can_abort_meanwhile(rig: Followed) -> None:
    rig.begin()

    def abort() -> None:
        if rig.clock.time > 1010:
            rig.clock.steps.clear()
            releasing.abort(rig.context, rig.model, pytest.fail)

    rig.clock.steps.append(abort)
    (ending,) = rig.follow()
    assert (ending.code, rig.orders) == (5, [])
    assert "a person decided so and gave no reason" in ending.sentence


def test_a_paused_release_and_one_that_asks_need_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(EASY, steps=(Step(50, answers=100, seconds=300),))
    for rig in _followed(tmp_path, monkeypatch, plan):
        rig.begin()
        releasing.pause(rig.context, rig.model, pytest.fail)
        (ending,) = rig.follow()
        assert ending.code == 4
        assert ending.sentence.endswith(
            "; step 1 of 1; paused; a person must resume it. To continue, run `mlops-pipeline "
            "release resume toy`; to decide, run `mlops-pipeline release promote toy` or "
            "`mlops-pipeline release abort toy`"
        )
        releasing.resume(rig.context, rig.model, pytest.fail)
        rig.clock.steps.append(lambda made=rig: made.wait(100))  # type: ignore[misc]
        (ending,) = rig.follow()
        assert (ending.code, len(rig.orders)) == (4, 1)
        assert "waits for a decision: evidence is missing" in ending.sentence
        assert (
            "To continue, run `mlops-pipeline release resume toy`, which begins the step again"
        ) in ending.sentence


def test_without_waiting_nothing_is_advanced(rig: Followed) -> None:
    rig.begin()
    rig.answer(200)
    (ending,) = rig.follow(is_waiting=False)
    assert (ending.code, rig.orders, rig.clock.time) == (4, [], 1000.0)
    assert f"{rig.new.digest[:12]} has 25 % of the traffic" in ending.sentence
    assert "run `mlops-pipeline up toy`" in ending.sentence


def test_an_interrupt_leaves_the_release_as_it_is(rig: Followed) -> None:
    rig.begin()
    before = rig.served()

    def interrupt() -> None:
        raise KeyboardInterrupt

    rig.clock.steps.append(interrupt)
    with pytest.raises(typer.Exit) as ended:
        rig.follow()
    assert ended.value.exit_code == 130
    assert rig.served() == before
    assert rig.lines()[-1].startswith("interrupted; the release stays as it is. toy: ")
    assert "run `mlops-pipeline up toy`" in rig.lines()[-1]


def test_others_have_their_turn_between_two_looks(rig: Followed) -> None:
    rig.begin()
    seen: list[float] = []

    def take() -> None:
        with Locks(rig.context.settings.dagster_home, timeout=0).held(LOCK, purpose="a test"):
            seen.append(rig.clock.time)
        if len(seen) == 7:
            raise KeyboardInterrupt

    rig.clock.steps.append(take)
    with pytest.raises(typer.Exit):
        rig.follow()
    assert seen == [1001.0 + number for number in range(7)]


def test_what_was_counted_is_kept_although_no_step_follows(rig: Followed) -> None:
    rig.begin()

    def answer() -> None:
        if rig.clock.time == 1003:
            rig.answer(70)
        if rig.clock.time == 1009:
            rig.platform.deployments.restart("toy-model", namespace="seldon")
            raise KeyboardInterrupt

    rig.clock.steps.append(answer)
    with pytest.raises(typer.Exit):
        rig.follow()
    evidence = rig.releases.look().evidence
    assert evidence is not None
    assert evidence.steps[0].live["errors"].candidate_answers == 70 + 1, "a restart lost a request"


def test_without_a_terminal_a_line_is_printed_when_something_changed(rig: Followed) -> None:
    rig.begin()

    def stop() -> None:
        if rig.clock.time >= 1150:
            raise KeyboardInterrupt

    rig.clock.steps.append(stop)
    with pytest.raises(typer.Exit):
        rig.follow()
    assert len(rig.lines()) == 4  # One a minute, and the interrupt.


def test_a_platform_that_is_away_for_a_minute_ends_it(
    rig: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin()
    before = find_releases(rig.context, [rig.model])

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("the platform does not answer")

    monkeypatch.setattr(rig.platform.deployments, "find", away)
    said = "could not look at the release of toy for 60 s: the platform does not answer. The rele"
    with pytest.raises(UnavailableError, match=said):
        rig.follow(before=before)
    assert rig.clock.time == 1060


def test_runs_that_leave_a_release_as_it_is_end_it(
    rig: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin()
    rig.answer(200)
    monkeypatch.setattr(
        following, "execute", lambda *_, **__: Outcome("a-run", True, 0, (), (), ())
    )
    with pytest.raises(UnavailableError, match="3 runs left it as it is"):
        rig.follow()
    assert len(rig.lines()) == 1, "the reason is the same before each run"


def test_a_run_that_fails_ends_it(rig: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.begin()
    rig.answer(200)
    failed = Outcome("a-run", False, 0, ("toy/deployment: no disk",), (), ())
    monkeypatch.setattr(following, "execute", lambda *_, **__: failed)
    with pytest.raises(typer.Exit) as ended:
        rig.follow()
    assert ended.value.exit_code == 1
    said = rig.out.getvalue()
    assert "error: toy/deployment: no disk" in said
    assert "the release stays as it is; run `mlops-pipeline up toy`" in said
