"""The check of the texts that users see."""

from pathlib import Path

import pytest

from mlops_pipeline_tests.wording import faults, find, texts_of_page, texts_of_source


@pytest.mark.parametrize(
    "text",
    [
        "at least 0.9 is asked for",
        "the download is gone on with",
        "it is no text",
        "the one that is there is used",
        "Mend the file",
        "Memory that it is ended at",
    ],
)
def test_a_phrase_that_is_hard_to_read_is_found(text: str) -> None:
    assert list(find(text))


@pytest.mark.parametrize(
    "text", ["there is no deployment iris", "it is no longer shown", "recommended", "is not a file"]
)
def test_plain_english_passes(text: str) -> None:
    assert list(find(text)) == []


def test_code_in_a_page_is_not_checked() -> None:
    page = "# One\n\n```\nmend\n```\n\nNot `mend`,\nbut fix.\n"
    assert list(texts_of_page(page)) == [(1, "# One"), (3, "`"), (7, "Not `, but fix.")]


def test_docstrings_are_not_checked_except_those_of_commands() -> None:
    source = '''
def one(x):
    """Hidden."""
    raise ValueError(f"got {x!r}" " here")

@app.command()
def two():
    """Shown."""
'''
    assert sorted(texts_of_source(source)) == [(4, "got … here"), (8, "Shown.")]


def test_a_fault_names_file_line_and_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n\nMend it.\n")
    assert list(faults(tmp_path)) == [
        'README.md:3: "Mend" is hard to read; write: fix, correct, repair'
    ]
