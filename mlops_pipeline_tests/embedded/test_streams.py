"""Standard output that is closed, full, or no longer read: one sentence, or none, and no trace."""

import subprocess
from pathlib import Path

import pytest

from mlops_pipeline_tests.command_line import CLI, CommandLine, free_ports

pytestmark = pytest.mark.embedded


def shell(tmp_path: Path, line: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash in which `$CLI` is the command."""
    command_line = CommandLine(tmp_path / "home", tmp_path, free_ports(3))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=tmp_path,
        env=command_line.environment(CLI=CLI),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("words", ["status --json", "--help"])
def test_a_full_disk_is_said(tmp_path: Path, words: str) -> None:
    done = shell(tmp_path, f'"$CLI" {words} >/dev/full')
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: could not write to standard output: No space left")


@pytest.mark.parametrize("words", ["status", "up", "down --purge --yes"])
def test_a_closed_output_is_said_before_anything_is_done(tmp_path: Path, words: str) -> None:
    done = shell(tmp_path, f'"$CLI" {words} >&-')
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output is closed, so nothing was done")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", ["status", "--help"])
def test_a_reader_that_disconnects_is_not_an_error(tmp_path: Path, words: str) -> None:
    done = shell(tmp_path, f'"$CLI" {words} | head -c 1')
    assert done.stderr == ""
    assert len(done.stdout) == 1


def test_closed_input_and_errors_do_not_matter(tmp_path: Path) -> None:
    done = shell(tmp_path, '"$CLI" status <&- 2>&-')
    assert done.returncode == 3
    assert "supervisor" in done.stdout
