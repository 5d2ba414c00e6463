"""Temporary folders: gone at the end, and after their process was killed at the next start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_pipeline.clients.temporary import is_temporary, temporary_folder

HOLDS = """
import sys, time
from pathlib import Path
from mlops_pipeline.clients.temporary import temporary_folder
with temporary_folder("trial", within=Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def held(place: Path) -> "tuple[subprocess.Popen[str], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with temporary_folder("trial", within=tmp_path) as folder:
        assert folder.parent == tmp_path
        assert is_temporary(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_a_killed_process_are_removed_by_the_next(tmp_path: Path) -> None:
    process, left = held(tmp_path)
    with process:
        with temporary_folder("other", within=tmp_path):
            assert (left / "half").exists()
        os.kill(process.pid, signal.SIGKILL)
    assert (left / "half").exists()
    with temporary_folder("other", within=tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_of_this_process_is_left_to_it(tmp_path: Path) -> None:
    with (
        temporary_folder("one", within=tmp_path) as one,
        temporary_folder("two", within=tmp_path) as two,
    ):
        assert one.is_dir()
        assert two.is_dir()


def test_other_folders_are_not_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "mlops-pipeline-tmp-link").symlink_to(elsewhere)
    (tmp_path / "mlops-pipeline-tmp-file").touch()
    (tmp_path / "mlops-training-results").mkdir()
    with temporary_folder("trial", within=tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {
        "elsewhere",
        "mlops-pipeline-tmp-link",
        "mlops-pipeline-tmp-file",
        "mlops-training-results",
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_another_users_folder_is_not_changed(tmp_path: Path) -> None:
    theirs = tmp_path / "mlops-pipeline-tmp-trial-abcdefgh"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    with temporary_folder("trial", within=tmp_path):
        assert theirs.is_dir()
