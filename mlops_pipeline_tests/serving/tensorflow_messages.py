"""TensorFlow's own message classes, without its libraries, which take seconds to import.

They are in protobuf's default pool of descriptors, beside ours. TensorFlow can still be imported.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

SERVING_API = Path(sys.prefix) / "tensorflow-serving"
"""Where `make test` installs the messages of TF Serving."""


@contextmanager
def _only_messages() -> Iterator[None]:
    """Let imports find the modules of TensorFlow without executing its `__init__.py`."""
    if "tensorflow" in sys.modules:
        yield
        return
    spec = find_spec("tensorflow")
    assert spec is not None
    package = sys.modules["tensorflow"] = ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations or ())
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
            del sys.modules[name]


def messages(module: str, *, path: Path) -> Any:
    """Return a module of messages, which is in an environment of its own."""
    (packages,) = path.glob("lib/python*/site-packages")
    sys.path.append(str(packages))
    try:
        with _only_messages():
            return importlib.import_module(module)
    finally:
        sys.path.remove(str(packages))


with _only_messages():
    tensor_pb2: Any = importlib.import_module("tensorflow.core.framework.tensor_pb2")
    types_pb2: Any = importlib.import_module("tensorflow.core.framework.types_pb2")
    meta_graph_pb2: Any = importlib.import_module("tensorflow.core.protobuf.meta_graph_pb2")
