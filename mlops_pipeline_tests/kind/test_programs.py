"""helm, kind and the container engine, for real."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.containers import Mount
from mlops_pipeline.clients.errors import CommandError, ConflictError
from mlops_pipeline.clients.helm import find_release
from mlops_pipeline.clients.kubernetes import CONFIG_MAP, NAMESPACE, KubernetesApi
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts

pytestmark = pytest.mark.kind

LABELS = {"app.kubernetes.io/managed-by": "mlops-pipeline", "mlops-pipeline/inputs": "0a"}
CHART = "apiVersion: v2\nname: probe\nversion: 0.1.0\n"
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: probe, namespace: {{ .Release.Namespace }}}
data: {text: {{ .Values.text | quote }}}
{{- if .Values.endless }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: endless
  namespace: {{ .Release.Namespace }}
  annotations: {helm.sh/hook: "post-install,post-upgrade"}
spec:
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: a, image: none.invalid/a:1}]}}
{{- end }}
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart that installs at once, or never ends with the value `endless`."""
    folder = tmp_path / "a chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(CHART)
    (folder / "templates" / "all.yaml").write_text(TEMPLATE)
    return folder


@pytest.fixture
def namespace(cluster_api: KubernetesApi) -> Iterator[str]:
    name = f"programs-{uuid.uuid4().hex[:8]}"
    yield name
    cluster_api.delete(NAMESPACE, name)


def _upgrade(parts: KindParts, chart: Path, namespace: str, text: str) -> None:
    parts.helm().upgrade(
        "probe",
        chart=chart,
        namespace=namespace,
        values={"text": text},
        timeout=60,
        labels=LABELS,
    )


def test_a_release_is_installed_upgraded_and_removed(
    parts: KindParts, chart: Path, namespace: str
) -> None:
    api = parts.api()
    for revision, text in enumerate(["one", "two, three=4"], start=1):
        _upgrade(parts, chart, namespace, text)
        assert api.get(CONFIG_MAP, "probe", namespace=namespace)["data"] == {"text": text}
        found = find_release(api, "probe", namespace=namespace)
        assert found is not None
        assert (found.status, found.revision, found.labels) == ("deployed", revision, LABELS)
    assert parts.helm().uninstall("probe", namespace=namespace, timeout=60) is True
    assert parts.helm().uninstall("probe", namespace=namespace, timeout=60) is False
    assert api.find(CONFIG_MAP, "probe", namespace=namespace) is None


@pytest.mark.parametrize(
    "status", ["pending-install", pytest.param("pending-upgrade", marks=pytest.mark.long)]
)
def test_a_killed_helm_is_resumed(
    parts: KindParts, chart: Path, namespace: str, status: str
) -> None:
    if status == "pending-upgrade":
        _upgrade(parts, chart, namespace, "before")
    _kill_helm(parts, chart, namespace, status)
    before = parts.api().get(CONFIG_MAP, "probe", namespace=namespace)
    _upgrade(parts, chart, namespace, "after")
    found = find_release(parts.api(), "probe", namespace=namespace)
    assert found is not None
    assert found.status == "deployed"
    after = parts.api().get(CONFIG_MAP, "probe", namespace=namespace)
    assert after["data"] == {"text": "after"}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def _kill_helm(parts: KindParts, chart: Path, namespace: str, status: str) -> None:
    command = [
        *(str(parts.sources.binary("helm")), "upgrade", "probe", str(chart), "--install"),
        *("--namespace", namespace, "--create-namespace", "--set", "text=killed,endless=true"),
        *("--kubeconfig", str(parts.state.kubeconfig)),
    ]

    def describe() -> str | None:
        found = find_release(parts.api(), "probe", namespace=namespace)
        made = parts.api().find(CONFIG_MAP, "probe", namespace=namespace)
        text = made["data"]["text"] if made else "none"
        seen = found.status if found else "none"
        return None if (seen, text) == (status, "killed") else f"{seen}, {text}"

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(f"a release that is {status}", describe, timeout=60)
        finally:
            process.kill()


def test_kind_and_the_engine_know_the_same_nodes(parts: KindParts, tmp_path: Path) -> None:
    name = parts.settings.cluster.name
    assert name in parts.kind().clusters()
    nodes = parts.kind().nodes(name)
    found = parts.engine.containers(label=f"io.x-k8s.kind.cluster={name}")
    assert sorted(nodes) == sorted(node.name for node in found)
    assert all(node.running for node in found)
    api_server = next(port for node in found for port in node.ports if port.container_port == 6443)
    assert str(api_server.host_port) in parts.state.kubeconfig.read_text()
    network = parts.engine.network("kind")
    assert len(network.addresses) >= len(nodes)
    assert parts.engine.info().cgroup_version in (1, 2)
    with pytest.raises(ConflictError, match="kind recreates none"):
        parts.kind().create(
            name,
            config="kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n",
            image=found[0].image,
            kubeconfig=tmp_path / "kubeconfig",
            timeout=60,
        )


def test_only_this_user_can_read_the_kubeconfig(parts: KindParts, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    parts.kind().export_kubeconfig(parts.settings.cluster.name, path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_image_is_built_run_and_copied_into_the_nodes(parts: KindParts, tmp_path: Path) -> None:
    tag = f"mlops-pipeline/probe:{uuid.uuid4().hex[:12]}"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG NAME\nCOPY ${NAME} /text\n")
    (tmp_path / "content").write_text("text")
    parts.engine.build(
        tmp_path,
        dockerfile=tmp_path / "Dockerfile",
        tag=tag,
        timeout=120,
        arguments={"NAME": "content"},
        labels=LABELS,
    )
    try:
        assert parts.engine.image_id(tag).startswith("sha256:")
        nodes = parts.kind().nodes(parts.settings.cluster.name)
        assert parts.images.missing([tag]) == {node: {tag} for node in nodes}
        assert parts.images.ensure_local(tag) is True
        assert parts.images.ensure_local(tag) is False
        for node in nodes:
            parts.engine.exec(node, ["crictl", "rmi", f"docker.io/{tag}"], timeout=60)
        assert set(parts.images.missing([tag])) == set(nodes)
    finally:
        assert parts.engine.remove_image(tag) is True


def test_a_command_runs_in_a_container_that_is_gone_afterwards(
    parts: KindParts, tmp_path: Path
) -> None:
    label = f"io.x-k8s.kind.cluster={parts.settings.cluster.name}"
    image = parts.engine.containers(label=label)[0].image
    folder = tmp_path / 'a "folder", with a comma'
    folder.mkdir()
    (folder / "text").write_text("text of the host")
    output = parts.engine.run(
        image,
        ["-c", 'cat /in/text; echo " by $(id -u):$NAME"; ls /sys/class/net'],
        timeout=60,
        mounts=[Mount(folder, "/in")],
        user="1000:1000",
        environment={"NAME": "a b"},
        entrypoint="sh",
    )
    assert output == "text of the host by 1000:a b\nlo\n"
    with pytest.raises(CommandError, match="was killed after its timeout of 2 s") as caught:
        parts.engine.run(image, ["60"], timeout=2, entrypoint="sleep")
    assert [c for c in parts.engine.containers() if f"--name {c.name} " in str(caught.value)] == []
