"""kind: Kubernetes clusters whose nodes are containers.

Its flags: https://kind.sigs.k8s.io/docs/user/quick-start/
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlops_pipeline.clients.errors import CommandError, ConflictError, NotFoundError
from mlops_pipeline.clients.process import run

_TIMEOUT = 60.0


class KindApi(Protocol):
    """What is asked of kind: the real one and the fake of the tests have it."""

    def clusters(self) -> list[str]:
        """Return the names of the clusters on this machine, ours or not."""

    def nodes(self, name: str) -> list[str]:
        """Return the names of the cluster's nodes, which are those of their containers."""

    def create(
        self, name: str, *, config: str, image: str, kubeconfig: Path, timeout: float
    ) -> None:
        """Make a cluster from a configuration (YAML); its nodes may not be ready yet."""

    def delete(self, name: str, *, kubeconfig: Path) -> None:
        """Remove the cluster, and its context from `kubeconfig`; nothing where there is none."""

    def export_kubeconfig(self, name: str, kubeconfig: Path) -> None:
        """Write how to reach the cluster into `kubeconfig`."""


class Kind:
    """The program `kind` on a container engine: `docker` or `podman`.

    The user's kubeconfig is never read or written. Whoever calls it makes sure that nobody else
    writes the same one. Every method raises CommandError where kind fails or is missing.
    """

    def __init__(self, program: Path, *, engine: str) -> None:
        self._program = program
        self._engine = engine

    def clusters(self) -> list[str]:
        """Return the names of the clusters on this machine, ours or not."""
        return self._run(["get", "clusters"], purpose="list the kind clusters").split()

    def nodes(self, name: str) -> list[str]:
        """Return the names of the cluster's nodes, which are those of their containers."""
        return self._run(
            ["get", "nodes", "--name", name], purpose=f"list the nodes of the kind cluster {name}"
        ).split()

    def create(
        self, name: str, *, config: str, image: str, kubeconfig: Path, timeout: float
    ) -> None:
        """Make a cluster from a configuration (YAML).

        Returns when the API server runs: nodes may not be ready yet. When it fails, kind has
        removed what it made; when it is killed, nodes may stay behind.

        Raises:
            ConflictError: there is a cluster of that name.
        """
        try:
            self._run(
                [
                    *("create", "cluster", "--name", name, "--image", image, "--config", "-"),
                    *_where(kubeconfig),
                ],
                purpose=f"create the kind cluster {name}",
                timeout=timeout,
                stdin=config,
            )
        except CommandError as error:
            if "already exist for a cluster with the name" not in str(error):
                raise
            raise ConflictError(
                f"could not create the kind cluster {name}: there is one, and kind recreates none"
            ) from error

    def delete(self, name: str, *, kubeconfig: Path) -> None:
        """Remove the cluster, and its context from `kubeconfig`; nothing where there is none."""
        self._run(
            ["delete", "cluster", "--name", name, *_where(kubeconfig)],
            purpose=f"delete the kind cluster {name}",
        )

    def export_kubeconfig(self, name: str, kubeconfig: Path) -> None:
        """Write how to reach the cluster into `kubeconfig`, readable by this user alone.

        Raises:
            NotFoundError: there is no such cluster, or its control plane does not run.
        """
        try:
            self._run(
                ["export", "kubeconfig", "--name", name, *_where(kubeconfig)],
                purpose=f"write how to reach the kind cluster {name} into {kubeconfig}",
            )
        except CommandError as error:
            if "could not locate any control plane nodes" not in str(error):
                raise
            raise NotFoundError(f"there is no kind cluster {name} to reach") from error

    def _run(
        self,
        arguments: Sequence[str],
        *,
        purpose: str,
        timeout: float = _TIMEOUT,
        stdin: str | None = None,
    ) -> str:
        return run(
            [str(self._program), *arguments],
            purpose=purpose,
            timeout=timeout,
            stdin=stdin,
            environment={"KIND_EXPERIMENTAL_PROVIDER": self._engine},
            remedy="install kind, or name a bundle that holds it with MLOPS_BUNDLE",
        )


def _where(kubeconfig: Path) -> tuple[str, str]:
    """Say which kubeconfig to write, past the lock of a kind that was killed while it wrote.

    kind gives up at once where the lock is, and `create` then removes the cluster again.
    """
    kubeconfig.with_name(f"{kubeconfig.name}.lock").unlink(missing_ok=True)
    return "--kubeconfig", str(kubeconfig)
