"""What several tables of settings have in common."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=1 << 10, le=1 << 30)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


def _refuse_passwords(url: str) -> str:
    """Refuse a URL with a name or a password: settings are stored and shown by Dagster."""
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "a URL here must hold no name or password; ~/.netrc is read for downloads (`machine "
            "HOST login NAME password PASSWORD`)"
        )
    return url


Url = Annotated[str, AfterValidator(_refuse_passwords)]


class Table(BaseModel):
    """One table of mlops.toml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def changed(table: Table, *names: str) -> list[str]:
    """Return those of the settings that are not what they are by default."""
    fields = type(table).model_fields
    return [name for name in names if getattr(table, name) != fields[name].default]
