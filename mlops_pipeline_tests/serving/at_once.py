"""The protocols' functions, called without an event loop: each answers at once, alone."""

import inspect
from types import ModuleType
from typing import Any

from mlops_pipeline.serving.batching import run_at_once
from mlops_pipeline.serving.protocols import mlflow as _mlflow
from mlops_pipeline.serving.protocols import seldon as _seldon
from mlops_pipeline.serving.protocols import seldon_grpc as _seldon_grpc
from mlops_pipeline.serving.protocols import tensorflow as _tensorflow
from mlops_pipeline.serving.protocols import tensorflow_grpc as _tensorflow_grpc
from mlops_pipeline.serving.protocols import v2 as _v2
from mlops_pipeline.serving.protocols import v2_grpc as _v2_grpc


class _AtOnce:
    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *arguments: run_at_once(found(*arguments))


mlflow = _AtOnce(_mlflow)
seldon, seldon_grpc = _AtOnce(_seldon), _AtOnce(_seldon_grpc)
tensorflow, tensorflow_grpc = _AtOnce(_tensorflow), _AtOnce(_tensorflow_grpc)
v2, v2_grpc = _AtOnce(_v2), _AtOnce(_v2_grpc)
