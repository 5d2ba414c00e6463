"""Logs that their programs hold open are moved aside."""

from pathlib import Path

from mlops_pipeline.clients.log_rotation import rotate


def test_a_long_log_is_moved_and_continued(tmp_path: Path) -> None:
    long, short, own = (tmp_path / f"{name}.log" for name in ("long", "short", "own"))
    with long.open("a") as program:
        program.write("x" * 11)
        program.flush()
        short.write_text("y" * 10)
        own.write_text("z" * 11)
        rotate(tmp_path, besides="own.log", most_bytes=10)
        program.write("after")
    assert (tmp_path / "long.log.1").read_text() == "x" * 11
    assert long.read_text() == "after"
    assert (short.read_text(), own.read_text()) == ("y" * 10, "z" * 11)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("long.log", "long.log.1", "short.log", "own.log"),
    }


def test_a_copy_that_fails_keeps_no_log_from_being_emptied(tmp_path: Path) -> None:
    (tmp_path / "long.log").write_text("x" * 11)
    (tmp_path / "long.log.1").mkdir()
    rotate(tmp_path, besides="", most_bytes=10)
    assert (tmp_path / "long.log").read_text() == ""
