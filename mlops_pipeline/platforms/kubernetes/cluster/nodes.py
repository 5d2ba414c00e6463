"""Commands in the containers of kind's nodes."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from mlops_pipeline.clients.containers import ContainerInfo, EngineApi
from mlops_pipeline.clients.errors import CommandError, NotFoundError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import ENDPOINT_SLICE, SERVICE, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.cluster import config
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange

ASKED_NAME = "kubernetes.default.svc.cluster.local"
_SYSTEM = "kube-system"
_TIMEOUT = 20.0
_MIRRORS = "/etc/containerd/certs.d"
_POOLS = (
    *("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "ipaddresspools.metallb.io"),
    *("--all-namespaces", "-o", "jsonpath={.items[*].spec.addresses[*]}"),
)
_QUERY = """
exec 3<>/dev/tcp/$1/53 || exit 0
printf "$2" >&3
head -c 10 <&3 | od -An -v -tu1
"""
"""Sends a DNS message over TCP with programs that every node image has: kind itself needs bash."""


def find(engine: EngineApi, cluster: str) -> tuple[ContainerInfo, ...]:
    """Return the containers of a cluster's nodes, the control plane first; empty if there is none.

    Raises:
        UnavailableError: the container engine does not answer.
    """
    return config.nodes_of(engine.containers(label=f"{config.CLUSTER_LABEL}={cluster}"))


def require(engine: EngineApi, cluster: str) -> tuple[ContainerInfo, ...]:
    """Return what `find` returns.

    Raises:
        NotFoundError: there is no such cluster.
        UnavailableError: the container engine does not answer.
    """
    if found := find(engine, cluster):
        return found
    raise NotFoundError(
        f"the kind cluster {cluster} is missing; create it with `mlops-pipeline up cluster`"
    )


def made_by(engine: EngineApi, node: str) -> str | None:
    """Return the identity of the state folder that created a running node.

    Empty: no state folder did. None: kind has not configured the node yet.

    Raises:
        CommandError: the container does not run.
    """
    command = ["sh", "-c", "cat /kind/kubeadm.conf 2>/dev/null || true"]
    configuration = engine.exec(node, command, timeout=_TIMEOUT)
    if not configuration.strip():
        return None
    found = re.search(re.escape(config.MADE_BY_LABEL) + r"=([\w.-]+)", configuration)
    return found.group(1) if found else ""


def write_mirrors(
    engine: EngineApi, node: str, wanted: Mapping[str, str], *, before: Iterable[str] = ()
) -> None:
    """Let the node's containerd pull from mirrors (registry → URL), from the next pull on.

    `before` has the registries with a mirror until now.

    Raises:
        CommandError: the container does not run.
    """
    for registry in sorted({*before} - {*wanted}):
        folder = posixpath.join(_MIRRORS, registry)
        engine.exec(node, ["rm", "-rf", "--", folder], timeout=_TIMEOUT)
    script = 'mkdir -p "$1" && printf %s "$2" >"$1/hosts.toml"'
    for registry, url in sorted(wanted.items()):
        folder, content = posixpath.join(_MIRRORS, registry), config.hosts_toml(url)
        engine.exec(node, ["sh", "-c", script, "sh", folder, content], timeout=_TIMEOUT)


def pools_of_others(engine: EngineApi, cluster: str) -> list[AddressRange]:
    """Return the ranges of MetalLB in the other kind clusters of this engine.

    kind's kubectl in each control plane reports them; a cluster that does not answer is skipped.
    """
    found: list[AddressRange] = []
    for node in engine.containers(label=f"{config.ROLE_LABEL}=control-plane"):
        if node.labels.get(config.CLUSTER_LABEL) == cluster or not node.running:
            continue
        with suppress(CommandError, ValueError):
            written = engine.exec(node.name, _POOLS, timeout=_TIMEOUT)
            found += [AddressRange.parse(text) for text in written.split() if ":" not in text]
    return found


def get(engine: EngineApi, node: str, url: str, *, timeout: float) -> HttpAnswer:
    """GET `url` from a node, whose image has curl. Return the answer, without headers.

    Raises:
        UnavailableError: nothing answered the node within `timeout` seconds.
    """
    options = ["--silent", "--show-error", "--noproxy", "*", "--max-time", str(timeout)]
    command = ["curl", *options, "--write-out", r"\n%{http_code}", url]
    try:
        written = engine.exec(node, command, timeout=timeout + _TIMEOUT)
        body, _, status = written.rpartition("\n")
        return HttpAnswer(int(status), {}, body.encode())
    except (CommandError, ValueError) as error:
        raise UnavailableError(f"could not reach {url} from the node {node}: {error}") from error


def memory_used(engine: EngineApi, nodes: Iterable[str]) -> int:
    """Return the bytes that the nodes use together, without droppable cache; 0: unknown.

    This is what `docker stats` reports, which takes two seconds.
    """
    script = (
        "cd /sys/fs/cgroup; cat memory.current memory.stat 2>/dev/null || "
        "cat memory/memory.usage_in_bytes memory/memory.stat"
    )
    used = 0
    for node in nodes:
        try:
            text = engine.exec(node, ["sh", "-c", script], timeout=_TIMEOUT)
        except CommandError:
            return 0
        used += _without_cache(text)
    return used


def _without_cache(text: str) -> int:
    total = re.match(r"\d+", text)
    inactive = re.search(r"^(?:total_)?inactive_file (\d+)", text, re.MULTILINE)
    both = re.search(r"^total_inactive_file (\d+)", text, re.MULTILINE) or inactive
    return max(0, int(total.group()) - int(both.group(1))) if total and both else 0


def describe_unresolved(engine: EngineApi, api: KubernetesApi, node: str) -> str | None:
    """Say why the API server's name does not resolve in the cluster; None if it does.

    The node queries each CoreDNS of the Service, then the Service, which also tests kube-proxy.
    After a restart, the Service leads to CoreDNS's previous address for some time.

    Raises:
        UnavailableError: the API server does not answer.
    """
    service = api.find(SERVICE, "kube-dns", namespace=_SYSTEM)
    if service is None:
        return f"the Service {_SYSTEM}/kube-dns is missing"
    slices = api.list(
        ENDPOINT_SLICE, namespace=_SYSTEM, labels="kubernetes.io/service-name=kube-dns"
    )
    servers = [address for part in slices for address in _ready_addresses(part)]
    if not servers:
        return "no CoreDNS is ready"
    for address in (*servers, str(service["spec"]["clusterIP"])):
        if reason := _describe_answer(engine, node, address):
            return reason
    return None


def _ready_addresses(part: Manifest) -> list[str]:
    return [
        str(address)
        for endpoint in part.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
        for address in endpoint["addresses"]
    ]


def _describe_answer(engine: EngineApi, node: str, address: str) -> str | None:
    message = "".join(f"\\x{byte:02x}" for byte in _question(ASKED_NAME))
    command = ["timeout", "3", "bash", "-c", _QUERY, "bash", address, message]
    try:
        answer = [int(n) for n in engine.exec(node, command, timeout=_TIMEOUT).split()]
    except (CommandError, ValueError) as error:
        return f"CoreDNS did not answer {node} at {address}: {str(error).splitlines()[0]}"
    if len(answer) < 10:
        return f"CoreDNS did not answer {node} at {address}"
    code, answers = answer[5] & 0x0F, answer[8] * 256 + answer[9]
    if code != 0 or answers == 0:
        return f"CoreDNS does not resolve {ASKED_NAME}: answer code {code}, {answers} addresses"
    return None


def _question(name: str) -> bytes:
    """Return a DNS query for an IPv4 address over TCP (RFC 1035, 4.1 and 4.2.2)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    header = bytes([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])  # One question, recursion desired.
    message = header + labels + b"\0" + bytes([0, 1, 0, 1])
    return len(message).to_bytes(2, "big") + message
