"""The bounded queue of what is recorded, and the thread that writes it to the spool.

Only `Recorder.record` and `feed` are called in the event loop: they choose, and append to a queue.
Whatever cannot be kept is dropped and counted; no answer waits for it.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from mlops_pipeline.serving.recording.exchange import Exchange, Source, Switch
from mlops_pipeline.serving.recording.format import Recording
from mlops_pipeline.serving.recording.rows import (
    MOST_BODY_BYTES,
    Feedback,
    Lines,
    memory_of,
    size_of,
)
from mlops_pipeline.serving.recording.spool import Spool, SpoolFull

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Rows in the queue; a further one is dropped."""
MOST_WAITING_BYTES = 64 << 20
PAUSE = 0.2
"""Seconds between two looks into the queue. The writer is not woken by a request: a thread that
wakes up for each of them would take the interpreter from the event loop each time."""
_SLICE = 32
"""Rows that are written before the event loop gets the interpreter again."""
_YIELD = 0.0005
_COMPLAINT_SECONDS = 60.0

RECORDED, SAMPLED, CAPPED, FULL, SPOOL, BROKEN = FATES = (
    "recorded",
    "not_sampled",
    "over_cap",
    "queue_full",
    "spool_full",
    "unwritable",
)
"""What becomes of a row: the label `fate` of the counter. All but the first two are losses."""


class Recorder:
    """Records the answers of one server."""

    def __init__(
        self,
        recording: Recording,
        *,
        model: str,
        deployment: str,
        registry: CollectorRegistry = REGISTRY,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`model` names the folder of the rows, and `deployment` is a field of each."""
        rows = Counter(
            "mlops_answer_rows",
            "Rows of the log of answers: recorded, not chosen, or dropped",
            ["fate"],
            registry=registry,
        )
        self._fates = {fate: rows.labels(fate) for fate in FATES}
        self._recording = recording
        self._now = now
        self._lines = Lines(recording, model=model, deployment=deployment)
        self._spool = Spool(
            Path(recording.folder) / model,
            most_bytes=recording.spool_bytes,
            batch_seconds=recording.batch_seconds,
            now=now,
        )
        self._queue: deque[tuple[Exchange | Feedback, int]] = deque()
        self._put_bytes = self._taken_bytes = 0  # Each is written by one thread.
        self._caps = {True: _Cap(recording.per_second), False: _Cap(recording.per_second)}
        self._stopping = threading.Event()
        self._complained = float("-inf")
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        Switch.is_on = True

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self, *, patience: float = 3.0) -> None:
        """Write what waits, within `patience` seconds, and complete the file."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(patience)

    def record(self, exchange: Exchange) -> None:
        """Take an exchange, or leave it: called in the event loop, after the answer is known.

        Errors are recorded whatever the sample rate is, and have a cap of their own.
        """
        if exchange.is_skipped or not exchange.status:
            return
        now = exchange.time = self._now()
        is_error = bool(exchange.reason)
        if not is_error and not is_sampled(exchange.identifier, self._recording.sample):
            self._fates[SAMPLED].inc()
        elif not self._caps[is_error].admits(now):
            self._fates[CAPPED].inc()
        else:
            _lighten(exchange)
            self._put(exchange)

    def feed(
        self, source: Source, identifier: str, reward: float | None, truth: object, *, size: int
    ) -> None:
        """Take a feedback of `size` bytes: it has no cap, and is not sampled."""
        is_large = size > MOST_BODY_BYTES and truth is not None
        truth = None if is_large else truth
        self._put(Feedback(source, identifier, self._now(), reward, truth, size, is_large))

    def _put(self, item: Exchange | Feedback) -> None:
        size = memory_of(item)
        waiting = self._put_bytes - self._taken_bytes
        if len(self._queue) >= MOST_WAITING or waiting + size > MOST_WAITING_BYTES:
            self._fates[FULL].inc()
            return
        self._put_bytes += size
        self._queue.append((item, size))

    def _run(self) -> None:
        """Write until told to stop, and then what is left."""
        while not self._stopping.wait(PAUSE):
            self._write_all()
        self._write_all()
        with contextlib.suppress(OSError):  # The shipper completes it.
            self._spool.complete()

    def _write_all(self) -> None:
        lines: list[bytes] = []
        while self._queue:
            for _ in range(min(_SLICE, len(self._queue))):
                self._add_next(lines)
            self._stopping.wait(_YIELD)  # The event loop gets the interpreter.
            if sum(map(len, lines)) > 1 << 20:
                self._append(lines)
                lines = []
        if lines:
            self._append(lines)
        try:
            self._spool.complete_if_due()
        except Exception as error:  # noqa: BLE001  # The thread must go on.
            self._complain(f"a file of the spool cannot be completed: {error}")

    def _add_next(self, lines: list[bytes]) -> None:
        item, size = self._queue.popleft()
        self._taken_bytes += size
        try:
            if isinstance(item, Feedback):
                lines.append(self._lines.of_feedback(item))
            else:
                lines.append(self._lines.of_exchange(item))
        except Exception as error:  # noqa: BLE001  # A class's own types may raise anything.
            self._fates[BROKEN].inc()
            self._complain(f"an answer cannot be recorded: {type(error).__name__}")

    def _append(self, lines: list[bytes]) -> None:
        try:
            self._spool.append(lines)
        except SpoolFull:
            self._fates[SPOOL].inc(len(lines))
            self._complain("the spool is full: is the object store down, or the shipper?")
        except OSError as error:
            self._fates[SPOOL].inc(len(lines))
            self._complain(f"the spool cannot be written: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  # The thread must go on.
            self._fates[BROKEN].inc(len(lines))
            self._complain(f"rows cannot be written: {error!r}")
        else:
            self._fates[RECORDED].inc(len(lines))

    def _complain(self, problem: str) -> None:
        """Log a problem, at most once a minute."""
        now = time.monotonic()
        if now - self._complained >= _COMPLAINT_SECONDS:
            self._complained = now
            logger.warning("Answers are not recorded: %s", problem)


def _lighten(exchange: Exchange) -> None:
    """Drop what is not written."""
    exchange.is_large = size_of(exchange) > MOST_BODY_BYTES
    if exchange.is_large or exchange.reason:
        exchange.question = exchange.call = exchange.answered = None
        exchange.scores = ()


class _Cap:
    """Admits a number of rows in each second."""

    def __init__(self, per_second: int) -> None:
        self._most = per_second
        self._second = self._count = 0

    def admits(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        return self._count <= self._most


def is_sampled(identifier: str, share: float) -> bool:
    """Say whether the answer with this id is in the sample: the same for all servers."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(identifier.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest) < share * (1 << 64)
