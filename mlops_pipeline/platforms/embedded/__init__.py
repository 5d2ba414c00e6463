"""Serving on this machine alone: supervisord, SeaweedFS, Envoy and model servers as processes."""

from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.platform import EmbeddedPlatform

__all__ = ["EmbeddedOptions", "EmbeddedPlatform"]
