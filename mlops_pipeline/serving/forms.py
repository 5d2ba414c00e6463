"""Form bodies, which older Seldon clients send instead of JSON."""

import re
from urllib.parse import parse_qs

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

    `application/x-www-form-urlencoded` has it in the field `json`, unless the body is JSON, which
    `curl -d` sends under this name. `multipart/form-data` has a field for each part of a
    SeldonMessage (`data`, `meta`, `jsonData` …), or everything in `json`.

    Raises:
        RequestError: the form cannot be read, or it has no such field.
    """
    if request.content_type == JSON:
        return request
    kind = request.content_type.lower()
    if kind.startswith(MULTIPART):
        return request._replace(body=_message(_parts(request)), content_type=JSON)
    if kind.startswith(FORM) and _JSON_FIELD.search(request.body):
        return request._replace(body=_json_field(request.body), content_type=JSON)
    return request


_JSON_FIELD = re.compile(rb"\A(?![\s]*[{\[]).{0,2000}?(?:\A|&)json=", re.DOTALL)


def _json_field(body: bytes) -> bytes:
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=_MOST_FIELDS)
    except ValueError as problem:
        raise RequestError("BAD_FORM", f"the form cannot be read: {problem}") from problem
    return fields.get("json", [""])[0].encode(errors="replace")


def _parts(request: Request) -> dict[str, bytes]:
    """Return name → content of each part of a multipart form (RFC 7578).

    Raises:
        RequestError: there is no boundary, or a part has no name.
    """
    found = _BOUNDARY.search(request.content_type)
    if not found:
        raise RequestError("BAD_FORM", "the content type of a multipart form needs a boundary")
    mark = b"--" + (found[1] or found[2])
    parts: dict[str, bytes] = {}
    for part in request.body.split(mark, _MOST_FIELDS + 1)[1:]:
        if part.startswith(b"--"):
            return parts
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head[:_LONGEST_HEAD])
        if not name:
            raise RequestError("BAD_FORM", "a part of the multipart form has no name")
        parts[name[1].decode("latin-1")] = content.removesuffix(b"\r\n")
    raise RequestError(
        "BAD_FORM", f"the multipart form has no end, or more than {_MOST_FIELDS} parts"
    )


def _message(parts: dict[str, bytes]) -> bytes:
    """Return the JSON of the SeldonMessage in the parts of a form."""
    if "json" in parts:
        return parts["json"]
    try:
        return orjson.dumps(
            {
                name: content.decode() if name in ("strData", "binData") else orjson.loads(content)
                for name, content in parts.items()
            }
        )
    except ValueError as problem:
        raise RequestError(
            "BAD_FORM", f"a part of the multipart form is not JSON: {problem}"
        ) from problem
