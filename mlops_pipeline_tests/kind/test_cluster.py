"""Real clusters: made, found again in every state, and never deleted when they are not ours."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConflictError, NotFoundError
from mlops_pipeline.clients.kubernetes import CONFIG_MAP, NODE
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline_tests.kind import clusters
from mlops_pipeline_tests.kind.clusters import control_plane, parts_of

pytestmark = pytest.mark.kind

MAKE = """
import sys
from pathlib import Path
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline_tests.kind.clusters import parts_of

home, name, bundle = sys.argv[1:]
KindCluster(parts_of(Path(home), name, Path(bundle) if bundle else None)).ensure()
"""


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(scope="module")
def one(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path | None, taken: int
) -> Iterator[KindParts]:
    """A cluster of one node, made while its HTTP port was in use. Its path has a space."""
    home = tmp_path_factory.mktemp("one cluster") / "state folder"
    with clusters.named("one", bundle) as name:
        yield clusters.made(parts_of(home, name, bundle, http_port=taken))


def again(
    parts: KindParts, bundle: Path | None, *, home: Path | None = None, **given: object
) -> KindParts:
    """Return the ways to the same cluster as another command finds them, with other settings."""
    settings = {"http_port": parts.settings.cluster.http_port, **given}
    return parts_of(home or parts.state.home, parts.settings.cluster.name, bundle, **settings)


def test_it_is_ready_quickly_seen_and_kept(one: KindParts, bundle: Path | None) -> None:
    layer = KindCluster(again(one, bundle))
    assert isinstance(layer.observe(), Ready)
    start = time.monotonic()
    state = layer.observe()
    assert time.monotonic() - start < 3
    assert isinstance(state, Ready)
    assert str(state.facts["address"]).startswith("https://127.0.0.1:")
    assert layer.ensure().action == "unchanged"
    assert layer.checks[0].run().passed
    assert one.state.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_taken_port_was_replaced_and_the_other_stays(
    one: KindParts, bundle: Path | None, taken: int
) -> None:
    layer = KindCluster(again(one, bundle))
    port = layer.host_port(80)
    assert port is not None
    assert port >= 8080
    assert port != taken
    other = KindCluster(again(one, bundle, http_port=port + 1)).observe()
    assert isinstance(other, Drifted)
    assert f"expected 127.0.0.1:{port + 1}" in other.differences[0]


def test_nodes_say_where_an_ingress_goes_and_whose_they_are(one: KindParts) -> None:
    (node,) = one.api().list(NODE)
    labels = node["metadata"]["labels"]
    mark = one.api().get(CONFIG_MAP, "mlops-pipeline", namespace="kube-system")
    assert labels["ingress-ready"] == "true"
    assert labels["mlops-pipeline/made-by"] == mark["data"]["identity"]
    assert mark["data"]["home"] == str(one.state.home)


def test_nothing_of_the_users_is_read_or_written(
    one: KindParts, bundle: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "kubeconfig"
    theirs.write_text("theirs")
    monkeypatch.setenv("KUBECONFIG", str(theirs))
    monkeypatch.setenv("HOME", str(tmp_path))
    one.state.kubeconfig.unlink()
    assert KindCluster(again(one, bundle)).ensure().action == "repaired"
    assert theirs.read_text() == "theirs"
    assert not (tmp_path / ".kube").exists()


def test_what_differs_is_shown_and_refused(one: KindParts, bundle: Path | None) -> None:
    layer = KindCluster(again(one, bundle, workers=1, node_image="kindest/node:v1.33.1"))
    state = layer.observe()
    assert isinstance(state, Drifted)
    assert len(state.differences) == 2
    with pytest.raises(ConflictError, match=r"expected v1\.33\.1.*--recreate"):
        layer.ensure()
    assert clusters.is_running(one)


def test_a_lost_state_folder_is_made_good(one: KindParts, bundle: Path | None) -> None:
    shutil.rmtree(one.state.home)
    assert isinstance(KindCluster(again(one, bundle)).observe(), Broken | Drifted)
    port = KindCluster(one).host_port(80)
    layer = KindCluster(again(one, bundle, http_port=port))
    assert layer.ensure().action == "repaired"
    assert layer.is_ours()


def test_another_folder_may_use_it_and_never_deletes_it(
    one: KindParts, bundle: Path | None, tmp_path: Path
) -> None:
    port = KindCluster(one).host_port(80)
    stranger = again(one, bundle, home=tmp_path / "other", http_port=port)
    assert KindCluster(stranger).ensure().action == "repaired"
    assert not KindCluster(stranger).is_ours()
    wider = again(one, bundle, home=tmp_path / "other", http_port=port, workers=1)
    with pytest.raises(ConflictError, match=f"the state folder {one.state.home} created it"):
        KindCluster(wider, recreate=True).ensure()
    KindCluster(stranger).remove()
    assert clusters.is_running(one)


def test_mirrors_reach_containerd_and_go_again(one: KindParts, bundle: Path | None) -> None:
    port = KindCluster(one).host_port(80)
    mirrors = {"docker.io": "http://mirror:5000"}
    assert KindCluster(again(one, bundle, http_port=port, mirrors=mirrors)).ensure().action == (
        "updated"
    )
    read = ["cat", "/etc/containerd/certs.d/docker.io/hosts.toml"]
    assert "http://mirror:5000" in one.engine.exec(control_plane(one), read, timeout=10)
    assert KindCluster(again(one, bundle, http_port=port)).ensure().action == "updated"
    left = ["ls", "/etc/containerd/certs.d"]
    assert "docker.io" not in one.engine.exec(control_plane(one), left, timeout=10)


def test_stopped_nodes_are_started_again(one: KindParts, bundle: Path | None) -> None:
    port = KindCluster(one).host_port(80)
    layer = KindCluster(again(one, bundle, http_port=port))
    clusters.stop(control_plane(one))
    state = layer.observe()
    assert isinstance(state, Broken)
    assert "stopped: " in state.reason
    assert layer.ensure().action == "repaired"
    assert layer.checks[0].run().passed


def test_the_machine_fits_and_looking_is_quick(one: KindParts) -> None:
    start = time.monotonic()
    found = {d.what: d for d in preflight.examine(one, KindCluster(one).mapped_ports)}
    assert time.monotonic() - start < 15
    assert all(found[what].fine for what in ("docker", "kind", "helm", "cgroup"))


@pytest.mark.long
def test_an_incomplete_cluster_is_created_again_then_with_a_worker_then_removed(
    tmp_path: Path, bundle: Path | None
) -> None:
    with clusters.named("half", bundle) as name:
        parts = parts_of(tmp_path / "half", name, bundle)
        _kill_while_making(parts, bundle)
        state = KindCluster(parts).observe()
        assert isinstance(state, Broken)
        assert "its creation was interrupted" in state.reason
        assert KindCluster(parts).ensure().action == "created"
        assert isinstance(KindCluster(parts).observe(), Ready)

        wider = parts_of(tmp_path / "half", name, bundle, workers=1)
        assert KindCluster(wider, recreate=True).ensure().action == "created"
        assert len(wider.api().list(NODE)) == 2
        _try_metallb(wider)

        KindCluster(wider).remove()
        assert KindCluster(wider).observe() == Absent()
        assert not wider.state.kubeconfig.exists()


def _kill_while_making(parts: KindParts, bundle: Path | None) -> None:
    """Kill a command that makes the cluster, once kind has a node; kind itself goes on."""
    home, name = str(parts.state.home), parts.settings.cluster.name
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MAKE, home, name, str(bundle or "")]
    with subprocess.Popen(command, env=environment) as process:
        wait_until("a node", lambda: _describe_no_node(parts), timeout=120)
        process.kill()


def _describe_no_node(parts: KindParts) -> str | None:
    try:
        parts.engine.inspect(control_plane(parts))
    except NotFoundError as error:
        return str(error)
    return None


def _try_metallb(parts: KindParts) -> None:
    """MetalLB on two nodes: installed, working, removed, and installed once more."""
    layer = MetalLB(parts)
    assert layer.ensure().action == "created"
    assert layer.checks[0].run().passed
    layer.remove()
    assert layer.observe() == Absent()
    assert layer.ensure().action == "created"
    assert isinstance(layer.observe(), Ready)
