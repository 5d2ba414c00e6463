"""Predictions asked for in the background, while a test does something to the platform."""

import threading
import time

import httpx

from mlops_pipeline_tests.command_line import trusting
from mlops_pipeline_tests.embedded.rig import Rig

_TIMEOUT = 10.0
"""Seconds in which a request must be answered."""
_LONGEST = 100.0
"""Seconds after which a client ends by itself."""
_LEAST = 20
"""Answers without which a load says nothing about what is done under it."""


class Load:
    """Requests from some clients, each with its connection, until the block ends.

    All clients together send `rate` requests a second: those that send the next one at once take
    both processors of a small machine, and what is tested gets none.
    """

    def __init__(self, rig: Rig, *, clients: int, rate: float) -> None:
        self._url = rig.url()
        self._period = clients / rate
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self.digests: list[str] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        deadline = time.monotonic() + _TIMEOUT + 5
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        waiting = sum(thread.is_alive() for thread in self._threads)
        self.failures += ["a request was never answered"] * waiting
        if len(self.digests) < _LEAST:
            self.failures.append(f"only {len(self.digests)} requests were answered")

    def _run(self) -> None:
        due = time.monotonic()
        deadline = due + _LONGEST
        with httpx.Client(timeout=_TIMEOUT, verify=trusting(self._url)) as client:
            while not self._over.is_set() and time.monotonic() < deadline:
                self._ask(client)
                due += self._period
                self._over.wait(max(0.0, due - time.monotonic()))
        if not self._over.is_set():
            self.failures.append(f"the load ended by itself after {_LONGEST:g} s")

    def _ask(self, client: httpx.Client) -> None:
        try:
            answer = client.post(self._url, json={})
            answer.raise_for_status()
            self.digests.append(answer.json()["digest"])
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
