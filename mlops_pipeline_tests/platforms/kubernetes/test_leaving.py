from collections.abc import Sequence

from mlops_pipeline.platforms.kubernetes.leaving import describe, leave
from mlops_pipeline.platforms.layers import Change, HealthCheck, LayerState, Ready
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes


class Plain:
    description = ""
    kinds: tuple[str, ...] = ()
    checks: tuple[HealthCheck, ...] = ()

    def __init__(self, name: str, removed: list[str], *, requires: Sequence[str] = ()) -> None:
        self.name = name
        self.requires = tuple(requires)
        self._removed = removed

    def observe(self) -> LayerState:
        return Ready()

    def ensure(self) -> Change:
        return Change("unchanged")

    def remove(self) -> None:
        self._removed.append(self.name)


class Used(Plain):
    given: Sequence[str] = ()

    def users(self) -> Sequence[str]:
        return self.given


def layers(removed: list[str]) -> list[Used | Plain]:
    return [
        Used("balancer", removed),
        Used("gateway", removed, requires=["balancer"]),
        Plain("store", removed, requires=["balancer"]),
        Used("operator", removed, requires=["gateway"]),
    ]


def test_layers_go_in_reverse_order() -> None:
    removed: list[str] = []
    assert leave(layers(removed)) == {}
    assert removed == ["operator", "store", "gateway", "balancer"]


def test_what_somebody_else_uses_stays_with_all_that_it_stands_on() -> None:
    removed: list[str] = []
    made = layers(removed)
    assert isinstance(made[3], Used)
    made[3].given = ["SeldonDeployment a/b"]
    kept = leave(made)
    assert removed == ["store"]
    assert describe(FakeKubernetes(), kept) == (
        "operator stays, for SeldonDeployment a/b of somebody else",
        "gateway stays, for operator",
        "balancer stays, for gateway",
    )


def test_many_users_are_counted() -> None:
    removed: list[str] = []
    made = layers(removed)
    assert isinstance(made[0], Used)
    made[0].given = [f"Service a/{number}" for number in range(7)]
    assert leave(made)["balancer"].endswith("Service a/4 of somebody else, and 2 more")
    assert removed == ["operator", "store", "gateway"]
