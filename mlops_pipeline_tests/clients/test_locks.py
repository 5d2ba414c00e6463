"""Locks between processes."""

import os
import re
from pathlib import Path

import pytest

from mlops_pipeline.clients import locks
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.locks import Locks


def test_a_waiting_command_shows_who_holds_it(tmp_path: Path) -> None:
    told: list[str] = []
    holding = Locks(tmp_path, timeout=1).held("a", purpose="work", on_wait=told.append)
    waiting = Locks(tmp_path, timeout=0.05).held("a", purpose="play", on_wait=told.append)
    who = rf"process {os.getpid()} \(work, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
    with holding, pytest.raises(UnavailableError, match=rf"could not play: {who} has held .* 0.05"):
        waiting.__enter__()
    assert len(told) == 1
    assert re.fullmatch(who, told[0])
    with Locks(tmp_path, timeout=0.05).held("a", purpose="play", on_wait=told.append):
        pass
    assert len(told) == 1


def test_the_folder_is_prepared_before_there_is_a_lock_in_it(tmp_path: Path) -> None:
    found: list[bool] = []
    folder = tmp_path / "locks"
    locks = Locks(folder, timeout=1, prepare=lambda: found.append(folder.exists()))
    with locks.held("a", purpose="work"):
        assert found == [False]


def test_a_lock_is_held_also_when_the_holder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ConfigurationError("no space left on device")

    monkeypatch.setattr(locks, "write_atomically", full)
    with Locks(tmp_path, timeout=1).held("a", purpose="work"):
        waiting = Locks(tmp_path, timeout=0.05).held("a", purpose="play")
        with pytest.raises(UnavailableError, match="another process has held"):
            waiting.__enter__()


def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path) -> None:
    with Locks(tmp_path, timeout=1).held("a", purpose="work"):
        (tmp_path / "a.holder").write_bytes(b"\xff\xfe")
        waiting = Locks(tmp_path, timeout=0.05).held("a", purpose="play")
        with pytest.raises(UnavailableError, match="another process has held"):
            waiting.__enter__()


def test_a_folder_in_the_place_of_a_lock_is_set_aside(tmp_path: Path) -> None:
    for name in ("a.lock", "a.holder"):
        (tmp_path / name).mkdir()
    with Locks(tmp_path, timeout=1).held("a", purpose="work"):
        waiting = Locks(tmp_path, timeout=0.05).held("a", purpose="play")
        with pytest.raises(UnavailableError, match=r"\(work, since .* UTC\) has held"):
            waiting.__enter__()


def test_a_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match=r"a\.lock cannot be locked"),
        Locks(tmp_path / "file", timeout=1).held("a", purpose="work"),
    ):
        pass
