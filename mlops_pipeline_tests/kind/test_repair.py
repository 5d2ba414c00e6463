"""What goes wrong in a cluster: `plan` names it, one `up` mends it, and only it.

Most cases take in this process the steps that `up` takes; the last ones run the command itself.
`--log-cli-level=INFO` shows the seconds of each case: from the start of the repair to all models
answering with the digests of before.
"""

import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from mlops_pipeline.catalog.registry import RegisteredModel, load_catalog
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    NAMESPACE,
    POD,
    SELDON_DEPLOYMENT,
    SERVICE,
    STATEFUL_SET,
    VALIDATING_WEBHOOK,
    KubernetesApi,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.artifacts import artifact_store
from mlops_pipeline.delivery.deploying import deploy, deployed_ref
from mlops_pipeline.delivery.planning import plan_layers, plan_model
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import address_of
from mlops_pipeline.platforms.layers import Broken, by_name
from mlops_pipeline.platforms.observing import observe_platform
from mlops_pipeline_tests.command_line import CLI, ODD_FLOWER, WINE, predict
from mlops_pipeline_tests.kind.clusters import stop
from mlops_pipeline_tests.kind.conftest import KindCommandLine, signing_platform_of

pytestmark = pytest.mark.kind

MODELS = "seldon"
"""The namespace of the models."""
_log = logging.getLogger(__name__)


@dataclass
class World:
    """Everything up and ready, and what it answered before something was harmed."""

    line: KindCommandLine
    platform: KindPlatform
    api: KubernetesApi
    models: tuple[RegisteredModel, ...]
    refs: Mapping[str, ModelRef]
    gateway: str

    @property
    def node(self) -> str:
        return f"{self.line.cluster}-control-plane"

    def plan(self) -> dict[str, tuple[str, str]]:
        """Return what `plan` shows beside `keep`: asset → action and reason."""
        seen = observe_platform(self.platform)
        steps = plan_layers(seen)
        for model in self.models:
            file = self.line.mnist if model.name == "mnist" else None
            steps += plan_model(model, platform=self.platform, file=file, seen=seen)
        return {s.asset: (s.action, s.reason) for s in steps if s.action != "keep"}

    def mend(self) -> dict[str, str]:
        """Take the steps of `up`, and return what was changed: asset → how.

        A deployment is proved by its digest and scores, as in every `up`.
        """
        done = {layer.name: layer.ensure().action for layer in self.platform.layers}
        artifacts = artifact_store(self.platform)
        for model in self.models:
            ref = self.refs[model.name]
            _, change = deploy(model.spec, ref, platform=self.platform, artifacts=artifacts)
            done[f"{model.name}/deployment"] = change.action
        return {asset: how for asset, how in done.items() if how != "unchanged"}

    def url(self, model: str) -> str:
        server = next(m.spec.server for m in self.models if m.name == model)
        return f"{self.gateway}/seldon/{server.namespace}/{server.deployment}"

    def digests(self) -> dict[str, str]:
        """Return the digests that answer at the addresses of before."""
        return {
            model.name: httpx.get(f"{self.url(model.name)}/metadata", timeout=10).headers.get(
                "x-model-digest", ""
            )
            for model in self.models
        }


@pytest.fixture
def world(command_line: KindCommandLine, cluster_api: KubernetesApi) -> Iterator[World]:
    """The shared cluster; it is left as it was found."""
    platform = signing_platform_of(command_line)
    models = load_catalog((str(WINE),)).models
    refs = {m.name: ref for m in models if (ref := deployed_ref(m.spec, platform)) is not None}
    assert len(refs) == len(models)
    made = World(command_line, platform, cluster_api, models, refs, platform.gateway_url())
    yield made
    assert made.plan() == {}
    assert made.digests() == {name: ref.digest for name, ref in refs.items()}


def tell(name: str, start: float) -> None:
    """Log the seconds of a case."""
    _log.info("%s: %.1f s", name, time.monotonic() - start)


@dataclass
class Asked:
    """What became of requests that were sent all the time."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def asking(world: World) -> Iterator[Asked]:
    """Ask Iris every 50 ms while the block runs, with a new connection each time."""
    asked, over = Asked(), threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            try:
                answer = predict(world.url("iris"), ODD_FLOWER)
            except httpx.HTTPError as error:
                asked.failed.append(repr(error))
            else:
                asked.answered += answer.status_code == 200
                if answer.status_code != 200:
                    asked.failed.append(f"{answer.status_code}: {answer.text[:200]}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


# What is harmed


def _no_pool(world: World) -> None:
    world.api.delete(IP_ADDRESS_POOL, "mlops-pipeline", namespace="metallb-system")
    wait_until("the loss of every address", lambda: _describe_given(world), timeout=120)


def _describe_given(world: World) -> str | None:
    given = [address for found in world.api.list(SERVICE) if (address := address_of(found))]
    return f"given are {', '.join(given)}" if given else None


def _no_advertisement(world: World) -> None:
    world.api.delete(L2_ADVERTISEMENT, "mlops-pipeline", namespace="metallb-system")


def _no_gateway(world: World) -> None:
    world.api.delete(GATEWAY, "seldon-gateway", namespace="istio-system")


def _edited_gateway(world: World) -> None:
    change = {"spec": {"selector": {"team": "red"}}}
    world.api.patch(GATEWAY, "seldon-gateway", change, namespace="istio-system")


def _no_istiod(world: World) -> None:
    world.api.patch(DEPLOYMENT, "istiod", {"spec": {"replicas": 0}}, namespace="istio-system")


def _no_webhook(world: World) -> None:
    name = "seldon-validating-webhook-configuration-seldon-system"
    world.api.delete(VALIDATING_WEBHOOK, name)


def _no_store_pod(world: World) -> None:
    world.api.delete(POD, "seaweedfs-0", namespace="mlops-storage")
    store = by_name(world.platform.layers, "object_store")
    wait_until(
        "the end of the store's pod",
        lambda: None if isinstance(store.observe(), Broken) else "it is ready",
        timeout=120,
        interval=0.1,
    )


def _edited_traffic(world: World) -> None:
    _edit(world, _split)


def _edited_uri(world: World) -> None:
    _edit(world, lambda found: found[0]["graph"].update(modelUri="s3://models/iris/nothing"))
    wait_until("the end of its new pod", lambda: _describe_alive(world), timeout=120)


def _describe_alive(world: World) -> str | None:
    (seen,) = world.platform.deployments.status("iris-model", namespace=MODELS)
    return None if "exited with" in seen.reason else seen.reason


def _no_image(world: World) -> None:
    image = by_name(world.platform.layers, "serving_image").ensure().facts["serving"]
    docker("exec", world.node, "crictl", "rmi", str(image))


def _no_namespace(world: World) -> None:
    world.api.delete(NAMESPACE, MODELS)


def _split(predictors: list[Any]) -> None:
    first = predictors[0]
    predictors[:] = [{**first, "traffic": 70}, {**first, "name": "other", "traffic": 30}]


def _edit(world: World, change: Callable[[list[Any]], None]) -> None:
    """Change Iris as `kubectl edit` does."""
    found = world.api.get(SELDON_DEPLOYMENT, "iris-model", namespace=MODELS)
    predictors = json.loads(json.dumps(found["spec"]["predictors"]))
    change(predictors)
    spec = {"spec": {"predictors": predictors}}
    world.api.patch(SELDON_DEPLOYMENT, "iris-model", spec, namespace=MODELS)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass(frozen=True)
class Case:
    """What is harmed, how `plan` names it, and what is changed then: no more."""

    harm: Callable[[World], None]
    planned: Mapping[str, tuple[str, str]]
    """Asset → action and words of the reason; all else is `decide` at most."""
    changed: Mapping[str, str]
    serves: bool
    """Iris goes on answering from the harm to the end of the repair."""
    heals: bool = False
    """Kubernetes may have repaired it before anybody looks."""
    always: bool = False
    """One of each kind of harm runs always; the whole matrix is long."""


NO_WEBHOOK = "the ValidatingWebhookConfiguration seldon-validating-webhook-configuration-seldon"
PLAN_OF_IRIS = "somebody changed it by hand: its "
CASES = {
    "address pool deleted": Case(
        _no_pool,
        {"metallb": ("update", "the IPAddressPool metallb-system/mlops-pipeline is missing")},
        {"metallb": "updated"},
        serves=False,
    ),
    "announcement deleted": Case(
        _no_advertisement,
        {"metallb": ("update", "the L2Advertisement metallb-system/mlops-pipeline is missing")},
        {"metallb": "updated"},
        serves=False,
    ),
    "seldon-gateway deleted": Case(
        _no_gateway,
        {"istio": ("repair", "the Gateway istio-system/seldon-gateway is missing")},
        {"istio": "repaired"},
        serves=False,
    ),
    "seldon-gateway edited": Case(
        _edited_gateway,
        {"istio": ("update", "seldon-gateway differs: selector.team is red, expected nothing")},
        {"istio": "updated"},
        serves=False,
        always=True,
    ),
    "istiod scaled to 0": Case(
        _no_istiod,
        {"istio": ("repair", "the Deployment istio-system/istiod is scaled to 0")},
        {"istio": "repaired"},
        serves=True,
    ),
    "webhook configuration deleted": Case(
        _no_webhook,
        {"seldon_core": ("repair", NO_WEBHOOK)},
        {"seldon_core": "repaired"},
        serves=True,
    ),
    "object store pod killed": Case(
        _no_store_pod,
        {"object_store": ("repair", "seaweedfs")},
        {"object_store": "repaired"},
        serves=True,
        heals=True,
        always=True,
    ),
    "traffic edited": Case(
        _edited_traffic,
        {"iris/deployment": ("update", PLAN_OF_IRIS + "traffic is 70 instead of 100")},
        {"iris/deployment": "updated"},
        serves=False,  # Seldon's operator itself gives a new predictor its traffic at once.
        always=True,
    ),
    "modelUri edited": Case(
        _edited_uri,
        {"iris/deployment": ("update", PLAN_OF_IRIS + "modelUri is s3://models/iris/nothing")},
        {"iris/deployment": "updated"},
        serves=True,
    ),
    "serving image missing on the node": Case(
        _no_image,
        {"serving_image": ("update", "-control-plane lacks localhost/mlops-pipeline/serving:")},
        {"serving_image": "updated"},
        serves=True,
    ),
    "model namespace deleted": Case(
        _no_namespace,
        dict.fromkeys(
            ("iris/deployment", "mnist/deployment", "wine/deployment"),
            ("deploy", "the namespace seldon is"),
        ),
        dict.fromkeys(("iris/deployment", "mnist/deployment", "wine/deployment"), "created"),
        serves=False,
        always=True,
    ),
}


@pytest.mark.parametrize(
    "name",
    [n if case.always else pytest.param(n, marks=pytest.mark.long) for n, case in CASES.items()],
)
def test_a_failure_is_reported_and_only_it_is_repaired(world: World, name: str) -> None:
    case = CASES[name]
    with asking(world) as asked:
        case.harm(world)
        plan = world.plan()
        start = time.monotonic()
        changed = world.mend()
        assert world.digests() == {name: ref.digest for name, ref in world.refs.items()}
        tell(name, start)
    _log.info("%s: %d answered, %d failed", name, asked.answered, len(asked.failed))
    healed = case.heals and not changed
    for asset, (action, words) in case.planned.items():
        if healed and asset not in plan:
            continue
        assert plan[asset][0] == action
        assert words in plan[asset][1]
    assert {plan[asset][0] for asset in plan.keys() - case.planned.keys()} <= {"decide"}
    assert healed or changed == case.changed
    if case.serves:
        assert asked.answered
        assert asked.failed == []


# The command itself


@contextmanager
def up(world: World, *targets: str) -> Iterator[subprocess.Popen[str]]:
    """Run `mlops-pipeline up` in a process group of its own, which is gone afterwards."""
    process = subprocess.Popen(
        [CLI, "up", *targets],
        cwd=world.line.directory,
        env=world.line.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """Return what the command wrote, once it has succeeded."""
    written, _ = process.communicate(timeout=600)
    assert process.returncode == 0, written
    return written


def kill_at(world: World, lock: str, purpose: str) -> None:
    """Run `up` and kill it, with all that it has started, half a second into one of its steps."""
    holder = world.line.home / "kind" / "locks" / f"{lock}.holder"

    def describe_before() -> str | None:
        assert process.poll() is None, finish(process)
        with suppress(FileNotFoundError):
            text = holder.read_text()
            return None if text.startswith(f"process {process.pid} ({purpose}, since ") else text
        return "nobody holds the lock"

    with up(world) as process:
        wait_until(f"the step: {purpose}", describe_before, timeout=400, interval=0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)


def test_the_command_reports_the_failure_repairs_only_it_and_says_what_it_kept(
    world: World,
) -> None:
    _no_advertisement(world)
    states = {layer["name"]: layer["state"] for layer in world.line.status(code=3)["layers"]}
    assert {name for name, state in states.items() if state != "ready"} == {"metallb"}
    with up(world) as process:
        written = finish(process)
    actions = dict(re.findall(r"^✓ +(\S+) +(created|updated|repaired|unchanged) ", written, re.M))
    assert actions.pop("metallb") == "updated"
    assert {"istio", "object_store", "iris/deployment", "mnist/model"} <= actions.keys()
    assert set(actions.values()) == {"unchanged"}
    assert "1 changed" in written


@pytest.mark.long
def test_an_up_that_is_killed_at_each_layer_is_finished_by_the_next(
    world: World,
) -> None:
    world.api.delete(SELDON_DEPLOYMENT, "iris-model", namespace=MODELS)
    world.api.delete(DEPLOYMENT, "controller", namespace="metallb-system")
    _no_image(world)
    world.api.delete(DEPLOYMENT, "istio-ingressgateway", namespace="istio-system")
    world.api.delete(STATEFUL_SET, "seaweedfs", namespace="mlops-storage")
    world.api.delete(DEPLOYMENT, "seldon-controller-manager", namespace="seldon-system")
    kill_at(world, "layers", "bring up MetalLB")
    kill_at(world, "serving_image", "build the serving images")
    kill_at(world, "layers", "bring up Istio")
    kill_at(world, "layers", "bring up the object store")
    kill_at(world, "layers", "bring up Seldon Core")
    kill_at(world, "seldon.iris-model", "apply seldon/iris-model")
    start = time.monotonic()
    with up(world) as process:
        finish(process)
    tell("up killed at each layer", start)


@pytest.mark.long
def test_two_at_once_take_turns_and_repair_once(world: World) -> None:
    _no_webhook(world)
    start = time.monotonic()
    with up(world, "seldon_core") as first, up(world, "seldon_core") as second:
        written = [finish(first), finish(second)]
    tell("two at once", start)
    assert sum("waiting for process" in text for text in written) == 1
    assert sum("nothing changed" in text for text in written) == 1
    (mended,) = (text for text in written if "nothing changed" not in text)
    assert "1 changed" in mended


@pytest.mark.long
def test_a_node_that_returns_at_another_address_is_used_again(
    world: World,
) -> None:
    """As after a restart of Docker, when another container was faster; and `up` is killed once."""
    address = _address(world.node)
    image = docker("inspect", "--format", "{{.Config.Image}}", world.node)
    stop(world.node)
    assert world.plan()["cluster"] == ("repair", f"stopped: {world.node}; start it with `{HINT}`")
    # Docker gives the lowest address that is free.
    other = docker("run", "--detach", "--network", "kind", "--entrypoint", "sleep", image, "3600")
    try:
        assert _address(other) == address
        docker("start", world.node)
        # There are node images whose kubeadm waits for this for three minutes, in vain here.
        docker("exec", world.node, "sh", "-c", "mkdir -p /run/svc && touch /run/svc/preloaded")
        assert _address(world.node) != address
        kill_at(world, "layers", "bring up the cluster")
        start = time.monotonic()
        with up(world) as process:
            finish(process)
        tell("node at another address", start)
        assert _address(world.node) != address
    finally:
        docker("rm", "--force", other)


HINT = "mlops-pipeline up cluster"


def _address(container: str) -> str:
    form = "{{.NetworkSettings.Networks.kind.IPAddress}}"
    return docker("inspect", "--format", form, container)
