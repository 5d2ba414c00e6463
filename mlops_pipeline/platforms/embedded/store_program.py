"""SeaweedFS as a program: all its parts in one process, on 127.0.0.1 alone."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.platforms.embedded.keys import StoreKeys
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.store_certificate import StoreCertificate
from mlops_pipeline.platforms.embedded.store_writes import LEAST_FREE

PROGRAM = "object_store"
PARTS = ("s3", "master", "volume", "filer")
_STOP_SECONDS = 1
"""SeaweedFS 4.48 does not end on SIGTERM; what it has acknowledged is written by then."""


def program(
    state: EmbeddedFolder,
    chosen: Mapping[str, int],
    *,
    keys: StoreKeys,
    certificate: StoreCertificate,
) -> Program:
    """Return SeaweedFS on the ports `chosen`: `<part>` and `<part>.grpc` → port.

    Its keys and its certificate must have been made.
    """
    folder = state.object_store
    command = (
        *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"),
        f"-dir={folder / 'data'}",
        f"-ip={ports.LOOPBACK}",
        f"-ip.bind={ports.LOOPBACK}",
        # Of master and filer. S3 asks both by gRPC, and the volume server by HTTP with TLS.
        "-disableHttp",
        "-filer",
        "-s3",
        *(_port(owner, port) for owner, port in chosen.items()),
        f"-s3.config={keys.file}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={state.socket('s3.sock')}",
        f"-filer.localSocket={state.socket('filer.sock')}",
        "-master.peers=none",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-master.volumePreallocate=false",
        "-volume.max=64",
        # Its default is 1 % of the disk, which are gigabytes on a large one.
        f"-volume.minFreeSpace={LEAST_FREE}MiB",
        "-volume.preStopSeconds=0",
    )
    environment = {
        "HOME": str(folder),
        # It reads both once: other ones make another program, which is started again.
        "KEYS_FINGERPRINT": keys.fingerprint(),
        "CERTIFICATE_FINGERPRINT": certificate.fingerprint(),
    }
    return Program(PROGRAM, command, folder, environment=environment, stop_seconds=_STOP_SECONDS)


def grpc_socket(part: str, port: int | None) -> Path:
    """Return the unix socket that SeaweedFS makes beside a gRPC port: always in /tmp."""
    return Path("/tmp") / f"seaweedfs-{part}-grpc-{port}.sock"


def is_free(port: int) -> bool:
    """Say whether SeaweedFS could listen on `port`, and on the unix socket named by it.

    A socket that another user left in /tmp cannot be removed, and SeaweedFS would call it.
    """
    sockets = [grpc_socket(part, port) for part in PARTS]
    return ports.is_free(port) and not any(_is_of_others(socket) for socket in sockets)


def _is_of_others(path: Path) -> bool:
    try:
        return path.lstat().st_uid != os.getuid()
    except OSError:
        return False


def _port(owner: str, port: int) -> str:
    part, _, kind = owner.partition(".")
    return f"-{part}.port{'.grpc' if kind else ''}={port}"
