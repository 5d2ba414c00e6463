"""One process of a custom component, from its start to its end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops_pipeline.serving.custom import options as limiting
from mlops_pipeline.serving.custom import scratch, wire
from mlops_pipeline.serving.custom.calls import Call, Facts
from mlops_pipeline.serving.custom.options import Options
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError

_STEP = 0.01
"""Seconds between two looks whether the process has ended."""


class Child:
    """A process that has loaded the class."""

    def __init__(self, folder: Path, order: Mapping[str, Any], options: Options) -> None:
        """Start the process and wait until the class is loaded; `order` says which class.

        Raises:
            StartError: it does not load, or the system starts no process.
        """
        name = f"{order['module']}:{order['class']}"
        self.options = options
        """Its limits: the graph's, or those of the artifact that the graph does not set."""
        self._lock = threading.Lock()
        self._how = ""
        self._scratch = scratch.make(folder)
        self.channel, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = self._begin(theirs, folder)
            except OSError as error:
                self.channel.close()
                self._clear()
                raise unloadable(name, f"its process does not start: {error}") from error
        self.facts = Facts(name)
        try:
            self.facts = self._load(name, order)
        except BaseException:
            self.end(patience=0)
            raise

    def _begin(self, theirs: socket.socket, folder: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [
                *(sys.executable, "-m", f"{__package__}.worker"),
                *(str(theirs.fileno()), str(folder), str(self._scratch or folder)),
            ],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    def _load(self, name: str, order: Mapping[str, Any]) -> Facts:
        """Return what the class says of itself when it is loaded.

        Raises:
            StartError: it does not load.
        """
        seconds = self.options.load_seconds
        try:
            self.channel.settimeout(seconds)
            wire.send(self.channel, {}, order)
            began = time.monotonic()
            said = wire.receive(self.channel, deadline=began + seconds)
            if limits := said.get("limits"):
                self.options = limiting.read({**limits, **order["limits"]})
                seconds = self.options.load_seconds
                agreed = {"max_memory": self.options.max_memory, "load_seconds": seconds}
                wire.send(self.channel, {}, agreed)
                said = wire.receive(self.channel, deadline=began + seconds)
        except TimeoutError as error:
            raise unloadable(
                name,
                f"it is not loaded after {seconds:g} s; raise the parameter load_timeout if it "
                "needs longer",
            ) from error
        except wire.WireError as error:
            raise unloadable(name, f"its process {self.end()}; see the log above") from error
        if "error" in said:
            raise unloadable(name, said["error"])
        facts = said["value"]
        names = tuple(facts["feature_names"])
        return Facts(**{**facts, "feature_names": names, "limits": limits or {}})

    def exchange(self, call: Call) -> dict[str, Any]:
        """Send a request and return the message that answers it.

        Raises:
            RequestError: there is no answer in time, or the process ended.
            TypeError: the request cannot be sent; nothing was.
        """
        title, seconds = self.facts.title, self.options.seconds
        what = {"raw": "predict_raw", "health": "health_status"}.get(call.method, "predict")
        deadline = time.monotonic() + seconds
        header = {
            "method": call.method,
            "names": list(call.names),
            "meta": dict(call.meta),
            "are_rows": call.are_rows,
            "seconds": seconds,
        }
        try:
            self.channel.settimeout(seconds)
            wire.send(self.channel, header, call.value)
            return wire.receive(
                self.channel, deadline=deadline, most=self.options.most_answer_bytes
            )
        except TimeoutError as error:
            raise RequestError(
                "TIMEOUT",
                f"{title}.{what} did not return within {seconds:g} s; its process is replaced. If "
                "it needs longer, raise the parameter timeout",
                status=504,
            ) from error
        except wire.WireError as error:
            how = str(error) or f"its process {self.end()}"
            raise RequestError(
                "CRASHED",
                f"{title}.{what} gave no answer: {how}. The process is replaced; if the system "
                "ended it for its memory, lower the parameter max_memory or give it more",
                status=500,
            ) from error

    def is_alive(self) -> bool:
        """Say whether the process waits for a request: an end or a stray message make it useless.

        Call it only between two requests.
        """
        try:
            self.channel.settimeout(0)
            self.channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._has_ended()
        except OSError:
            pass
        return False

    def _has_ended(self) -> bool:
        """Say whether the process has ended, and leave it as a zombie, which keeps its number."""
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13.
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.process.pid, options) is not None
        return True

    def end(self, *, patience: float = 0.2) -> str:
        """End the process and what it has started; return how it ended before, for messages.

        One that ends itself closes its socket first: `patience` is in seconds. The group is killed
        before its leader is reaped, and once: later, its number may be another group's.
        """
        with self._lock:
            if not self._how:
                self._how = self._end(patience)
            return self._how

    def _end(self, patience: float) -> str:
        deadline = time.monotonic() + patience
        while not (ended := self._has_ended()) and time.monotonic() < deadline:
            threading.Event().wait(_STEP)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.channel.close()
        if self.process.stdin:
            self.process.stdin.close()
        self._clear()
        if not ended:
            return "closed its connection"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"

    def _clear(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def unloadable(name: str, problem: str) -> StartError:
    """Return the error of a class that does not load."""
    return StartError(f"The component {name} does not load: {problem}.", code=ExitCode.MODEL)
