import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    ConflictError,
    FatalStateError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import CONFIG_MAP, DEPLOYMENT, NODE, SERVICE_ACCOUNT
from mlops_pipeline.platforms.kubernetes.cluster.record import identity_of
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import owner as cluster_owner
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight, readiness
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.platforms.sources import path
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    NAME,
    Rig,
    cluster_settings,
    make_engine,
    node,
    ready_cluster,
)

CONFIGURATION = "cat /kind/kubeadm.conf 2>/dev/null || true"


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every port is free, every program there, no command was left behind."""
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: False)
    monkeypatch.setattr(path, "run", lambda *_, **__: "v0.33.0")
    monkeypatch.setattr(running, "commanded", lambda words: [])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A machine without a cluster; one that is made is ready at once."""
    return Rig(tmp_path / "kind", api=FakeKubernetes(ready_cluster()))


@pytest.fixture
def made(rig: Rig) -> Rig:
    """A cluster that we made."""
    KindCluster(rig.parts).ensure()
    return rig


def foreign(tmp_path: Path, **given: object) -> Rig:
    """Return a machine with a cluster that somebody else has made."""
    outputs = [((CONFIGURATION,), "node-labels: ingress-ready=true")]
    engine = make_engine(containers=[replace(node(), **given)], outputs=outputs)  # type: ignore[arg-type]
    return Rig(tmp_path / "kind", api=FakeKubernetes(ready_cluster()), engine=engine)


def other(rig: Rig, **given: object) -> KindCluster:
    """Return the layer with other settings of the cluster."""
    settings: KindSettings = cluster_settings(**given)
    return KindCluster(replace(rig.parts, settings=settings))


def record(rig: Rig) -> dict[str, object]:
    return dict(json.loads((rig.home / "cluster.json").read_text()))


def answer_configuration(rig: Rig, text: str) -> None:
    rig.engine.outputs.insert(0, ((CONFIGURATION,), text))


def test_the_bundle_that_it_was_made_from_is_written_down(rig: Rig, tmp_path: Path) -> None:
    KindCluster(replace(rig.parts, bundle=tmp_path / "bundle")).ensure()
    assert record(rig)["bundle"] == str(tmp_path / "bundle")


def interrupt(rig: Rig) -> None:
    """Leave behind what a command leaves that was killed while kind worked."""
    KindCluster(rig.parts).ensure()
    content = record(rig) | {"stage": "making", "node": ""}
    (rig.home / "cluster.json").write_text(json.dumps(content))


def test_nothing_is_there_at_first(rig: Rig) -> None:
    assert KindCluster(rig.parts).observe() == Absent()


def test_an_engine_that_does_not_answer_breaks_it(rig: Rig) -> None:
    rig.engine.unavailable = "is it started?"
    state = KindCluster(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "is it started?" in state.reason


def test_it_is_made_from_the_settings(rig: Rig) -> None:
    change = KindCluster(rig.parts).ensure()
    assert change.action == "created"
    (created,) = rig.kind.created
    assert (created.name, created.image) == (NAME, "kindest/node:v1.34.4")
    assert change.facts["kubernetes"] == "v1.34.4"
    assert (change.facts["http_port"], change.facts["https_port"]) == (80, 443)
    assert {"node_image_seconds", "create_seconds", "ready_seconds"} <= set(change.facts)
    assert isinstance(KindCluster(rig.parts).observe(), Ready)


def test_the_node_image_is_loaded_unless_the_engine_has_it(rig: Rig) -> None:
    KindCluster(rig.parts).ensure()
    assert rig.engine.loaded == [Path("/bundle/images/node.tar")]
    KindCluster(rig.parts).remove()
    rig.engine.images = {"docker.io/kindest/node:v1.34.4"}
    KindCluster(rig.parts).ensure()
    assert len(rig.engine.loaded) == 1


def test_with_a_bundle_no_node_image_is_pulled(rig: Rig) -> None:
    with pytest.raises(ConfigurationError, match="with a bundle no image is pulled"):
        other(rig, node_image="kindest/node:v1.33.1").ensure()
    assert rig.kind.created == []


def test_another_node_image_is_not_the_bundles_archive(rig: Rig) -> None:
    rig.engine.images.add("docker.io/kindest/node:v1.33.1")
    other(rig, node_image="kindest/node:v1.33.1").ensure()
    assert rig.engine.loaded == []
    assert rig.kind.created[0].image == "kindest/node:v1.33.1"


def test_the_bundles_node_image_may_be_named(rig: Rig) -> None:
    other(rig, node_image="kindest/node:v1.34.4").ensure()
    assert rig.engine.loaded == [Path("/bundle/images/node.tar")]


def test_without_a_cluster_no_port_leads_to_it(rig: Rig) -> None:
    with pytest.raises(NotFoundError, match="the kind cluster seldon is missing"):
        KindCluster(rig.parts).host_port(80)


def test_the_kubeconfig_is_for_this_user_alone(made: Rig) -> None:
    assert made.parts.state.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_it_says_in_the_cluster_whose_it_is(made: Rig) -> None:
    mark = made.api.get(CONFIG_MAP, "mlops-pipeline", namespace="kube-system")
    assert mark["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "mlops-pipeline"}
    assert mark["data"] == {"identity": identity_of(made.home), "home": str(made.home)}
    config = made.kind.created[0].config
    label = config["nodes"][0]["labels"]["mlops-pipeline/made-by"]
    assert label == identity_of(made.home)


def test_a_second_time_changes_nothing(made: Rig) -> None:
    assert KindCluster(made.parts).ensure().action == "unchanged"
    assert len(made.kind.created) == 1
    assert made.kind.exported == []


def test_a_taken_port_is_replaced_and_that_one_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: port == 80)
    assert KindCluster(rig.parts).ensure().facts["http_port"] == 8080
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: False)
    assert isinstance(KindCluster(rig.parts).observe(), Ready)
    assert KindCluster(rig.parts).host_port(80) == 8080
    rig.engine.images.add("docker.io/kindest/node:v1.33.1")
    parts = replace(rig.parts, settings=cluster_settings(node_image="kindest/node:v1.33.1"))
    again = KindCluster(parts, recreate=True).ensure()
    assert again.facts["http_port"] == 8080
    KindCluster(rig.parts, recreate=True).ensure()
    assert other(rig, http_port=8080).observe() == KindCluster(rig.parts).observe()
    assert isinstance(other(rig, http_port=9000).observe(), Drifted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workers": 2}, "its number of workers is 0, expected 2"),
        ({"http_port": 81}, "its port 80 is mapped to 127.0.0.1:80"),
        ({"node_image": "kindest/node:v1.33.1"}, "Kubernetes v1.34.4, expected v1.33.1"),
        ({"listen_address": "0.0.0.0"}, "127.0.0.1:443, expected 0.0.0.0:443"),
    ],
)
def test_a_different_cluster_is_shown_and_refused(
    made: Rig, given: dict[str, object], words: str
) -> None:
    state = other(made, **given).observe()
    assert isinstance(state, Drifted)
    assert words in "; ".join(state.differences)
    with pytest.raises(ConflictError) as caught:
        other(made, **given).ensure()
    assert words in str(caught.value)
    assert "mlops-pipeline up cluster --recreate" in str(caught.value)
    assert made.kind.deleted == []


def test_recreating_makes_it_as_it_is_asked_for_now(made: Rig) -> None:
    parts = replace(made.parts, settings=cluster_settings(workers=1))
    made.api.put(ready_cluster([f"{NAME}-worker"])[0])
    layer = KindCluster(parts, recreate=True)
    assert layer.ensure().action == "created"
    assert made.kind.deleted == [NAME]
    assert len(made.kind.created[1].config["nodes"]) == 2
    assert layer.ensure().action == "unchanged"


def test_recreating_keeps_what_is_as_it_should_be(made: Rig) -> None:
    assert KindCluster(made.parts, recreate=True).ensure().action == "unchanged"
    made.engine.start(replace(made.engine.inspect(CONTROL_PLANE), running=False))
    assert KindCluster(made.parts, recreate=True).ensure().action == "repaired"
    assert made.kind.deleted == []


def test_recreating_replaces_what_does_not_become_ready(made: Rig) -> None:
    made.api.drop(SERVICE_ACCOUNT, "default", namespace="default")
    with pytest.raises(WaitTimeoutError):
        KindCluster(made.parts).ensure()
    assert made.kind.deleted == []
    with pytest.raises(WaitTimeoutError):  # The fake's new cluster lacks it too.
        KindCluster(made.parts, recreate=True).ensure()
    assert (made.kind.deleted, len(made.kind.created)) == ([NAME], 2)


def test_recreating_what_is_not_there_makes_it(rig: Rig) -> None:
    assert KindCluster(rig.parts, recreate=True).ensure().action == "created"
    assert rig.kind.deleted == []


def test_stopped_nodes_are_started_again(made: Rig) -> None:
    made.engine.start(replace(made.engine.inspect(CONTROL_PLANE), running=False))
    state = KindCluster(made.parts).observe()
    assert isinstance(state, Broken)
    assert (
        "stopped: seldon-control-plane; start it with `mlops-pipeline up cluster`" in state.reason
    )
    assert KindCluster(made.parts).ensure().action == "repaired"
    assert made.engine.inspect(CONTROL_PLANE).running
    assert len(made.kind.created) == 1


def test_a_damaged_kubeconfig_is_named_set_aside_and_written_again(made: Rig) -> None:
    kubeconfig, parts = made.parts.state.kubeconfig, made.parts

    def api() -> FakeKubernetes:
        if kubeconfig.exists() and "current-context" not in kubeconfig.read_text():
            raise UnavailableError("the kubeconfig is damaged")
        return made.api

    damaged = replace(parts, api=api)
    kubeconfig.write_text("half of it")
    assert KindCluster(damaged).observe() == Broken("the kubeconfig is damaged")
    assert KindCluster(damaged).ensure().action == "repaired"
    assert made.kind.exported == [NAME]
    (aside,) = kubeconfig.parent.glob("kubeconfig.damaged-*")
    assert aside.read_text() == "half of it"
    kubeconfig.write_text("half of it")
    KindCluster(damaged).remove()
    assert made.kind.clusters() == []


def test_a_lost_kubeconfig_is_written_again(made: Rig) -> None:
    made.parts.state.kubeconfig.unlink()
    state = KindCluster(made.parts).observe()
    assert isinstance(state, Broken)
    assert "kubeconfig is missing" in state.reason
    assert KindCluster(made.parts).ensure().action == "repaired"
    assert made.kind.exported == [NAME]
    assert made.parts.state.kubeconfig.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"name": "seldon"}',
        '{"name": "other"}',
        '{"name": "seldon", "stage": "made", "asked": "x"}',
    ],
)
def test_a_lost_record_is_made_good_from_the_nodes(made: Rig, content: str | None) -> None:
    if content is None:
        (made.home / "cluster.json").unlink()
    else:
        (made.home / "cluster.json").write_text(content)
    identity = identity_of(made.home)
    answer_configuration(made, f"node-labels: mlops-pipeline/made-by={identity},x=y")
    assert KindCluster(made.parts).ensure().action == "unchanged"
    assert record(made)["stage"] == "made"
    assert KindCluster(made.parts).is_ours()


def test_a_half_made_cluster_of_ours_is_made_anew(rig: Rig) -> None:
    interrupt(rig)
    answer_configuration(rig, f"node-labels: mlops-pipeline/made-by={identity_of(rig.home)}")
    state = KindCluster(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "its creation was interrupted" in state.reason
    assert KindCluster(rig.parts).ensure().action == "created"
    assert (rig.kind.deleted, len(rig.kind.created)) == ([NAME], 2)
    assert record(rig)["stage"] == "made"


def test_a_half_made_cluster_without_configuration_is_ours_by_the_record(rig: Rig) -> None:
    interrupt(rig)
    rig.engine.start(replace(rig.engine.inspect(CONTROL_PLANE), running=False))
    KindCluster(rig.parts).ensure()
    assert rig.kind.deleted == [NAME]


def test_what_somebody_made_after_we_gave_up_is_not_deleted(rig: Rig) -> None:
    interrupt(rig)
    answer_configuration(rig, "node-labels: ingress-ready=true")
    KindCluster(rig.parts).ensure()
    assert rig.kind.deleted == []
    assert record(rig)["stage"] == "adopted"


def test_a_kind_that_outlived_its_command_is_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(rig)
    found = {("create", "cluster", str(rig.parts.state.kubeconfig)): [7]}
    ended: list[list[int]] = []
    monkeypatch.setattr(running, "commanded", lambda words: found[tuple(words)])
    monkeypatch.setattr(running, "with_descendants", lambda pids: [*pids, 8])
    monkeypatch.setattr(running, "end", lambda pids, *, grace: ended.append(pids))
    KindCluster(rig.parts).ensure()
    assert ended == [[7, 8]]


def test_a_cluster_of_others_that_fits_is_used(tmp_path: Path) -> None:
    rig = foreign(tmp_path)
    assert KindCluster(rig.parts).ensure().action == "repaired"
    assert isinstance(KindCluster(rig.parts).observe(), Ready)
    assert not KindCluster(rig.parts).is_ours()
    assert rig.api.find(CONFIG_MAP, "mlops-pipeline", namespace="kube-system") is None


def test_a_cluster_of_others_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    rig = foreign(tmp_path, ports=())
    with pytest.raises(ConflictError, match=r"its port 80 is not mapped to 127\.0\.0\.1:80"):
        KindCluster(rig.parts).ensure()
    assert rig.kind.exported == []


@pytest.mark.parametrize("prepared", [True, False])
def test_a_cluster_of_others_is_never_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, prepared: bool
) -> None:
    rig = foreign(tmp_path)
    if prepared:
        KindCluster(rig.parts).ensure()
    KindCluster(rig.parts).remove()
    assert rig.kind.deleted == []
    assert not rig.parts.state.kubeconfig.exists()
    assert ("kept the kind cluster seldon: " in caplog.text) is prepared
    parts = replace(rig.parts, settings=cluster_settings(workers=1))
    with pytest.raises(ConflictError, match=r"this state folder did not create it\. Delete it"):
        KindCluster(parts, recreate=True).ensure()
    assert rig.kind.deleted == []


def test_the_folder_that_a_cluster_was_made_from_is_named(made: Rig, tmp_path: Path) -> None:
    stranger = replace(made, home=tmp_path / "other")
    stranger.kind = made.kind
    answer_configuration(made, f"mlops-pipeline/made-by={identity_of(made.home)}")
    KindCluster(stranger.parts).ensure()
    parts = replace(stranger.parts, settings=cluster_settings(workers=1))
    with pytest.raises(ConflictError, match=f"the state folder {made.home} created it"):
        KindCluster(parts, recreate=True).ensure()


def test_a_cluster_of_that_name_in_place_of_ours_is_not_ours(made: Rig) -> None:
    made.engine.start(replace(made.engine.inspect(CONTROL_PLANE), id="another"))
    answer_configuration(made, "node-labels: ingress-ready=true")
    assert not KindCluster(made.parts).is_ours()
    KindCluster(made.parts).remove()
    assert made.kind.deleted == []


def test_removing_deletes_what_we_made_and_keeps_the_ports(made: Rig) -> None:
    KindCluster(made.parts).remove()
    assert made.kind.deleted == [NAME]
    assert KindCluster(made.parts).observe() == Absent()
    assert not made.parts.state.kubeconfig.exists()
    assert record(made)["stage"] == "removed"
    assert record(made)["given"] == {"http": 80, "https": 443}


def test_removing_nothing_touches_nothing(rig: Rig) -> None:
    KindCluster(rig.parts).remove()
    assert not rig.home.exists()
    rig.parts.state.prepare()
    KindCluster(rig.parts).remove()
    assert rig.kind.deleted == []


def test_mirrors_are_written_into_every_node_and_changed_in_place(rig: Rig) -> None:
    rig.api.put(ready_cluster([f"{NAME}-worker"])[0])
    other(rig, workers=1, mirrors={"docker.io": "http://m"}).ensure()
    written = [c.where for c in rig.engine.calls if 'server = "http://m"' in c.command[-1]]
    assert written == [CONTROL_PLANE, f"{NAME}-worker"]
    state = other(rig, workers=1).observe()
    assert state == Drifted(("the mirrors of its nodes are http://m for docker.io, expected none",))
    assert other(rig, workers=1).ensure().action == "updated"
    removed = [c.where for c in rig.engine.calls if c.command[0] == "rm"]
    assert removed == [CONTROL_PLANE, f"{NAME}-worker"]
    assert len(rig.kind.created) == 1


def test_wrong_mirrors_are_refused_before_anything_is_made(rig: Rig) -> None:
    with pytest.raises(ConfigurationError, match=r"kind\.cluster\.mirrors"):
        other(rig, mirrors={"../x": "http://m"}).ensure()
    assert rig.kind.created == []


def _two_nodes(api: FakeKubernetes) -> None:
    api.drop(NODE, CONTROL_PLANE)


def _not_ready(api: FakeKubernetes) -> None:
    conditions = [{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}]
    api.patch(NODE, CONTROL_PLANE, {"status": {"conditions": conditions}})


def _no_report(api: FakeKubernetes) -> None:
    api.patch(NODE, CONTROL_PLANE, {"status": None})


def _no_coredns(api: FakeKubernetes) -> None:
    api.patch(DEPLOYMENT, "coredns", {"status": None}, namespace="kube-system")


def _no_account(api: FakeKubernetes) -> None:
    api.drop(SERVICE_ACCOUNT, "default", namespace="default")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_two_nodes, "0 of 1 nodes have joined"),
        (_not_ready, "the node seldon-control-plane is not ready: cni plugin not initialized"),
        (_no_report, "its kubelet has not reported yet"),
        (_no_coredns, "coredns"),
        (_no_account, "the default service account does not exist yet"),
        (FakeKubernetes.stop, "connection refused"),
    ],
)
def test_what_it_lacks_breaks_it_and_is_told_when_the_wait_runs_out(
    made: Rig, harm: Callable[[FakeKubernetes], None], reason: str
) -> None:
    harm(made.api)
    state = KindCluster(made.parts).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    with pytest.raises(WaitTimeoutError) as caught:
        KindCluster(made.parts).ensure()
    assert reason in str(caught.value)
    assert "docker logs seldon-control-plane" in str(caught.value)


def test_names_must_resolve_before_it_is_ready(rig: Rig) -> None:
    rig.engine.outputs = [(("bash",), "")]
    with pytest.raises(WaitTimeoutError, match="CoreDNS did not answer"):
        KindCluster(rig.parts).ensure()
    with pytest.raises(WaitTimeoutError, match="kubectl logs --namespace kube-system"):
        KindCluster(rig.parts).checks[0].run()


def test_the_check_asks_for_a_name(made: Rig) -> None:
    (check,) = KindCluster(made.parts).checks
    finding = check.run()
    assert (check.name, finding.passed) == ("resolves_names", True)
    assert "kubernetes.default.svc.cluster.local resolves" in finding.seen


def test_the_check_needs_a_cluster(rig: Rig) -> None:
    with pytest.raises(NotFoundError, match="create it with `mlops-pipeline up cluster`"):
        KindCluster(rig.parts).checks[0].run()


def test_a_node_that_ends_meanwhile_ends_the_wait(made: Rig) -> None:
    def end() -> None:
        made.engine.start(replace(made.engine.inspect(CONTROL_PLANE), running=False))

    made.api.stop()
    nodes = KindCluster(made.parts).nodes()
    end()
    with pytest.raises(FatalStateError, match="seldon-control-plane ended; see `docker logs"):
        readiness.wait(made.parts, nodes)


def test_what_may_be_in_a_clusters_way_is_told_before_it_is_made_and_if_it_cannot_be(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preflight, "advise", lambda parts, mapped: "inotify: 128, run `sysctl`")
    rig.kind.fails = "could not find a log line"
    with pytest.raises(CommandError, match=r"could not find a log line\ninotify: 128"):
        KindCluster(rig.parts).ensure()
    assert "may be unsuitable for a cluster: inotify: 128, run `sysctl`" in caplog.text
    assert KindCluster(rig.parts).observe() == Absent()
    rig.kind.fails = ""
    assert KindCluster(rig.parts).ensure().action == "created"


def test_a_machine_that_cannot_have_one_is_refused_before_anything_is_made(rig: Rig) -> None:
    rig.sources = FakeSources(node_image="kindest/node:v1.35.0")
    rig.engine._info = EngineInfo("27.0.0", 1, 4, 16 << 30, "/var/lib/docker")
    with pytest.raises(ConfigurationError, match=r"cgroup: version 1.*nothing was changed"):
        KindCluster(rig.parts).ensure()
    assert not (rig.home / "cluster.json").exists()


def test_without_an_engine_nothing_is_made_and_it_says_what_to_do(rig: Rig) -> None:
    rig.engine.unavailable = "cannot connect"
    with pytest.raises(UnavailableError, match="cannot connect"):
        KindCluster(rig.parts).ensure()


def test_sources_that_cannot_be_had_do_not_drift_what_is_there(made: Rig) -> None:
    class Broke(FakeSources):
        def node_image(self) -> None:  # type: ignore[override]
            raise ConfigurationError("no bundle")

    made.sources = Broke()
    assert isinstance(KindCluster(made.parts).observe(), Ready)


def test_what_is_missing_for_any_layer_is_named_before_a_cluster_is_made(rig: Rig) -> None:
    rig.sources = FakeSources(absent=["metallb"])
    layer = KindCluster(rig.parts, above=lambda: [MetalLB(rig.parts)])
    with pytest.raises(ConfigurationError, match="metallb is not in the bundle"):
        layer.ensure()
    assert rig.kind.clusters() == []
    assert rig.sources.required[0] == "kind"


def test_a_cluster_that_is_right_needs_nothing_from_elsewhere(
    made: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    made.sources = FakeSources(absent=["node"])
    assert KindCluster(made.parts).ensure().action == "unchanged"
    assert "this will be needed when a layer must be changed: node is not in" in caplog.text


def test_its_identity_fits_a_label_and_differs_by_folder(tmp_path: Path) -> None:
    one, two = identity_of(tmp_path / "a"), identity_of(tmp_path / "b")
    assert one != two
    assert len(one) <= 63
    assert cluster_owner.ClusterOwner(Rig(tmp_path / "a").parts).identity == one


def test_what_a_layer_above_lacks_is_named_before_any_is_changed(made: Rig) -> None:
    made.sources = FakeSources(absent=["metallb"])
    layer = KindCluster(made.parts, above=lambda: [MetalLB(made.parts)])
    with pytest.raises(ConfigurationError, match="metallb is not in the bundle"):
        layer.ensure()
