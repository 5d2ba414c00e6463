"""What a kind cluster needs of this machine."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.machine import available_memory
from mlops_pipeline.platforms.kubernetes.cluster import nodes
from mlops_pipeline.platforms.kubernetes.cluster.config import MappedPort, kubernetes_version
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.sources import programs
from mlops_pipeline.platforms.sources.path import VERSION_COMMANDS

_GIB = 1 << 30
_MEMORY = 6 * _GIB
"""Bytes for the whole platform with two models; one node needs 1 GiB."""
_MEMORY_LEFT = 1 * _GIB
"""Bytes that must be free while the cluster runs."""
_DISK = 10 * _GIB
_INOTIFY = {"max_user_watches": 524_288, "max_user_instances": 512}
"""https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files"""
_FIRST_WITHOUT_CGROUP_V1 = (1, 35)
"""Its kubelet does not start if `failCgroupV1` has its default (KEP-5573)."""


def examine(parts: KindParts, mapped: Sequence[MappedPort]) -> list[Diagnosis]:
    """Check everything that a cluster with these ports needs here. Changes nothing."""
    info = _ask(parts)
    return [*_blocking(parts, info), *_advisory(parts, info, mapped)]


def require(parts: KindParts) -> None:
    """Refuse to continue if something is missing that every cluster needs.

    Raises:
        ConfigurationError: has what was seen, and what to do.
        UnavailableError: the container engine does not answer.
    """
    for diagnosis in _blocking(parts, _ask(parts)):
        if diagnosis.fine:
            continue
        kind = UnavailableError if diagnosis.what == parts.settings.cluster.engine else None
        raise (kind or ConfigurationError)(
            f"could not create a cluster on this machine: {diagnosis.what}: {diagnosis.seen}; "
            f"{diagnosis.remedy}; nothing was changed"
        )


def advise(parts: KindParts, mapped: Sequence[MappedPort]) -> str:
    """Return what else may prevent a cluster on this machine, as sentences; empty if nothing."""
    found = [d for d in _advisory(parts, _ask(parts), mapped) if not d.fine]
    return "; ".join(f"{d.what}: {d.seen}, {d.remedy}" for d in found)


def _blocking(parts: KindParts, info: EngineInfo | Diagnosis) -> Iterator[Diagnosis]:
    yield programs.engine(info, parts.settings.cluster.engine)
    yield from (programs.program(parts.sources, name) for name in VERSION_COMMANDS)
    version = _wanted_version(parts)
    if isinstance(version, Diagnosis):
        yield version
    elif isinstance(info, EngineInfo):
        yield _cgroup(info, version)


def _advisory(
    parts: KindParts, info: EngineInfo | Diagnosis, mapped: Sequence[MappedPort]
) -> Iterator[Diagnosis]:
    yield from _inotify()
    if isinstance(info, EngineInfo):
        running = _is_running(parts)
        yield _memory(info, running=running)
        yield _disk(info)
        if not running:
            yield from _ports(parts, mapped)


def _ask(parts: KindParts) -> EngineInfo | Diagnosis:
    return programs.ask_engine(parts.engine, parts.settings.cluster.engine)


def _wanted_version(parts: KindParts) -> str | Diagnosis:
    """Return the Kubernetes version of the node image; empty if its tag has none."""
    try:
        reference = parts.settings.cluster.node_image or parts.sources.node_image().reference
    except (ConfigurationError, IntegrityError) as error:
        return Diagnosis(
            "node image", programs.first_line(error), "set kind.cluster.node_image or MLOPS_BUNDLE"
        )
    return kubernetes_version(reference)


def _cgroup(info: EngineInfo, version: str) -> Diagnosis:
    seen = f"version {info.cgroup_version}, Kubernetes {version or 'of an unknown version'}"
    numbers = tuple(int(part) for part in version.lstrip("v").split(".")[:2]) if version else ()
    if info.cgroup_version != 1 or numbers < _FIRST_WITHOUT_CGROUP_V1:
        return Diagnosis("cgroup", seen)
    return Diagnosis(
        "cgroup",
        f"{seen}, which does not start on version 1",
        "set kind.cluster.node_image to an image of 1.34, or boot this machine with cgroup "
        "version 2 (systemd.unified_cgroup_hierarchy=1)",
    )


def _inotify(folder: Path = Path("/proc/sys/fs/inotify")) -> Iterator[Diagnosis]:
    """Check limits that all nodes share; only Linux shows them here."""
    for name, least in _INOTIFY.items():
        try:
            value = int((folder / name).read_text())
        except (OSError, ValueError):
            continue
        remedy = "" if value >= least else f"run `sudo sysctl fs.inotify.{name}={least}`"
        yield Diagnosis(f"inotify {name}", str(value), remedy)


def _is_running(parts: KindParts) -> bool:
    try:
        return any(node.running for node in nodes.find(parts.engine, parts.settings.cluster.name))
    except PipelineError:
        return False


def _memory(info: EngineInfo, *, running: bool) -> Diagnosis:
    """Check the engine's memory: it may run in a virtual machine that has less than this one."""
    available = min(available_memory(), info.memory_bytes or available_memory())
    least = _MEMORY_LEFT if running else _MEMORY
    seen = f"{available / _GIB:.1f} GiB available{' beside the cluster' if running else ''}"
    remedy = f"close programs or give the engine more: it needs {least // _GIB} GiB"
    return Diagnosis("memory for the cluster", seen, "" if available >= least else remedy)


def _disk(info: EngineInfo) -> Diagnosis:
    what = "disk of the engine"
    try:
        free = shutil.disk_usage(info.data_root).free
    except OSError:
        return Diagnosis(what, f"{info.data_root} is not on this machine")
    remedy = f"free {_DISK // _GIB} GiB there (`docker system df` shows what takes space)"
    seen = f"{free / _GIB:.1f} GiB free in {info.data_root}"
    return Diagnosis(what, seen, "" if free >= _DISK else remedy)


def _ports(parts: KindParts, mapped: Sequence[MappedPort]) -> Iterator[Diagnosis]:
    """Report ports in use. That is not an error: the cluster uses other ports then."""
    settings = parts.settings.cluster
    address = str(settings.listen_address)
    for one in mapped:
        what, port = f"{one.name.replace('_', ' ')} port", one.asked(settings)
        try:
            taken = ports.is_taken(port, address=address)
        except ConfigurationError as error:
            yield Diagnosis(what, programs.first_line(error), "set kind.cluster.listen_address")
            return
        used = f"another program uses {address}:{port}: the cluster will use the next free port"
        yield Diagnosis(what, used if taken else f"{address}:{port} is free")
