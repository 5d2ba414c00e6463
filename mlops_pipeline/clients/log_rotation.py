"""Keeps the logs of supervised programs small, within supervisord.

The programs write to their logs themselves, so supervisord does not rotate them. Supervisord loads
this module by `[rpcinterface:logs]`, its way for extensions
(http://supervisord.org/configuration.html#rpcinterface-x-section-settings).
"""

import shutil
from contextlib import suppress
from pathlib import Path


def make(_supervisord: object, folder: str, own: str, most_bytes: str) -> object:
    """Rotate, every 5 seconds, each log in `folder` but supervisord's `own`.

    The parameters are the options of the section, hence text. Supervisord expects an object whose
    methods are remote calls: this one has none.
    """
    from supervisor import events

    def at_tick(_event: object) -> None:
        rotate(Path(folder), besides=own, most_bytes=int(most_bytes))

    events.subscribe(events.Tick5Event, at_tick)
    return object()


def rotate(folder: Path, *, besides: str, most_bytes: int) -> None:
    """Move what is in each `<name>.log` of more than `most_bytes` to `<name>.log.1`.

    The programs keep the file open for appending, so it is copied and emptied, not renamed. What
    cannot be copied, on a full disk for example, is emptied all the same.
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
