"""Clusters of a test's own, beside the shared one; gone afterwards, whatever happens."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.settings.kind import ClusterSettings, KindSettings


def parts_of(home: Path, name: str, bundle: Path | None, **cluster: Any) -> KindParts:
    """Return the ways to a cluster with these settings; its own ports are free ones."""
    settings = KindSettings(cluster=ClusterSettings(name=name, **cluster))
    return KindParts.make(home, settings, bundle=bundle)


@contextmanager
def named(topic: str, bundle: Path | None) -> Iterator[str]:
    """Return a name for a cluster that is deleted at the end, whoever has made it."""
    name = f"mlops-test-{topic}-{os.getpid()}"
    try:
        yield name
    finally:
        kind = str(bundle / "bin" / "kind") if bundle else "kind"
        subprocess.run(
            [kind, "delete", "cluster", "--name", name, "--kubeconfig", os.devnull], check=True
        )


def stop(node: str) -> None:
    """Stop the container of a node, as a restart of the machine does."""
    subprocess.run(["docker", "stop", "--time", "1", node], check=True, capture_output=True)


def control_plane(parts: KindParts) -> str:
    """Return the name of the first node."""
    return f"{parts.settings.cluster.name}-control-plane"


def is_running(parts: KindParts) -> bool:
    """Say whether the first node runs."""
    return parts.engine.inspect(control_plane(parts)).running


def made(parts: KindParts) -> KindParts:
    """Make the cluster, and return the ways to it."""
    KindCluster(parts).ensure()
    return parts
