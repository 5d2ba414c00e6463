"""The folder of the Dagster instance, and its configuration."""

import logging
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import (
    close_to_others,
    make_private,
    write_atomically,
    writing,
)
from mlops_pipeline.resources import configuration
from mlops_pipeline.resources import home as state_home
from mlops_pipeline.settings import Settings

IN_USE = "in_use"
"""A file that processes keep open which use the records and have no DAGSTER_HOME that says so."""
_logger = logging.getLogger(__name__)


def prepare_instance(settings: Settings) -> Path:
    """Make the instance's folder, which only its owner may enter, and return it.

    Its configuration gets the defaults of this version, and the user's changes stay. From here on,
    only the user can read files and folders that this process and its children create.

    Raises:
        ConfigurationError: the state folder is somebody else's, or cannot be written.
    """
    home = settings.dagster_home
    os.umask(0o077)
    with writing(home / "dagster.yaml"):
        state_home.make(settings.home)
        make_private(home)
        close_to_others(home)
        if {path.name for path in settings.home.iterdir()} <= state_home.CONTENT:
            close_to_others(settings.home)
    _update(home / "dagster.yaml")
    return home


def _update(file: Path) -> None:
    """Give a configuration the current defaults. One that cannot be updated stays as it is."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError):
        return
    if not text:
        write_atomically(file, configuration.initial())
    elif not configuration.is_current(text):
        with suppress(yaml.YAMLError):
            changed, differences = configuration.updated(text)
            if changed != text:
                differences = _try_to_write(file.resolve(), changed) or differences
            for sentence in differences:
                _warn_once(f"{file}: {sentence}")


def _try_to_write(file: Path, text: str) -> list[str]:
    """Write the text. If that fails, return a sentence that says why: a link may lead anywhere."""
    try:
        write_atomically(file, text)
    except ConfigurationError as error:
        return [
            f"the new defaults could not be added: {error}. To use the file as it is without this "
            f"warning, add the line `{configuration.CURRENT}`"
        ]
    return []


@cache
def _warn_once(sentence: str) -> None:
    """Warn once per process: one command prepares the instance several times."""
    _logger.warning("%s", sentence)


def describe_fault(configuration: Path) -> str | None:
    """Return why Dagster cannot read the configuration of an instance, or None."""
    try:
        settings = yaml.safe_load(configuration.read_text())
    except OSError as error:
        return error.strerror
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return str(error)
    return None if isinstance(settings, dict) else "it contains no settings"


def unusable(configuration: Path, fault: str) -> ConfigurationError:
    """Return the error for a configuration that Dagster cannot use."""
    return ConfigurationError(
        f"could not use {configuration}: {fault}; correct it, or move it away and run the command "
        "again to write a new one"
    )
