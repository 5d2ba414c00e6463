"""Another user of this machine (nobody), who tries everything known on addresses and paths.

Run as root, as `attacker.py`: reads {"tcp": [port], "unix": [path], "files": [path]} from standard
input and writes what was got as JSON: [{"where", "what", "got"}], nothing for what was refused.
"""

import encodings.idna  # noqa: F401 - looked up by name, when nobody may not read it any more
import http.client
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

NOBODY = 65534
KEY = "models/iris/planted"
HTTP = (
    *(("GET", path) for path in ("/", "/status", "/metrics", "/debug/pprof/", "/ui/index.html")),
    # SeaweedFS's master
    ("GET", "/dir/assign"),
    ("GET", "/dir/status"),
    ("GET", "/dir/lookup?volumeId=1"),
    ("GET", "/vol/status"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/cluster/status"),
    ("GET", "/col/delete?collection=models"),
    ("POST", "/submit"),
    # its volume server
    *(("GET", f"/{volume},01637037d6") for volume in range(1, 9)),
    ("POST", "/1,01637037d6"),
    ("DELETE", "/1,01637037d6"),
    ("GET", "/stats/disk"),
    # its filer
    ("GET", "/buckets/models/?limit=100"),
    ("GET", "/buckets/models/kept"),
    ("POST", f"/buckets/{KEY}/model.joblib"),
    ("PUT", f"/buckets/{KEY}/manifest.json"),
    ("DELETE", "/buckets/models/?recursive=true"),
    ("GET", "/etc/?limit=100"),
    # S3
    ("GET", "/models"),
    ("GET", "/models?list-type=2"),
    ("GET", "/models/kept"),
    ("PUT", "/models/kept"),
    ("PUT", f"/{KEY}/model.joblib"),
    ("DELETE", "/models/kept"),
    ("DELETE", "/models"),
    ("PUT", "/another"),
    ("POST", "/models?delete"),
    ("PUT", "/models?policy"),
    ("PUT", "/models?acl"),
    ("POST", "/?Action=AssumeRole&RoleArn=arn:aws:iam::000000000000:role/x&RoleSessionName=x"),
    ("POST", "/?Action=CreateAccessKey&UserName=mlops-pipeline"),
    ("POST", "/?Action=GetCallerIdentity"),
    # Envoy's admin interface, and supervisord
    *(("GET", path) for path in ("/stats", "/config_dump", "/clusters", "/certs", "/listeners")),
    *(("POST", path) for path in ("/quitquitquit", "/runtime_modify?x=y", "/drain_listeners")),
    ("POST", "/RPC2"),
    ("GET", "/logtail/gateway"),
    # MLServer and TF Serving
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/classifier/unload"),
    ("POST", "/v2/repository/models/classifier/load"),
    ("POST", "/v1/config/reload"),
    ("GET", "/v1/config"),
    ("GET", "/pause"),
    ("POST", "/unpause"),
)
KEPT = b"\n\x0f/buckets/models\x12\x04kept"
"""directory and name, as most of the filer's messages begin."""
GRPC = (
    ("/master_pb.Seaweed/Assign", b"\x08\x01"),
    ("/master_pb.Seaweed/VolumeList", b""),
    ("/master_pb.Seaweed/ListClusterNodes", b"\n\x05filer"),
    ("/master_pb.Seaweed/GetMasterConfiguration", b""),
    ("/volume_server_pb.VolumeServer/VolumeServerStatus", b""),
    ("/volume_server_pb.VolumeServer/VolumeDelete", b"\x08\x01"),
    ("/volume_server_pb.VolumeServer/ReadVolumeFileStatus", b"\x08\x01"),
    ("/filer_pb.SeaweedFiler/GetFilerConfiguration", b""),
    ("/filer_pb.SeaweedFiler/LookupDirectoryEntry", KEPT),
    ("/filer_pb.SeaweedFiler/DeleteEntry", KEPT),
    ("/filer_pb.SeaweedFiler/KvGet", b"\n\x01x"),
    ("/iam_pb.SeaweedIdentityAccessManagement/GetConfiguration", b""),
    ("/iam_pb.SeaweedIdentityAccessManagement/ListUsers", b""),
    ("/messaging_pb.SeaweedS3IamCache/PutIdentity", b"\n\x03\n\x01x"),
    ("/s3_pb.SeaweedS3IamCache/PutIdentity", b"\n\x03\n\x01x"),
    ("/inference.GRPCInferenceService/RepositoryIndex", b""),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", b"\x12\nclassifier"),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", b"\x12\nclassifier"),
    ("/inference.GRPCInferenceService/ModelInfer", b"\n\nclassifier"),
    ("/inference.GRPCInferenceService/ServerReady", b""),
    ("/seldon.protos.Seldon/Predict", b""),
    ("/tensorflow.serving.ModelService/HandleReloadConfigRequest", b""),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b":\x00"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b":\x00"),
    ("/grpc.health.v1.Health/Check", b""),
)


def main() -> None:
    targets = json.load(sys.stdin)
    for _ in try_port(1):  # Imports what nobody may not read, where Python is in a home folder.
        pass
    become_nobody()
    found: list[dict[str, str]] = []
    for port in targets["tcp"]:
        found += try_port(port)
    for path in targets["unix"]:
        found += try_socket(path)
    for path in targets["files"]:
        found += try_file(Path(path))
    json.dump(found, sys.stdout)


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir("/")


def try_port(port: int) -> Iterator[dict[str, str]]:
    for scheme in ("http", "https"):
        for method, path in HTTP:
            if (got := ask(scheme, port, method, path)) is not None:
                yield {"where": f"{port}", "what": f"{scheme} {method} {path}", "got": got}
    if (got := say_hello(port)) is not None:
        yield {"where": f"{port}", "what": "HTTP/2 by TLS, without a certificate", "got": got}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name, message in GRPC:
            if (got := call(channel, name, message)) is not None:
                yield {"where": f"{port}", "what": f"grpc {name}", "got": got}


def say_hello(port: int) -> str | None:
    """Return what a server answers that takes a TLS client without a certificate; else None.

    With TLS 1.3 the handshake succeeds with every server. A gRPC server that takes anybody answers
    with its settings.
    """
    context = without_certificate()
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain) as secured,
        ):
            secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4" + bytes(5))
            return repr(said) if (said := secured.recv(9)) else None
    except OSError:
        return None


def without_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(scheme: str, port: int, method: str, path: str) -> str | None:
    """Return status and answer; None where the connection was refused in whatever way."""
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    if scheme == "https":
        context = without_certificate()
        plain = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        plain.request(method, path, body=b"planted" if method in ("POST", "PUT") else None)
        answer = plain.getresponse()
        return f"{answer.status} {answer.read(200)!r}"
    except (OSError, http.client.HTTPException):
        return None
    finally:
        plain.close()


def call(channel: grpc.Channel, name: str, message: bytes) -> str | None:
    """Return the answer, or the status of a server that speaks gRPC with us; None without one."""
    try:
        if "reflection" in name:
            stream = channel.stream_stream(name)(iter([message]), timeout=5)
            return repr(next(stream)[:200])
        answer: Any = channel.unary_unary(name)(message, timeout=5)
        return f"OK {answer[:200]!r}"
    except grpc.RpcError as error:
        code = error.code()
        return None if code is grpc.StatusCode.UNAVAILABLE else code.name


def try_socket(path: str) -> Iterator[dict[str, str]]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        try:
            caller.connect(path)
        except OSError:
            return
        yield {"where": path, "what": "connect", "got": "connected"}


def try_file(path: Path) -> Iterator[dict[str, str]]:
    for what, attempt in (
        ("list", lambda: os.listdir(path)),
        ("read", lambda: path.read_bytes()[:1]),
        ("write", lambda: path.open("ab").close()),
        ("create", lambda: (path / "planted").write_bytes(b"")),
    ):
        try:
            got = attempt()
        except OSError:
            continue
        yield {"where": str(path), "what": what, "got": repr(got)}


if __name__ == "__main__":
    main()
