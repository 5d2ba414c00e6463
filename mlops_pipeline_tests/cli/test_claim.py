"""Which process serves the UI of a state folder, and what others do meanwhile."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.cli import ui
from mlops_pipeline.cli.claim import Place, claimed, find_place, make_token, read_token, write_place
from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings

PLACE = Place(os.getpid(), "127.0.0.1", 3001)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_construct(home=tmp_path / "home")


@pytest.fixture
def home(settings: Settings) -> Path:
    return prepare_instance(settings)


def said_by_a_second_ui(settings: Settings) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    ui.serve(Context(settings), host="127.0.0.1", port=3000, console=console)
    return stream.getvalue()


def test_only_the_one_that_serves_makes_the_token(settings: Settings, home: Path) -> None:
    with claimed(home / "ui.lock") as claim:
        assert claim is not None
        assert "starts or stops the UI" in said_by_a_second_ui(settings)
        assert not (home / "ui.token").exists()
        token = make_token(home)
        write_place(claim, PLACE)
        said = said_by_a_second_ui(settings)
    assert said == (
        f"process {os.getpid()} serves the Dagster UI: http://127.0.0.1:3001/?token={token}\n"
    )


def test_each_start_has_a_token_of_its_own(home: Path) -> None:
    assert make_token(home) != make_token(home)
    assert (home / "ui.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_token_that_cannot_be_read_is_named(
    settings: Settings, home: Path, content: bytes | None
) -> None:
    if content is not None:
        (home / "ui.token").write_bytes(content)
    with claimed(home / "ui.lock") as claim:
        assert claim is not None
        write_place(claim, PLACE)
        with pytest.raises(ConfigurationError, match=r"ui\.token .*run `mlops-pipeline ui` again"):
            said_by_a_second_ui(settings)
    make_token(home)
    assert read_token(home)


def test_a_lock_that_was_removed_keeps_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = home / "ui.lock"
    opened = os.open

    def purged_meanwhile(*arguments: object) -> int:
        descriptor = opened(*arguments)  # type: ignore[arg-type]
        lock.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", purged_meanwhile)
    with claimed(lock) as claim:
        assert claim is None


def test_the_place_of_an_ended_process_is_none(home: Path) -> None:
    with claimed(home / "ui.lock") as claim:
        assert claim is not None
        write_place(claim, Place(2**22 + 1, "127.0.0.1", 3000))
    assert find_place(home / "ui.lock") is None
