"""Serving on this machine alone: supervisord, SeaweedFS, Envoy and model servers as processes."""

from mlops_pipeline.platforms.embedded.platform import EmbeddedPlatform
from mlops_pipeline.platforms.embedded.settings import EmbeddedSettings

__all__ = ["EmbeddedPlatform", "EmbeddedSettings"]
