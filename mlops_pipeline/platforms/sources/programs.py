"""The programs of this machine that a platform needs: whether they exist, and their versions."""

from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    IntegrityError,
    NotDownloadedError,
    UnavailableError,
)
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.sources import Sources
from mlops_pipeline.platforms.sources.path import ask_version


def ask_engine(engine: EngineApi, name: str) -> EngineInfo | Diagnosis:
    """Return the information of the engine called `name`, or what to do if it does not answer."""
    try:
        return engine.info()
    except (UnavailableError, CommandError) as error:
        remedy = (
            "install Docker (https://docs.docker.com/engine/install) and start it"
            if name == "docker"
            else "install Podman and start its service (`podman machine start` on macOS)"
        )
        return Diagnosis(name, first_line(error), remedy)


def engine(info: EngineInfo | Diagnosis, name: str) -> Diagnosis:
    """Report the engine called `name`; `info` is what `ask_engine` returned."""
    if isinstance(info, Diagnosis):
        return info
    return Diagnosis(name, f"{info.version}, {info.cpus} CPUs")


def program(sources: Sources, name: str) -> Diagnosis:
    """Report whether a program is available and runs."""
    try:
        return Diagnosis(name, ask_version(name, sources.binary(name)))
    except NotDownloadedError:
        return Diagnosis(name, "not downloaded yet: `up` downloads it")
    except (CommandError, ConfigurationError, IntegrityError) as error:
        return Diagnosis(name, first_line(error), f"install {name} or set MLOPS_BUNDLE")


def first_line(error: Exception) -> str:
    """Return an error's message without its details."""
    return str(error).splitlines()[0]
