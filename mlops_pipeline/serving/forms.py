"""Form bodies, which older Seldon clients send instead of JSON."""

import codecs
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

import orjson

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import FORM, JSON, MULTIPART, Request

_MOST_FIELDS = 20
_LONGEST_HEAD = 1000
"""Maximum bytes of a part's headers that are read."""
_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,200})"|([^;\s]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*[;\s]name="?([^";\r\n]*)', re.IGNORECASE)


def unwrap_form(request: Request) -> Request:
    """If the body is a form, return the request with the JSON in it as its body.

    A form has a field for each part of a SeldonMessage (`data`, `meta`, `jsonData` …), or
    everything in `json`. It is `multipart/form-data` or `application/x-www-form-urlencoded`; under
    the second name, `curl -d` sends JSON, too.

    Raises:
        RequestError: the form cannot be read, or a field is repeated, not JSON, or beside `json`.
    """
    if request.content_type == JSON:
        return request
    kind = request.content_type.lower()
    if kind.startswith(MULTIPART):
        return request._replace(body=_message(_parts(request)), content_type=JSON)
    if kind.startswith(FORM) and _HAS_FIELD.search(request.body):
        return request._replace(body=_message(_fields(request.body)), content_type=JSON)
    return request


_NAMES = (
    *("json", "data", "jsonData", "strData", "binData", "customData", "meta"),
    *("request", "response", "truth", "reward"),
)
"""Fields of a SeldonMessage and of a Feedback."""
_HAS_FIELD = re.compile(
    rb"\A(?!(?:\xef\xbb\xbf)?\s*[{\[]).{0,2000}?(?:\A|&)(?:%s)=" % "|".join(_NAMES).encode(),
    re.DOTALL,
)


def _fields(body: bytes) -> dict[str, bytes]:
    """Return name → content of each field of a URL-encoded form; other names say nothing.

    Raises:
        RequestError: it cannot be read, or a field is repeated.
    """
    try:
        found = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as problem:
        raise RequestError("BAD_FORM", f"the form cannot be read: {problem}") from problem
    return _once((name, text.encode(errors="replace")) for name, text in found if name in _NAMES)


def _once(fields: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return the fields by name.

    Raises:
        RequestError: a name is repeated, and only one of its values would be used.
    """
    once: dict[str, bytes] = {}
    for name, content in fields:
        if name in once:
            raise RequestError("BAD_FORM", f"the form has the field {name[:80]!r} twice")
        once[name] = content
    return once


def _parts(request: Request) -> dict[str, bytes]:
    """Return name → content of each part of a multipart form (RFC 7578).

    Raises:
        RequestError: there is no boundary, or a part has no name or that of another one.
    """
    found = _BOUNDARY.search(request.content_type)
    if not found:
        raise RequestError("BAD_FORM", "the content type of a multipart form needs a boundary")
    mark = b"--" + (found[1] or found[2])
    parts: list[tuple[str, bytes]] = []
    for part in request.body.split(mark, _MOST_FIELDS + 1)[1:]:
        if part.startswith(b"--"):
            return _once(parts)
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head[:_LONGEST_HEAD])
        if not name:
            raise RequestError("BAD_FORM", "a part of the multipart form has no name")
        parts.append((name[1].decode("latin-1"), content.removesuffix(b"\r\n")))
    raise RequestError(
        "BAD_FORM", f"the multipart form has no end, or more than {_MOST_FIELDS} parts"
    )


def _message(parts: dict[str, bytes]) -> bytes:
    """Return the JSON of the SeldonMessage in the fields of a form."""
    if "json" in parts:
        if others := [name for name in parts if name in _NAMES and name != "json"]:
            raise RequestError("AMBIGUOUS", f"the form has json and {others[0]}; send one of them")
        return parts["json"]
    fields = (orjson.dumps(name) + b":" + _value(name, text) for name, text in parts.items())
    return b"{" + b",".join(fields) + b"}"


def _value(name: str, content: bytes) -> bytes:
    """Return a field's content as JSON, which `data` is and text becomes."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        if name in ("strData", "binData"):
            return orjson.dumps(content.decode())
        orjson.loads(content)
    except ValueError as problem:
        raise RequestError(
            "BAD_FORM", f"the form's field {name[:80]!r} is not JSON: {problem}"
        ) from problem
    return content
