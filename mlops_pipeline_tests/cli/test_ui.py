"""`ui` before its programs start: nothing is started here."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.cli import ui
from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import UnavailableError
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
