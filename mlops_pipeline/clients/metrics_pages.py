"""Pages of metrics in Prometheus' text format: fetched with a limit, and read quickly.

The parser of prometheus_client takes 80 µs a line; a page with a component's own metrics has up to
50,000 lines, of which few matter. Format:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import http.client
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlops_pipeline.clients.errors import UnavailableError

PATH = "/metrics"
TIMEOUT = 2.0
"""Seconds for a whole page."""
MOST_BYTES = 32_000_000
"""Of a page. That of one of our servers has 28 KB, and one with all the metrics that a component
may return 13 MB."""
_PIECE = 65_536
_SHOWN = 200
"""Maximum number of characters of a line in an error."""
_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{(.*)\})?[ \t]*([^\s{}]+)(?:[ \t]+-?[0-9]+)?[ \t\r]*"
)
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_ESCAPED = re.compile(r"\\(.)")
_MEANT = {"n": "\n"}


@dataclass(frozen=True)
class Sample:
    """One line of a page."""

    name: str
    labels: Mapping[str, str]
    value: float


def fetch(url: str, *, timeout: float = TIMEOUT, most: int = MOST_BYTES) -> str | None:
    """GET a page over plain HTTP within `timeout` seconds.

    None if nothing answers in time, or not with the status 200.

    Raises:
        UnavailableError: the page has more than `most` bytes.
    """
    deadline = time.monotonic() + timeout
    address = urlsplit(url)
    asking = http.client.HTTPConnection(address.netloc, timeout=timeout)
    try:
        asking.request("GET", address.path)
        with asking.getresponse() as answer:  # It may own the connection.
            pieces = _pieces(answer, where=url, deadline=deadline, most=most)
            return decoded(b"".join(pieces)) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asking.close()


def _pieces(
    answer: http.client.HTTPResponse, *, where: str, deadline: float, most: int
) -> Iterator[bytes]:
    size, declared = 0, answer.length or 0
    while piece := answer.read1(_PIECE):
        size += len(piece)
        require_small(size, where=where, most=most)
        if time.monotonic() > deadline:
            raise TimeoutError
        yield piece
    if size < declared:  # `read1` does not tell a broken connection from the end.
        raise http.client.IncompleteRead(b"", declared - size)


def require_small(size: int, *, where: str, most: int = MOST_BYTES) -> None:
    """Refuse a page of more than `most` bytes.

    Raises:
        UnavailableError: it has more.
    """
    if size > most:
        raise UnavailableError(
            f"could not read the metrics of {where}: the page has more than {most} bytes; return "
            "fewer metrics from the component, or less different tags"
        )


def decoded(page: bytes) -> str:
    """Return the text of a page; invalid UTF-8 is replaced."""
    return page.decode(errors="replace")


def samples(page: str, names: Collection[str], *, where: str) -> Iterator[Sample]:
    """Yield the samples of these names in the order of the page; other lines are not read.

    `where` says in an error whose page it is.

    Raises:
        UnavailableError: a line of such a name is damaged; quotes it.
    """
    wanted, starts = frozenset(names), tuple(names)
    for line in page.split("\n"):  # Other line ends may be in a label.
        if line.startswith(starts):
            sample = _parsed(line)
            if sample is None:
                raise UnavailableError(
                    f"could not read the metrics of {where}: expected a sample in Prometheus' text "
                    f"format, got {line[:_SHOWN]!r}; look at {PATH} of this server"
                )
            if sample.name in wanted:
                yield sample


def _parsed(line: str) -> Sample | None:
    """Return the sample of a line, or None if it is damaged."""
    found = _SAMPLE.fullmatch(line)
    labels = _labels(found[2] or "") if found is not None else None
    if found is None or labels is None:
        return None
    try:
        return Sample(found[1], labels, float(found[3].replace("_", "?")))
    except ValueError:
        return None


def _labels(text: str) -> dict[str, str] | None:
    """Return the labels between the braces, or None if they are damaged."""
    labels: dict[str, str] = {}
    rest = text.rstrip(" \t")
    end = 0
    while end < len(rest):
        found = _LABEL.match(rest, end)
        if found is None or found[1] in labels:
            return None
        labels[found[1]] = _ESCAPED.sub(lambda seen: _MEANT.get(seen[1], seen[1]), found[2])
        end = found.end()
    return labels
