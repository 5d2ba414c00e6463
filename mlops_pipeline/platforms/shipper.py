"""Uploads the log of answers: `python -m mlops_pipeline.platforms.shipper CONFIG`.

Model servers append rows to files in the spool. This process uploads the complete ones to the
bucket `answers` and deletes them. Its key can only write there. While the object store is down the
files stay in the spool, which is bounded: servers drop and count what does not fit.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients.cloud_events import EventSender
from mlops_pipeline.clients.errors import PipelineError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, write_atomically
from mlops_pipeline.platforms.seldon_events import events_of
from mlops_pipeline.platforms.store_access import ANSWERS
from mlops_pipeline.serving.recording.format import OPEN, SUFFIX

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects

PAUSE = 1.0
"""Seconds between two looks into the spool."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts while the object store does not take files."""
POST_SECONDS = 10.0
"""Seconds in each pass over the spool for events: a slow receiver must not stop uploads."""
_BEGUN_SECONDS = 60.0
_log = logging.getLogger("answer_shipper")


@dataclass(frozen=True)
class Config:
    """What the process is told. The file has the key, so only its owner may read it."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    spool: str
    logger_url: str = ""

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=2)


@dataclass
class State:
    """What it has done since it started, in `<spool>/../shipped.json`."""

    files: int = 0
    events: int = 0
    lost_events: int = 0
    """Events that the URL did not accept."""
    problem: str = ""
    """Why the last upload failed; empty: it did not."""


class Shipper:
    """One pass after another over the spool."""

    def __init__(self, config: Config, *, store: "Objects", sender: EventSender | None) -> None:
        self._spool = Path(config.spool)
        self._store = store
        self._sender = sender
        self.state = State()
        self._file = state_file(self._spool)
        self._written = ""
        self._stopped = threading.Event()
        self._posting_until = 0.0

    def run(self, stopped: threading.Event) -> None:
        """Look and upload until told to stop, and then once more, without events."""
        pause, self._stopped = PAUSE, stopped
        while not stopped.wait(pause):
            pause = PAUSE if self.ship() else min(2 * pause, LONGEST_PAUSE)
        self.ship()

    def ship(self) -> bool:
        """Upload what is complete; return whether the object store took everything.

        Uploads come first: they make room, also on a full disk.
        """
        self._posting_until = time.monotonic() + POST_SECONDS
        try:
            self._upload_all()
            if self._complete_left_behind():
                self._upload_all()
        except (PipelineError, OSError) as error:
            if not self.state.problem:
                _log.warning("Could not upload rows, which stay in the spool: %s", error)
            self.state.problem = str(error)
        else:
            if self.state.problem:
                _log.info("Uploads work again")
            self.state.problem = ""
        self._write_state()
        return not self.state.problem

    def _upload_all(self) -> None:
        """Upload the files that no server writes any more, the oldest first."""
        files = self._spool.glob(f"*/*/*{SUFFIX}")
        for file in sorted(files, key=lambda path: path.parts[-2:]):
            self._upload(file)
            with contextlib.suppress(OSError):
                os.utime(self._file)  # Its time tells that the process works.

    def _complete_left_behind(self) -> bool:
        """Complete the files of killed servers; say whether there were any."""
        for path in self._spool.glob("*/*/.[0-9]*"):
            _remove_begun(path)
        found = [_complete(path) for path in self._spool.glob(f"*/*/*{SUFFIX}{OPEN}")]
        return any(found)

    def _upload(self, path: Path) -> None:
        """Post a file's rows as events, store it and delete it.

        Raises:
            UnavailableError: the object store did not take it.
        """
        content = path.read_bytes()
        self._store.put(ANSWERS, "/".join(path.parts[-3:]), content)
        path.unlink(missing_ok=True)
        self.state.files += 1
        if self._sender is not None:
            self._post(content, self._sender)

    def _post(self, content: bytes, sender: EventSender) -> None:
        """Post the rows of a file; once one is not accepted, the others are lost too."""
        events = [event for row in rows_in(content) for event in events_of(row)]
        for number, event in enumerate(events):
            try:
                self._require_time()
                sender.send(*event)
            except UnavailableError as error:
                self.state.lost_events += len(events) - number
                _log.warning("%d events are lost: %s", len(events) - number, error)
                return
            self.state.events += 1

    def _require_time(self) -> None:
        if self._stopped.is_set():
            raise UnavailableError("the process was told to stop")
        if time.monotonic() > self._posting_until:
            raise UnavailableError(f"the URL took more than {POST_SECONDS:.0f} s")

    def _write_state(self) -> None:
        text = json.dumps(asdict(self.state))
        try:
            if text != self._written:
                write_atomically(self._file, text, mode=PRIVATE)
                self._written = text
            else:
                os.utime(self._file)
        except (PipelineError, OSError) as error:  # The disk is full: uploads make room.
            _log.warning("Could not write %s: %s", self._file, error)
            with contextlib.suppress(OSError):
                os.utime(self._file)


def ship_rest(spool: Path, store: "Objects") -> None:
    """Upload what waits in a spool that no process serves any more; what fails stays there."""
    if any(spool.glob("*/*/*")):
        Shipper(Config("", "", "", str(spool)), store=store, sender=None).ship()


def state_file(spool: Path) -> Path:
    """Return the file with the state of the process; its time is that of the last pass."""
    return spool.with_name("shipped.json")


def read_state(spool: Path) -> State:
    """Return the state that the process wrote last; an empty one if there is none."""
    try:
        return State(**json.loads(state_file(spool).read_text()))
    except (OSError, ValueError, TypeError):
        return State()


def rows_in(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file; one that a killed server left behind may break off."""
    for line in _members(content)[0].split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _members(content: bytes) -> tuple[bytes, int]:
    """Return the lines of the complete gzip members at the beginning, and where those end."""
    plain, rest = bytearray(), content
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            lines = member.decompress(rest)
        except zlib.error:
            break
        if not member.eof:
            break
        plain += lines
        rest = member.unused_data
    return bytes(plain), len(content) - len(rest)


def _complete(path: Path) -> bool:
    """Give a file its final name if its server was killed: nobody holds its lock.

    What broke off is cut away, so that every reader can read the file. That needs no room.
    """
    try:
        with path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = file.read()
            _, size = _members(content)
            if size < len(content):
                file.truncate(size)
            if size:
                path.rename(path.with_suffix(""))
            else:
                path.unlink()
    except (BlockingIOError, FileNotFoundError):  # It is being written, or was completed just now.
        return False
    except OSError as error:
        _log.warning("Could not complete %s, which a server left behind: %s", path, error)
        return False
    return True


def _remove_begun(path: Path) -> None:
    """Delete an empty file whose server was killed before it gave the file its name."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _BEGUN_SECONDS:
            path.unlink()


def main(path: Path, *, stopped: threading.Event) -> None:
    """Upload until told to stop.

    Raises:
        OSError: the configuration cannot be read.
    """
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

    config = Config(**json.loads(path.read_text()))
    store = ObjectStore(
        config.endpoint,
        Credentials(config.access_key_id, config.secret_access_key),
        patience=10.0,
        attempts=1,
        is_ours=True,
    )
    with closing(EventSender(config.logger_url)) if config.logger_url else nullcontext() as sender:
        Shipper(config, store=store, sender=sender).run(stopped)


def _start(wait: Callable[[threading.Event], None]) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.Formatter.converter = time.gmtime
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    wait(stopped)


if __name__ == "__main__":
    _start(lambda stopped: main(Path(sys.argv[1]), stopped=stopped))
