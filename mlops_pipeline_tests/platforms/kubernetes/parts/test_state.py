from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings


def _on_kind(home: Path) -> Parts:
    return KindParts.make(home, KindSettings(), bundle=None)


def _where_it_is(home: Path) -> Parts:
    return ExistingParts.make(home, KubernetesSettings(context="theirs"), bundle=None)


def test_the_folders_are_for_this_user_alone(tmp_path: Path) -> None:
    state = ClusterFolder(tmp_path / "a b" / "kind")
    assert not state.is_prepared()
    state.prepare()
    state.prepare()
    assert state.is_prepared()
    for folder in (state.home, state.locks, state.helm, state.temporary):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.is_relative_to(state.home)
    assert {state.kubeconfig.parent, state.verified.parent} == {state.home}


def test_purging_removes_what_was_made(tmp_path: Path) -> None:
    state = ClusterFolder(tmp_path / "kind")
    state.purge()
    state.prepare()
    state.kubeconfig.write_text("key")
    state.purge()
    assert not state.home.exists()


def test_a_folder_that_has_lost_its_mark_is_ours_still(tmp_path: Path) -> None:
    state = ClusterFolder(tmp_path / "kind")
    state.prepare()
    state.kubeconfig.write_text("key")
    (mark,) = (path for path in state.home.iterdir() if path.name.startswith("."))
    mark.unlink()
    assert state.is_prepared()
    state.prepare()
    assert mark.exists()
    mark.unlink()
    state.purge()
    assert not state.home.exists()


@pytest.mark.parametrize("make", [_on_kind, _where_it_is])
def test_whatever_takes_the_first_lock_leaves_the_folder_ours(
    tmp_path: Path, make: Callable[[Path], Parts]
) -> None:
    parts = make(tmp_path / "state")
    with parts.locks.held("deployment-seldon-iris", purpose="delete it"):
        assert parts.state.is_prepared()
    assert parts.state.locks.stat().st_mode & 0o777 == 0o700
    parts.state.prepare()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        ConflictError, match=r"contains thesis\.tex, which this project did not create"
    ):
        ClusterFolder(tmp_path).prepare()
    with pytest.raises(ConflictError, match="this project did not create"):
        ClusterFolder(tmp_path).purge()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="choose another with MLOPS_HOME"):
        ClusterFolder(tmp_path / "file" / "kind").prepare()
