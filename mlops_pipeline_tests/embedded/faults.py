"""What tests of faults do to a machine: strangers on ports, small disks, signals."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mlops_pipeline.clients import running
from mlops_pipeline_tests.command_line import CLI, CommandLine


@contextmanager
def strangers_on(*ports: int) -> Iterator[None]:
    """Listen on these ports of 127.0.0.1, as another program would."""
    strangers = []
    try:
        for port in ports:
            stranger = socket.socket()
            strangers.append(stranger)
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", port))
            stranger.listen(5)
        yield
    finally:
        for stranger in strangers:
            stranger.close()


@contextmanager
def small_disk(folder: Path, *, megabytes: int, options: str = "") -> Iterator[None]:
    """Mount a small file system on `folder`; skip the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m,mode=700{options}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Write a file that leaves `leave` MiB of the folder's disk, and return it."""
    filler = folder / "filler"
    block = bytes(1 << 20)
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            pass
        size = file.tell()
    os.truncate(filler, max(0, size - (leave << 20)))
    return filler


class Running:
    """A command that runs, and what it has said so far."""

    def __init__(self, line: CommandLine, *arguments: str, **variables: str) -> None:
        self._home = line.home
        self._process = subprocess.Popen(
            [CLI, *arguments],
            cwd=line.directory,
            env=line.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.said = ""

    def read_until(self, word: str) -> None:
        """Return when it has said `word`, or has ended."""
        assert self._process.stdout is not None
        while word not in self.said and (line := self._process.stdout.readline()):
            self.said += line

    def wait(self, seconds: float) -> None:
        """Let it go on for so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def interrupt(self) -> int:
        """Press Ctrl-C: the signal goes to the whole process group. Return the exit code."""
        os.killpg(self.pid, signal.SIGINT)
        return self.end()

    def end(self, *, timeout: float = 90) -> int:
        """Wait for the end and return the exit code."""
        try:
            rest, _ = self._process.communicate(timeout=timeout)
        finally:
            self._process.kill()
        self.said += rest
        return self._process.returncode

    def left(self) -> list[int]:
        """Return the processes of commands on the same state folder that still run."""
        return running.marked("MLOPS_HOME", str(self._home))
