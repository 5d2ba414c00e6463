"""Serving on Kubernetes: kind, MetalLB, Istio, Seldon Core and an object store."""

from mlops_pipeline.platforms.kubernetes.existing import KubernetesPlatform
from mlops_pipeline.platforms.kubernetes.kind import KindPlatform

__all__ = ["KindPlatform", "KubernetesPlatform"]
