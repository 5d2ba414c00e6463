import json
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.containers import (
    ContainerEngine,
    Mount,
    Network,
    PortMapping,
    full_reference,
)
from mlops_pipeline.clients.engine_images import ImageInfo
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    CommandError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline_tests.clients.stand_in import Answer, StandIn

NODE = {
    "Id": "c464b4",
    "Name": "/seldon-control-plane",
    "Created": "2026-11-23T03:59:53.371938102Z",
    "State": {"Running": True},
    "Config": {"Image": "kindest/node:v1", "Labels": {"io.x-k8s.kind.cluster": "seldon"}},
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}},
    "NetworkSettings": {
        "Ports": {
            "6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "43309"}],
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
            "9/udp": None,
        }
    },
}
DUMP_2 = (
    'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "overlayfs"\n'
)
DUMP_3 = 'version = 3\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "fuse-overlayfs"\n'

INFO = {
    "ServerVersion": "28.2.2",
    "CgroupVersion": "2",
    "NCPU": 2,
    "Architecture": "x86_64",
    "MemTotal": 25276518400,
    "DockerRootDir": "/var/lib/docker",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
}
PODMAN = {
    "host": {"cgroupVersion": "v2", "cpus": 4, "memTotal": 8 << 30, "arch": "arm64"},
    "store": {"graphRoot": "/home/me/containers"},
    "version": {"Version": "5.4.0"},
}


def _engine(tmp_path: Path, *answers: Answer) -> tuple[ContainerEngine, StandIn]:
    program = StandIn(tmp_path / "docker", answers, reads=["--interactive"])
    return ContainerEngine(str(program.path)), program


def _shown(words: list[str], content: Any) -> Answer:
    return Answer(words, json.dumps(content))


def _refused(words: list[str], reason: str) -> Answer:
    return Answer(words, "[]\n", f"Error response from daemon: {reason}\n", 1)


def test_an_image_tells_its_machine_and_the_digests_of_registries(tmp_path: Path) -> None:
    found = {"Os": "linux", "Architecture": "arm64", "RepoDigests": ["a/b@sha256:01", "c@sha256:2"]}
    engine, _ = _engine(
        tmp_path,
        _shown(["image", "inspect", "a/b:1"], [found]),
        _shown(["image", "inspect", "built:1"], [{**found, "RepoDigests": None}]),
        _refused(["image", "inspect"], "No such image: none"),
    )
    seen = engine.find_image("a/b:1")
    assert seen == ImageInfo("linux/arm64", frozenset({"sha256:01", "sha256:2"}))
    assert engine.find_image("built:1") == ImageInfo("linux/arm64", frozenset())
    assert engine.find_image("none") is None


def test_images_are_pulled_named_and_saved(tmp_path: Path) -> None:
    engine, program = _engine(
        tmp_path, Answer(["pull"]), Answer(["tag"]), _shown(["info"], INFO), Answer(["save"])
    )
    engine.pull("a:1@sha256:01", platform="linux/arm64", timeout=5)
    engine.tag("a:1@sha256:01", "a:1")
    engine.save(["a:1", "b:1"], tmp_path / "x.tar", platform="linux/arm64", timeout=5)
    assert [call.arguments for call in program.calls if call.arguments[0] != "info"] == [
        ["pull", "--quiet", "--platform", "linux/arm64", "a:1@sha256:01"],
        ["tag", "a:1@sha256:01", "a:1"],
        ["save", "--output", str(tmp_path / "x.tar"), "a:1", "b:1"],
    ]


def test_from_a_store_that_may_have_parts_of_an_image_one_platform_is_saved(tmp_path: Path) -> None:
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    found = {**INFO, "DriverStatus": status}
    engine, program = _engine(tmp_path, _shown(["info"], found), Answer(["save"]))
    assert engine.info().has_parts
    engine.save(["a:1"], tmp_path / "x.tar", platform="linux/arm64", timeout=5)
    archive = ["--output", str(tmp_path / "x.tar")]
    assert program.calls[-1].arguments == ["save", "--platform", "linux/arm64", *archive, "a:1"]


@pytest.mark.parametrize("version", ["27.5.1", "dev"])
def test_a_docker_without_platform_support_gets_none(tmp_path: Path, version: str) -> None:
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    found = {**INFO, "DriverStatus": status, "ServerVersion": version}
    engine, _ = _engine(tmp_path, _shown(["info"], found))
    assert not engine.info().has_parts


def test_podman_saves_several_images(tmp_path: Path) -> None:
    program = StandIn(tmp_path / "podman", [_shown(["info"], PODMAN), Answer(["save"])])
    engine = ContainerEngine(str(program.path))
    engine.save(["a:1", "b:1"], tmp_path / "x.tar", platform="linux/arm64", timeout=5)
    assert "--multi-image-archive" in program.calls[-1].arguments
    assert "--platform" not in program.calls[-1].arguments


def test_the_engine_says_what_it_has(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, _shown(["info"], INFO))
    assert engine.info() == EngineInfo("28.2.2", 2, 2, 25276518400, "/var/lib/docker", "amd64")


def test_podman_says_it_in_its_own_way(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, _shown(["info"], PODMAN))
    assert engine.info() == EngineInfo("5.4.0", 2, 4, 8 << 30, "/home/me/containers", "arm64")


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon "
        "running?",
        "permission denied while trying to connect to the Docker daemon socket",
        "Got permission denied while trying to connect to the Docker daemon socket",
        "docker: Cannot connect to the Docker daemon at tcp://x.",
        "error during connect: Get http://%2Fvar: EOF",
        "failed to connect to the docker API at unix:///var/run/docker.sock",
        "Cannot connect to Podman. Please verify your connection",
        "Error: unable to connect to Podman socket: EOF",
    ],
)
def test_an_engine_that_does_not_answer_may_be_started(tmp_path: Path, said: str) -> None:
    engine, _ = _engine(tmp_path, Answer([], '{"NCPU": 0}', f"{said}\n", 1))
    with pytest.raises(UnavailableError) as caught:
        engine.info()
    assert str(caught.value).startswith(f"could not ask the engine: {said} Start it")


def test_a_missing_engine_says_how_to_get_one() -> None:
    with pytest.raises(CommandError, match="`no-such-engine` was not found; install Docker"):
        ContainerEngine("no-such-engine").info()


@pytest.mark.parametrize("families", [(0, 1), (1, 0)])
def test_a_network_has_subnets_of_both_families_in_any_order(
    tmp_path: Path, families: tuple[int, int]
) -> None:
    configured = [
        {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"},
        {"Subnet": "fc00:f853:ccd:e793::/64"},
    ]
    found = {
        "IPAM": {"Config": [configured[i] for i in families]},
        "Containers": {"c464": {"IPv4Address": "172.18.0.2/16", "IPv6Address": "fc00::2/64"}},
    }
    engine, _ = _engine(tmp_path, _shown(["network", "kind"], [found]))
    seen = engine.network("kind")
    assert set(seen.subnets) == {"172.18.0.0/16", "fc00:f853:ccd:e793::/64"}
    assert seen.gateways == ("172.18.0.1",)
    assert seen.addresses == ("172.18.0.2", "fc00::2")


def test_podmans_network_has_no_containers_in_it(tmp_path: Path) -> None:
    found = {"name": "kind", "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]}
    engine, _ = _engine(tmp_path, _shown(["network"], [found]))
    assert engine.network("kind") == Network(("10.89.0.0/24",), ("10.89.0.1",), ())


def test_containers_are_found_by_label_and_looked_at_together(tmp_path: Path) -> None:
    stopped = {
        **NODE,
        "Name": "/seldon-worker",
        "State": {"Running": False},
        "NetworkSettings": {"Ports": {}},
    }
    engine, program = _engine(
        tmp_path, Answer(["ps"], "c464b4\nd575c5\n"), _shown(["inspect"], [NODE, stopped])
    )
    first, second = engine.containers(label="io.x-k8s.kind.cluster=seldon")
    assert (first.name, first.image, first.running) == (
        "seldon-control-plane",
        "kindest/node:v1",
        True,
    )
    assert first.ports == (
        PortMapping(6443, "127.0.0.1", 43309),
        PortMapping(80, "127.0.0.1", 8080),
    )
    assert first.labels == {"io.x-k8s.kind.cluster": "seldon"}
    assert (second.running, second.ports) == (False, (PortMapping(80, "127.0.0.1", 8080),))
    assert [call.arguments[0] for call in program.calls] == ["ps", "container"]


def test_a_container_that_goes_away_meanwhile_is_left_out(tmp_path: Path) -> None:
    engine, _ = _engine(
        tmp_path,
        Answer(["ps"], "c464b4\nd575c5\n"),
        _refused(["inspect", "d575c5"], "No such container: d575c5"),
        _shown(["inspect", "c464b4"], [NODE]),
    )
    assert [container.name for container in engine.containers()] == ["seldon-control-plane"]


def test_without_containers_none_is_looked_at(tmp_path: Path) -> None:
    engine, program = _engine(tmp_path)
    assert engine.containers(label="a=b") == ()
    assert len(program.calls) == 1


def test_what_is_absent_is_not_found(tmp_path: Path) -> None:
    engine, _ = _engine(
        tmp_path,
        _refused(["network"], "network kind not found"),
        _refused(["container"], "No such container: a"),
        _refused(["image", "inspect"], "no such image: a: No such image: a:latest"),
        _refused(["image", "rm"], "No such image: a:latest"),
        _refused(["exec"], "No such container: a"),
    )
    with pytest.raises(NotFoundError, match="could not look at the network kind: Error response"):
        engine.network("kind")
    with pytest.raises(NotFoundError, match="container a"):
        engine.inspect("a")
    with pytest.raises(NotFoundError, match="image a"):
        engine.image_id("a")
    with pytest.raises(NotFoundError, match="container: a"):
        engine.exec("a", ["ls"], timeout=5)
    with pytest.raises(NotFoundError, match="image a"):
        engine.copy_image("a", "node", timeout=5)
    assert engine.has_image("a") is False
    assert engine.remove_image("a") is False


def test_an_image_in_use_stays(tmp_path: Path) -> None:
    reason = 'conflict: unable to remove repository reference "a:1" (must force) - container b'
    engine, _ = _engine(tmp_path, _refused(["image", "rm"], reason))
    with pytest.raises(ConflictError, match="must force"):
        engine.remove_image("a:1")


def test_images_with_a_label_are_listed_newest_first(tmp_path: Path) -> None:
    listed = "2026-01-01 10:00:00 +0000 UTC\ta/b:1\n2026-01-02 09:00:00 +0000 UTC\ta/b:2\n"
    engine, program = _engine(tmp_path, Answer(("image", "ls"), listed))
    assert engine.labelled_images(label="x=y") == ("a/b:2", "a/b:1")
    assert "label=x=y" in program.calls[-1].arguments


def test_an_image_has_an_id_and_a_size(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, _shown(["image"], [{"Id": "8fca42", "Size": 143035924}]))
    assert engine.image_id("python:3.11") == "sha256:8fca42"
    assert engine.image_size("python:3.11") == 143035924
    assert engine.has_image("python:3.11") is True


def test_an_image_is_built_with_what_it_is_given(tmp_path: Path) -> None:
    engine, program = _engine(tmp_path)
    engine.build(
        Path("/context"),
        dockerfile=Path("/deploy/serving.Dockerfile"),
        tag="mlops-pipeline/serving:0a",
        timeout=5,
        arguments={"BASE": "python:3.11"},
        labels={"a/b": "c"},
        target="runtime",
        network="host",
    )
    assert program.calls[0].arguments == [
        *("build", "--force-rm", "--file", "/deploy/serving.Dockerfile"),
        *(
            "--tag",
            "mlops-pipeline/serving:0a",
            "--network",
            "host",
            "--build-arg",
            "BASE=python:3.11",
            "--label",
            "a/b=c",
        ),
        *("--target", "runtime", "/context"),
    ]


def test_a_command_runs_in_a_container_without_network_and_nothing_is_pulled(
    tmp_path: Path,
) -> None:
    engine, program = _engine(tmp_path, Answer(["run"], "scores\n"))
    output = engine.run(
        "serving:1",
        ["python", "-V"],
        timeout=5,
        mounts=[Mount(Path("/a, b"), "/in"), Mount(Path("/out"), "/out", writable=True)],
        user="1000:1000",
        environment={"A": "b c"},
        entrypoint="",
    )
    assert output == "scores\n"
    [call] = program.calls
    name = call.arguments[call.arguments.index("--name") + 1]
    assert call.arguments == [
        *("run", "--rm", "--pull", "never", "--name", name, "--network", "none"),
        *("--mount", '"type=bind","source=/a, b","target=/in",readonly'),
        *("--mount", '"type=bind","source=/out","target=/out"'),
        *("--env", "A=b c", "--user", "1000:1000", "serving:1", "python", "-V"),
    ]


def test_a_container_that_failed_is_removed(tmp_path: Path) -> None:
    engine, program = _engine(
        tmp_path, Answer(["run"], errors="ValueError: no such image in your data\n", code=1)
    )
    with pytest.raises(CommandError, match="could not run python in serving:1") as caught:
        engine.run("serving:1", ["python"], timeout=5)
    assert not isinstance(caught.value, NotFoundError)
    name = program.calls[0].arguments[program.calls[0].arguments.index("--name") + 1]
    assert program.calls[1].arguments == ["rm", "--force", name]


def test_a_command_in_a_container_reads_a_file(tmp_path: Path) -> None:
    engine, program = _engine(tmp_path, Answer(["exec"], "done"))
    (tmp_path / "input").write_text("text")
    assert engine.exec("node", ["cat"], timeout=5, stdin=tmp_path / "input") == "done"
    assert program.calls[0].arguments == ["exec", "--interactive", "node", "cat"]
    assert program.calls[0].stdin == "text"
    engine.exec("node", ["ls"], timeout=5)
    assert program.calls[1].arguments == ["exec", "node", "ls"]


@pytest.mark.parametrize(
    ("dump", "snapshotter"), [(DUMP_2, "overlayfs"), (DUMP_3, "fuse-overlayfs")]
)
def test_an_archive_is_streamed_into_a_node(tmp_path: Path, dump: str, snapshotter: str) -> None:
    engine, program = _engine(tmp_path, Answer(["config", "dump"], dump))
    (tmp_path / "images.tar").write_text("an archive")
    engine.import_archive(tmp_path / "images.tar", "node", timeout=5)
    call = program.calls[-1]
    assert call.arguments == [
        *("exec", "--privileged", "--interactive", "node"),
        *("ctr", "--namespace=k8s.io", "images", "import", "--all-platforms", "--digests"),
        *(f"--snapshotter={snapshotter}", "-"),
    ]
    assert call.stdin == "an archive"


def test_an_archive_that_is_gone_is_named(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, Answer(["config", "dump"], DUMP_2))
    with pytest.raises(CommandError, match=r"into the node node: .*gone\.tar cannot be read"):
        engine.import_archive(tmp_path / "gone.tar", "node", timeout=5)


def test_an_image_is_copied_without_a_file_between(tmp_path: Path) -> None:
    engine, program = _engine(
        tmp_path,
        _shown(["image", "inspect"], [{"Id": "0a"}]),
        Answer(["config", "dump"], DUMP_2),
        Answer(["save", "serving:1"], "the image"),
    )
    engine.copy_image("serving:1", "node", timeout=5)
    [taken] = [call for call in program.calls if "import" in call.arguments]
    assert taken.stdin == "the image"


def test_several_images_are_copied_in_one_stream(tmp_path: Path) -> None:
    engine, program = _engine(
        tmp_path,
        _shown(["image", "inspect"], [{"Id": "0a"}]),
        Answer(["config", "dump"], DUMP_2),
        Answer(["save", "a:1", "b:1"], "the images"),
    )
    engine.copy_image("a:1", "node", timeout=5, also=["b:1"])
    [taken] = [call for call in program.calls if "import" in call.arguments]
    assert taken.stdin == "the images"


def test_the_images_of_a_node_are_listed(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, Answer(["ls"], "docker.io/library/x:1\nsha256:0a\n"))
    assert engine.images_in("node") == {"docker.io/library/x:1", "sha256:0a"}


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("x", "docker.io/library/x:latest"),
        ("x:1", "docker.io/library/x:1"),
        ("docker.io/x:1", "docker.io/library/x:1"),
        ("index.docker.io/library/x:1", "docker.io/library/x:1"),
        ("a/b", "docker.io/a/b:latest"),
        ("docker.io/a/b:1", "docker.io/a/b:1"),
        ("localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("x@sha256:0a", "docker.io/library/x@sha256:0a"),
        ("quay.io/a/b:1@sha256:0a", "quay.io/a/b:1@sha256:0a"),
    ],
)
def test_a_reference_has_one_full_spelling(given: str, full: str) -> None:
    assert full_reference(given) == full
    assert full_reference(full) == full


# Registries

IMAGE = "registry.example.com/team/serving:1"


def test_an_image_is_pushed_by_its_name(tmp_path: Path) -> None:
    engine, program = _engine(tmp_path, Answer(["push"]))
    engine.push(IMAGE, timeout=5)
    assert program.calls[-1].arguments == ["push", "--quiet", IMAGE]


@pytest.mark.parametrize(
    "said",
    [
        "denied: requested access to the resource is denied",
        "unauthorized: authentication required",
        "no basic auth credentials",
    ],
)
def test_a_registry_that_refuses_the_login_says_how_to_get_one(tmp_path: Path, said: str) -> None:
    engine, _ = _engine(tmp_path, Answer([], errors=f"{said}\n", code=1))
    for call in (lambda: engine.push(IMAGE, timeout=5), lambda: engine.is_pushed(IMAGE)):
        with pytest.raises(AccessDeniedError) as caught:
            call()
        assert f"{said}; `docker login registry.example.com`" in str(caught.value)


@pytest.mark.parametrize("said", [f"no such manifest: {IMAGE}", "manifest unknown"])
def test_an_image_that_a_registry_lacks_is_not_pushed(tmp_path: Path, said: str) -> None:
    engine, program = _engine(tmp_path, Answer(["manifest"], errors=f"{said}\n", code=1))
    assert engine.is_pushed(IMAGE) is False
    assert engine.is_pushed(IMAGE, plain_http=True) is False
    assert program.calls[-1].arguments == ["manifest", "inspect", "--insecure", IMAGE]


def test_an_image_that_a_registry_has_is_pushed(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, Answer(["manifest"], "{}"))
    assert engine.is_pushed(IMAGE) is True


def test_podman_has_its_own_option_for_plain_http(tmp_path: Path) -> None:
    program = StandIn(tmp_path / "podman", [Answer(["manifest"], "{}")])
    assert ContainerEngine(str(program.path)).is_pushed(IMAGE, plain_http=True)
    assert "--tls-verify=false" in program.calls[-1].arguments


def test_a_registry_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    engine, _ = _engine(tmp_path, Answer([], errors="dial tcp: connection refused\n", code=1))
    with pytest.raises(CommandError, match=f"look for the image {IMAGE} in its registry"):
        engine.is_pushed(IMAGE)
