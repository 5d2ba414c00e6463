"""New defaults of dagster.yaml reach the files of earlier versions; what people wrote stays."""

import logging

import pytest
import yaml

from mlops_pipeline.resources.configuration import (
    CURRENT,
    DEFAULTS,
    VERSION,
    initial,
    is_current,
    updated,
)
from mlops_pipeline.resources.instance import describe_fault, prepare_instance
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.cli.test_records import settings as settings

FIRST = """telemetry:
  enabled: false
nux:
  enabled: false
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
python_logs:
  managed_python_loggers:
  - mlops_pipeline
  python_log_level: INFO
"""
"""What the first version wrote."""
OWN = """# Mine.
telemetry:
    enabled: true   # I like it.
compute_logs: # where
    module: dagster._core.storage.noop_compute_log_manager # what
    # in between
    class:   NoOpComputeLogManager # which

run_monitoring: {enabled: true}
"""


def test_a_new_file_has_the_defaults_and_stays_as_it_is() -> None:
    assert yaml.safe_load(initial()) == DEFAULTS
    assert is_current(initial())


def test_the_first_versions_file_gets_the_new_defaults() -> None:
    text, kept = updated(FIRST)
    assert yaml.safe_load(text) == DEFAULTS
    assert is_current(text)
    assert kept == []


def test_lines_and_comments_of_its_owner_stay_and_removed_defaults_stay_away() -> None:
    text, kept = updated(OWN)
    first, rest = text.split("\n", 1)
    assert first == f"# Version of the defaults, which mlops-pipeline updates: {VERSION}"
    assert rest == OWN.replace(
        "dagster._core.storage.noop_compute_log_manager", "mlops_pipeline.resources.step_output"
    ).replace("NoOpComputeLogManager", "StepOutput")
    assert kept == []


@pytest.mark.parametrize("end", ["\n", " \r\n"])
@pytest.mark.parametrize("version", ["0", "1"])
def test_an_updated_file_has_one_version(version: str, end: str) -> None:
    mark = "# Version of the defaults, which mlops-pipeline updates: "
    text, _ = updated(f"# Mine.{end}{mark}{version}{end}{FIRST}")
    assert text == f"{mark}{VERSION}\n# Mine.{end}" + updated(FIRST)[0].partition("\n")[2]
    assert is_current(text.replace("\n", end))


def test_a_value_of_its_owner_wins_and_that_is_said_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    mine = FIRST.replace("NoOpComputeLogManager", "Mine").replace("_core.storage.noop", "mine")
    file = settings.dagster_home / "dagster.yaml"
    prepare_instance(settings)
    file.write_text(mine)
    with caplog.at_level(logging.WARNING):
        prepare_instance(settings)
        prepare_instance(settings)
    assert file.read_text().endswith(mine)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: `compute_logs` keeps your value. The new default is "
        "{module: mlops_pipeline.resources.step_output, class: StepOutput}"
    ]


def test_a_default_that_is_new_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    new = {**DEFAULTS, "run_monitoring": {"enabled": True}}
    monkeypatch.setattr("mlops_pipeline.resources.configuration.DEFAULTS", new)
    text, kept = updated(FIRST + "# The end.\n")
    assert yaml.safe_load(text) == new
    assert "INFO\n# The end.\nrun_monitoring:\n  enabled: true\n" in text
    assert kept == []


def test_a_form_that_cannot_be_updated_is_marked_and_that_is_said_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    shared = yaml.safe_load(FIRST)["compute_logs"]
    mine = f"copy: &shared {shared}\ncompute_logs: *shared\n"
    file = prepare_instance(settings) / "dagster.yaml"
    file.write_text(mine)
    with caplog.at_level(logging.WARNING):
        prepare_instance(settings)
        prepare_instance(settings)
    assert file.read_text() == f"{CURRENT}\n{mine}"
    assert is_current(file.read_text())
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: the new defaults could not be added. Add them yourself: {{compute_logs: "
        "{module: mlops_pipeline.resources.step_output, class: StepOutput}}"
    ]


def test_a_file_that_cannot_be_written_is_used_as_it_is_with_one_warning(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    file = prepare_instance(settings) / "dagster.yaml"
    own = settings.home / ("x" * 250)  # The name of a temporary file beside it would be too long.
    own.write_text(FIRST)
    file.unlink()
    file.symlink_to(own)
    with caplog.at_level(logging.WARNING):
        assert prepare_instance(settings) == settings.dagster_home
        prepare_instance(settings)
    assert own.read_text() == FIRST
    assert describe_fault(file) is None
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"{file}: the new defaults could not be added: could not write {own.resolve()}: "
    )
    assert record.getMessage().endswith(f"without this warning, add the line `{CURRENT}`")


def test_a_byte_order_mark_prevents_no_update(settings: Settings) -> None:
    file = prepare_instance(settings) / "dagster.yaml"
    file.write_text(FIRST, encoding="utf-8-sig")
    prepare_instance(settings)
    assert yaml.safe_load(file.read_text()) == DEFAULTS


@pytest.mark.parametrize("damaged", [b"a: [", b"\xff\xfe", b"- a\n", b"just words"])
def test_a_damaged_file_is_not_touched(settings: Settings, damaged: bytes) -> None:
    file = prepare_instance(settings) / "dagster.yaml"
    file.write_bytes(damaged)
    prepare_instance(settings)
    assert file.read_bytes() == damaged
    assert describe_fault(file)


def test_a_link_to_a_file_of_its_owner_stays_a_link(settings: Settings) -> None:
    file = prepare_instance(settings) / "dagster.yaml"
    own = settings.home / "own.yaml"
    own.write_text(FIRST)
    file.unlink()
    file.symlink_to(own)
    prepare_instance(settings)
    assert file.is_symlink()
    assert yaml.safe_load(own.read_text()) == DEFAULTS
