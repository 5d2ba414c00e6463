"""Rotates the logs of supervised programs, inside supervisord.

The programs write to their logs themselves, so supervisord does not rotate them. Supervisord loads
this module through `[rpcinterface:logs]`, its extension mechanism
(http://supervisord.org/configuration.html#rpcinterface-x-section-settings).
"""

import shutil
from contextlib import suppress
from pathlib import Path


def make(_supervisord: object, folder: str, own: str, most_bytes: str) -> object:
    """Rotate, every 5 seconds, each log in `folder` except supervisord's `own`.

    The parameters are the options of the section, hence text. Supervisord expects an object whose
    methods are remote calls: this one has none.
    """
    from supervisor import events

    def at_tick(_event: object) -> None:
        rotate(Path(folder), besides=own, most_bytes=int(most_bytes))

    events.subscribe(events.Tick5Event, at_tick)
    return object()


def rotate(folder: Path, *, besides: str, most_bytes: int) -> None:
    """Move the content of each `<name>.log` of more than `most_bytes` to `<name>.log.1`.

    The programs keep the file open for appending, so it is copied and truncated, not renamed.
    A log that cannot be copied, for example on a full disk, is truncated too.
    """
    for log in folder.glob("*.log"):
        with suppress(OSError):
            if log.name != besides and log.stat().st_size > most_bytes:
                _move(log)


def _move(log: Path) -> None:
    try:
        shutil.copyfile(log, f"{log}.1")
    finally:
        with log.open("r+b") as file:
            file.truncate(0)
