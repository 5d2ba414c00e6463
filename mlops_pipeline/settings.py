"""Every setting, once: `mlops.toml` in the working directory, and `MLOPS_*` variables above it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mlops_pipeline.clients.errors import ConfigurationError

PREFIX = "MLOPS_"
CONFIG_VARIABLE = "MLOPS_CONFIG"
DEFAULT_CONFIG = Path("mlops.toml")

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=1 << 10, le=1 << 30)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class EmbeddedSettings(BaseModel):
    """The embedded platform. Where a stranger has a preferred port, the next free one is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateway_port: Port = Field(8080, description="Port of the gateway (Envoy), on 127.0.0.1.")
    object_store_port: Port = Field(8333, description="Port of S3 (SeaweedFS), on 127.0.0.1.")
    model_port: Port = Field(9000, description="First port for model servers, on 127.0.0.1.")
    ready_timeout: Seconds = Field(
        90.0, description="Seconds in which a process must become ready."
    )
    drain_timeout: Seconds = Field(
        15.0, description="Seconds in which a replaced model server may finish its requests."
    )
    max_body_bytes: Bytes = Field(
        16 << 20, description="Largest body of a request to a model server, in bytes."
    )


class Settings(BaseSettings):
    """All settings of the project."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("mlops-pipeline"),
        description="State folder: Dagster's instance, and each platform's data. "
        "Default: the user's data folder.",
    )
    platform: Literal["embedded"] = Field(
        "embedded", description="The platform that the command line works on."
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="More models: files (`path/to/wine.py`) or modules that hold ModelSpecs; in "
        "the variable, with commas between them.",
    )
    datasets: dict[str, Path] = Field(
        default_factory=dict, description="Model name → file or folder to load its dataset from."
    )
    embedded: EmbeddedSettings = Field(
        default_factory=EmbeddedSettings, description="The embedded platform."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """A variable names several models with commas between them."""
        return (
            tuple(v.strip() for v in value.split(",") if v.strip())
            if isinstance(value, str)
            else value
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over variables over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance that every command and the UI share."""
        return self.home / "dagster"


def config_file() -> Path:
    """Return the settings file: MLOPS_CONFIG, or `mlops.toml` in the working directory."""
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: an unknown key or a wrong value, named, with what is allowed.
    """
    _refuse_unknown_variables(os.environ)
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        raise ConfigurationError(f"{CONFIG_VARIABLE} names {config_file()}, which is not a file")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        reasons = "; ".join(_sentence(dict(part)) for part in error.errors(include_url=False))
        raise ConfigurationError(
            f"the settings are wrong: {reasons}; mend {config_file()} or the {PREFIX}* variables, "
            "nothing was changed"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"could not read the settings from {config_file()}: {error}"
        ) from error
    return settings.model_copy(
        update={
            "home": settings.home.expanduser().absolute(),
            "models": tuple(
                str(_resolve(Path(m))) if m.endswith(".py") else m for m in settings.models
            ),
            "datasets": {name: _resolve(path) for name, path in settings.datasets.items()},
        }
    )


def _resolve(path: Path) -> Path:
    """Return the path from the folder of the settings file, where it is a relative one."""
    return config_file().absolute().parent / path.expanduser()


def allowed_keys(model: type[BaseModel] = Settings) -> list[str]:
    """Return the names of the settings at one level."""
    return sorted(model.model_fields)


def _sentence(error: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        nested = len(error["loc"]) > 1
        allowed = ", ".join(allowed_keys(EmbeddedSettings if nested else Settings))
        return f"{path} is not a setting (there are: {allowed})"
    return f"{path}: {error['msg']} (it is {error.get('input')!r})"


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Environment variables are not validated by pydantic-settings: a typo would pass unseen."""
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        top, _, nested = variable.removeprefix(PREFIX).lower().partition("__")
        known = top in Settings.model_fields and (
            not nested or top == "datasets" or nested in EmbeddedSettings.model_fields
        )
        if not known:
            names = ", ".join(f"{PREFIX}{key.upper()}" for key in allowed_keys())
            raise ConfigurationError(
                f"the variable {variable} is not a setting (there are: {names}, and "
                f"{PREFIX}EMBEDDED__<KEY> with {', '.join(allowed_keys(EmbeddedSettings))}); "
                "unset it"
            )
