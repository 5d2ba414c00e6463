"""Calls the process of a custom component, and replaces it if it hangs or ends.

One request after another is answered, as by Seldon's wrapper with one worker. A request waits for
its turn at most `PATIENCE`; the class has `Options.seconds` to answer it. A class that does not
load again is tried again until it does, after longer and longer pauses.
"""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlops_pipeline.serving.custom.calls import Answered, Call
from mlops_pipeline.serving.custom.child import Child
from mlops_pipeline.serving.custom.health import Health
from mlops_pipeline.serving.custom.metrics import CustomMetrics
from mlops_pipeline.serving.custom.options import OURS, Options
from mlops_pipeline.serving.errors import RequestError, StartError

logger = logging.getLogger(__name__)

PATIENCE = 25.0
"""Seconds that a request waits for its turn; with the longest timeout, a gateway still waits."""
MOST_WAITING = 64
"""Requests that may wait for their turn; a further one is refused."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two starts, if the first one failed; each pause is twice the one before."""
NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
"""The reason if the class has `predict_raw` only from its base class."""


class ComponentProcess:
    """The process of one component, which is started again whenever it ends."""

    def __init__(
        self,
        folder: Path,
        module: str,
        class_name: str,
        parameters: Mapping[str, Any],
        options: Options,
        *,
        limits: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`parameters` are arguments of the constructor, `limits` what the graph sets of `LIMITS`.

        Raises:
            StartError: the class does not load.
        """
        self.options = options
        self.metrics = CustomMetrics()
        self.health = Health(weakref.proxy(self))
        self._folder = folder.resolve()
        self._order = {
            "module": module,
            "class": class_name,
            "parameters": dict(parameters),
            "ours": list(OURS),
            "limits": dict(limits),
            "max_memory": options.max_memory,
            "load_seconds": options.load_seconds,
        }
        self._changed = threading.Condition()
        self._child: Child | None = None
        self._is_busy = False
        self._problem = ""
        """Why the class is not loaded; empty: it is, or is being loaded again."""
        self._waiting = 0
        self._is_closed = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="component")
        self._health = ThreadPoolExecutor(1, thread_name_prefix="component-health")
        self._child = Child(self._folder, self._order, options)
        self.facts, self.options = self._child.facts, self._child.options

    @property
    def problem(self) -> str:
        """Why no request can be answered now; empty: the class is loaded.

        A process that has ended without a request is replaced.
        """
        with self._changed:
            child = self._child
            if child is not None and not self._is_busy and not child.is_alive():
                self._is_busy = True
                self._begin_replacing(child)
            if self._child is not None:
                return ""
            return self._problem or f"{self.facts.title} is being loaded again"

    async def ask(self, call: Call, *, deadline: float) -> Answered:
        """Return `self.call(call)` without keeping the event loop; a worker thread waits itself.

        Raises:
            RequestError: as `call`.
        """
        latest = min(deadline, time.monotonic() + PATIENCE)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.call(call, deadline=deadline)
        if self._waiting >= MOST_WAITING:
            raise RequestError(
                "TOO_BUSY",
                f"{self._waiting} requests wait for {self.facts.title} already; retry",
                status=429,
            )
        since = time.monotonic()
        threads = self._health if call.method == "health" else self._threads
        self._waiting += 1
        begun = threading.Event()
        answering = loop.run_in_executor(
            threads, lambda: self.call(call, deadline=latest, since=since, begun=begun)
        )
        try:
            waiting = max(latest - time.monotonic(), 0.0)
            done, _ = await asyncio.wait([answering], timeout=waiting)
            # The thread answers those before it first: the deadline is ours to keep.
            if not done and not begun.is_set() and answering.cancel():
                raise self._late(time.monotonic() - since)
            return await answering
        except asyncio.CancelledError:
            answering.cancel()  # Nobody waits any more: if it has not begun, it is not computed.
            raise
        finally:
            self._waiting -= 1

    def call(
        self,
        call: Call,
        *,
        deadline: float = float("inf"),
        since: float | None = None,
        begun: threading.Event | None = None,
    ) -> Answered:
        """Return the answer of the class to one request, in any thread.

        `deadline` is a time of `time.monotonic` after which nobody waits for the answer, `since`
        the time at which the request began to wait; by default, this is now. `begun` is set when
        the class gets the request.

        Raises:
            RequestError: the class refuses the request, does not answer in time, or its process
                ended; or there was no turn for the request before its deadline.
        """
        began = time.monotonic() if since is None else since
        child = self._turn(began, min(deadline, began + PATIENCE))
        if begun is not None:
            begun.set()
        is_kept = False
        try:
            answer = child.exchange(call)
            is_kept = answer.get("reason") != "OUT_OF_MEMORY"
        except TypeError as error:  # Nothing was sent.
            is_kept = True
            raise RequestError(
                "WRONG_TYPE", f"the request cannot be passed to the class: {error}"
            ) from error
        finally:
            self._release(child, is_kept=is_kept)
        if "error" in answer:
            raise RequestError(answer["reason"], answer["error"], status=answer["status"])
        names, metrics = answer.get("names"), tuple(answer.get("metrics") or ())
        self.metrics.add(metrics)
        return Answered(
            answer["value"],
            None if names is None else tuple(names),
            answer.get("tags") or {},
            metrics,
        )

    def _turn(self, began: float, latest: float) -> Child:
        """Wait until the class is free, and take it; replace first a process that has ended.

        Raises:
            RequestError: it is not free until `latest`, or not loaded.
        """
        with self._changed:
            while True:
                remaining = max(latest - time.monotonic(), 0.0)
                free = self._changed.wait_for(lambda: not self._is_busy, remaining)
                if not free or time.monotonic() > latest:
                    raise self._late(time.monotonic() - began)
                if self._child is None:
                    raise RequestError(
                        "NOT_RUNNING",
                        f"the class is not loaded, and will be loaded again: {self._problem}",
                        status=503,
                    )
                self._is_busy = True
                if self._child.is_alive():
                    return self._child
                self._begin_replacing(self._child)

    def is_free(self) -> bool:
        """Say whether a request would have its turn now."""
        return not self._is_busy and not self._waiting

    def _release(self, child: Child, *, is_kept: bool) -> None:
        """Let the next request call the class; replace the process first if it cannot go on."""
        with self._changed:
            if is_kept:
                self._is_busy = False
                self._changed.notify_all()
            else:
                self._begin_replacing(child)

    def _begin_replacing(self, child: Child) -> None:
        """Replace the process in a thread. Nobody else calls the class meanwhile."""
        logger.warning("The process of %s is replaced", child.facts.title)
        self._child, self._problem = None, ""
        threading.Thread(target=self._replace, args=(child,), daemon=True).start()

    def _replace(self, child: Child | None, pause: float = PAUSE) -> None:
        """End the process and start another one; if that fails, plan the next start."""
        if child is not None:
            child.end()
        found, problem = None, f"{self.facts.title} is closed"
        try:
            if not self._is_closed:
                found = Child(self._folder, self._order, self.options)
        except (StartError, OSError) as error:
            logger.warning("%s It is tried again in %g s.", error, pause)
            problem = str(error).rstrip(".")
            _later(pause, weakref.ref(self))
        finally:
            with self._changed:
                # Closed meanwhile: the new process would outlive its server.
                if found is not None and self._is_closed:
                    found.end(patience=0)
                    found = None
                self._child, self._problem = found, "" if found else problem
                self._is_busy = False
                self._changed.notify_all()

    def close(self) -> None:
        """End the process for good."""
        with self._changed:
            self._is_closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end(patience=0)

    def __del__(self) -> None:
        """End the process of a model that nobody uses any more."""
        if hasattr(self, "_is_closed"):
            self.close()

    def _late(self, waited: float) -> RequestError:
        return RequestError(
            "LATE",
            f"{self.facts.title} was busy with other requests for {waited:.1f} s; allow more time, "
            "send fewer requests at the same time, or raise the number of replicas",
            status=504,
        )


def _later(pause: float, reference: "weakref.ref[ComponentProcess]") -> None:
    """Start the class again after a pause, unless nobody uses the component any more."""

    def again() -> None:
        component = reference()
        if component is not None:
            component._replace(None, min(2 * pause, LONGEST_PAUSE))

    timer = threading.Timer(pause, again)
    timer.daemon = True
    timer.start()
