"""Seldon Core in the shared cluster: its webhook, its servers, and what is broken on purpose."""

import json
from collections.abc import Callable, Iterator

import pytest

from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    SECRET,
    SERVICE,
    VALIDATING_WEBHOOK,
    KubernetesApi,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.layer import SeldonCore
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Broken, Drifted, Ready

pytestmark = pytest.mark.kind

SYSTEM = "seldon-system"
WEBHOOK = "seldon-validating-webhook-configuration-seldon-system"
MANAGER = "seldon-controller-manager"


@pytest.fixture
def seldon(parts: KindParts) -> Iterator[SeldonCore]:
    """Seldon Core as the settings of the shared cluster want it; so it is left."""
    layer = SeldonCore(parts, ServingImage(parts))
    layer.ensure()
    yield layer
    layer.ensure()


def servers(api: KubernetesApi) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    found = api.get(CONFIG_MAP, "seldon-config", namespace=SYSTEM)
    content: dict[str, dict[str, dict[str, dict[str, str]]]] = json.loads(
        found["data"]["predictor_servers"]
    )
    return content


def test_it_is_ready_and_a_second_time_changes_nothing(
    seldon: SeldonCore, cluster_api: KubernetesApi
) -> None:
    before = cluster_api.get(DEPLOYMENT, MANAGER, namespace=SYSTEM)["metadata"]["generation"]
    assert isinstance(seldon.observe(), Ready)
    assert seldon.ensure().action == "unchanged"
    after = cluster_api.get(DEPLOYMENT, MANAGER, namespace=SYSTEM)["metadata"]["generation"]
    assert after == before


def test_its_webhook_accepts_what_is_right_and_refuses_what_is_wrong(seldon: SeldonCore) -> None:
    finding = seldon.checks[0].run()
    assert finding.passed
    assert "Traffic must sum to 100" in finding.seen


def _no_webhook(api: KubernetesApi) -> None:
    api.delete(VALIDATING_WEBHOOK, WEBHOOK)


def _no_service(api: KubernetesApi) -> None:
    api.delete(SERVICE, "seldon-webhook-service", namespace=SYSTEM)


def _no_certificate(api: KubernetesApi) -> None:
    api.delete(SECRET, "seldon-webhook-server-cert", namespace=SYSTEM)


def _no_pod(api: KubernetesApi) -> None:
    api.patch(DEPLOYMENT, MANAGER, {"spec": {"replicas": 0}}, namespace=SYSTEM)


def _no_deployment(api: KubernetesApi) -> None:
    api.delete(DEPLOYMENT, MANAGER, namespace=SYSTEM)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(
            _no_webhook,
            f"the ValidatingWebhookConfiguration {WEBHOOK} is missing",
            marks=pytest.mark.long,
        ),
        pytest.param(
            _no_service,
            "the Service seldon-system/seldon-webhook-service is missing",
            marks=pytest.mark.long,
        ),
        (_no_certificate, "the Secret seldon-system/seldon-webhook-server-cert is missing"),
        pytest.param(
            _no_pod,
            f"the Deployment seldon-system/{MANAGER} is scaled to 0",
            marks=pytest.mark.long,
        ),
        pytest.param(
            _no_deployment,
            f"the Deployment seldon-system/{MANAGER} is",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_manual_damage_is_reported_and_repaired(
    seldon: SeldonCore,
    cluster_api: KubernetesApi,
    harm: Callable[[KubernetesApi], None],
    reason: str,
) -> None:
    harm(cluster_api)
    state = seldon.observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert seldon.ensure().action == "repaired"
    assert seldon.checks[0].run().passed


def test_an_operator_that_starts_is_not_ready_before_its_webhook_answers(
    seldon: SeldonCore, cluster_api: KubernetesApi
) -> None:
    for pod in cluster_api.list(POD, namespace=SYSTEM, labels="app=seldon"):
        cluster_api.delete(POD, pod["metadata"]["name"], namespace=SYSTEM)
    wait_until(
        "the webhook to be away",
        lambda: None if isinstance(seldon.observe(), Broken) else "it answers",
        timeout=30,
    )
    seldon.ensure()
    assert seldon.checks[0].run().passed


@pytest.mark.long
def test_another_serving_image_takes_effect(
    seldon: SeldonCore, parts: KindParts, cluster_api: KubernetesApi
) -> None:
    class Other:
        def reference(self, implementation: str) -> str:
            return f"mlops-pipeline/other-{implementation.lower()}:1"

    other = SeldonCore(parts, Other())
    assert isinstance(other.observe(), Drifted)
    assert other.ensure().action == "updated"
    assert servers(cluster_api)["TENSORFLOW_SERVER"]["protocols"]["tensorflow"] == {
        "image": "mlops-pipeline/other-tensorflow_server",
        "defaultImageVersion": "1",
    }
    assert isinstance(seldon.observe(), Drifted)
    assert seldon.ensure().action == "updated"
    plain = ServingImage(parts).reference("SKLEARN_SERVER").rpartition(":")[2]
    now = servers(cluster_api)["SKLEARN_SERVER"]["protocols"]["seldon"]
    assert now["defaultImageVersion"] == plain
