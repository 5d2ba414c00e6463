"""V2's tensors as bytes: raw contents in gRPC, and the binary tensor extension of REST.

A tensor is its values in row-major order, little-endian. Of strings, each follows its length in
four bytes. In REST, the tensors follow the JSON, in the order in which it names them.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlops_pipeline.serving import packed, texts
from mlops_pipeline.serving.cells import as_objects
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.scores import DTYPES, Array, of_bytes

LENGTH = b"inference-header-content-length"
"""Header with the length of the JSON."""
SIZE = "binary_data_size"
"""Parameter of a tensor: its number of bytes after the JSON."""
_SIZE_KEY = b'"%s"' % SIZE.encode()
TEXT = "BYTES"


BRAIN_FLOAT = "BF16"
"""Triton's name of the upper half of a 32-bit float, which numpy lacks: it becomes FP32."""


def type_of(datatype: object, *, text: bool = False) -> np.dtype[Any]:
    """Return numpy's type for an input's datatype; with `text`, of strings too: object.

    Raises:
        RequestError: it is not one of `DTYPES`, nor BF16.
    """
    if datatype == BRAIN_FLOAT:
        return np.dtype(np.float32)
    if text and datatype == TEXT:
        return np.dtype(object)
    if type(datatype) is not str or datatype not in DTYPES:
        known = ", ".join([*DTYPES, BRAIN_FLOAT, *([TEXT] * text)])
        raise RequestError("WRONG_TYPE", f"an input's datatype must be one of {known}")
    return DTYPES[datatype]


def read(content: bytes | memoryview, datatype: object, *, where: str, text: bool = False) -> Array:
    """Return the values of a tensor as a flat array, which a model may change, like any rows.

    Raises:
        RequestError: the datatype is unknown, or the bytes are not such a tensor.
    """
    is_brain = datatype == BRAIN_FLOAT
    dtype = np.dtype(np.uint16) if is_brain else type_of(datatype, text=text)
    if dtype.kind == "O":
        return as_objects(read_texts(content, where=where))
    if len(content) % dtype.itemsize:
        raise RequestError("WRONG_SHAPE", f"{where} is not a tensor of {datatype}")
    values: Array = np.frombuffer(content, dtype=dtype.newbyteorder("<"))
    if dtype.kind == "b" and values.size and values.view(np.uint8).max() > 1:
        raise RequestError("WRONG_TYPE", f"{where}: a byte of BOOL must be 0 or 1")
    if is_brain:
        return packed.from_brain_floats(values)
    return values.copy()  # `content` cannot be written, and may not be aligned.


def read_texts(content: bytes | memoryview, *, where: str) -> list[str | bytes]:
    """Return the strings of a tensor of BYTES: each follows its length in four bytes.

    Raises:
        RequestError: the bytes are not such a tensor.
    """
    found: list[str | bytes] = []
    begin = 0
    while begin < len(content):
        start = begin + 4
        end = start + int.from_bytes(content[begin:start], "little")
        if end > len(content) or start > len(content):
            raise RequestError("WRONG_SHAPE", f"{where} is not a tensor of {TEXT}")
        found.append(of_bytes(bytes(content[start:end])))
        begin = end
    return found


def write(values: Array) -> bytes:
    """Return the values of an output as bytes."""
    if values.dtype.kind != "O":
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    contents = texts.to_bytes(values)
    return b"".join(len(content).to_bytes(4, "little") + content for content in contents)


class Tail:
    """The tensors after the JSON of a REST request, taken one after another."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def find(self, tensor: Mapping[str, Any]) -> memoryview | None:
        """Take the bytes of an input; None if its data are in the JSON.

        Raises:
            RequestError: it has data too, or its size is not the length of bytes that follow.
        """
        parameters = tensor.get("parameters")
        if type(parameters) is not dict or SIZE not in parameters:
            return None
        size = parameters[SIZE]
        if "data" in tensor:
            raise RequestError("AMBIGUOUS", f"an input has data and {SIZE}; send one of them")
        if type(size) is not int or not 0 <= size <= len(self._content):
            raise RequestError(
                "WRONG_SHAPE",
                f"{SIZE} is {str(size)[:80]}, but {len(self._content)} bytes follow; check the "
                "header Inference-Header-Content-Length",
            )
        found, self._content = self._content[:size], self._content[size:]
        return found

    def require_end(self) -> None:
        """Require that every byte was taken.

        Raises:
            RequestError: bytes follow that no input names.
        """
        if self._content:
            raise RequestError(
                "WRONG_SHAPE",
                f"{len(self._content)} bytes follow the inputs; each input must name its bytes in "
                f"parameters.{SIZE}",
            )


def split(request: Request) -> tuple[Request, Tail]:
    """Return the JSON of a request, and the tensors that follow it.

    Raises:
        RequestError: the header is not the length of a beginning of the body, or it is missing.
    """
    if not request.json_bytes:
        if _SIZE_KEY in request.body:
            raise RequestError(
                "BAD_JSON",
                f"an input has {SIZE}, but the header Inference-Header-Content-Length is missing; "
                "send it with the length of the JSON",
            )
        return request, Tail(memoryview(b""))
    text, size = request.json_bytes, len(request.body)
    if not text.isdigit() or len(text) > 12 or int(text) > size:
        raise RequestError(
            "BAD_JSON",
            f"the header Inference-Header-Content-Length must be the length of the JSON, at most "
            f"{size} bytes, got {text[:80].decode('latin-1')!r}",
        )
    length = int(text)
    return Request(request.body[:length]), Tail(memoryview(request.body)[length:])
