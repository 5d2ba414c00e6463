"""The settings of the log of answers."""

from typing import Annotated

from pydantic import Field, StringConstraints

from mlops_pipeline.settings.fields import Table, Url

Share = Annotated[float, Field(ge=0, le=1)]
_LoggerUrl = Annotated[Url, StringConstraints(pattern=r"^(https?://[^/?#]+.*)?$")]


class AnswersSettings(Table):
    """Rows of requests with their answers. Counters of answers exist without it."""

    enabled: bool = Field(
        False,
        description="Record requests with their answers, and feedback. Embedded platform only. A "
        "model can be left out by its ServerSpec.",
    )
    sample: Share = Field(
        1.0, description="Share of the successful answers that is recorded, 0 to 1."
    )
    per_second: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000,
        description="Maximum of answers that a server records per second, and of errors likewise.",
    )
    mask: tuple[str, ...] = Field(
        (),
        description="Names of columns, inputs or outputs that never leave the server's process.",
    )
    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Days after which `up` and `prune` delete rows from the object store."
    )
    spool_megabytes: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256,
        description="Maximum size in MB (10^6 bytes) of the rows of a model that wait on this "
        "machine for the object store. Further rows are dropped and counted.",
    )
    logger_url: _LoggerUrl = Field(
        "",
        description="URL that the rows are also posted to as CloudEvents of Seldon's request "
        "logger. Empty: none.",
    )
