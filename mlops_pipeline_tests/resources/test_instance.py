"""The state folder is closed to other users, also one that an earlier version left open."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(*paths: Path) -> list[str]:
    return [oct(path.stat().st_mode & 0o777) for path in paths]


def test_a_new_state_folder_is_its_owners(tmp_path: Path) -> None:
    home = tmp_path / "new" / "state"
    dagster = prepare_instance(Settings(home=home))
    assert modes(home, dagster) == ["0o700"] * 2
    (dagster / "runs.db").touch()  # as Dagster does
    assert modes(dagster / "dagster.yaml", dagster / "runs.db") == ["0o600"] * 2


def test_one_that_was_open_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "state"
    dagster = prepare_instance(Settings(home=home))
    (home / "embedded").mkdir()
    for folder in (home, dagster):
        folder.chmod(0o755)
    assert modes(home, prepare_instance(Settings(home=home))) == ["0o700"] * 2


def test_a_folder_with_other_things_in_it_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home of somebody"
    home.mkdir()
    dagster = prepare_instance(Settings(home=home))
    (home / "letters").mkdir()
    for folder in (home, dagster):
        folder.chmod(0o755)
    assert modes(home, prepare_instance(Settings(home=home))) == ["0o755", "0o700"]
