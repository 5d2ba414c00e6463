"""Where the contract test of `Deployments` runs: what each platform answers it."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import httpx

from mlops_pipeline.clients.kubernetes import (
    POD,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.deployments.manifests import traffic_of
from mlops_pipeline.platforms.kubernetes.deployments.rollout import HIDDEN_GATEWAY
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.platform import Deployments
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION, Predictor
from mlops_pipeline_tests.command_line import trusting
from mlops_pipeline_tests.embedded.rig import Rig
from mlops_pipeline_tests.fakes import predictions
from mlops_pipeline_tests.fakes.platform import FakeDeployments
from mlops_pipeline_tests.fakes.seldon_operator import CRASHING
from mlops_pipeline_tests.platforms.embedded.rig import FakeRig
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_deployments import World

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

NAME = "toy"
"""Of the deployment that the contract is tested with."""
Which = Literal["one", "two", "broken"]
"""`broken`: no server becomes ready with it."""


@dataclass(frozen=True)
class Artifact:
    """A model that can be served, or not."""

    uri: str
    digest: str


@dataclass(frozen=True)
class Sample:
    """A request, and its right answer."""

    rows: "ArrayLike" = field(default_factory=lambda: predictions.ROWS)
    """Shape [n, features]."""
    scores: "ArrayLike" = field(default_factory=lambda: predictions.SCORES)
    """Shape [n, outputs]."""


class Place(Protocol):
    """A platform with deployments, and what the contract asks of it beside them."""

    @property
    def namespace(self) -> str:
        """Where its deployments are."""

    @property
    def deployments(self) -> Deployments:
        """As another process has them."""

    def artifact(self, which: Which) -> Artifact:
        """Store an artifact, if it is not there."""

    def sample(self, artifact: Artifact) -> Sample:
        """Return a request to a server of the artifact."""

    def answers(self, *, times: int) -> Counter[str]:
        """Send so many requests to the deployment, and count the answers by their digests."""

    def is_routed(self) -> bool:
        """Say whether requests to the deployment reach a server."""

    def servers(self) -> AbstractSet[str]:
        """Return the identities of its servers that run."""

    def stop_servers(self) -> None:
        """Let them be gone, without a word to the platform."""

    def settle(self) -> None:
        """Return when what was replaced is gone."""

    def annotate_by_hand(self, annotations: Mapping[str, str]) -> None:
        """Annotate the deployment as other people do, where they can."""


class FakePlace:
    """`FakeDeployments`, whose servers are as many as it says."""

    namespace = "seldon"

    def __init__(self) -> None:
        self.deployments = FakeDeployments(self._server)
        self.deployments.broken = {"broken"}
        self._count = itertools.count(1)
        self._chance = random.Random(1)

    def artifact(self, which: Which) -> Artifact:
        return Artifact(f"s3://models/toy/{which}", which)

    def sample(self, artifact: Artifact) -> Sample:
        return Sample()

    def answers(self, *, times: int) -> Counter[str]:
        shares = {(s.name, s.digest): s.traffic for s in self._status() if s.traffic}
        asked = self._chance.choices(list(shares), list(shares.values()), k=times)
        for name, _ in asked:
            self.deployments.count(NAME, name, namespace=self.namespace, answered=1)
        return Counter(digest for _, digest in asked)

    def is_routed(self) -> bool:
        return any(s.traffic for s in self._status())

    def servers(self) -> set[str]:
        return {f"{s.digest}-{n}" for s in self._status() for n in range(s.replicas)}

    def stop_servers(self) -> None:
        self.deployments.state = "failed"

    def settle(self) -> None:
        """Do nothing: what is replaced is gone at once."""

    def annotate_by_hand(self, annotations: Mapping[str, str]) -> None:
        self.deployments.annotate(NAME, annotations, namespace=self.namespace)

    def _server(self, predictor: Predictor) -> Predictions:
        return Predictions(
            f"server {next(self._count)}",
            lambda body: predictions.answer(body, digest=predictor.digest),
        )

    def _status(self) -> Any:
        return self.deployments.status(NAME, namespace=self.namespace)


class EmbeddedPlace:
    """The embedded platform, on processes or on fakes."""

    namespace = "seldon"

    def __init__(self, rig: "Rig | FakeRig") -> None:
        self._rig = rig

    @property
    def deployments(self) -> Deployments:
        return self._rig.deployments

    def artifact(self, which: Which) -> Artifact:
        behaviour = {"exit": 3} if which == "broken" else {}
        return Artifact(self._rig.publish(which, **behaviour), which)

    def sample(self, artifact: Artifact) -> Sample:
        return Sample()

    def answers(self, *, times: int) -> Counter[str]:
        return Counter(self._rig.predict(name=NAME, times=times))

    def is_routed(self) -> bool:
        return self._rig.is_routed(name=NAME)

    def servers(self) -> set[str]:
        return {f"{program} {pid}" for program, pid in self._rig.servers(name=NAME).items()}

    def stop_servers(self) -> None:
        self._rig.stop_servers(name=NAME)

    def settle(self) -> None:
        """Do nothing: an apply returns when what it replaced is gone."""

    def annotate_by_hand(self, annotations: Mapping[str, str]) -> None:
        self.deployments.annotate(NAME, annotations, namespace=self.namespace)


class FakeClusterPlace:
    """A cluster in memory, with Seldon's operator."""

    namespace = "models"

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(1)
        world.operator.stuck_digests["broken"] = CRASHING

    @property
    def deployments(self) -> Deployments:
        return self._world.deployments

    def artifact(self, which: Which) -> Artifact:
        self._world.artifacts.store.put("models", f"iris/{which}/model.joblib", b"1")
        return Artifact(f"s3://models/iris/{which}", which)

    def sample(self, artifact: Artifact) -> Sample:
        return Sample()

    def answers(self, *, times: int) -> Counter[str]:
        shares = self._shares()
        asked = self._chance.choices(list(shares), list(shares.values()), k=times)
        return Counter(map(self._digest, asked))

    def is_routed(self) -> bool:
        return any(self._shares().values())

    def servers(self) -> set[str]:
        return {str(pod["metadata"]["uid"]) for pod in _pods(self._world.api, self.namespace)}

    def stop_servers(self) -> None:
        self._world.operator.stuck = CRASHING
        self._world.operator.step()
        self._world.operator.stuck = None

    def settle(self) -> None:
        self._world.operator.step()

    def annotate_by_hand(self, annotations: Mapping[str, str]) -> None:
        _annotate(self._world.api, self.namespace, annotations)

    def _shares(self) -> Mapping[str, int]:
        """Return predictor → percent of the requests that come through the gateway."""
        route = self._world.api.find(VIRTUAL_SERVICE, NAME, namespace=self.namespace)
        if route is None or route["spec"]["gateways"] == [HIDDEN_GATEWAY]:
            return {}
        return traffic_of([route])

    def _digest(self, subset: str) -> str:
        """Return what a pod of the subset answers with."""
        labels = f"version={subset}"
        found = [p for p in _pods(self._world.api, self.namespace, labels) if pods.is_ready(p)]
        self._world.operator.answered[found[0]["metadata"]["name"]] += 1
        return str(found[0]["metadata"]["annotations"][DIGEST_ANNOTATION])


class KindPlace:
    """The shared kind cluster, with artifacts of iris."""

    namespace = "contract-test"

    def __init__(
        self, platform: KindPlatform, api: KubernetesApi, refs: Sequence[ModelRef]
    ) -> None:
        self._platform = platform
        self._api = api
        self._refs = refs

    @classmethod
    @contextmanager
    def on(
        cls, platform: KindPlatform, api: KubernetesApi, refs: Sequence[ModelRef]
    ) -> Iterator["KindPlace"]:
        """Yield the place; what it stored is gone afterwards."""
        place = cls(platform, api, refs)
        try:
            yield place
        finally:
            store = platform.object_store()
            for key in store.sizes("models", "contract/"):
                store.delete("models", key)

    @property
    def deployments(self) -> Deployments:
        return self._platform.deployments

    def artifact(self, which: Which) -> Artifact:
        if which == "broken":
            return self._damaged(self._refs[0])
        ref = self._refs[0 if which == "one" else 1]
        return Artifact(ref.uri, ref.digest)

    def sample(self, artifact: Artifact) -> Sample:
        (ref,) = [ref for ref in self._refs if ref.digest == artifact.digest]
        holdout = ArtifactStore(self._platform.object_store()).holdout(ref)
        return Sample(holdout.x[:5], holdout.scores[:5])

    def answers(self, *, times: int) -> Counter[str]:
        body = {"data": {"ndarray": [[5.1, 3.5, 1.4, 0.2]]}}
        url = self._url()
        with httpx.Client(timeout=20, verify=trusting(url)) as client:
            answers = [client.post(url, json=body) for _ in range(times)]
        return Counter(a.raise_for_status().headers["x-model-digest"] for a in answers)

    def is_routed(self) -> bool:
        url = self._url()
        return httpx.get(url, timeout=20, verify=trusting(url)).status_code != 404

    def servers(self) -> set[str]:
        found = _pods(self._api, self.namespace)
        return {str(pod["metadata"]["uid"]) for pod in found if not is_ending(pod)}

    def stop_servers(self) -> None:
        for pod in _pods(self._api, self.namespace):
            self._api.delete(POD, pod["metadata"]["name"], namespace=self.namespace)

        def describe_ready() -> str | None:
            statuses = self.deployments.status(NAME, namespace=self.namespace)
            ready = [s.name for s in statuses if s.replicas or s.state == "ready"]
            return f"{', '.join(ready)} serves" if ready else None

        wait_until("the end of its pods", describe_ready, timeout=60)

    def settle(self) -> None:
        def describe_unsettled() -> str | None:
            there = _pods(self._api, self.namespace)
            ending = [pod["metadata"]["name"] for pod in there if is_ending(pod)]
            statuses = self.deployments.status(NAME, namespace=self.namespace)
            unsettled = [*ending, *(s.name for s in statuses if s.state != "ready")]
            return f"waiting for {', '.join(unsettled)}" if unsettled else None

        wait_until("the end of replaced pods", describe_unsettled, timeout=60)

    def annotate_by_hand(self, annotations: Mapping[str, str]) -> None:
        _annotate(self._api, self.namespace, annotations)

    def _url(self) -> str:
        path = f"seldon/{self.namespace}/{NAME}/api/v1.0/predictions"
        return f"{self._platform.gateway_url()}/{path}"

    def _damaged(self, ref: ModelRef) -> Artifact:
        """Store a copy of an artifact whose model is not what its manifest says."""
        store = self._platform.object_store()
        bucket, _, prefix = ref.uri.removeprefix("s3://").partition("/")
        for key in store.sizes(bucket, f"{prefix}/"):
            content = b"damaged" if key.endswith("model.joblib") else store.get(bucket, key)
            store.put("models", f"contract/broken/{key.removeprefix(prefix).lstrip('/')}", content)
        return Artifact("s3://models/contract/broken", ref.digest)


def _pods(api: KubernetesApi, namespace: str, labels: str = "") -> Sequence[Manifest]:
    mine = f"seldon-deployment-id={NAME}"
    return api.list(POD, namespace=namespace, labels=f"{mine},{labels}" if labels else mine)


def _annotate(api: KubernetesApi, namespace: str, annotations: Mapping[str, str]) -> None:
    change = {"metadata": {"annotations": dict(annotations)}}
    api.patch(SELDON_DEPLOYMENT, NAME, change, namespace=namespace)
