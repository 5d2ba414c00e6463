"""A further layer is one class and its row: everything that loops over layers sees it."""

from pathlib import Path

import pytest

from mlops_pipeline.clients.kubernetes import DEPLOYMENT, NAMESPACE, Access
from mlops_pipeline.delivery.planning import plan_layers
from mlops_pipeline.platforms.kubernetes import KindPlatform, stack
from mlops_pipeline.platforms.kubernetes.bases.helm import HelmLayer
from mlops_pipeline.platforms.kubernetes.bases.manifest import ManifestLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import WRITE, allow
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort
from mlops_pipeline.platforms.layers import Absent, Broken, Diagnosis, Ready
from mlops_pipeline.platforms.observing import observe_platform
from mlops_pipeline.settings.kind import ClusterSettings, KindSettings
from mlops_pipeline.settings.layers import LayerSettings
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig, deployment
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    Rig,
    existing_settings,
    rights_of,
    run_workloads,
)

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: prometheus, namespace: monitoring}
spec: {selector: {matchLabels: {app: prometheus}}, template: {spec: {containers: [{name: c}]}}}
"""


class Monitoring(ManifestLayer):
    """What somebody adds."""

    name = "monitoring"
    title = "Prometheus"
    description = "Prometheus, which reads the metrics of the model servers."
    kinds = ("prometheus", "kubernetes")
    requires = ("seldon_core",)
    namespace = "monitoring"
    manifest = images = "prometheus"
    controller = "prometheus"
    remedy = "remove it"
    rights = allow([("servicemonitors", "monitoring.coreos.com", WRITE)])
    addresses = 2
    ports = (ServicePort("monitoring", 9090, 30084, 9190),)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        return settings.ready_timeout != 1

    def diagnose(self) -> list[Diagnosis]:
        return [Diagnosis("disk for metrics", "plenty")]

    def users(self) -> tuple[str, ...]:
        return ()


class Dashboard(HelmLayer):
    """The same, of a chart."""

    name = "dashboard"
    title = "Grafana"
    description = "Grafana, which shows the metrics."
    kinds = ("grafana",)
    namespace = "dashboards"
    images = "grafana"
    chart_names = ("grafana",)
    charts = (Installation("grafana", "dashboards", "grafana", {}, deployment="grafana"),)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ROWS", [*stack.ROWS, stack.Row(Monitoring)])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    file = tmp_path / "prometheus.yaml"
    file.write_text(MANIFEST)
    made = Rig(tmp_path / "kind", sources=FakeSources(manifests={"prometheus": file}))
    run_workloads(made.api)
    return made.with_cluster()


def platform_of(rig: Rig) -> KindPlatform:
    return KindPlatform(rig.home, rig.settings, bundle=None, parts=rig.parts)


def test_it_stands_where_its_row_says_and_only_where_it_is_wanted(rig: Rig) -> None:
    assert [layer.name for layer in platform_of(rig).layers][-2:] == ["seldon_core", "monitoring"]
    rig.settings = KindSettings(ready_timeout=1)
    assert platform_of(rig).layers[-1].name == "seldon_core"


def test_the_plan_and_the_status_show_it(rig: Rig) -> None:
    assert plan_layers(observe_platform(platform_of(rig)))[-1].asset == "monitoring"
    layer = platform_of(rig).layers[-1]
    assert layer.observe() == Absent()
    assert layer.ensure().action == "created"
    assert isinstance(layer.observe(), Ready)
    assert platform_of(rig).logs("monitoring", lines=1).startswith("monitoring has no pods")


def test_what_it_takes_from_elsewhere_is_provided(rig: Rig) -> None:
    platform_of(rig).provide()
    assert "prometheus" in rig.sources.required


def test_its_rights_are_asked_for() -> None:
    wanted = Access("create", "servicemonitors", "monitoring.coreos.com")
    assert wanted in rights_of(existing_settings())
    assert wanted not in rights_of(existing_settings(ready_timeout=1))


def test_its_addresses_are_counted_and_its_ports_mapped(rig: Rig) -> None:
    counted = platform_of(rig)._stack.count_addresses()
    rig.settings = KindSettings(ready_timeout=1)
    assert counted == platform_of(rig)._stack.count_addresses() + 2
    rig.settings = KindSettings(cluster=ClusterSettings(reach="ports"))
    assert platform_of(rig)._cluster.mapped_ports[-1].asked(rig.settings.cluster) == 9190


def test_the_doctor_tells_what_it_needs(rig: Rig) -> None:
    assert "disk for metrics" in {diagnosis.what for diagnosis in platform_of(rig).preflight()}


def test_it_goes_with_what_is_ours(rig: Rig) -> None:
    layer = platform_of(rig).layers[-1]
    layer.ensure()
    layer.remove()
    assert rig.api.find(NAMESPACE, "monitoring") is None


def test_one_of_a_chart_is_no_longer(tmp_path: Path) -> None:
    rig = HelmRig.make(tmp_path, {"grafana": [deployment("grafana", "dashboards")]})
    layer = Dashboard(rig.parts)
    assert layer.observe() == Absent()
    assert layer.ensure().action == "created"
    assert rig.installed() == ["grafana"]
    state = layer.observe()
    assert isinstance(state, Ready)
    assert state.facts["version"]
    rig.api.drop(DEPLOYMENT, "grafana", namespace="dashboards")
    assert isinstance(layer.observe(), Broken)
    assert layer.ensure().action == "repaired"
    layer.remove()
    assert layer.observe() == Absent()
    assert rig.api.find(NAMESPACE, "dashboards") is None
