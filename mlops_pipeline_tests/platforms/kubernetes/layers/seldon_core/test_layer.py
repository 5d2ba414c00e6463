import importlib.metadata
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    SELDON_DEPLOYMENT,
    SERVICE,
    VALIDATING_WEBHOOK,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart as seldon_chart
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.layer import SeldonCore
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline_tests.fakes.helm import release_secret
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig, deployment

SYSTEM = "seldon-system"
WEBHOOK = "seldon-validating-webhook-configuration-seldon-system"
MANAGER = "seldon-controller-manager"
REFUSED = UnavailableError('failed calling webhook "v1.vseldondeployment.kb.io": refused')


class Images:
    """Serving images of one tag."""

    def __init__(self, tag: str = "0123456789abcdef") -> None:
        self.tag = tag

    def reference(self, implementation: str) -> str:
        suffix = "-tensorflow" if implementation == "TENSORFLOW_SERVER" else ""
        return f"localhost:5001/mlops-pipeline/serving{suffix}:{self.tag}"


class Chart:
    """Brings what the chart does, with the model servers that it was given."""

    def __init__(self, rig: HelmRig) -> None:
        self._rig = rig
        self._upgrade = rig.helm.upgrade

    def upgrade(self, release: str, **given: Any) -> None:
        servers = json.dumps(given["values"].get("predictor_servers"))
        self._rig.helm._brings = {release: (*_brought(), _config(servers))}
        self._upgrade(release, **given)


def _brought() -> list[Manifest]:
    image = "docker.io/seldonio/seldon-core-operator:1.17.1"
    names = [("v1", "Service", "seldon-webhook-service")]
    names.append(("v1", "Secret", "seldon-webhook-server-cert"))
    inside = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": SYSTEM}}
        for version, kind, name in names
    ]
    definition = {
        "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
        "kind": CUSTOM_RESOURCE_DEFINITION.kind,
        "metadata": {"name": "seldondeployments.machinelearning.seldon.io"},
        "spec": {
            "group": "machinelearning.seldon.io",
            "names": {"kind": "SeldonDeployment"},
            "versions": [{"name": "v1"}],
        },
    }
    webhook = {
        "apiVersion": VALIDATING_WEBHOOK.api_version,
        "kind": VALIDATING_WEBHOOK.kind,
        "metadata": {"name": WEBHOOK},
    }
    return [*inside, definition, webhook, deployment(MANAGER, SYSTEM, image=image)]


def _config(servers: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "seldon-config", "namespace": SYSTEM},
        "data": {"predictor_servers": servers},
    }


@pytest.fixture
def rig(tmp_path: Path) -> HelmRig:
    """A cluster without Seldon Core, which knows no SeldonDeployment."""
    made = HelmRig.make(tmp_path, {})
    made.rig.api._custom -= {SELDON_DEPLOYMENT}
    made.helm.upgrade = Chart(made).upgrade  # type: ignore[method-assign]
    return made


@pytest.fixture
def installed(rig: HelmRig) -> HelmRig:
    """A cluster with our Seldon Core."""
    layer(rig).ensure()
    rig.helm.upgrades.clear()
    return rig


def layer(rig: HelmRig, tag: str = "0123456789abcdef") -> SeldonCore:
    return SeldonCore(rig.parts, Images(tag))


def test_without_a_cluster_it_is_absent_and_nothing_is_removed(rig: HelmRig) -> None:
    rig.parts.state.kubeconfig.unlink()
    assert layer(rig).observe() == Absent()
    layer(rig).remove()


def test_in_an_empty_cluster_it_is_absent(rig: HelmRig) -> None:
    assert layer(rig).observe() == Absent()


def test_an_api_server_that_does_not_answer_breaks_it(rig: HelmRig) -> None:
    rig.api.stop()
    assert isinstance(layer(rig).observe(), Broken)


def test_it_is_installed_and_accepts_a_deployment(rig: HelmRig) -> None:
    change = layer(rig).ensure()
    assert change.action == "created"
    assert change.facts["version"] == "1.17.1"
    assert change.facts["licence"] == "Apache-2.0"
    assert {"images_seconds", "chart_seconds", "webhook_seconds"} <= set(change.facts)
    assert rig.api.dry_runs[-1]["kind"] == "SeldonDeployment"
    assert rig.rig.engine.imported[0][0].name == "seldon.tar"
    assert isinstance(layer(rig).observe(), Ready)
    assert layer(rig).ensure().action == "unchanged"
    assert rig.installed() == ["seldon-core"]


def test_the_chart_gets_our_servers_and_small_requests(rig: HelmRig) -> None:
    layer(rig).ensure()
    (upgrade,) = rig.helm.upgrades
    values = upgrade.values
    assert values["istio"] == {"enabled": True, "gateway": "istio-system/seldon-gateway"}
    assert values["usageMetrics"] == {"enabled": False}
    assert values["predictiveUnit"] == {"defaultEnvSecretRefName": ""}
    assert values["executor"]["resources"]["cpuRequest"] == "20m"
    image, tag = "localhost:5001/mlops-pipeline/serving", "0123456789abcdef"
    plain = {"image": image, "defaultImageVersion": tag}
    heavy = {"image": f"{image}-tensorflow", "defaultImageVersion": tag}
    assert values["predictor_servers"] == {
        "SKLEARN_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
        "TENSORFLOW_SERVER": {"protocols": {"seldon": plain, "tensorflow": heavy}},
        "XGBOOST_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
        # Seldon has no such servers: the operator knows them by these values.
        "LIGHTGBM_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
        "ONNX_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
        "MLFLOW_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
        "PYTHON_SERVER": {"protocols": {"seldon": plain, "v2": plain}},
    }


def test_each_installation_replaces_the_pod_that_read_the_certificate_before(
    rig: HelmRig,
) -> None:
    layer(rig).ensure()
    layer(rig, "fedcba9876543210").ensure()
    first, second = (u.values["manager"]["annotations"] for u in rig.helm.upgrades)
    assert first != second


def test_usage_metrics_are_a_setting(rig: HelmRig) -> None:
    rig.set(seldon={"usage_metrics": True})
    layer(rig).ensure()
    assert rig.helm.upgrades[0].values["usageMetrics"] == {"enabled": True}


def test_keys_by_default_are_a_setting(installed: HelmRig) -> None:
    installed.set(seldon={"keys_by_default": True})
    assert isinstance(layer(installed).observe(), Drifted)
    assert layer(installed).ensure().action == "updated"
    (upgrade,) = installed.helm.upgrades
    assert upgrade.values["predictiveUnit"] == {"defaultEnvSecretRefName": "seldon-rclone-secret"}


def test_another_serving_image_is_a_difference_and_takes_effect(installed: HelmRig) -> None:
    other = layer(installed, "fedcba9876543210")
    state = other.observe()
    assert isinstance(state, Drifted)
    assert (
        "TENSORFLOW_SERVER under the protocol tensorflow runs "
        "localhost:5001/mlops-pipeline/serving-tensorflow:0123456789abcdef, expected "
        "localhost:5001/mlops-pipeline/serving-tensorflow:fedcba9876543210"
    ) in state.differences
    assert other.ensure().action == "updated"
    assert isinstance(other.observe(), Ready)


def test_servers_that_somebody_edited_are_a_difference(installed: HelmRig) -> None:
    edited = {
        "SKLEARN_SERVER": {"protocols": {"seldon": {"image": "x", "defaultImageVersion": "1"}}}
    }
    for servers in (json.dumps(edited), "nonsense"):
        change = {"data": {"predictor_servers": servers}}
        installed.api.patch(CONFIG_MAP, "seldon-config", change, namespace=SYSTEM)
        assert isinstance(layer(installed).observe(), Drifted)
        assert layer(installed).ensure().action == "updated"
    assert installed.installed() == ["seldon-core"] * 2


def test_upstreams_servers_stay_but_tensorflow_serving_fits_training(
    rig: HelmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.set(serving={"images": "upstream"})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.19.1")
    layer(rig).ensure()
    tensorflow = {"image": "tensorflow/serving", "defaultImageVersion": "2.19.1"}
    assert rig.helm.upgrades[0].values["predictor_servers"] == {
        "TENSORFLOW_SERVER": {"protocols": {"tensorflow": tensorflow}}
    }


def test_upstreams_servers_need_a_tensorflow_to_fit(
    rig: HelmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "tensorflow":
            return "2.19.1"
        raise importlib.metadata.PackageNotFoundError(name)

    rig.set(serving={"images": "upstream"})
    monkeypatch.setattr(importlib.metadata, "version", version)
    servers = seldon_chart.servers(rig.settings, Images())
    assert (
        servers["TENSORFLOW_SERVER"]["protocols"]["tensorflow"]["defaultImageVersion"] == "2.19.1"
    )

    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    with pytest.raises(ConfigurationError, match=r"set kind\.serving\.images to own"):
        layer(rig).ensure()
    state = layer(rig).observe()
    assert isinstance(state, Broken)
    assert "TensorFlow is not installed here" in state.reason


def test_a_chart_of_another_version_is_refused(rig: HelmRig) -> None:
    rig.set(seldon={"version": "1.18.2"})
    with pytest.raises(ConfigurationError) as caught:
        layer(rig).ensure()
    assert "kind.seldon.version is 1.18.2" in str(caught.value)
    assert "the available chart is 1.17.1" in str(caught.value)
    assert rig.installed() == []
    assert rig.rig.engine.imported == []


def test_a_version_under_the_business_source_licence_says_so(
    rig: HelmRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.set(seldon={"version": "1.18.2"})
    rig.sources.versions["seldon-core-operator"] = "1.18.2"
    said = "Seldon Core 1.18.2 is under the Business Source License 1.1: no production use"
    for action in ("created", "unchanged"):
        with caplog.at_level(logging.WARNING):
            assert layer(rig).ensure().action == action
        assert said in caplog.text
        caplog.clear()
    (diagnosis,) = seldon_chart.examine(rig.parts.settings)
    assert diagnosis.fine
    assert diagnosis.seen in said


@pytest.mark.parametrize(
    ("version", "free"),
    [("1.17.1", True), ("v1.15.0", True), ("1.18.0", False), ("1.19.0-rc.1", False), ("?", False)],
)
def test_licences_by_version(version: str, free: bool) -> None:  # noqa: FBT001
    assert (seldon_chart.licence_of(version) == "Apache-2.0") is free


def _no_webhook(api: FakeKubernetes) -> None:
    api.drop(VALIDATING_WEBHOOK, WEBHOOK)


def _no_service(api: FakeKubernetes) -> None:
    api.drop(SERVICE, "seldon-webhook-service", namespace=SYSTEM)


def _no_certificate(api: FakeKubernetes) -> None:
    api.drop(SECRET, "seldon-webhook-server-cert", namespace=SYSTEM)


def _no_config(api: FakeKubernetes) -> None:
    api.drop(CONFIG_MAP, "seldon-config", namespace=SYSTEM)


def _no_pod(api: FakeKubernetes) -> None:
    api.patch(DEPLOYMENT, MANAGER, {"spec": {"replicas": 0}}, namespace=SYSTEM)


def _no_definition(api: FakeKubernetes) -> None:
    api.delete(CUSTOM_RESOURCE_DEFINITION, "seldondeployments.machinelearning.seldon.io")


def _interrupted(api: FakeKubernetes) -> None:
    labels = {"metadata": {"labels": {"status": "pending-install"}}}
    api.patch(SECRET, "sh.helm.release.v1.seldon-core.v1", labels, namespace=SYSTEM)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_no_webhook, f"the ValidatingWebhookConfiguration {WEBHOOK} is missing"),
        (_no_service, "the Service seldon-system/seldon-webhook-service is missing"),
        (_no_certificate, "the Secret seldon-system/seldon-webhook-server-cert is missing"),
        (_no_config, "the ConfigMap seldon-system/seldon-config is missing"),
        (_no_pod, f"the Deployment seldon-system/{MANAGER} is scaled to 0"),
        (_no_definition, "its CRD is not installed"),
        (_interrupted, "the Helm release seldon-system/seldon-core is `pending-install`"),
    ],
)
def test_what_it_lacks_breaks_it_and_is_repaired(
    installed: HelmRig, harm: Callable[[FakeKubernetes], None], reason: str
) -> None:
    harm(installed.api)
    state = layer(installed).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert layer(installed).ensure().action == "repaired"
    assert installed.installed() == ["seldon-core"]
    assert isinstance(layer(installed).observe(), Ready)


def test_a_webhook_that_does_not_answer_yet_is_asked_again(rig: HelmRig) -> None:
    rig.api.fail(REFUSED, verbs=("dry_run",), times=8)
    before = rig.rig.clock.now()
    layer(rig).ensure()
    assert rig.rig.clock.now() - before == pytest.approx(2.0)


def test_a_webhook_that_stays_silent_though_all_is_there_gets_a_new_pod(
    installed: HelmRig,
) -> None:
    installed.api.fail(REFUSED, verbs=("dry_run",), times=100)
    assert isinstance(layer(installed).observe(), Broken)
    assert layer(installed).ensure().action == "repaired"
    assert installed.installed() == ["seldon-core"]


def test_a_webhook_that_never_answers_is_told_in_its_words(rig: HelmRig) -> None:
    rig.api.fail(REFUSED, verbs=("dry_run",))
    with pytest.raises(WaitTimeoutError, match="mlops-pipeline logs seldon_core") as caught:
        layer(rig).ensure()
    assert "failed calling webhook" in str(caught.value)


def test_a_release_of_somebody_else_is_left_alone(rig: HelmRig) -> None:
    rig.api.put(release_secret("seldon-core", SYSTEM))
    assert isinstance(layer(rig).observe(), Broken)
    with pytest.raises(ConflictError, match="helm uninstall seldon-core"):
        layer(rig).ensure()


def test_it_is_removed_with_its_namespace(installed: HelmRig) -> None:
    lease = {"name": "a33bd623.machinelearning.seldon.io", "namespace": SYSTEM}
    installed.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": lease})
    layer(installed).remove()
    assert installed.helm.uninstalled == ["seldon-core"]
    assert installed.api.find(NAMESPACE, SYSTEM) is None


def test_it_is_not_removed_from_under_deployments_of_somebody_else(installed: HelmRig) -> None:
    metadata = {"name": "theirs", "namespace": "default"}
    installed.api.put(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": metadata,
        }
    )
    with pytest.raises(ConflictError, match="default/theirs"):
        layer(installed).remove()
    assert installed.helm.uninstalled == []


def test_the_check_wants_a_wrong_deployment_refused(installed: HelmRig) -> None:
    (check,) = layer(installed).checks
    finding = check.run()
    assert not finding.passed
    assert "adds up to 90 percent was accepted" in finding.seen

    original = installed.api.apply

    def apply(manifest: Manifest, *, dry_run: bool = False) -> Any:
        if len(manifest["spec"]["predictors"]) == 2:
            installed.api.refuse("SeldonDeployment", "Traffic must sum to 100")
        return original(manifest, dry_run=dry_run)

    installed.api.apply = apply  # type: ignore[method-assign]
    finding = check.run()
    assert finding.passed
    assert "Traffic must sum to 100" in finding.seen
    finding = check.run()
    assert not finding.passed
    assert finding.seen.startswith("a valid SeldonDeployment was refused")


def test_an_operator_that_goes_while_it_is_looked_at_breaks_nothing(installed: HelmRig) -> None:
    installed.api.fail(NotFoundError("gone"), verbs=("dry_run",))
    assert layer(installed).observe() == Broken("gone")


def test_a_former_pod_which_may_be_the_one_that_answers_is_waited_for_a_while(
    installed: HelmRig,
) -> None:
    ending = {"deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "seldon"}}
    metadata = {"name": "former", "namespace": SYSTEM, **ending}
    installed.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    before = installed.rig.clock.now()
    assert layer(installed, "another").ensure().action == "updated"
    assert installed.rig.clock.now() - before == pytest.approx(15, abs=1)
