from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import CommandError, ConflictError, NotFoundError
from mlops_pipeline.clients.kind import Kind
from mlops_pipeline_tests.clients.stand_in import Answer, StandIn


def _kind(tmp_path: Path, *answers: Answer) -> tuple[Kind, StandIn]:
    program = StandIn(tmp_path / "kind", answers, reads=["-"])
    return Kind(program.path, engine="podman"), program


def test_clusters_and_nodes_are_names(tmp_path: Path) -> None:
    kind, program = _kind(
        tmp_path,
        Answer(["get", "clusters"], "a\nb\n"),
        Answer(["get", "nodes", "a"], "a-control-plane\na-worker\n"),
    )
    assert kind.clusters() == ["a", "b"]
    assert kind.nodes("a") == ["a-control-plane", "a-worker"]
    assert kind.nodes("none") == []
    assert program.calls[1].arguments == ["get", "nodes", "--name", "a"]


def test_absence_is_not_an_error(tmp_path: Path) -> None:
    kind, _ = _kind(tmp_path, Answer(["get"], errors="No kind clusters found.\n"))
    assert kind.clusters() == []


def test_a_cluster_is_made_from_its_configuration_and_with_its_own_kubeconfig(
    tmp_path: Path,
) -> None:
    kind, program = _kind(tmp_path)
    kubeconfig = tmp_path / "state" / "kubeconfig"
    kind.create("a", config="nodes: []\n", image="node:1", kubeconfig=kubeconfig, timeout=5)
    [call] = program.calls
    assert call.arguments == [
        *("create", "cluster", "--name", "a", "--image", "node:1", "--config", "-"),
        *("--kubeconfig", str(kubeconfig)),
    ]
    assert call.stdin == "nodes: []\n"
    assert call.environment["KIND_EXPERIMENTAL_PROVIDER"] == "podman"


def test_a_name_that_is_taken_is_a_conflict(tmp_path: Path) -> None:
    said = 'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "a"'
    kind, _ = _kind(tmp_path, Answer(["create"], errors=said, code=1))
    with pytest.raises(ConflictError, match="there is one"):
        kind.create("a", config="", image="i", kubeconfig=tmp_path / "k", timeout=5)


def test_what_kind_says_when_it_fails_is_shown(tmp_path: Path) -> None:
    kind, _ = _kind(tmp_path, Answer(["create"], errors="ERROR: no memory", code=1))
    with pytest.raises(CommandError, match=r"could not create the kind cluster a(.|\n)*no memory"):
        kind.create("a", config="", image="i", kubeconfig=tmp_path / "k", timeout=5)


def test_a_cluster_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    said = "ERROR: could not locate any control plane nodes for cluster named 'a'"
    kind, _ = _kind(tmp_path, Answer(["export"], errors=said, code=1))
    with pytest.raises(NotFoundError, match="no kind cluster a"):
        kind.export_kubeconfig("a", tmp_path / "kubeconfig")


def test_deleting_names_the_kubeconfig_too(tmp_path: Path) -> None:
    kind, program = _kind(tmp_path)
    kind.delete("a", kubeconfig=tmp_path / "k")
    assert program.calls[0].arguments == [
        *("delete", "cluster", "--name", "a", "--kubeconfig", str(tmp_path / "k"))
    ]


def test_the_lock_of_a_kind_that_was_killed_is_removed(tmp_path: Path) -> None:
    kind, _ = _kind(tmp_path)
    (tmp_path / "kubeconfig.lock").touch()
    kind.export_kubeconfig("a", tmp_path / "kubeconfig")
    assert not (tmp_path / "kubeconfig.lock").exists()


def test_a_missing_program_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="was not found; install kind, or name a bundle"):
        Kind(tmp_path / "kind", engine="docker").clusters()
