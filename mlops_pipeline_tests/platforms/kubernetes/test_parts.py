from pathlib import Path

import pytest

from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.helm import HelmApi
from mlops_pipeline.clients.kind import KindApi
from mlops_pipeline.clients.kubernetes import KubernetesApi
from mlops_pipeline.platforms.kubernetes.parts import KindParts
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes_kubernetes import FakeEngine, FakeHelm, FakeKind, FakeKubernetes


def test_making_them_contacts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    parts = KindParts.make(tmp_path / "kind", KindSettings(), bundle=None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match=r"kind v0.* is not here yet, and PATH has none"):
        parts.kind()
    with pytest.raises(ConfigurationError, match=r"helm v3.* is not here yet"):
        parts.helm()


def test_a_bundle_is_where_programs_come_from(tmp_path: Path) -> None:
    parts = KindParts.make(tmp_path / "kind", KindSettings(), bundle=tmp_path / "bundle")
    with pytest.raises(ConfigurationError, match="bundle is no bundle"):
        parts.kind()


def test_the_cluster_is_the_one_that_the_kubeconfig_leads_to_now(tmp_path: Path) -> None:
    parts = KindParts.make(tmp_path, KindSettings(), bundle=None)
    with pytest.raises(NotFoundError, match="`mlops-pipeline up cluster` makes it"):
        parts.api()
    parts.state.kubeconfig.write_text("one cluster")
    first = parts.api()
    assert parts.api() is first
    parts.state.kubeconfig.write_text("another cluster")
    assert parts.api() is not first


def test_the_fakes_are_what_the_layers_ask_for() -> None:
    api: KubernetesApi = FakeKubernetes()
    helm: HelmApi = FakeHelm(FakeKubernetes())
    kind: KindApi = FakeKind()
    engine: EngineApi = FakeEngine()
    assert (api.version(), kind.clusters(), engine.containers()) == ("v1.34.4", [], ())
    assert helm.uninstall("none", namespace="n", timeout=1) is False
