import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import batching
from mlops_pipeline.serving.batch_limits import ALONE, BatchLimits
from mlops_pipeline.serving.batching import DEADLINE, Batcher
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model, Scores, Signature
from mlops_pipeline.serving.scores import Array
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature

BAD = -1.0
"""A row that begins with this number is refused."""
FOUR = BatchLimits(rows=4)
Work = Callable[["Rig"], Coroutine[Any, Any, None]]


@dataclass
class Ticking(FakeClock):
    """A clock on which a microsecond passes whenever somebody looks."""

    def now(self) -> float:
        self.sleep(1e-6)
        return self.time


@dataclass
class Rig:
    """A batcher with a model that sums rows, and the calls that the model got."""

    limits: BatchLimits = FOUR
    seconds: float = 0.0
    """Time that a call takes."""
    error: BaseException = field(default_factory=lambda: ValueError("a bad row"))
    """What the model raises on a bad row."""
    clock: FakeClock = field(default_factory=FakeClock)
    calls: list[list[float]] = field(default_factory=list)
    """First number of each row, call by call."""
    threads: set[str] = field(default_factory=set)
    observed: list[tuple[int, list[float]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    """Calls of the model wait until it is set."""
    reached: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        signature = toy_signature(row_shape=(-1,))
        compute = signature.compute
        self.gate.set()

        def computing(rows: Array, names: Sequence[str]) -> Sequence[object]:
            self.reached.set()
            assert self.gate.wait(5)
            self.calls.append(rows[:, 0].tolist())
            self.threads.add(threading.current_thread().name.split("_")[0])
            self.clock.sleep(self.seconds)
            if BAD in rows[:, 0]:
                raise self.error
            with np.errstate(over="ignore"):
                return compute(rows, names)

        self.signature = replace(signature, compute=computing, batch=self.limits)

    def run(self, work: Work) -> None:
        async def working() -> None:
            self.batcher = Batcher(
                lambda rows, waits: self.observed.append((rows, list(waits))), clock=self.clock.now
            )
            self.model = replace(toy_model(self.signature), compute=self.batcher.compute)
            await asyncio.wait_for(work(self), 10)

        asyncio.run(working())

    async def hold(self, *rows: float) -> "asyncio.Task[Scores]":
        """Ask a slow model, and return while it computes."""
        self.batcher._seconds[self.signature.compute] = 2 * batching.SLOW
        self.gate.clear()
        self.reached.clear()
        asking = self.ask(*rows)
        while not self.reached.is_set():
            await asyncio.sleep(0.001)
        return asking

    def ask(self, *rows: float, **options: Any) -> "asyncio.Task[Scores]":
        return asyncio.ensure_future(asked(self.model, self.signature, *rows, **options))


async def asked(
    model: Model,
    signature: Signature,
    *rows: float,
    columns: int = 2,
    outputs: Sequence[str] = (),
    deadline: float | None = None,
) -> Scores:
    if deadline is not None:
        DEADLINE.set(deadline)
    return await model.predict(signature, np.outer(rows, np.ones(columns)), outputs)


def sums(scores: Scores) -> list[float]:
    ((_, values),) = scores
    first: list[float] = values[:, 0].tolist()
    return first


async def pause(times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_a_request_that_is_alone_is_computed_at_once() -> None:
    async def work(rig: Rig) -> None:
        assert sums(await rig.ask(3)) == [6.0]
        assert rig.calls == [[3.0]]
        assert rig.observed == [(1, [0.0])]

    Rig().run(work)


def test_requests_of_one_moment_share_a_call_and_get_their_own_rows() -> None:
    async def work(rig: Rig) -> None:
        answers = await asyncio.gather(rig.ask(1), rig.ask(2, 3), rig.ask(4))
        assert [sums(scores) for scores in answers] == [[2.0], [4.0, 6.0], [8.0]]
        assert rig.calls == [[1.0, 2.0, 3.0, 4.0]]
        assert rig.observed == [(4, [0.0, 0.0, 0.0])]

    Rig().run(work)


def test_a_call_has_at_most_the_limits_rows_in_the_order_of_arrival() -> None:
    async def work(rig: Rig) -> None:
        given = [(1,), (2, 3, 3), (4,), (5, 5), (6,), (7,)]
        answers = await asyncio.gather(*(rig.ask(*rows) for rows in given))
        assert [sums(scores) for scores in answers] == [[2.0 * row for row in one] for one in given]
        assert rig.calls == [[1.0, 2.0, 3.0, 3.0], [4.0, 5.0, 5.0, 6.0], [7.0]]

    Rig().run(work)


def test_a_request_larger_than_the_limit_is_computed_alone() -> None:
    async def work(rig: Rig) -> None:
        large, small = await asyncio.gather(rig.ask(1, 2, 3, 4, 5), rig.ask(6))
        assert (sums(large), sums(small)) == ([2.0, 4.0, 6.0, 8.0, 10.0], [12.0])
        assert rig.calls == [[1.0, 2.0, 3.0, 4.0, 5.0], [6.0]]

    Rig().run(work)


def test_without_batching_every_request_is_computed_alone() -> None:
    async def work(rig: Rig) -> None:
        await asyncio.gather(rig.ask(1), rig.ask(2))
        assert rig.calls == [[1.0], [2.0]]

    Rig(ALONE).run(work)


def test_only_equal_shapes_outputs_and_signatures_share_a_call() -> None:
    async def work(rig: Rig) -> None:
        other = replace(rig.signature, batch=BatchLimits(rows=8))
        await asyncio.gather(
            rig.ask(1),
            rig.ask(2, columns=3),
            rig.ask(3, outputs=["label"]),
            rig.ask(4),
            asked(rig.model, other, 5),
        )
        assert sorted(rig.calls) == [[1.0, 4.0], [2.0], [3.0], [5.0]]
        assert rig.batcher._groups == {}

    Rig().run(work)


def test_a_bad_row_fails_only_its_own_request() -> None:
    async def work(rig: Rig) -> None:
        first, bad, last = await asyncio.gather(
            rig.ask(1), rig.ask(BAD), rig.ask(2), return_exceptions=True
        )
        assert isinstance(first, list)
        assert isinstance(last, list)
        assert (sums(first), sums(last)) == ([2.0], [4.0])
        assert isinstance(bad, RequestError)
        assert (bad.reason, "a bad row" in bad.sentence) == ("REFUSED_BY_MODEL", True)
        assert rig.calls == [[1.0, BAD, 2.0], [1.0], [BAD], [2.0]]

    Rig().run(work)


def test_an_answer_that_is_not_finite_fails_only_its_own_request() -> None:
    async def work(rig: Rig) -> None:
        good, bad = await asyncio.gather(rig.ask(1), rig.ask(1.7e308), return_exceptions=True)
        assert isinstance(good, list)
        assert isinstance(bad, RequestError)
        assert (sums(good), bad.reason) == ([2.0], "NOT_FINITE")

    Rig().run(work)


def test_an_invalid_request_is_refused_before_it_can_disturb_others() -> None:
    async def work(rig: Rig) -> None:
        good, bad = await asyncio.gather(rig.ask(1), rig.ask(np.nan), return_exceptions=True)
        assert isinstance(good, list)
        assert isinstance(bad, RequestError)
        assert rig.calls == [[1.0]]

    Rig().run(work)


def test_cancelled_requests_are_dropped_before_they_are_computed() -> None:
    async def work(rig: Rig) -> None:
        gone, there = rig.ask(1), rig.ask(2)
        await asyncio.sleep(0)
        gone.cancel()
        assert sums(await there) == [4.0]
        assert rig.calls == [[2.0]]
        only = rig.ask(3)
        await asyncio.sleep(0)
        only.cancel()
        await asyncio.sleep(0.03)
        assert rig.calls == [[2.0]]
        assert rig.batcher._groups == {}
        assert sums(await rig.ask(4)) == [8.0]

    Rig(BatchLimits(rows=4, seconds=0.01)).run(work)


@pytest.mark.parametrize("limits", [FOUR, ALONE])
def test_late_requests_are_dropped_with_a_reason(limits: BatchLimits) -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(1)
        late, early = rig.ask(2, deadline=1001.0), rig.ask(3, deadline=1003.0)
        await pause()
        rig.clock.sleep(2.0)
        rig.gate.set()
        await first
        with pytest.raises(RequestError, match=r"deadline passed after 2\.000 s") as caught:
            await late
        assert (caught.value.reason, caught.value.status) == ("LATE", 504)
        assert sums(await early) == [6.0]
        assert rig.calls == [[1.0], [3.0]]
        with pytest.raises(RequestError, match="deadline passed"):
            await rig.ask(4, deadline=1001.0)
        assert rig.calls == [[1.0], [3.0]]

    Rig(limits, clock=Ticking()).run(work)


def test_a_delay_gathers_until_it_is_over_or_the_call_is_full() -> None:
    async def work(rig: Rig) -> None:
        begin = asyncio.get_running_loop().time()
        first = rig.ask(1)
        await pause()
        await asyncio.gather(first, rig.ask(2))
        assert asyncio.get_running_loop().time() - begin >= 0.04
        assert rig.calls == [[1.0, 2.0]]
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(rig.ask(row) for row in (1, 2, 3, 4)))
        assert asyncio.get_running_loop().time() - begin < 0.04
        assert rig.calls[1:] == [[1.0, 2.0, 3.0, 4.0]]

    Rig(BatchLimits(rows=4, seconds=0.05)).run(work)


def test_a_request_without_company_is_computed_before_the_next_pass_of_the_loop() -> None:
    async def work(rig: Rig) -> None:
        await rig.ask(0)  # The first one looks for company.
        coroutine = asked(rig.model, rig.signature, 1)
        assert sums(batching.run_at_once(coroutine)) == [2.0]
        with pytest.raises(RequestError, match="a bad row"):
            batching.run_at_once(asked(rig.model, rig.signature, BAD))
        late = asked(rig.model, rig.signature, 2, deadline=rig.clock.now() - 1)
        with pytest.raises(RequestError, match="deadline passed"):
            copy_context().run(batching.run_at_once, late)
        assert rig.calls == [[0.0], [1.0], [BAD]]
        assert [rows for rows, _ in rig.observed] == [1, 1, 1]
        for number in range(batching.COMPANY):
            await asyncio.gather(*(rig.ask(number) for _ in range(3)))
        assert rig.calls[-1] == [number] * 3, "one of them has found the company"

    Rig().run(work)


def test_requests_wait_shortly_for_one_that_is_arriving() -> None:
    async def arriving(rig: Rig, row: float, *, passes: int) -> Scores:
        with rig.batcher.arrival():
            await pause(passes)
        return await asked(rig.model, rig.signature, row)

    async def work(rig: Rig) -> None:
        await rig.ask(0)  # The batcher knows how long a call takes only after one.
        both = (arriving(rig, 1, passes=1), arriving(rig, 2, passes=9))
        await asyncio.gather(*both)
        assert rig.calls == [[0.0], [1.0, 2.0]]
        with rig.batcher.arrival():  # One that never arrives delays the others very little.
            begin = asyncio.get_running_loop().time()
            assert sums(await rig.ask(3)) == [6.0]
            assert asyncio.get_running_loop().time() - begin < 1.0

    Rig(seconds=0.01, clock=Ticking()).run(work)


def test_a_request_that_arrives_slowly_does_not_delay_others() -> None:
    async def work(rig: Rig) -> None:
        await rig.ask(0)
        with rig.batcher.arrival():
            rig.clock.sleep(batching.FRESH)
            with rig.batcher.arrival():
                pass
            # It is computed before the next pass of the loop.
            assert sums(batching.run_at_once(asked(rig.model, rig.signature, 1))) == [2.0]
            with rig.batcher.arrival(), pytest.raises(AssertionError, match="has to wait"):
                batching.run_at_once(asked(rig.model, rig.signature, 2))

    Rig(clock=Ticking()).run(work)


def test_while_a_slow_call_runs_others_gather_and_the_loop_is_free() -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(1)
        others = [rig.ask(2), rig.ask(3)]
        await pause()
        assert not any(task.done() for task in (first, *others))
        rig.gate.set()
        answers = await asyncio.gather(first, *others)
        assert [sums(scores) for scores in answers] == [[2.0], [4.0], [6.0]]
        assert rig.calls == [[1.0], [2.0, 3.0]]
        assert rig.threads == {"batch"}

    Rig(clock=Ticking()).run(work)


@pytest.mark.parametrize(("limits", "rows"), [(ALONE, (1, 2)), (BatchLimits(rows=0), (1,))])
def test_slow_requests_that_may_not_share_a_call_wait_in_the_thread(
    limits: BatchLimits, rows: tuple[float, ...]
) -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(*rows)
        gone, there = rig.ask(3, 4), rig.ask(5)
        await pause()
        gone.cancel()
        rig.gate.set()
        assert sums(await first) == [2.0 * row for row in rows]
        assert sums(await there) == [10.0]
        assert rig.calls == [[*rows], [5.0]]
        assert rig.threads == {"batch"}
        assert rig.batcher._groups == {}

    Rig(limits, clock=Ticking()).run(work)


def test_a_slow_request_larger_than_the_limit_is_a_call_of_its_own() -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(0)
        asking = [rig.ask(1), rig.ask(2, 2, 2, 2, 2), rig.ask(3), rig.ask(4)]
        await pause()
        rig.gate.set()
        await asyncio.gather(first, *asking)
        assert rig.calls == [[0.0], [1.0], [2.0] * 5, [3.0, 4.0]]

    Rig(clock=Ticking()).run(work)


def test_the_first_call_and_a_repetition_do_not_block_the_loop() -> None:
    async def work(rig: Rig) -> None:
        await asyncio.gather(rig.ask(0), rig.ask(3))
        assert rig.threads == {"batch"}
        rig.threads.clear()
        await asyncio.gather(rig.ask(1), rig.ask(2))
        assert rig.threads == {"MainThread"}
        rig.threads.clear()
        await asyncio.gather(rig.ask(1), rig.ask(BAD), return_exceptions=True)
        assert rig.calls == [[0.0, 3.0], [1.0, 2.0], [1.0, BAD], [1.0], [BAD]]
        assert rig.threads == {"MainThread", "batch"}

    Rig(clock=Ticking()).run(work)


def test_the_average_is_of_calls_without_their_time_in_queues() -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(0)
        rig.gate.set()
        await first
        before = rig.batcher._seconds[rig.signature.compute]
        first, other = await rig.hold(0), rig.ask(1, columns=3)  # It waits for the thread.
        await pause(5)
        rig.gate.set()
        await asyncio.gather(first, other)
        assert before == pytest.approx(2 * batching.SLOW * 0.8 + 1.0 * 0.2)

    Rig(seconds=1.0, clock=Ticking()).run(work)


def test_a_group_has_a_maximum_of_waiting_rows() -> None:
    async def work(rig: Rig) -> None:
        first = await rig.hold(0)
        waiting = [rig.ask(*[1.0] * 64) for _ in range(batching.MOST_WAITING // 64)]
        await pause()
        with pytest.raises(RequestError, match=r"4096 rows wait .* retry") as caught:
            await rig.ask(2)
        assert (caught.value.reason, caught.value.status) == ("TOO_BUSY", 429)
        rig.gate.set()
        await asyncio.gather(first, *waiting)
        assert sums(await rig.ask(3)) == [6.0]

    Rig(clock=Ticking()).run(work)


def test_a_call_may_have_more_rows_than_may_wait_otherwise() -> None:
    async def work(rig: Rig) -> None:
        half = [1.0] * batching.MOST_WAITING
        await asyncio.gather(rig.ask(*half), rig.ask(*half))
        assert [len(call) for call in rig.calls] == [2 * batching.MOST_WAITING]

    Rig(BatchLimits(rows=2 * batching.MOST_WAITING, seconds=0.05)).run(work)


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), asyncio.CancelledError()])
def test_whatever_a_model_raises_is_an_error_of_its_request(error: BaseException) -> None:
    async def work(rig: Rig) -> None:
        for slow in (2 * batching.SLOW, 0.0):  # In the thread, then in the loop.
            rig.batcher._seconds[rig.signature.compute] = slow
            bad, good = await asyncio.gather(rig.ask(BAD), rig.ask(1), return_exceptions=True)
            assert isinstance(good, list)
            assert isinstance(bad, RequestError)
            assert bad.reason == "REFUSED_BY_MODEL"
            with pytest.raises(RequestError, match="cannot answer these rows"):
                await rig.ask(BAD)
        coroutine = asked(rig.model, rig.signature, BAD)
        with pytest.raises(RequestError, match="cannot answer these rows"):
            await asyncio.to_thread(batching.run_at_once, coroutine)
        assert sums(await rig.ask(2)) == [4.0]
        assert rig.batcher._groups == {}

    Rig(error=error, clock=Ticking()).run(work)


def test_only_outputs_that_the_warm_up_tried_share_a_call() -> None:
    async def work(rig: Rig) -> None:
        rig.signature = replace(rig.signature, default_outputs=("scores", "label"))
        await asyncio.gather(rig.ask(1, outputs=["label"]), rig.ask(2, outputs=["label"]))
        assert rig.calls == [[1.0, 2.0]]
        rig.signature = replace(rig.signature, default_outputs=("scores",))
        await asyncio.gather(rig.ask(3, outputs=["label"]), rig.ask(4, outputs=["label"]))
        assert rig.calls[1:] == [[3.0], [4.0]]

    Rig().run(work)


def test_a_delay_ends_before_a_deadline_and_when_the_server_stops() -> None:
    async def work(rig: Rig) -> None:
        now = rig.clock.now()
        first, urgent = rig.ask(1), rig.ask(2, deadline=now + 0.05)
        assert [sums(scores) for scores in await asyncio.gather(first, urgent)] == [[2.0], [4.0]]
        waiting = rig.ask(5)
        await pause()
        rig.batcher.drain()
        assert sums(await waiting) == [10.0]
        assert sums(await rig.ask(6)) == [12.0]
        assert rig.calls == [[1.0, 2.0], [5.0], [6.0]]

    Rig(BatchLimits(rows=4, seconds=60.0), clock=Ticking()).run(work)


def test_a_worker_thread_computes_at_once() -> None:
    async def work(rig: Rig) -> None:
        coroutine = asked(rig.model, rig.signature, 1)
        scores = await asyncio.to_thread(batching.run_at_once, coroutine)
        assert sums(scores) == [2.0]
        assert rig.calls == [[1.0]]

    Rig().run(work)


def test_a_defect_reaches_every_request() -> None:
    async def work(rig: Rig) -> None:
        rig.signature = replace(rig.signature, compute=lambda *_: [])
        first, second = await asyncio.gather(rig.ask(1), rig.ask(2), return_exceptions=True)
        assert isinstance(first, ValueError)
        assert isinstance(second, ValueError)
        assert first is not second

    Rig().run(work)


def test_a_coroutine_that_waits_cannot_be_run_at_once() -> None:
    with pytest.raises(AssertionError, match="has to wait"):
        batching.run_at_once(asyncio.sleep(0))
