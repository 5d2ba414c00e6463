import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.containers import ContainerInfo, EngineApi
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.helm import HelmApi
from mlops_pipeline.clients.kind import KindApi
from mlops_pipeline.clients.kubernetes import KubernetesApi
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterBook, ClusterRecord
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import GATEWAY_PORTS
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.sources.verified import VerifiedOnce
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.helm import FakeHelm
from mlops_pipeline_tests.fakes.kind import FakeKind
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.embedded.test_state import DAMAGES, IN_ITS_PLACE, damage_by
from mlops_pipeline_tests.platforms.kubernetes.rig import NAME, Rig, by_ports, node


def test_making_them_contacts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    parts = KindParts.make(tmp_path / "kind", KindSettings(), bundle=None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        ConfigurationError, match=r"kind v0.* is not downloaded yet, and PATH has no"
    ):
        parts.kind()
    with pytest.raises(ConfigurationError, match=r"helm v3.* is not downloaded yet"):
        parts.helm()


def test_a_bundle_is_where_programs_come_from(tmp_path: Path) -> None:
    parts = KindParts.make(tmp_path / "kind", KindSettings(), bundle=tmp_path / "bundle")
    with pytest.raises(ConfigurationError, match="bundle is not a bundle"):
        parts.kind()


def test_the_kind_that_made_a_cluster_is_asked_where_no_bundle_is_set_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (program := tmp_path / "bundle" / "bin" / "kind").parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho of-the-bundle\n")
    program.chmod(0o755)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    (tmp_path / "bundle" / "bundle.toml").write_text(
        'name = "test"\nnode_image = "n:1"\n[[file]]\npath = "bin/kind"\nkind = "binary"\n'
        f'version = "v0.33.0"\nsha256 = "{digest}"\nimages = []\n'
    )
    settings, home = KindSettings(), tmp_path / "kind"
    home.mkdir()
    record = ClusterRecord(settings.cluster.name, "made", bundle=str(tmp_path / "bundle"))
    ClusterBook(home / "cluster.json").write(record)
    parts = KindParts.make(home, settings, bundle=None)
    assert parts.kind().clusters() == ["of-the-bundle"]
    program.write_text("#!/bin/sh\necho altered\n")
    with pytest.raises(ConfigurationError, match=r"kind v0.* is not downloaded yet"):
        parts.kind()


def test_the_cluster_is_the_one_that_the_kubeconfig_leads_to_now(tmp_path: Path) -> None:
    parts = KindParts.make(tmp_path, KindSettings(), bundle=None)
    with pytest.raises(NotFoundError, match="create it with `mlops-pipeline up cluster`"):
        parts.api()
    parts.state.kubeconfig.write_text(json.dumps(kubeconfig(port=1)))
    first = parts.api()
    assert parts.api() is first
    parts.state.kubeconfig.write_text(json.dumps(kubeconfig(port=2)))
    assert parts.api() is not first


def kubeconfig(*, port: int) -> dict[str, Any]:
    """Return what kind writes for its cluster `seldon`, with a token in the keys' place."""
    name = f"kind-{NAME}"
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "users": [{"name": name, "user": {"token": "x"}}],
    }


@pytest.mark.parametrize("kind", IN_ITS_PLACE)
def test_a_damaged_kubeconfig_of_the_cluster_is_named(tmp_path: Path, kind: str) -> None:
    parts = KindParts.make(tmp_path, KindSettings(), bundle=None)
    parts.state.kubeconfig.write_text(json.dumps(kubeconfig(port=1)))
    parts.api()
    damage_by(parts.state.kubeconfig, kind)
    with pytest.raises(
        UnavailableError, match=r"is damaged .*write it again with `mlops-pipeline up cluster`"
    ):
        parts.api()


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record_of_the_cluster_tells_nothing_and_is_replaced(
    tmp_path: Path, kind: str
) -> None:
    path, record = tmp_path / "cluster.json", ClusterRecord(NAME, "made", node="id")
    ClusterBook(path).write(record)
    damage_by(path, kind)
    assert ClusterBook(path).find(NAME) is None
    ClusterBook(path).write(record)
    assert ClusterBook(path).find(NAME) == record


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_memory_of_compared_files_is_replaced(tmp_path: Path, kind: str) -> None:
    (program := tmp_path / "program").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    memory = tmp_path / "verified.json"
    for damage in ("", kind):
        if damage:
            damage_by(memory, damage)
        assert VerifiedOnce(memory, ready=lambda: True).difference(program, digest) == ""
        assert str(program) in memory.read_text()


def test_a_service_is_reached_at_its_address_or_by_ports_of_this_machine(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind").with_cluster()
    assert rig.parts.endpoint("172.18.255.9", GATEWAY_PORTS).url() == "http://172.18.255.9"
    by_ports(rig)
    endpoint = rig.parts.endpoint("172.18.255.9", GATEWAY_PORTS)
    assert endpoint.url() == "http://127.0.0.1:8180"
    assert endpoint.url(scheme="https") == "https://127.0.0.1:8543"
    rig.engine = FakeEngine()
    with pytest.raises(NotFoundError, match="create it with `mlops-pipeline up cluster`"):
        rig.parts.endpoint("172.18.255.9", GATEWAY_PORTS)


def test_a_port_that_is_not_mapped_is_never_guessed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind").with_cluster()
    by_ports(rig)
    rig.engine = FakeEngine(containers=[node()])
    with pytest.raises(UnavailableError, match=r"port 30080 of .* up cluster --recreate"):
        rig.parts.endpoint("172.18.255.9", GATEWAY_PORTS)


def test_a_silent_engine_is_told_as_that(tmp_path: Path) -> None:
    class Silent(FakeEngine):
        def containers(self, *, label: str = "") -> tuple[ContainerInfo, ...]:
            raise CommandError("docker did not answer in 60 s")

    rig = Rig(tmp_path / "kind").with_cluster()
    by_ports(rig)
    rig.engine = Silent()
    with pytest.raises(UnavailableError, match="docker did not answer"):
        rig.parts.endpoint("172.18.255.9", GATEWAY_PORTS)


def test_a_url_names_the_port_that_its_scheme_does_not_stand_for() -> None:
    assert Endpoint("fc00::1").url(port=8333) == "http://[fc00::1]:8333"
    assert Endpoint("a.example").url(scheme="https", port=443) == "https://a.example"
    assert Endpoint("127.0.0.1", {443: 80}).url(scheme="https") == "https://127.0.0.1:80"


def test_the_fakes_are_what_the_layers_ask_for() -> None:
    api: KubernetesApi = FakeKubernetes()
    helm: HelmApi = FakeHelm(FakeKubernetes())
    kind: KindApi = FakeKind()
    engine: EngineApi = FakeEngine()
    assert (api.version(), kind.clusters(), engine.containers()) == ("v1.34.4", [], ())
    assert helm.uninstall("none", namespace="n", timeout=1) is False
