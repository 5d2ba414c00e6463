"""One look at all layers of a platform, which ends in time whatever hangs."""

import time
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Drifted,
    Layer,
    LayerState,
    Ready,
    Unknown,
    describe,
)
from mlops_pipeline.platforms.platform import Platform

DEADLINE = 60.0
"""Seconds for all layers together."""
_LOOK = 20.0
"""Seconds for one layer. What it asks answers sooner, or its own timeouts say what does not."""

SeenState = LayerState | Unknown
_NAMES = {Ready: "ready", Absent: "absent", Drifted: "drifted", Broken: "broken"}


def name_of(state: SeenState) -> str:
    """Return one word for a state, as `status` prints it."""
    return _NAMES.get(type(state), "unknown")


def observe_platform(
    platform: Platform, *, deadline: float = DEADLINE, look: float = _LOOK
) -> dict[str, SeenState]:
    """Look at every layer, and return their states by name, in the order of the layers.

    Layers of which none requires another are looked at in parallel. A layer that requires one that
    is broken or unknown is unknown at once, without a look. A layer that is broken, and requires
    one that is absent or drifted, may be broken only because of that: it is unknown too.

    `look` is the seconds for one layer, `deadline` those for all. A layer that does not answer by
    then is unknown, and its thread is left behind. A login comes before, with its own timeout.
    """
    with suppress(PipelineError):  # The lowest layer reports it.
        platform.log_in()
    return _Look(platform.layers, deadline=deadline, each=look).run()


class _Look:
    """The layers that were seen, and those that are being looked at."""

    def __init__(self, layers: Sequence[Layer], *, deadline: float, each: float) -> None:
        self._deadline = deadline
        self._end = time.monotonic() + deadline
        self._each = each
        self._layers = {layer.name: layer for layer in layers}
        self._ends: dict[str, tuple[float, float]] = {}
        """Of each layer that is being looked at: when its time is over, and how long that is."""
        self._seen: dict[str, SeenState] = {}
        self._answers: SimpleQueue[tuple[Layer, LayerState | BaseException]] = SimpleQueue()

    def run(self) -> dict[str, SeenState]:
        self._start()
        while self._ends:
            self._wait()
            self._start()
        return {name: self._seen[name] for name in self._layers}

    def _start(self) -> None:
        """Start to look at each layer whose requirements were seen: they come before it."""
        for name, layer in self._layers.items():
            if name in self._seen or name in self._ends or self._is_waiting(layer):
                continue
            left = min(self._each, self._end - time.monotonic())
            if below := self._describe_below(layer, Broken, Unknown):
                self._seen[name] = Unknown(below)
            elif left <= 0:
                self._seen[name] = Unknown(f"was not looked at within {self._deadline:g} s")
            else:
                self._ends[name] = time.monotonic() + left, left
                # A daemon: one that hangs does not keep the command from ending.
                Thread(target=self._ask, args=(layer,), name=f"look at {name}", daemon=True).start()

    def _is_waiting(self, layer: Layer) -> bool:
        return any(name in self._layers and name not in self._seen for name in layer.requires)

    def _ask(self, layer: Layer) -> None:
        try:
            self._answers.put((layer, layer.observe()))
        except BaseException as error:  # noqa: BLE001 - raised where the answer is read
            self._answers.put((layer, error))

    def _wait(self) -> None:
        """Wait for one answer, or until the time of a layer is over."""
        end, name = min((end, name) for name, (end, _) in self._ends.items())
        try:
            layer, answer = self._answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            _, seconds = self._ends.pop(name)
            self._seen[name] = Unknown(f"did not answer within {seconds:.3g} s")
            return
        if self._ends.pop(layer.name, None):  # Else the answer comes too late.
            self._seen[layer.name] = self._judge(layer, answer)

    def _judge(self, layer: Layer, answer: LayerState | BaseException) -> SeenState:
        if isinstance(answer, PipelineError):
            answer = Broken.by(answer)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Broken) and (below := self._describe_below(layer, Absent, Drifted)):
            return Unknown(f"{below}; {describe(answer)}")
        return answer

    def _describe_below(self, layer: Layer, *unready: type) -> str:
        """Say which layers that it requires are in such a state; empty for none."""
        found = [
            f"{name}, which {_verb_for(self._seen[name])} {name_of(self._seen[name])}"
            for name in layer.requires
            if isinstance(self._seen.get(name), unready)
        ]
        return f"requires {' and '.join(found)}" if found else ""


def _verb_for(state: SeenState) -> str:
    return "has" if isinstance(state, Drifted) else "is"
