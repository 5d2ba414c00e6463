"""Types that several tables of settings share."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=1 << 10, le=1 << 30)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


def _refuse_passwords(url: str) -> str:
    """Refuse a URL with a user name or password: Dagster stores and shows the settings."""
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "a URL must not contain a user name or password; for downloads, put them into "
            "~/.netrc (`machine HOST login NAME password PASSWORD`)"
        )
    return url


Url = Annotated[str, AfterValidator(_refuse_passwords)]


class Table(BaseModel):
    """One table of mlops.toml. Unknown keys are refused; values are immutable."""

    # A validator is built once, for `Settings`, not for each table too.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def changed(table: Table, *names: str) -> list[str]:
    """Return the settings among `names` that differ from their defaults."""
    fields = type(table).model_fields
    return [name for name in names if getattr(table, name) != fields[name].default]
