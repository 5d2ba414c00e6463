"""The settings of signatures."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from mlops_pipeline.settings.fields import Table


class SigningSettings(Table):
    """Who signs artifacts, and which signatures count."""

    mode: Literal["required", "warn", "off"] = Field(
        "required",
        description="What happens to an artifact without a signature of a trusted key: delivery "
        "and the model servers refuse it, or warn, or do not look.",
    )
    key_file: Path | None = Field(
        None,
        description="Private key (PEM, ECDSA on P-256, P-384 or P-521, no password) that signs "
        "artifacts. Default: a key that is created in the state folder when it is first needed.",
    )
    trusted: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Files with public keys (PEM) that are trusted too, in addition to those of "
        "`mlops-pipeline keys trust`. In the variable, separate them with commas.",
    )

    @field_validator("trusted", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        """Split the value of a variable at its commas."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())
