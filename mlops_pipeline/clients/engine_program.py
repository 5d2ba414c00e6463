"""The program of a container engine, `docker` or `podman`: how it is run, and what it says."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.errors import (
    CommandError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.process import run

TIMEOUT = 60.0
_CONTAINERD = "io.containerd.snapshotter.v1"
"""The driver's type where Docker keeps images in containerd's store."""
_SAVES_ONE_PLATFORM = 28
"""The first Docker whose `save` takes a platform (API 1.48)."""
REMEDY = (
    "install Docker (https://docs.docker.com/engine/install/), or Podman and set "
    'kind.cluster.engine = "podman"'
)
_PREFIX = r"^(?:docker: )?(?:error response from daemon: .*|error: .*)"
"""How a complaint of the engine's own begins: what it runs writes to the same stream."""
_SILENT = re.compile(
    r"^(?:docker: )?(?:error: )?(?:got )?(?:error during connect|permission denied while trying to "
    r"connect|(?:cannot|failed to|unable to) connect to (?:the docker|podman)).*$",
    re.IGNORECASE | re.MULTILINE,
)
_ABSENT = re.compile(
    rf"{_PREFIX}(?:no such (?:image|container|object)|network .*not found|image not known).*$",
    re.IGNORECASE | re.MULTILINE,
)
_USED = re.compile(
    rf"{_PREFIX}(?:unable to (?:remove|delete)|image used by).*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class EngineInfo:
    """The engine and what the machine gives it."""

    version: str
    cgroup_version: int
    cpus: int
    memory_bytes: int
    data_root: str
    """Where it keeps images and volumes, on the machine that it runs on."""
    architecture: str = ""
    """What it builds images for, in Go's words: `amd64`."""
    has_parts: bool = False
    """Whether it may have an image for one of its platforms alone, and saves what it is told of.

    Docker does from 28 on, where it keeps images in containerd's store.
    """


class EngineProgram:
    """The program, and the translation of what it says into our errors."""

    def __init__(self, program: str = "docker") -> None:
        self._program = program

    def info(self) -> EngineInfo:
        """Return what the engine is and has."""
        found = json.loads(self._run(["info", "--format", "{{json .}}"], purpose="ask the engine"))
        return _podman_info(found) if "host" in found else _docker_info(found)

    @property
    def _is_podman(self) -> bool:
        return Path(self._program).name == "podman"

    def _inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Ask for several at once: each call takes 20 ms and more."""
        shown = self._run([kind, "inspect", *names], purpose=f"look at the {kind} {names[0]}")
        return list(json.loads(shown))

    def _run(
        self,
        arguments: Sequence[str],
        *,
        purpose: str,
        timeout: float = TIMEOUT,
        stdin: Path | None = None,
    ) -> str:
        with self._errors():
            return run(
                [self._program, *arguments],
                purpose=purpose,
                timeout=timeout,
                stdin=stdin,
                remedy=REMEDY,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CommandError as error:
            what = str(error).partition(": `")[0]
            if said := _SILENT.search(str(error)):
                raise UnavailableError(
                    f"{what}: {said[0]} Start it (Docker: `sudo systemctl start docker`, or Docker "
                    "Desktop), and see to it that this user may use it"
                ) from error
            if said := _ABSENT.search(str(error)):
                raise NotFoundError(f"{what}: {said[0]}") from error
            if said := _USED.search(str(error)):
                raise ConflictError(f"{what}: {said[0]}") from error
            raise


def _docker_info(found: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        version=str(found["ServerVersion"]),
        cgroup_version=int(found["CgroupVersion"]),
        cpus=int(found["NCPU"]),
        memory_bytes=int(found["MemTotal"]),
        data_root=str(found["DockerRootDir"]),
        architecture=_architecture(found.get("Architecture")),
        has_parts=["driver-type", _CONTAINERD] in (found.get("DriverStatus") or [])
        and _major(found["ServerVersion"]) >= _SAVES_ONE_PLATFORM,
    )


def _major(version: object) -> int:
    found = re.match(r"\d+", str(version))
    return int(found[0]) if found else 0


def _podman_info(found: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        version=str(found["version"]["Version"]),
        cgroup_version=int(str(found["host"]["cgroupVersion"]).removeprefix("v")),
        cpus=int(found["host"]["cpus"]),
        memory_bytes=int(found["host"]["memTotal"]),
        data_root=str(found["store"]["graphRoot"]),
        architecture=_architecture(found["host"].get("arch")),
    )


def _architecture(found: object) -> str:
    """Return it in Go's words, as nodes say it: Docker has those of the kernel."""
    named = str(found or "")
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(named, named)
