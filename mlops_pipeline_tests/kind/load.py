"""Requests to a deployment in a cluster, in the background of a test."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx

from mlops_pipeline_tests.command_line import trusting

_TIMEOUT = 20.0
"""Seconds in which a request must be answered."""
_PAUSE = 0.02
"""Seconds between two requests of a client."""


@dataclass
class Load:
    """Requests in the background: what failed, and which digests answered."""

    failures: list[str] = field(default_factory=list)
    digests: Counter[str] = field(default_factory=Counter)


@contextmanager
def load(url: str, row: list[float]) -> Iterator[Load]:
    """Two connections that are kept, and one that is new for each request: 50 to 100 a second."""
    seen, stop = Load(), threading.Event()
    body = {"data": {"ndarray": [row]}}

    def ask(*, keep: bool) -> None:
        client = httpx.Client(timeout=_TIMEOUT, verify=trusting(url))
        once = partial(httpx.post, timeout=_TIMEOUT, verify=trusting(url))
        send: Callable[..., httpx.Response] = client.post if keep else once
        while not stop.wait(_PAUSE):
            try:
                answer = send(url, json=body)
            except httpx.HTTPError as error:
                seen.failures.append(repr(error))
                continue
            if answer.status_code == 200:
                seen.digests[answer.headers["x-model-digest"]] += 1
            else:
                seen.failures.append(f"{answer.status_code}: {answer.text[:200]}")
        client.close()

    threads = [
        threading.Thread(target=ask, kwargs={"keep": keep}, daemon=True)
        for keep in (True, True, False)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
