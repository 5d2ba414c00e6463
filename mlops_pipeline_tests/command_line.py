"""The installed command, as people run it, with a state folder of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CLI = str(Path(sys.executable).with_name("mlops-pipeline"))
WINE = Path(__file__).parent / "wine.py"
ODD_FLOWER = [5.964, 4.006, 2.081, 1.031]


@dataclass(frozen=True)
class CommandLine:
    """The installed command, with a state folder and ports of its own."""

    home: Path
    directory: Path
    ports: Sequence[int]
    _urls: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Model → URL, once `status` has said it; until the platform is taken down."""

    def run(
        self,
        *arguments: str,
        code: int | None = 0,
        stdin: str = "",
        timeout: float = 600,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run `mlops-pipeline …` and require its exit code; None: whatever it is."""
        done = subprocess.run(
            [CLI, *arguments],
            cwd=self.directory,
            env=self.environment(**variables),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert code in (None, done.returncode), (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        if "down" in arguments:
            self._urls.clear()
        return done

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of the command."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_"))}
        return {
            **ours,
            "MLOPS_HOME": str(self.home),
            "MLOPS_EMBEDDED__GATEWAY_PORT": str(self.ports[0]),
            "MLOPS_EMBEDDED__OBJECT_STORE_PORT": str(self.ports[1]),
            "MLOPS_EMBEDDED__MODEL_PORT": str(self.ports[2]),
            "COLUMNS": "200",
            **variables,
        }

    def status(self, code: int = 0) -> dict[str, Any]:
        """Return `status --json`."""
        return dict(json.loads(self.run("status", "--json", code=code).stdout))

    def url(self, model: str, code: int = 0) -> str:
        """Return the URL of a model's deployment, as `status` says it with this exit code."""
        if model not in self._urls:
            self._urls.update({m["name"]: m["url"] for m in self.status(code)["models"]})
        return self._urls[model]

    def digest(self, model: str, code: int = 0) -> str:
        """Return the digest that the model's deployment answers with."""
        url = f"{self.url(model, code)}/metadata"
        answer = httpx.get(url, timeout=20, verify=trusting(url))
        return str(answer.raise_for_status().headers["x-model-digest"])


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def predict(url: str, row: Sequence[float]) -> httpx.Response:
    """Ask a deployment by the Seldon protocol."""
    return httpx.post(
        f"{url}/api/v1.0/predictions",
        json={"data": {"ndarray": [list(row)]}},
        timeout=10,
        verify=trusting(url),
    )


def trusting(url: str) -> bool:
    """Return the `verify` of a client: the machine's certificates, if there is one to verify.

    Reading them takes a processor for 20 to 60 ms: more than many requests over plain HTTP.
    """
    return url.startswith("https:")
