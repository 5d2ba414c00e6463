"""What several tables of settings have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=1 << 10, le=1 << 30)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Table(BaseModel):
    """One table of mlops.toml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def changed(table: Table, *names: str) -> list[str]:
    """Return those of the settings that are not what they are by default."""
    fields = type(table).model_fields
    return [name for name in names if getattr(table, name) != fields[name].default]
