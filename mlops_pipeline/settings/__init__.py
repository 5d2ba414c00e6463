"""Every setting, once: `mlops.toml` in the working directory, and `MLOPS_*` variables above it."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
from pydantic import BaseModel, Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.settings.embedded import EmbeddedSettings
from mlops_pipeline.settings.fields import Url
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE

_Platform = TypeVar("_Platform", KindSettings, KubernetesSettings)
PREFIX = "MLOPS_"
CONFIG_VARIABLE = "MLOPS_CONFIG"
DEFAULT_CONFIG = Path("mlops.toml")


class Settings(BaseSettings):
    """All settings of the project."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("mlops-pipeline"),
        description="State folder: Dagster's instance, and each platform's data. "
        "Default: the user's data folder.",
    )
    platform: Literal["embedded", "kind", "kubernetes"] = Field(
        "embedded", description="The platform that the command line works on."
    )
    bundle: Path | None = Field(
        None,
        description="Folder with every program, chart, manifest and image of the Kubernetes "
        "platforms; then nothing is taken from a network, but what the nodes of `kubernetes` pull, "
        "and packages for serving images that it lacks.",
    )
    mirror: Annotated[Url, StringConstraints(pattern=r"^(https?://[^/?#]+[^?#]*)?$")] = Field(
        "",
        description="URL to download from instead of upstream: `https://host/path` is asked for as "
        "`<mirror>/host/path`. A password for it is read from ~/.netrc. Images are not meant: see "
        "kind.cluster.mirrors.",
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
    kind: KindSettings = Field(default_factory=KindSettings, description="The kind platform.")
    kubernetes: KubernetesSettings = Field(
        default_factory=KubernetesSettings, description="The platform on a cluster that is there."
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
    def models_namespace(self) -> str:
        """Where models are deployed that name no other namespace than the default, here."""
        chosen = {"kind": self.kind, "kubernetes": self.kubernetes}.get(self.platform)
        return chosen.models_namespace if chosen else DEFAULT_NAMESPACE

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
            "bundle": _resolve(settings.bundle) if settings.bundle else None,
            "kind": _with_resolved(settings.kind),
            "kubernetes": _with_resolved(settings.kubernetes, "kubeconfig"),
        }
    )


def _resolve(path: Path) -> Path:
    """Return the path from the folder of the settings file, where it is a relative one."""
    return config_file().absolute().parent / path.expanduser()


def _with_resolved(platform: _Platform, *names: str) -> _Platform:
    """Return a platform's table with these of its paths, and those of its gateway, resolved."""
    files = _resolved(platform.istio, "certificate", "private_key")
    istio = platform.istio.model_copy(update=files)
    return platform.model_copy(update={**_resolved(platform, *names), "istio": istio})


def _resolved(table: BaseModel, *names: str) -> dict[str, Path]:
    given = {name: getattr(table, name) for name in names}
    return {name: _resolve(path) for name, path in given.items() if path is not None}


def allowed_keys(model: type[BaseModel] = Settings) -> list[str]:
    """Return the names of the settings at one level."""
    return sorted(model.model_fields)


def table_at(path: Sequence[str]) -> type[BaseModel] | None:
    """Return the table of settings at `path` (`("kind", "cluster")`), or None where none is."""
    table: type[BaseModel] = Settings
    for name in path:
        field = table.model_fields.get(name)
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        table = kind
    return table


def _sentence(error: Mapping[str, Any]) -> str:
    *above, _ = path = [str(part) for part in error["loc"]] or [""]
    if error["type"] == "extra_forbidden" and (table := table_at(above)) is not None:
        return f"{'.'.join(path)} is not a setting (there are: {', '.join(allowed_keys(table))})"
    given = re.sub(r"//[^/@]*@", "//…@", repr(error.get("input")))
    return f"{'.'.join(path)}: {error['msg']} (it is {given})"


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Environment variables are not validated by pydantic-settings: a typo would pass unseen."""
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        *above, name = variable.removeprefix(PREFIX).lower().split("__")
        if above[:1] == ["datasets"] or above[-1:] == ["mirrors"]:
            continue
        table = table_at(above)
        if table is None or name not in table.model_fields:
            known = table if table is not None else Settings
            start = "".join(f"{part.upper()}__" for part in above) if table is not None else ""
            names = ", ".join(f"{PREFIX}{start}{key.upper()}" for key in allowed_keys(known))
            raise ConfigurationError(
                f"the variable {variable} is not a setting (there are: {names}); unset it"
            )
