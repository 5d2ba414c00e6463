import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    NotDownloadedError,
    UnavailableError,
)
from mlops_pipeline.platforms.kubernetes.cluster.config import MappedPort
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.sources import path
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import Rig, cluster_settings, make_engine, node

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _roomy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: False)
    monkeypatch.setattr(path, "run", lambda *_, **__: "kind v0.33.0 go1.25 linux/amd64\n")
    monkeypatch.setattr(preflight, "available_memory", lambda: 20 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 1, 64 * GIB))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "kind")


def examined(rig: Rig) -> Mapping[str, Diagnosis]:
    return {d.what: d for d in preflight.examine(rig.parts, mapped(rig))}


def mapped(rig: Rig) -> Sequence[MappedPort]:
    return KindCluster(rig.parts).mapped_ports


def with_info(rig: Rig, **given: object) -> Rig:
    info = EngineInfo("27.0.0", 2, 4, 16 * GIB, "/var/lib/docker")
    rig.engine = make_engine(info=replace(info, **given))  # type: ignore[arg-type]
    return rig


def test_a_machine_that_has_everything_is_fine(rig: Rig) -> None:
    found = examined(rig)
    names = set(found) - {"inotify max_user_watches", "inotify max_user_instances"}
    assert names == {
        *("docker", "kind", "helm", "cgroup", "memory for the cluster"),
        *("disk of the engine", "http port", "https port"),
    }
    assert all(found[name].fine for name in names)
    assert found["docker"].seen == "27.0.0, 4 CPUs"
    assert found["kind"].seen == "v0.33.0"
    preflight.require(rig.parts)


def test_looking_makes_nothing(rig: Rig) -> None:
    examined(rig)
    assert not rig.home.exists()


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_an_engine_that_does_not_answer_blocks(rig: Rig, engine: str) -> None:
    rig.engine.unavailable = "connection refused"
    rig.settings = cluster_settings(engine=engine)
    found = examined(rig)
    assert "connection refused" in found[engine].seen
    assert engine in found[engine].remedy.lower()
    assert "cgroup" not in found
    with pytest.raises(
        UnavailableError, match=f"could not create a cluster on this machine: {engine}: "
    ):
        preflight.require(rig.parts)


@pytest.mark.parametrize(
    ("cgroup", "image", "fine"),
    [
        (1, "kindest/node:v1.34.4", True),
        (1, "kindest/node:v1.35.0", False),
        (1, "kindest/node:v2.0.0", False),
        (1, "mine:latest", True),
        (2, "kindest/node:v1.37.0@sha256:00", True),
    ],
)
def test_kubernetes_from_1_35_on_does_not_start_on_cgroup_version_1(
    rig: Rig, cgroup: int, image: str, *, fine: bool
) -> None:
    with_info(rig, cgroup_version=cgroup)
    rig.settings = cluster_settings(node_image=image)
    assert examined(rig)["cgroup"].fine is fine
    if not fine:
        with pytest.raises(ConfigurationError, match=r"kind\.cluster\.node_image.*1\.34"):
            preflight.require(rig.parts)


@pytest.mark.parametrize("name", ["kind", "helm"], ids=lambda name: f"no {name}")
def test_a_program_that_is_missing_blocks(rig: Rig, name: str) -> None:
    rig.sources = FakeSources(absent=[name])
    assert not examined(rig)[name].fine
    with pytest.raises(ConfigurationError, match=f"install {name} or set MLOPS_BUNDLE"):
        preflight.require(rig.parts)


def test_a_program_that_is_only_to_be_downloaded_is_fine(rig: Rig) -> None:
    class Fresh(FakeSources):
        def binary(self, name: str) -> Path:
            raise NotDownloadedError(f"{name} is not downloaded yet")

    rig.sources = Fresh()
    assert examined(rig)["helm"] == Diagnosis("helm", "not downloaded yet: `up` downloads it")
    preflight.require(rig.parts)


def test_a_program_that_does_not_run_blocks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise CommandError("could not ask kind: exit status 1\nin detail")

    monkeypatch.setattr(path, "run", fail)
    assert examined(rig)["kind"].seen == "could not ask kind: exit status 1"


def test_a_node_image_that_cannot_be_had_blocks(rig: Rig) -> None:
    class Broke(FakeSources):
        def node_image(self) -> None:  # type: ignore[override]
            raise ConfigurationError("the bundle has none")

    rig.sources = Broke()
    assert examined(rig)["node image"].seen == "the bundle has none"
    with pytest.raises(ConfigurationError, match=r"node image: the bundle has none"):
        preflight.require(rig.parts)


@pytest.mark.parametrize(
    ("watches", "instances", "fine"),
    [("524288", "512", [True, True]), ("8192", "128", [False, False])],
)
def test_inotify_limits_are_compared_with_what_kind_needs(
    tmp_path: Path, watches: str, instances: str, fine: list[bool]
) -> None:
    (tmp_path / "max_user_watches").write_text(watches + "\n")
    (tmp_path / "max_user_instances").write_text(instances + "\n")
    found = list(preflight._inotify(tmp_path))
    assert [d.fine for d in found] == fine
    if not fine[1]:
        assert found[1].remedy == "run `sudo sysctl fs.inotify.max_user_instances=512`"


def test_without_inotify_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert list(preflight._inotify(tmp_path)) == []


@pytest.mark.parametrize(
    ("here", "engine", "running", "fine"),
    [
        (20, 16, False, True),
        (20, 4, False, False),
        (4, 16, False, False),
        (4, 16, True, True),
        (0, 16, True, False),
        (20, 0, False, True),  # The engine does not say.
    ],
)
def test_memory_is_what_this_machine_and_the_engine_both_have(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, here: int, engine: int, *, running: bool, fine: bool
) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda: here * GIB)
    with_info(rig, memory_bytes=engine * GIB)
    if running:
        rig.engine.start(node())
    found = examined(rig)["memory for the cluster"]
    assert found.fine is fine
    assert ("beside the cluster" in found.seen) is running
    preflight.require(rig.parts)  # It may do with less: a warning.


def test_a_full_disk_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 1, GIB))
    found = examined(rig)["disk of the engine"]
    assert found.seen == "1.0 GiB free in /var/lib/docker"
    assert "free 10 GiB there" in found.remedy
    assert "docker system df" in preflight.advise(rig.parts, mapped(rig))


def test_a_disk_in_another_machine_cannot_be_seen(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert examined(rig)["disk of the engine"].fine


def test_taken_ports_are_told_and_no_fault(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: port == 80)
    found = examined(rig)
    assert found["http port"].fine
    assert "127.0.0.1:80: the cluster will use" in found["http port"].seen
    assert found["https port"].seen == "127.0.0.1:443 is free"


def test_ports_of_a_cluster_that_runs_are_its_own(rig: Rig) -> None:
    rig.engine.start(node())
    assert "http port" not in examined(rig)


def test_an_engine_that_stops_answering_meanwhile_has_no_cluster(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*, label: str) -> tuple[()]:
        raise UnavailableError("gone")

    monkeypatch.setattr(rig.engine, "containers", fail)
    assert "beside the cluster" not in examined(rig)["memory for the cluster"].seen


def test_an_address_of_another_machine_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(port: int, *, address: str) -> bool:
        raise ConfigurationError(f"could not listen on {address}")

    monkeypatch.setattr(ports, "is_taken", fail)
    found = examined(rig)
    assert found["http port"].remedy == "set kind.cluster.listen_address"
    assert "https port" not in found


def test_nothing_is_advised_where_everything_is_fine(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_inotify", lambda: iter(()))
    assert preflight.advise(rig.parts, mapped(rig)) == ""
