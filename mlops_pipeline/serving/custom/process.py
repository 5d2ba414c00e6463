"""Starts the process of a custom component, calls it, and replaces it if it hangs or ends.

One request after another is answered, as by Seldon's wrapper with one worker. A request waits for
its turn at most `PATIENCE`; the class has `Options.seconds` to answer it.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_pipeline.serving.custom import wire
from mlops_pipeline.serving.custom.metrics import CustomMetrics
from mlops_pipeline.serving.custom.options import OURS, Options
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError

logger = logging.getLogger(__name__)

PATIENCE = 25.0
"""Seconds that a request waits for its turn; with the longest timeout, a gateway still waits."""
MOST_WAITING = 64
"""Requests that may wait for their turn; a further one is refused."""
PAUSE = 5.0
"""Seconds between two starts, if the first one failed."""


@dataclass(frozen=True)
class Facts:
    """What the class says about itself when it is loaded."""

    title: str
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    """Only of a class that shares calls."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    has_raw: bool = False
    has_health: bool = False
    is_rowwise: bool = False


@dataclass(frozen=True)
class Call:
    """A request to the class."""

    value: Any
    """An array of numbers, a list of rows, text, bytes, or JSON."""
    method: str = "predict"
    """`predict`, `raw` (`predict_raw`) or `health` (`health_status`)."""
    names: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """The answer of the class; `tags` and `metrics` belong in `meta` of Seldon's answer."""

    value: Any
    names: tuple[str, ...] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class _Child:
    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    facts: Facts

    def end(self, *, patience: float = 0.2) -> str:
        """End the process and what it has started; return how it ended before, for messages.

        One that ends itself closes its socket first: `patience` is in seconds.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        status = self.process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.channel.close()
        if self.process.stdin:
            self.process.stdin.close()
        if status is None:
            return "closed its connection"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"


class ComponentProcess:
    """The process of one component, which is started again whenever it ends."""

    def __init__(
        self,
        folder: Path,
        module: str,
        class_name: str,
        parameters: Mapping[str, Any],
        options: Options,
    ) -> None:
        """`parameters` are arguments of the constructor."""
        self.options = options
        self.metrics = CustomMetrics()
        self._folder = folder.resolve()
        self._order = {
            "module": module,
            "class": class_name,
            "parameters": dict(parameters),
            "ours": list(OURS),
            "max_memory": options.max_memory,
        }
        self._changed = threading.Condition()
        self._child: _Child | None = None
        self._is_busy = False
        self.problem = ""
        """Why the class is not loaded; empty: it is, or is being loaded."""
        self._ended = 0.0
        self._waiting = 0
        self._is_closed = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="component")
        self._health = ThreadPoolExecutor(1, thread_name_prefix="component-health")
        self.facts = self._start()

    def _start(self) -> Facts:
        """Start the process and wait until the class is loaded.

        Raises:
            StartError: it does not load.
        """
        name = f"{self._order['module']}:{self._order['class']}"
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"{__package__}.worker",
                    str(theirs.fileno()),
                    str(self._folder),
                ],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        child = _Child(process, ours, Facts(name))
        deadline = time.monotonic() + self.options.load_seconds
        try:
            wire.send(ours, {}, self._order)
            said = wire.receive(ours, deadline=deadline)
        except TimeoutError as error:
            child.end()
            raise _unloadable(
                name,
                f"it is not loaded after {self.options.load_seconds:g} s; raise the "
                "parameter load_timeout if it needs longer",
            ) from error
        except wire.WireError as error:
            raise _unloadable(name, f"its process {child.end()}; see the log above") from error
        if "error" in said:
            child.end()
            raise _unloadable(name, said["error"])
        facts = said["value"]
        for name in ("feature_names", "class_names"):
            facts[name] = None if facts[name] is None else tuple(facts[name])
        self._child = _Child(process, ours, Facts(**facts))
        self.problem = ""
        return self._child.facts

    async def ask(self, call: Call, *, deadline: float) -> Answered:
        """Return `self.call(call)` without keeping the event loop; a worker thread waits itself.

        Raises:
            RequestError: as `call`.
        """
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
        try:
            return await loop.run_in_executor(
                threads, lambda: self.call(call, deadline=deadline, since=since)
            )
        finally:
            self._waiting -= 1

    def call(
        self, call: Call, *, deadline: float = float("inf"), since: float | None = None
    ) -> Answered:
        """Return the answer of the class to one request, in any thread.

        `deadline` is a time of `time.monotonic` after which nobody waits for the answer, `since`
        the time at which the request began to wait; by default, this is now.

        Raises:
            RequestError: the class refuses the request, does not answer in time, or its process
                ended; or there was no turn for the request before its deadline.
        """
        began = time.monotonic() if since is None else since
        latest = min(deadline, began + PATIENCE)
        with self._changed:
            remaining = max(latest - time.monotonic(), 0.0)
            free = self._changed.wait_for(lambda: not self._is_busy, remaining)
            if not free or time.monotonic() > latest:
                raise self._late(time.monotonic() - began)
            if self._child is None:
                self._start_later()
                raise RequestError(
                    "NOT_RUNNING",
                    f"the class is not loaded, and will be loaded again: {self.problem}",
                    status=503,
                )
            child, self._is_busy = self._child, True
        is_kept = False
        try:
            answer = self._exchange(child, call)
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
        self.metrics.add(metrics, method=call.method)
        return Answered(
            answer["value"],
            None if names is None else tuple(names),
            answer.get("tags") or {},
            metrics,
        )

    def _exchange(self, child: _Child, call: Call) -> dict[str, Any]:
        """Send a request and return the message that answers it.

        Raises:
            RequestError: there is no answer in time, or the process ended.
        """
        title, seconds = child.facts.title, self.options.seconds
        what = {"raw": "predict_raw", "health": "health_status"}.get(call.method, "predict")
        deadline = time.monotonic() + seconds
        header = {
            "method": call.method,
            "names": list(call.names),
            "meta": dict(call.meta),
            "seconds": seconds,
        }
        try:
            child.channel.settimeout(seconds)
            wire.send(child.channel, header, call.value)
            return wire.receive(child.channel, deadline=deadline)
        except TimeoutError as error:
            raise RequestError(
                "TIMEOUT",
                f"{title}.{what} did not return within {seconds:g} s; its process is replaced. If "
                "it needs longer, raise the parameter timeout",
                status=504,
            ) from error
        except wire.WireError as error:
            how = str(error) or f"its process {child.end()}"
            raise RequestError(
                "CRASHED",
                f"{title}.{what} gave no answer: {how}. The process is replaced; if the system "
                "ended it for its memory, lower the parameter max_memory or give it more",
                status=500,
            ) from error

    def _release(self, child: _Child, *, is_kept: bool) -> None:
        """Let the next request call the class; replace the process first if it cannot go on."""
        if is_kept:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
            return
        logger.warning("The process of %s is replaced", child.facts.title)
        threading.Thread(target=self._replace, args=(child,), daemon=True).start()

    def _replace(self, child: _Child | None) -> None:
        """End the process and start another one. Nobody else calls the class meanwhile."""
        if child is not None:
            child.end()
        self._child = None
        try:
            if not self._is_closed:
                self._start()
        except StartError as error:
            logger.warning("%s", error)
            self.problem = str(error).rstrip(".")
        finally:
            with self._changed:
                self._ended = time.monotonic()
                self._is_busy = False
                self._changed.notify_all()

    def _start_later(self) -> None:
        """Start the process that did not start, unless that was tried just now."""
        if not self._is_closed and time.monotonic() - self._ended > PAUSE:
            self._is_busy = True
            threading.Thread(target=self._replace, args=(None,), daemon=True).start()

    def close(self) -> None:
        """End the process for good."""
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


def _unloadable(name: str, problem: str) -> StartError:
    return StartError(f"The component {name} does not load: {problem}.", code=ExitCode.MODEL)
