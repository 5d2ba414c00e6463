"""Dynamic batching: requests that wait at the same moment are computed in one call of the model.

A `Batcher` is between the protocols and the model. It belongs to the event loop's thread, and
computes there, because handing a short computation to another thread costs more than it takes;
a model that takes long is called in a thread, while further requests gather.

* Requests share a call if signature, outputs, limits and the shape of a row are equal. The protocol
  does not matter: rows are already converted to the model's type.
* A request that is alone is computed at once. One in `PROBE` looks for company, and each one does
  if calls were shared lately: it is computed after the next pass of the event loop, so that
  requests whose bytes have arrived are read first. gRPC accepts one call after another, each in
  three passes: so it waits a little longer, and for a call that has begun to arrive.
* A call that fails is computed again, once, request by request.
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
from typing import Any, TypeVar

import numpy as np

from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Question, Scores, compute

logger = logging.getLogger(__name__)

T = TypeVar("T")

SLOW = 0.02
"""Seconds of a call from which it is made in a thread."""
PATIENCE = 0.02
"""Maximum seconds for which a request waits for others that have begun to arrive."""
_CALLS = 16
"""It waits no longer than this number of calls takes."""
FRESH = 0.005
"""Seconds after which a request that has begun to arrive is a slow one, and not waited for."""
QUIET = 0.0003
"""Seconds without a further request after which none is about to come; at most half a call."""
LOOKS = 8
"""Passes of the event loop for which the same is true: they take long if it has much to do."""
COMPANY = 64
"""Calls after one that was shared for which a request waits for that."""
PROBE = 64
"""Otherwise, one request of this number does."""
_WEIGHT = 0.2
"""Of the last call in the average duration."""

DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=float("inf"))
"""Time of the event loop's clock after which nobody waits for the answer to the current request."""

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
        return bool(self.waiting) and self.rows >= self.waiting[0].question.signature.batch.rows


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
        self._arriving = 0
        self._arrived = 0.0
        """When the last request began to arrive."""
        self._company = 0
        """Calls for which others are still expected."""
        self._calls = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batch")

    async def compute(self, question: Question) -> Scores:
        """Return the scores of a question, which may be computed together with others.

        A worker thread, which answers a large request, computes alone and at once.

        Raises:
            RequestError: the model refuses the rows, or the request's deadline has passed.
        """
        limits, rows = question.signature.batch, len(question.rows)
        if rows >= limits.rows or threading.get_ident() != self._thread:
            return compute(question)
        signature, now = question.signature, self._clock()
        key = (signature.compute, question.names, limits, question.rows.shape[1:])
        if self._is_alone(key, limits, self._seconds.get(signature.compute, SLOW)):
            return self._compute_alone(question, now)
        future: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        group = self._groups.setdefault(key, _Group(key))
        group.waiting.append(_Waiting(question, future, now, DEADLINE.get()))
        group.rows += rows
        group.looks = 0
        self._plan(group)
        return await future

    def _is_alone(self, key: tuple[object, ...], limits: BatchLimits, seconds: float) -> bool:
        """Say whether a request of a quick model need not look for others."""
        return (
            not self._has_company
            and not self._arriving
            and key not in self._groups
            and not limits.seconds
            and seconds < SLOW
        )

    def _compute_alone(self, question: Question, now: float) -> Scores:
        """Compute a request without the work of gathering.

        Raises:
            RequestError: the model refuses the rows, or the request's deadline has passed.
        """
        if DEADLINE.get() < now:
            raise _late(0.0)
        self._calls += 1
        self._observe(len(question.rows), [0.0])
        try:
            return compute(question)
        finally:
            self._learn(question, self._clock() - now)

    def _learn(self, question: Question, took: float) -> None:
        """Add a call's duration in seconds to the average of its model."""
        calling = question.signature.compute
        known = self._seconds.get(calling, took)
        self._seconds[calling] = known + _WEIGHT * (took - known)

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """Count a request as arriving, so that others wait for it, very shortly."""
        self._arriving += 1
        self._arrived = self._clock()
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                for group in self._groups.values():
                    self._plan(group)

    def _plan(self, group: _Group) -> None:
        """Decide when the first of the group's requests are computed."""
        if group.is_computing or group.is_due or not group.waiting:
            return
        if group.timer is not None:
            group.timer.cancel()
        first = group.waiting[0]
        delay = first.question.signature.batch.seconds - (self._clock() - first.since)
        if delay > 0 and not group.is_full:
            group.timer = asyncio.get_running_loop().call_later(delay, self._start, group)
        else:
            self._look_soon(group)

    @property
    def _has_company(self) -> bool:
        """Whether calls were shared lately, or it is time to try."""
        return self._company > 0 or self._calls % PROBE == 0

    def _look_soon(self, group: _Group) -> None:
        group.is_due = True
        group.timer = asyncio.get_running_loop().call_soon(self._look, group)

    def _look(self, group: _Group) -> None:
        """Compute, unless requests have begun to arrive, or may in the next passes of the loop."""
        group.is_due = False
        now, first = self._clock(), group.waiting[0]
        calling = self._seconds.get(first.question.signature.compute, 0.0)
        patience = min(_CALLS * calling, PATIENCE) - (now - first.since)
        if patience <= 0 or group.is_full:
            self._start(group)
        elif self._has_company and (
            group.looks < LOOKS or now - group.waiting[-1].since < min(QUIET, calling / 2)
        ):
            group.looks += 1
            self._look_soon(group)
        elif self._arriving and now - self._arrived < FRESH:
            wait = min(patience, FRESH)
            group.timer = asyncio.get_running_loop().call_later(wait, self._start, group)
        else:
            self._start(group)

    def _start(self, group: _Group) -> None:
        """Compute the group's first requests, here or in the thread."""
        group.timer = None
        batch = self._take(group)
        if not batch:
            self._plan_rest(group)
            return
        self._calls += 1
        self._company = COMPANY if len(batch) > 1 else max(self._company - 1, 0)
        begin = self._clock()
        questions = [one.question for one in batch]
        self._observe(
            sum(len(question.rows) for question in questions), [begin - one.since for one in batch]
        )
        if self._seconds.get(questions[0].signature.compute, 0.0) < SLOW:
            self._finish(group, batch, answers(questions), begin)
            return
        group.is_computing = True
        loop = asyncio.get_running_loop()
        computing = loop.run_in_executor(self._worker, answers, questions)
        computing.add_done_callback(lambda done: self._finish(group, batch, done.result(), begin))

    def _take(self, group: _Group) -> list[_Waiting]:
        """Remove the requests of the next call; drop those that nobody waits for."""
        taken: list[_Waiting] = []
        room, now = group.waiting[0].question.signature.batch.rows, self._clock()
        while group.waiting:
            first = group.waiting[0]
            rows = len(first.question.rows)
            if first.future.done():
                pass
            elif first.deadline < now:
                first.future.set_exception(_late(now - first.since))
            elif rows <= room:
                room -= rows
                taken.append(first)
            else:
                break
            group.waiting.popleft()
            group.rows -= rows
        return taken

    def _finish(
        self,
        group: _Group,
        batch: Sequence[_Waiting],
        outcomes: Sequence[Outcome],
        begin: float,
    ) -> None:
        """Give the outcomes to their owners, and go on with the group."""
        self._learn(batch[0].question, self._clock() - begin)
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


def _late(waited: float) -> RequestError:
    return RequestError(
        "LATE",
        f"the request's deadline passed after {waited:.3f} s, before the model was called; allow "
        "more time, or send fewer requests at the same time",
        status=504,
    )


def answers(questions: Sequence[Question]) -> list[Outcome]:
    """Return the scores or the error of each question, computed in one call.

    If the call fails, each question is computed alone, so that only the one at fault fails.
    """
    if len(questions) > 1:
        try:
            return list(_together(questions))
        except Exception:
            logger.debug("Computing %d requests again, one by one", len(questions), exc_info=True)
    return [_alone(question) for question in questions]


def _together(questions: Sequence[Question]) -> Iterator[Scores]:
    """Yield the scores of each question.

    Raises:
        RequestError: the model refuses the rows of one of them, or its answer cannot be served.
    """
    first = questions[0]
    rows = np.concatenate([question.rows for question in questions])
    scores = compute(Question(first.signature, rows, first.names))
    begin = 0
    for question in questions:
        end = begin + len(question.rows)
        yield [(name, values[begin:end]) for name, values in scores]
        begin = end


def _alone(question: Question) -> Outcome:
    try:
        return compute(question)
    except Exception as error:  # noqa: BLE001 - raised where its owner waits
        return error


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
