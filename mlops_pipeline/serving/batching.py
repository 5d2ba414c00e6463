"""Dynamic batching: requests that wait at the same moment are computed in one call of the model.

A `Batcher` is between the protocols and the model. It belongs to the event loop's thread, and
computes there, because handing a short computation to another thread costs more than it takes;
a model that takes long is called in a thread, while further requests gather.

* Requests share a call if signature, outputs, limits and the shape of a row are equal. The protocol
  does not matter: rows are already converted to the model's type.
* A request that is alone is computed at once. One in `COMPANY` looks for others, and each one does
  if calls were shared lately: it is computed after the next pass of the event loop, so that
  requests whose bytes have arrived are read first. gRPC accepts one call after another, each in
  three passes: so it waits a little longer, and for a call that has begun to arrive.
* A request that may not share a call waits in a group too if the model takes long.
* A call that fails is computed again in the thread, once, request by request.
* Cancelled requests, and those whose deadline has passed, are dropped before they are computed.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.custom import rows
from mlops_pipeline.serving.custom.process import PATIENCE
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Answers, Question, Scores, compute

logger = logging.getLogger(__name__)

T = TypeVar("T")

SLOW = 0.02
"""Seconds of a call from which the batcher makes it in a thread. No request waits longer for others
that have begun to arrive."""
_CALLS = 16
"""A request waits for others at most as long as this number of the model's calls takes."""
FRESH = 0.005
"""Seconds for which a request may take to arrive before others stop waiting for it."""
QUIET = 0.0003
"""Seconds without a further request after which the batcher expects none; at most half a call."""
LOOKS = 8
"""Passes of the event loop after which it expects none: in a busy loop, they take longer."""
COMPANY = 256
"""Calls after a shared one for which each request looks for others; without a shared one, one
request in this number does."""
MOST_WAITING = 4096
"""Rows that may wait in a group, or as many as a call may have; a further request is refused."""
_WEIGHT = 0.2
"""The last call's part in the average duration of a model's calls."""

DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=float("inf"))
"""`time.monotonic()` after which nobody waits for the answer to the current request."""

Outcome = Scores | Exception
Observe = Callable[[int, Sequence[float]], None]
"""(rows of a call, seconds that each of its requests has waited) → None. Counts calls."""


@dataclass(eq=False, slots=True)
class _Waiting:
    question: Question
    future: "asyncio.Future[Scores]"
    since: float
    deadline: float


@dataclass(eq=False, slots=True)
class _Group:
    """The requests that may share a call, in the order of their arrival."""

    key: tuple[object, ...]
    """Signature, outputs, limits and shape of a row."""
    limits: BatchLimits
    waiting: deque[_Waiting] = field(default_factory=deque)
    rows: int = 0
    timer: asyncio.Handle | None = None
    is_due: bool = False
    """Whether `timer` is among the event loop's next callbacks."""
    looks: int = 0
    """Passes of the event loop since the last request came."""
    is_computing: bool = False

    @property
    def is_full(self) -> bool:
        """Whether no further row has room in the next call."""
        return bool(self.waiting) and self.rows >= self.limits.rows


class Batcher:
    """Computes questions; `compute` is a model's `Compute`.

    Create it in the event loop's thread.
    """

    def __init__(self, observe: Observe, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._observe = observe
        self._clock = clock
        self._thread = threading.get_ident()
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._seconds: dict[object, float] = {}
        """Compute function of a signature → average duration of a call."""
        self._arriving: dict[object, float] = {}
        """Requests that have begun to arrive → when; the last one is the youngest."""
        self._company = 0
        """Calls for which others are still expected."""
        self._calls = 0
        self._is_draining = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batch")

    async def compute(self, question: Question) -> Scores:
        """Return the scores of a question, which may be computed together with others.

        A worker thread, which answers a large request, computes alone and at once.

        Raises:
            RequestError: the model refuses the rows, the request's deadline has passed, or too many
                rows wait.
        """
        now, deadline = self._clock(), DEADLINE.get()
        if deadline < now:
            raise _late(0.0)
        if threading.get_ident() != self._thread:
            return compute(question)
        limits = question.limits
        component = question.signature.component
        if component is not None:
            if len(question.rows) >= limits.rows:
                return await rows.compute(component, question, deadline=deadline)
            deadline = min(deadline, now + PATIENCE)
        key = (question.signature.compute, question.names, limits, question.rows.shape[1:])
        group = self._groups.get(key)
        if group is None:
            if self._is_alone(question, limits, now):
                return self._compute_alone(question)
            group = self._groups[key] = _Group(key, limits)
        elif group.rows >= max(MOST_WAITING, limits.rows):
            raise _too_busy(group.rows)
        future: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        group.waiting.append(_Waiting(question, future, now, deadline))
        group.rows += len(question.rows)
        group.looks = 0
        self._plan(group)
        return await future

    def _is_alone(self, question: Question, limits: BatchLimits, now: float) -> bool:
        """Say whether a quick model's request cannot share a call, or need not look for others."""
        if self._average(question, unknown=SLOW) >= SLOW:
            return False
        return len(question.rows) >= limits.rows or not (
            limits.seconds or self._has_company or self._is_arriving(now)
        )

    def _compute_alone(self, question: Question) -> Scores:
        """Compute a request without the work of gathering.

        Raises:
            RequestError: the model refuses the rows.
        """
        self._calls += 1
        self._observe(len(question.rows), [0.0])
        return self._call(question)

    def _call(self, question: Question) -> Scores:
        """Call the model, and add the duration to the average, here or in the thread.

        Raises:
            RequestError: the model refuses the rows.
        """
        begin = self._clock()
        try:
            return compute(question)
        finally:
            took = self._clock() - begin
            known = self._average(question, unknown=took)
            self._seconds[question.signature.compute] = known + _WEIGHT * (took - known)

    def _average(self, question: Question, *, unknown: float) -> float:
        """Return the average seconds of a call, `unknown` before one; of a component, ≥ `SLOW`."""
        average = self._seconds.get(question.signature.compute, unknown)
        return average if question.signature.component is None else max(average, SLOW)

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """Count a request as arriving, so that others wait for it, very shortly."""
        request = object()
        self._arriving[request] = self._clock()
        try:
            yield
        finally:
            del self._arriving[request]
            if not self._is_arriving(self._clock()):
                for group in self._groups.values():
                    self._plan(group)

    def _is_arriving(self, now: float) -> bool:
        """Say whether a request has begun to arrive lately."""
        return bool(self._arriving) and now - next(reversed(self._arriving.values())) < FRESH

    def drain(self) -> None:
        """From now on, compute requests without `max_batch_time`: the server stops."""
        self._is_draining = True
        for group in self._groups.values():
            self._plan(group)

    def _plan(self, group: _Group) -> None:
        """Decide when the first of the group's requests are computed."""
        if group.is_computing or group.is_due or not group.waiting:
            return
        if group.timer is not None:
            group.timer.cancel()
        delay = 0.0 if self._is_draining or group.is_full else self._delay(group)
        if delay > 0:
            group.timer = asyncio.get_running_loop().call_later(delay, self._start, group)
        else:
            self._look_soon(group)

    def _delay(self, group: _Group) -> float:
        """Return the seconds of `max_batch_time` that remain.

        A request waits for at most half of the time that it has until its deadline.
        """
        if not group.limits.seconds:
            return 0.0
        latest = min((one.since + one.deadline) / 2 for one in group.waiting)
        return min(group.waiting[0].since + group.limits.seconds, latest) - self._clock()

    @property
    def _has_company(self) -> bool:
        """Whether calls were shared lately, or it is time to try."""
        return self._company > 0 or self._calls % COMPANY == 0

    def _look_soon(self, group: _Group) -> None:
        group.is_due = True
        group.timer = asyncio.get_running_loop().call_soon(self._look, group)

    def _look(self, group: _Group) -> None:
        """Compute, unless requests have begun to arrive, or may in the next passes of the loop."""
        group.is_due = False
        now, first = self._clock(), group.waiting[0]
        calling = self._average(first.question, unknown=0.0)
        patience = min(_CALLS * calling, SLOW) - (now - first.since)
        if patience <= 0 or group.is_full:
            self._start(group)
        elif self._has_company and (
            group.looks < LOOKS or now - group.waiting[-1].since < min(QUIET, calling / 2)
        ):
            group.looks += 1
            self._look_soon(group)
        elif self._is_arriving(now):
            wait = min(patience, FRESH)
            group.timer = asyncio.get_running_loop().call_later(wait, self._start, group)
        else:
            self._start(group)

    def _start(self, group: _Group) -> None:
        """Compute the group's first requests, here or in the thread."""
        group.timer = None
        batch, now = self._take(group), self._clock()
        if not batch:
            self._plan_rest(group)
            return
        self._calls += 1
        self._company = COMPANY if len(batch) > 1 else max(self._company - 1, 0)
        questions = [one.question for one in batch]
        self._observe(
            sum(len(question.rows) for question in questions), [now - one.since for one in batch]
        )
        work = self._answers
        if self._average(questions[0], unknown=SLOW) < SLOW:
            if outcomes := self._together(batch):
                self._finish(group, batch, outcomes)
                return
            work = partial(_one_by_one, self._call, self._clock)
        group.is_computing = True
        computing = asyncio.get_running_loop().run_in_executor(self._worker, work, batch)
        computing.add_done_callback(lambda done: self._finish(group, batch, done.result()))

    def _take(self, group: _Group) -> list[_Waiting]:
        """Remove the requests of the next call; drop those that nobody waits for."""
        taken: list[_Waiting] = []
        room, now = group.limits.rows, self._clock()
        while group.waiting:
            first = group.waiting[0]
            rows = len(first.question.rows)
            if first.future.done():
                pass
            elif first.deadline < now:
                first.future.set_exception(_late(now - first.since))
            elif rows <= room or not taken:
                room -= rows
                taken.append(first)
            else:
                break
            group.waiting.popleft()
            group.rows -= rows
        return taken

    def _finish(
        self, group: _Group, batch: Sequence[_Waiting], outcomes: Sequence[Outcome]
    ) -> None:
        """Give the outcomes to their owners, and go on with the group."""
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.future.done():
                continue
            if isinstance(outcome, Exception):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome)
        group.is_computing = False
        self._plan_rest(group)

    def _plan_rest(self, group: _Group) -> None:
        """Plan the next call, or forget the group: there may be one for any shape of rows."""
        if group.waiting:
            self._plan(group)
        else:
            del self._groups[group.key]

    def _answers(self, batch: Sequence[_Waiting]) -> list[Outcome]:
        """Return the scores or the error of each request; a call that fails is repeated."""
        return self._together(batch) or _one_by_one(self._call, self._clock, batch)

    def _together(self, batch: Sequence[_Waiting]) -> list[Outcome]:
        """Return the outcome of each request by one call; nothing if several must be repeated."""
        if len(batch) == 1:
            return _one_by_one(self._call, self._clock, batch)
        questions = [one.question for one in batch]
        try:
            return list(_parts(questions, self._call(_joined(questions))))
        except Exception:
            logger.debug("Computing %d requests again, one by one", len(questions), exc_info=True)
            return []


def _one_by_one(
    call: Callable[[Question], Scores], clock: Callable[[], float], batch: Sequence[_Waiting]
) -> list[Outcome]:
    """Return the outcome of each request by a call of its own: only the one at fault fails.

    A request whose deadline has passed meanwhile is not computed: others may take long each.
    """
    outcomes: list[Outcome] = []
    for one in batch:
        now = clock()
        is_late = bool(outcomes) and one.deadline < now
        outcomes.append(_late(now - one.since) if is_late else _outcome(call, one.question))
    return outcomes


def _outcome(call: Callable[[Question], Scores], question: Question) -> Outcome:
    try:
        return call(question)
    except Exception as error:  # noqa: BLE001 - raised where its owner waits
        return error


def _late(waited: float) -> RequestError:
    return RequestError(
        "LATE",
        f"the request's deadline passed after {waited:.3f} s, before the model was called; allow "
        "more time, or send fewer requests at the same time",
        status=504,
    )


def _too_busy(rows: int) -> RequestError:
    return RequestError("TOO_BUSY", f"{rows} rows wait for the model already; retry", status=429)


def _joined(questions: Sequence[Question]) -> Question:
    """Return one question with the rows of all."""
    first = questions[0]
    rows = np.concatenate([question.rows for question in questions])
    return Question(first.signature, rows, first.names)


def _parts(questions: Sequence[Question], scores: Scores) -> Iterator[Scores]:
    """Yield the part of each question's rows."""
    begin = 0
    for question in questions:
        end = begin + len(question.rows)
        parts = ((name, values[begin:end]) for name, values in scores)
        yield Answers(parts).like(scores)
        begin = end


def run_at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never has to wait, outside of an event loop.

    In a worker thread, the coroutines of the protocols are such: `Batcher.compute` does not wait
    there.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError(f"{coroutine} has to wait")
