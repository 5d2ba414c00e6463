"""Downloads that resume after an interruption, and get their name only when complete."""

import errno
import hashlib
import json
import netrc
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlops_pipeline.clients.addresses import shown
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, sha256_of, write_atomically
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.meters import Meter, metered
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, wait_until

if TYPE_CHECKING:
    import ssl

    import httpx

_CONNECT = 15.0
_READ = 30.0
"""Timeout in seconds for the next bytes."""
_REDIRECTS = 5
_ATTEMPTS = 5
"""Maximum number of consecutive attempts without progress."""
_PAUSE = 2.0
_TIMEOUT = 7200.0
"""Timeout in seconds for one file, with all attempts."""
_WINDOW = 30.0
_LEAST = 10 * 1024 * _WINDOW
"""Minimum number of bytes per window; a slower download is retried."""
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_TEXT_LIMIT = 64 << 20
"""Maximum number of bytes of a text in memory; Istio's index of charts is large."""
_HELP = "check HTTPS_PROXY and NO_PROXY, or use a mirror (`mirror`) or a bundle (`bundle`)"


_RESUME = "The partial download is kept; run the command again to resume it"
_REPEAT = "Run the command again"


@dataclass(frozen=True)
class _Part:
    """A partial download, and the data that shows whether the server still has the same file."""

    path: Path
    url: str
    """Upstream's URL, which is recorded."""
    address: str
    """URL that is downloaded: the same, or the mirror's."""
    most_bytes: int | None = None
    """Maximum size of the file; None: any."""
    hint: str = _RESUME
    """What to do if the download fails."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def headers(self) -> dict[str, str]:
        """Request the rest, or the complete file if the server may have another file now.

        https://www.rfc-editor.org/rfc/rfc9110#name-if-range
        """
        validator = self._validator()
        if not self.size or not validator:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def note(self, answer: "httpx.Response") -> None:
        """Record which file the server started to send."""
        etag = answer.headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else ""
        validator = strong or answer.headers.get("Last-Modified", "")
        noted = json.dumps({"url": self.url, "validator": validator})
        write_atomically(self._note, noted, mode=PRIVATE)

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def settle(self, target: Path) -> None:
        """Give the file its name."""
        self.path.replace(target)
        self._note.unlink(missing_ok=True)

    def _validator(self) -> str:
        try:
            noted = json.loads(self._note.read_text())
            return str(noted["validator"]) if noted["url"] == self.url else ""
        except (OSError, ValueError, LookupError, TypeError):
            return ""


class Downloads:
    """Downloads over HTTP, through the proxies of the environment (HTTP_PROXY, NO_PROXY …).

    With a `mirror`, `https://host/path` is downloaded from `<mirror>/host/path`, which gets no
    password of the URL. `locks` prevent two processes from writing the same file.
    """

    def __init__(self, *, locks: Locks, mirror: str = "", clock: Clock = MONOTONIC) -> None:
        self._locks = locks
        self._mirror = mirror.rstrip("/")
        self._clock = clock
        self._texts: dict[str, str] = {}

    def fetch(self, url: str, target: Path, *, sha256: str) -> None:
        """Download `url` to `target`, unless `target` is already that file.

        A partial download is kept beside it and resumed.

        Raises:
            ConfigurationError: the server does not have it, or the disk is full.
            IntegrityError: the file has another digest; it is deleted.
            UnavailableError: the download failed; the partial download is kept.
        """
        address = self._address(url)
        name = f"download-{hashlib.sha256(str(target).encode()).hexdigest()[:16]}"
        part = _Part(target.with_name(f".{target.name}.part"), url, address)
        with (
            _disk(target),
            self._locks.held(name, purpose=f"download {target.name}"),
        ):
            if target.is_file() and sha256_of(target) == sha256:
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            if not part.size or sha256_of(part.path) != sha256:
                with metered(url.rpartition("/")[2], address=shown(address)) as meter:
                    self._bring(part, meter)
            self._compare(part, sha256)
            part.settle(target)

    def bring(self, url: str, target: Path, *, most_bytes: int, timeout: float = _TIMEOUT) -> None:
        """Download `url` to the new file `target`, whatever its digest is, in `timeout` seconds.

        A URL with a password or a query, which may be a signature, is not for the mirror: it is
        downloaded from its own server.

        Raises:
            ConfigurationError: the server does not have it, it is larger than `most_bytes`, or the
                disk has too little space.
            UnavailableError: the download failed.
        """
        address = self._address(url) if shown(url) == url else url
        part = _Part(
            target.with_name(f".{target.name}.part"), url, address, most_bytes, hint=_REPEAT
        )
        with _disk(target, hint=_REPEAT), metered(target.name, address=shown(address)) as meter:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._bring(part, meter, timeout=timeout)
            part.settle(target)

    def read(self, url: str) -> str:
        """Return the text at `url`, of at most 64 MiB; it is downloaded once.

        Raises:
            ConfigurationError: the server does not have it, or it is larger.
            UnavailableError: the download failed.
        """
        if url not in self._texts:
            self._texts[url] = self._read(self._address(url))
        return self._texts[url]

    def _read(self, address: str) -> str:
        content = bytearray()

        def attempt(client: "httpx.Client") -> str | None:
            content.clear()
            pace = _Pace(self._clock)
            with client.stream("GET", address) as answer:
                if (reason := _refusal(address, answer)) is not None:
                    return reason
                for chunk in answer.iter_bytes():
                    content.extend(chunk)
                    if len(content) > _TEXT_LIMIT:
                        raise ConfigurationError(
                            f"{shown(address)} is too large for a checksum file"
                        )
                    if (slow := pace.describe_slow(len(content))) is not None:
                        return slow
            return None

        self._retry(address, attempt, size=lambda: 0)
        return content.decode(errors="replace")

    def _address(self, url: str) -> str:
        if not self._mirror:
            return url
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return f"{self._mirror}/{parts.netloc.rpartition('@')[2]}{parts.path}{query}"

    def _bring(self, part: _Part, meter: Meter, *, timeout: float = _TIMEOUT) -> None:
        deadline = self._clock.now() + timeout

        def attempt(client: "httpx.Client") -> str | None:
            headers = {"Accept-Encoding": "identity", **part.headers()}
            with client.stream("GET", part.address, headers=headers) as answer:
                if answer.status_code == 416:
                    part.discard()
                    return "the file on the server does not match the partial download"
                if (reason := _refusal(part.address, answer)) is not None:
                    return reason
                return self._receive(answer, part, meter, deadline)

        self._retry(part.address, attempt, size=lambda: part.size, timeout=timeout, hint=part.hint)

    def _receive(
        self, answer: "httpx.Response", part: _Part, meter: Meter, deadline: float
    ) -> str | None:
        """Write the received bytes; return why they are incomplete, or None."""
        begin = _begin(answer)
        if begin not in (0, part.size):
            part.discard()
            return f"the server sent bytes from offset {begin}, which was not requested"
        if begin == 0:
            part.discard()
            part.note(answer)
        total = _total(answer, begin)
        _refuse_size(part, total or begin)
        _require_space(part.path, (total or begin) - begin)
        pace = _Pace(self._clock)
        with part.path.open("ab") as file:
            done = begin
            for chunk in answer.iter_raw():
                file.write(chunk)
                done += len(chunk)
                _refuse_size(part, done)
                meter(done, total)
                if self._clock.now() > deadline:
                    raise UnavailableError(
                        f"could not download {shown(part.address)} in time: received {done} of "
                        f"{total or 'unknown'} bytes; use a faster connection or a mirror"
                    )
                if (reason := pace.describe_slow(done)) is not None:
                    return reason
        if total is not None and done != total:
            return f"the connection was interrupted after {done} of {total} bytes"
        return None

    def _retry(
        self,
        address: str,
        attempt: Callable[["httpx.Client"], str | None],
        *,
        size: Callable[[], int],
        timeout: float = _TIMEOUT,
        hint: str = _REPEAT,
    ) -> None:
        """Retry until it is complete. Progress resets the count of attempts."""
        name, fruitless = shown(address), 0

        def describe_missing() -> str | None:
            nonlocal fruitless
            before = size()
            with _errors(name):
                reason = _once(client, attempt)
            fruitless = 0 if size() > before else fruitless + 1
            if reason is not None and fruitless >= _ATTEMPTS:
                raise UnavailableError(
                    f"could not download {name}: {reason} ({_ATTEMPTS} attempts); {_HELP}. {hint}"
                )
            return reason

        with _errors(name):
            made = _client()
        with made as client:
            wait_until(
                f"the download of {name}",
                describe_missing,
                timeout=timeout,
                interval=_PAUSE,
                clock=self._clock,
                hint=hint,
            )

    def _compare(self, part: _Part, sha256: str) -> None:
        found = sha256_of(part.path)
        if found == sha256:
            return
        part.discard()
        raise IntegrityError(
            f"expected {shown(part.address)} to have the SHA-256 {sha256}, got {found}. The file "
            "was changed in transit or upstream, and was deleted. Try again; if this happens "
            "again, do not use the file"
        )


class _Pace:
    """Detects a download that is too slow."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start, self._done = clock.now(), 0

    def describe_slow(self, done: int) -> str | None:
        """Return that too few bytes arrived in the last window, or None."""
        passed = self._clock.now() - self._start
        if passed < _WINDOW:
            return None
        came, self._start, self._done = done - self._done, self._clock.now(), done
        return f"received only {came} bytes in {passed:.0f} s" if came < _LEAST else None


def _client() -> "httpx.Client":
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(_READ, connect=_CONNECT),
        follow_redirects=True,
        max_redirects=_REDIRECTS,
        trust_env=True,
        verify=_trusted(),
        auth=_passwords(),
    )


def _passwords() -> "httpx.NetRCAuth | None":
    """Return the passwords of ~/.netrc, or of the file that NETRC names, as curl does.

    Raises:
        ConfigurationError: it is invalid; its content is not shown.
    """
    import httpx

    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return httpx.NetRCAuth(str(file)) if file.is_file() else None
    except netrc.NetrcParseError as error:
        wrong = f"line {error.lineno} is invalid"
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or "it is not a text file"
    raise ConfigurationError(f"could not read passwords from {file}: {wrong}; correct it")


@lru_cache(maxsize=1)
def _trusted() -> "ssl.SSLContext":
    """Return the certificates that this machine trusts. Reading them takes longer than a file.

    Raises:
        ConfigurationError: they cannot be read.
    """
    import httpx

    try:
        return httpx.create_ssl_context()
    except OSError as error:
        named = [f"{n}={os.environ[n]}" for n in _CERTIFICATES if n in os.environ]
        raise ConfigurationError(
            f"could not read the certificates of {', '.join(named) or 'this machine'} "
            f"({error.strerror or error}); name an existing PEM file, or unset the variable"
        ) from error


def _once(client: "httpx.Client", attempt: Callable[["httpx.Client"], str | None]) -> str | None:
    """Return why an attempt failed, if a retry may help."""
    import httpx

    try:
        return attempt(client)
    except httpx.TransportError as error:
        if isinstance(error, httpx.UnsupportedProtocol):
            raise
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextmanager
def _errors(shown: str) -> Iterator[None]:
    """Raise errors that a retry cannot solve."""
    import httpx

    try:
        yield
    except httpx.TooManyRedirects as error:
        raise ConfigurationError(
            f"could not download {shown}: more than {_REDIRECTS} redirects; {_HELP}"
        ) from error
    except ImportError as error:
        raise ConfigurationError(
            f"could not download {shown}: ALL_PROXY or HTTPS_PROXY names a SOCKS proxy, which "
            "requires another package: run `pip install 'httpx[socks]'` in this environment, or "
            "use an HTTP proxy"
        ) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"could not download {shown}: {error}; {_HELP}") from error


def _refusal(address: str, answer: "httpx.Response") -> str | None:
    """Return a temporary refusal, or None.

    Raises:
        ConfigurationError: it is permanent, or a redirect leaves HTTPS.
    """
    hops = [*(hop.url for hop in answer.history), answer.url]
    if hops[0].scheme == "https" and any(hop.scheme != "https" for hop in hops):
        raise ConfigurationError(
            f"could not download {shown(address)}: the server redirected to an address without "
            f"TLS; {_HELP}"
        )
    if answer.status_code in _TEMPORARY:
        return f"the server answered {answer.status_code}"
    if answer.status_code not in (200, 206):
        raise ConfigurationError(
            f"could not download {shown(address)}: the server answered {answer.status_code} "
            f"{answer.reason_phrase}; {_HELP}"
        )
    return None


def _begin(answer: "httpx.Response") -> int:
    """Return the offset of the first byte; servers without range support send everything."""
    if answer.status_code == 200:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _total(answer: "httpx.Response", begin: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return begin + int(length) if length.isdigit() else None


def _refuse_size(part: _Part, size: int) -> None:
    if part.most_bytes is not None and size > part.most_bytes:
        part.discard()
        raise ConfigurationError(
            f"could not download {shown(part.address)}: it has {size} bytes or more, and the "
            f"maximum is {part.most_bytes}: what the setting `max_artifact_gigabytes` allows, or "
            "the size that the server listed"
        )


def _require_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed, {free} are free")


@contextmanager
def _disk(target: Path, *, hint: str = _RESUME) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = str(error.strerror or error)
        raise ConfigurationError(
            f"could not write {target}: {why}; free disk space there or choose another folder. "
            f"{hint}"
        ) from error
