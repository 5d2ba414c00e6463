"""One look at a platform: in parallel, in time, and nothing is asked that stands on a fault."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Barrier, Event
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotDownloadedError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Drifted,
    LayerState,
    Ready,
    Unknown,
    with_required,
)
from mlops_pipeline.platforms.observing import SeenState, observe_platform
from mlops_pipeline_tests.fakes.platform import FakeLayer, FakePlatform

BROKEN = Broken("it does not answer")


@dataclass
class Watched(FakeLayer):
    """A layer that counts the looks at it; `act` runs in each."""

    act: Callable[[], Any] = lambda: None
    looks: int = field(default=0)

    def observe(self) -> LayerState:
        self.looks += 1
        self.act()
        return super().observe()


def look(*layers: FakeLayer, **limits: float) -> dict[str, SeenState]:
    platform: Any = FakePlatform()
    platform.layers = layers
    return observe_platform(platform, **limits)


def test_states_come_in_the_order_of_the_layers() -> None:
    base = FakeLayer("base", state=Ready({"address": "here"}))
    slow = Watched("slow", ("base",), Ready(), act=lambda: Event().wait(0.05))
    quick = FakeLayer("quick", ("base",), Drifted(("its port",)))
    seen = look(base, slow, quick)
    assert list(seen.items()) == [
        ("base", Ready({"address": "here"})),
        ("slow", Ready()),
        ("quick", Drifted(("its port",))),
    ]


def test_independent_layers_are_looked_at_at_once() -> None:
    meet = Barrier(3)
    layers = [Watched(f"l{n}", ("base",), Ready(), act=lambda: meet.wait(5)) for n in range(3)]
    seen = look(FakeLayer("base", state=Ready()), *layers)
    assert list(seen.values()) == [Ready()] * 4


def test_what_stands_on_a_broken_layer_is_unknown_without_a_look() -> None:
    base = FakeLayer("base", state=BROKEN)
    middle, top = Watched("middle", ("base",)), Watched("top", ("middle",))
    beside = Watched("beside", (), Ready())
    assert look(base, middle, top, beside) == {
        "base": BROKEN,
        "middle": Unknown("requires base, which is broken"),
        "top": Unknown("requires middle, which is unknown"),
        "beside": Ready(),
    }
    assert (middle.looks, top.looks, beside.looks) == (0, 0, 1)


@pytest.mark.parametrize(
    ("below", "above", "seen"),
    [
        (Absent(), Absent(), Absent()),
        (Absent(), Ready(), Ready()),
        (Drifted(("a",)), Drifted(("b",)), Drifted(("b",))),
        (Ready(), BROKEN, BROKEN),
        (Absent(), BROKEN, Unknown("requires base, which is absent; it does not answer")),
        (
            Drifted(("its pool is gone",)),
            Broken("no address", obstacle="ask for one"),
            Unknown("requires base, which has drifted; ask for one"),
        ),
    ],
)
def test_what_is_broken_above_another_that_is_not_ready_may_be_so_only_for_that(
    below: LayerState, above: LayerState, seen: SeenState
) -> None:
    layers = FakeLayer("base", state=below), FakeLayer("top", ("base",), above)
    assert look(*layers)["top"] == seen


def test_a_layer_that_hangs_is_reported_in_time_and_nobody_waits_for_what_stands_on_it() -> None:
    released = Event()
    layers = [
        Watched("hangs", state=Ready(), act=lambda: released.wait(30)),
        *(Watched(f"above{n}", ("hangs",), Ready()) for n in range(5)),
        FakeLayer("beside", state=Ready()),
    ]
    start = time.monotonic()
    seen = look(*layers, look=0.2)
    taken = time.monotonic() - start
    released.set()
    assert 0.2 <= taken < 10
    assert seen["hangs"] == Unknown("did not answer within 0.2 s")
    assert seen["above3"] == Unknown("requires hangs, which is unknown")
    assert seen["beside"] == Ready()
    assert [layer.looks for layer in layers[1:6] if isinstance(layer, Watched)] == [0] * 5


def test_a_login_that_takes_longer_than_a_look_comes_before_it() -> None:
    done = Event()
    platform: Any = FakePlatform()
    platform.layers = (Watched("base", state=Ready(), act=lambda: done.wait(5)),)

    def log_in() -> None:
        Event().wait(0.4)
        done.set()
        raise UnavailableError("what the layer says counts")

    platform.log_in = log_in
    assert observe_platform(platform, look=0.2, deadline=0.3) == {"base": Ready()}


def test_all_looks_together_end_by_the_deadline() -> None:
    released = Event()
    layers = [
        FakeLayer("quick", state=Ready()),
        *(Watched(f"l{n}", ("quick",), Ready(), act=lambda: released.wait(60)) for n in range(5)),
    ]
    start = time.monotonic()
    seen = look(*layers, deadline=1)
    taken = time.monotonic() - start
    released.set()
    assert 1 <= taken < 10
    assert seen["quick"] == Ready()
    reasons = [seen[f"l{n}"].reason for n in range(5)]  # type: ignore[union-attr]
    assert all(reason.startswith("did not answer within") for reason in reasons)
    assert look(FakeLayer("a"), deadline=0)["a"] == Unknown("was not looked at within 0 s")


@pytest.mark.parametrize(
    ("error", "is_repairable"),
    [
        (UnavailableError("it is restarting"), True),
        (NotDownloadedError("the chart is missing"), True),
        (AccessDeniedError("you may not list nodes"), False),
        (ConfigurationError("no context is set; set one"), False),
    ],
)
def test_an_error_of_a_look_is_a_broken_layer(error: PipelineError, *, is_repairable: bool) -> None:
    def fail() -> None:
        raise error

    state = look(Watched("a", act=fail))["a"]
    assert isinstance(state, Broken)
    assert (state.reason, state.is_repairable) == (str(error), is_repairable)
    assert state.obstacle in ("", str(error))


def test_a_defect_is_raised_where_the_look_began() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look(Watched("a", act=fail))


def test_a_layer_comes_with_all_that_it_requires() -> None:
    layers = [
        FakeLayer("cluster"),
        FakeLayer("metallb", ("cluster",)),
        FakeLayer("image", ("cluster",)),
        FakeLayer("istio", ("metallb",)),
        FakeLayer("seldon", ("istio", "image")),
    ]
    assert with_required(layers, ["istio"]) == ["cluster", "metallb", "istio"]
    assert with_required(layers, ["seldon"]) == [layer.name for layer in layers]
    assert with_required(layers, []) == []
