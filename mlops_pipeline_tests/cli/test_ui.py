"""`ui` before its programs start: nothing is started here."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.cli import ui
from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.command_line import free_ports


def test_it_says_that_it_waits_for_who_keeps_the_records_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def locked(_settings: Settings, *, on_wait: Callable[[str], None]) -> Iterator[None]:
        on_wait("process 7 (backup)")
        raise UnavailableError("it stayed locked")
        yield

    monkeypatch.setattr(ui, "open_instance", locked)
    said = io.StringIO()
    (port,) = free_ports(1)
    context = Context(Settings.model_construct(home=tmp_path / "home"))
    with pytest.raises(UnavailableError, match="it stayed locked"):
        ui.serve(context, host="127.0.0.1", port=port, console=Console(file=said))
    assert "waiting for process 7 (backup)" in said.getvalue()


ROOT = Path(__file__).parents[2]
WAIT = "print('ready', flush=True); input()"
IN_PROJECT_FOLDER = f"""\
import tempfile
from dagster._core.instance.ref import InstanceRef
from dagster import DagsterInstance
ref = InstanceRef.from_dir(tempfile.mkdtemp(), config_dir={str(ROOT)!r})
with DagsterInstance.from_ref(ref):
    {WAIT}
"""
"""What `dagster dev` and its daemon do without DAGSTER_HOME."""


@contextmanager
def started(
    words: Sequence[str], *, script: str = WAIT, **variables: object
) -> Iterator["subprocess.Popen[str]"]:
    """Start a process with these arguments, and wait until it has read its settings."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "MLOPS_HOME")}
    with subprocess.Popen(
        [sys.executable, "-c", script, *words],
        env={**kept, "PYTHONPATH": str(ROOT), **{k: str(v) for k, v in variables.items()}},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "dagster._daemon", "run"),
        ("/opt/venv/bin/dagster-daemon", "run"),
        ("dagster-daemon", "run", "--log-level", "warning"),
    ],
)
@pytest.mark.parametrize("form", ["{home}", "{home}/", "/{home}", "{home}/../dagster", "{link}"])
def test_a_daemon_started_by_hand_is_found_however_its_folder_is_written(
    tmp_path: Path, words: Sequence[str], form: str
) -> None:
    home = prepare_instance(Settings(home=tmp_path / "home"))
    (tmp_path / "link").symlink_to(tmp_path / "home")
    written = form.format(home=home, link=tmp_path / "link" / "dagster")
    with started(words, DAGSTER_HOME=written) as process:
        assert ui._foreign_daemons(home) == [process.pid]
        assert ui._foreign_daemons(tmp_path / "link" / "dagster") == [process.pid]
        assert ui._foreign_daemons(tmp_path / "other" / "dagster") == []
    with started(("dagster-daemon", "liveness-check"), DAGSTER_HOME=home):
        assert ui._foreign_daemons(home) == []


def test_a_daemon_in_the_project_folder_is_found_by_the_file_that_it_keeps_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    words = ("-m", "dagster._daemon", "run", "--instance-ref", "{}")
    link = tmp_path / "link"
    with started(words, script=IN_PROJECT_FOLDER, MLOPS_HOME=link) as process:
        assert ui._foreign_daemons(tmp_path / "home" / "dagster") == [process.pid]
        assert ui._foreign_daemons(link / "dagster") == [process.pid]
        assert ui._foreign_daemons(tmp_path / "other" / "dagster") == []
