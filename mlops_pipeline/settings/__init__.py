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
from mlops_pipeline.settings.answers import AnswersSettings
from mlops_pipeline.settings.embedded import EmbeddedSettings
from mlops_pipeline.settings.fields import Url
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE
from mlops_pipeline.settings.signing import SigningSettings

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
        description="State folder with Dagster's instance and the data of each platform. "
        "Default: the user's data folder.",
    )
    platform: Literal["embedded", "kind", "kubernetes"] = Field(
        "embedded", description="Platform that the command line works on."
    )
    bundle: Path | None = Field(
        None,
        description="Folder with every program, chart, manifest and image that the Kubernetes "
        "platforms need. With a bundle, nothing is downloaded, with two exceptions: the nodes of "
        "`kubernetes` pull images, and the build of a serving image that the bundle lacks "
        "installs packages.",
    )
    mirror: Annotated[Url, StringConstraints(pattern=r"^(https?://[^/?#]+[^?#]*)?$")] = Field(
        "",
        description="URL of a download mirror: `https://host/path` is downloaded from "
        "`<mirror>/host/path`. A password for it is read from ~/.netrc. Container images "
        "are not affected; use kind.cluster.mirrors.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Additional models: files (`path/to/wine.py`) or modules that define "
        "ModelSpecs. In the variable, separate them with commas.",
    )
    datasets: dict[str, Path] = Field(
        default_factory=dict, description="Model name → file or folder to load its dataset from."
    )
    max_artifact_gigabytes: Annotated[float, Field(gt=0, le=10_000)] = Field(
        20.0,
        description="Maximum size in GB (10^9 bytes) of an artifact that is published, imported, "
        "or downloaded by the embedded platform's servers.",
    )
    signing: SigningSettings = Field(
        default_factory=SigningSettings, description="Signatures of artifacts."
    )
    answers: AnswersSettings = Field(
        default_factory=AnswersSettings, description="The log of answers."
    )
    embedded: EmbeddedSettings = Field(
        default_factory=EmbeddedSettings, description="The embedded platform."
    )
    kind: KindSettings = Field(default_factory=KindSettings, description="The kind platform.")
    kubernetes: KubernetesSettings = Field(
        default_factory=KubernetesSettings, description="The platform on an existing cluster."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Split the value of a variable at its commas."""
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
        """Return the sources: arguments override variables, which override the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @property
    def models_namespace(self) -> str:
        """Namespace of the models that use the default namespace, on this platform."""
        chosen = {"kind": self.kind, "kubernetes": self.kubernetes}.get(self.platform)
        return chosen.models_namespace if chosen else DEFAULT_NAMESPACE

    @property
    def max_artifact_bytes(self) -> int:
        """Maximum size of an artifact in bytes."""
        return int(self.max_artifact_gigabytes * 1e9)

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
        ConfigurationError: an unknown key or an invalid value; says which, and what is allowed.
    """
    _refuse_unknown_variables(os.environ)
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        raise ConfigurationError(f"{CONFIG_VARIABLE} is {config_file()}, which is not a file")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        reasons = "; ".join(_sentence(dict(part)) for part in error.errors(include_url=False))
        raise ConfigurationError(
            f"invalid settings: {reasons}; correct {config_file()} or the {PREFIX}* variables. "
            "Nothing was changed"
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
            "signing": settings.signing.model_copy(
                update={
                    **_resolved(settings.signing, "key_file"),
                    "trusted": tuple(_resolve(path) for path in settings.signing.trusted),
                }
            ),
            "kind": _with_resolved(settings.kind),
            "kubernetes": _with_resolved(settings.kubernetes, "kubeconfig"),
        }
    )


def _resolve(path: Path) -> Path:
    """Resolve a relative path against the folder of the settings file."""
    return config_file().absolute().parent / path.expanduser()


def _with_resolved(platform: _Platform, *names: str) -> _Platform:
    """Return a platform's table with these paths and its gateway's paths resolved."""
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
    """Return the table of settings at `path` (`("kind", "cluster")`), or None."""
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
        return f"unknown setting {'.'.join(path)} (allowed: {', '.join(allowed_keys(table))})"
    given = re.sub(r"//[^/@]*@", "//…@", repr(error.get("input")))
    return f"{'.'.join(path)}: {error['msg']} (got {given})"


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Refuse unknown variables: pydantic-settings ignores them, so a typo would go unnoticed."""
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
            raise ConfigurationError(f"unknown variable {variable} (allowed: {names}); unset it")
