import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.cli.answers import export, require_format, table_of, wanted_of
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline_tests.platforms.test_shipper import ERROR, ROW

ROWS = [{**ROW, "reward": 1.0, "truth": [[1]]}, {**ERROR, "reward": None, "truth": None}]


def test_since_is_a_time_or_how_long_ago() -> None:
    def since(text: str) -> datetime | None:
        return wanted_of(since=text, status="", digest="", limit=None).since

    assert since("") is None
    ago = since("2h")
    assert ago is not None
    assert abs(datetime.now(UTC) - ago - timedelta(hours=2)) < timedelta(minutes=1)
    assert since("2026-11-30T12:00") == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert since("2026-11-30T13:00+01:00") == datetime(2026, 11, 30, 12, tzinfo=UTC)
    for text in ("yesterday", "5w", "-1h"):
        with pytest.raises(ConfigurationError, match="--since"):
            since(text)


def test_a_status_is_one_that_exists() -> None:
    for status in ("", "ok", "error", "503"):
        assert wanted_of(since="", status=status, digest="", limit=3).status == status
    with pytest.raises(ConfigurationError, match="--status"):
        wanted_of(since="", status="bad", digest="", limit=None)


def test_the_table_shows_input_output_and_truth() -> None:
    console = Console(width=250, file=io.StringIO(), record=True)
    console.print(table_of(ROWS))
    text = console.export_text()
    assert "[[1.0, 2.0]]" in text
    assert '{"scores": [[0.25, 0.75]]}' in text
    assert "400 NO_DATA" in text
    assert "[[1]]" in text


def test_answers_are_exported(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    export(ROWS, lines)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == ROWS
    assert lines.stat().st_mode & 0o777 == 0o600
    export(ROWS, table)
    assert table.stat().st_mode & 0o777 == 0o600
    with table.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["input"]) == [[1.0, 2.0]]
    assert (second["status"], second["input"]) == ("400", "")
    export([], table)


def test_parquet_is_readable_by_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas

    export(ROWS, tmp_path / "a.parquet")
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(frame["id"]) == ["a-1", "a-2"]
    assert json.loads(frame["input"][0]) == [[1.0, 2.0]]


def test_other_formats_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"\.jsonl, \.csv, \.parquet"):
        require_format(tmp_path / "a.xlsx")
    monkeypatch.setattr("mlops_pipeline.cli.answers.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="pip install pyarrow"):
        require_format(tmp_path / "a.parquet")
