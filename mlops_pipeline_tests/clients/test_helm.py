import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.helm import Helm, Release, find_release
from mlops_pipeline.clients.kubernetes import SECRET, Resource
from mlops_pipeline_tests.clients.stand_in import Answer, Call, StandIn
from mlops_pipeline_tests.fakes.helm import FakeHelm, release_secret
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes, Reference

CHART = Path("/charts/istiod-1.31.0.tgz")


def _helm(tmp_path: Path, api: FakeKubernetes, *answers: Answer) -> tuple[Helm, StandIn]:
    program = StandIn(tmp_path / "helm", answers, reads=["-"])
    kubeconfig, home = tmp_path / "kubeconfig", tmp_path / "home"
    helm = Helm(program.path, kubeconfig=kubeconfig, context="kind-a", home=home, api=api)
    return helm, program


def _upgrade(helm: Helm | FakeHelm, *, labels: Mapping[str, str] | None = None) -> None:
    helm.upgrade(
        "istiod",
        chart=CHART,
        namespace="istio-system",
        values={"pilot": {"cpu": "50m"}, "text": "a,b=c"},
        timeout=7,
        labels=labels or {"app.kubernetes.io/managed-by": "mlops-pipeline", "x/inputs": "0a"},
    )


def _after(call: Call, flag: str) -> str:
    return call.arguments[call.arguments.index(flag) + 1]


def test_a_chart_is_installed_with_its_values_on_standard_input(tmp_path: Path) -> None:
    helm, program = _helm(tmp_path, FakeKubernetes())
    _upgrade(helm)
    [call] = program.calls
    assert call.arguments[:5] == [
        "upgrade",
        "istiod",
        str(CHART),
        "--install",
        "--create-namespace",
    ]
    assert _after(call, "--namespace") == "istio-system"
    assert _after(call, "--labels") == "app.kubernetes.io/managed-by=mlops-pipeline,x/inputs=0a"
    assert _after(call, "--timeout") == "7s"
    assert _after(call, "--kubeconfig") == str(tmp_path / "kubeconfig")
    assert _after(call, "--kube-context") == "kind-a"
    assert "--wait" not in call.arguments
    assert json.loads(call.stdin) == {"pilot": {"cpu": "50m"}, "text": "a,b=c"}


def test_nothing_of_the_users_is_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_DRIVER", "HELM_PLUGINS", "KUBECACHEDIR")
    for variable in ours:
        monkeypatch.setenv(variable, "the user's")
    helm, program = _helm(tmp_path, FakeKubernetes())
    _upgrade(helm)
    environment = program.calls[0].environment.items()
    seen = {k: v for k, v in environment if k.startswith("HELM_") or k == "KUBECACHEDIR"}
    assert "the user's" not in seen.values()
    assert seen["HELM_DRIVER"] == "secret"
    for variable, value in seen.items():
        if variable.endswith(("_HOME", "_CONFIG", "_CACHE", "_PLUGINS", "CACHEDIR")):
            assert Path(value).is_relative_to(tmp_path / "home"), variable


def test_the_message_of_a_failed_helm_is_shown(tmp_path: Path) -> None:
    helm, _ = _helm(tmp_path, FakeKubernetes(), Answer([], errors="Error: no chart", code=1))
    with pytest.raises(CommandError, match=r"istiod in istio-system(.|\n)*Error: no chart"):
        _upgrade(helm)


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
def test_the_release_of_a_killed_helm_is_resumed(tmp_path: Path, status: str) -> None:
    api = FakeKubernetes(
        [
            release_secret("istiod", "istio-system", revision=9),
            release_secret("istiod", "istio-system", revision=10, status=status),
        ]
    )
    helm, program = _helm(tmp_path, api)
    _upgrade(helm)
    assert api.deleted == [Reference(SECRET, "istio-system", "sh.helm.release.v1.istiod.v10")]
    assert [call.arguments[0] for call in program.calls] == ["upgrade"]


def test_a_release_that_was_being_removed_is_removed_first(tmp_path: Path) -> None:
    api = FakeKubernetes([release_secret("istiod", "istio-system", status="uninstalling")])
    helm, program = _helm(tmp_path, api)
    _upgrade(helm)
    assert [call.arguments[0] for call in program.calls] == ["uninstall", "upgrade"]


@pytest.mark.parametrize("status", ["deployed", "failed"])
def test_a_release_that_helm_can_resume_is_not_changed(tmp_path: Path, status: str) -> None:
    api = FakeKubernetes([release_secret("istiod", "istio-system", status=status)])
    helm, program = _helm(tmp_path, api)
    _upgrade(helm)
    assert api.deleted == []
    assert len(program.calls) == 1


def test_a_missing_release_is_not_removed(tmp_path: Path) -> None:
    helm, program = _helm(tmp_path, FakeKubernetes())
    assert helm.uninstall("istiod", namespace="istio-system", timeout=5) is False
    assert program.calls == []


def test_removing_waits_for_the_objects(tmp_path: Path) -> None:
    api = FakeKubernetes([release_secret("istiod", "istio-system")])
    helm, program = _helm(tmp_path, api)
    assert helm.uninstall("istiod", namespace="istio-system", timeout=5) is True
    assert program.calls[0].arguments[:2] == ["uninstall", "istiod"]
    assert "--wait" in program.calls[0].arguments


def test_the_newest_revision_is_the_release() -> None:
    ours = {"mlops-pipeline/inputs": "0a"}
    api = FakeKubernetes(
        [
            release_secret("istiod", "istio-system", revision=9, status="superseded"),
            release_secret("istiod", "istio-system", revision=10, labels=ours),
            release_secret("istiod", "elsewhere", revision=11),
            release_secret("other", "istio-system", revision=12),
        ]
    )
    assert find_release(api, "istiod", namespace="istio-system") == Release(
        "istiod", "istio-system", "deployed", 10, ours
    )
    assert find_release(api, "none", namespace="istio-system") is None


def test_the_fake_keeps_releases_as_helm_does() -> None:
    brought = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}}
    brought["metadata"] |= {"namespace": "istio-system"}  # type: ignore[operator]
    api = FakeKubernetes()
    fake = FakeHelm(api, brings={"istiod": [brought]})
    _upgrade(fake)
    _upgrade(fake, labels={"x/inputs": "0b"})
    found = find_release(api, "istiod", namespace="istio-system")
    assert found == Release("istiod", "istio-system", "deployed", 2, {"x/inputs": "0b"})
    resource = Resource("v1", "ConfigMap")
    assert api.find(resource, "istio", namespace="istio-system") is not None
    assert fake.uninstall("istiod", namespace="istio-system", timeout=1) is True
    assert fake.uninstall("istiod", namespace="istio-system", timeout=1) is False
    assert api.find(resource, "istio", namespace="istio-system") is None
    assert find_release(api, "istiod", namespace="istio-system") is None
