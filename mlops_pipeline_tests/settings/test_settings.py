import os
import traceback
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import NAMESPACE
from mlops_pipeline.platforms.kubernetes.layers.istio.gateway import NAME
from mlops_pipeline.settings import Settings, load_settings
from mlops_pipeline.settings.kubernetes import ExistingIstio
from mlops_pipeline.settings.layers import IstioSettings


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MLOPS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_file() -> None:
    settings = load_settings()
    assert settings.platform == "embedded"
    assert settings.home.is_absolute()
    assert settings.embedded.gateway_port == 8080


def test_variables_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlops.toml").write_text(
        'home = "state"\nmodels = ["wine.py"]\n'
        "[embedded]\ngateway_port = 1234\nobject_store_port = 4321\n"
    )
    monkeypatch.setenv("MLOPS_EMBEDDED__GATEWAY_PORT", "999")
    settings = load_settings()
    assert settings.home == tmp_path / "state"
    assert settings.models == (str(tmp_path / "wine.py"),)
    assert settings.embedded.gateway_port == 999
    assert settings.embedded.object_store_port == 4321


def test_a_variable_names_several_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_MODELS", "/a/wine.py, my.models")
    assert load_settings().models == ("/a/wine.py", "my.models")


def test_relative_paths_start_at_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    config = tmp_path / "conf" / "mlops.toml"
    gateways = "".join(
        f'[{table}.istio]\ntls = "files"\ncertificate = "chain.pem"\nprivate_key = "/key.pem"\n'
        for table in ("kind", "kubernetes")
    )
    config.write_text(
        f'models = ["wine.py"]\n[datasets]\nmnist = "m.npz"\niris = "~/i.csv"\n{gateways}'
    )
    monkeypatch.setenv("MLOPS_CONFIG", str(config))
    settings = load_settings()
    assert settings.models == (str(tmp_path / "conf" / "wine.py"),)
    assert settings.datasets == {
        "mnist": tmp_path / "conf" / "m.npz",
        "iris": Path.home() / "i.csv",
    }
    for gateway in (settings.kind.istio, settings.kubernetes.istio):
        assert gateway.certificate == tmp_path / "conf" / "chain.pem"
        assert gateway.private_key == Path("/key.pem")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('colour = "red"', r"unknown setting colour \(allowed: .*home.*models"),
        ("[embedded]\nport = 1", r"unknown setting embedded\.port \(allowed: .*gateway_port"),
        ("[embedded]\ngateway_port = 'x'", r"embedded\.gateway_port: .*integer.* \(got 'x'\)"),
        ("[embedded]\ngateway_port = 70000", "less than or equal to 65535"),
        ("home = ", "could not read the settings"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "mlops.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=complaint):
        load_settings()


@pytest.mark.parametrize(
    "variable", ["MLOPS_HOMME", "MLOPS_EMBEDDED__PORT", "MLOPS_EMBEDED__GATEWAY_PORT"]
)
def test_an_unknown_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match=f"unknown variable {variable} "):
        load_settings()


def test_a_missing_settings_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_CONFIG", "/nowhere.toml")
    with pytest.raises(ConfigurationError, match=r"MLOPS_CONFIG is /nowhere\.toml"):
        load_settings()


# A cluster that is there


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[kind.serving.sklearn]\nmemory = "4Gi"', "memory = 4Gi exceeds memory_limit = 1Gi"),
        ("[kubernetes.metallb]\ninstall = true", "install = true requires addresses"),
        ('[kubernetes.istio]\ngateway = "a/b"', "gateway: allowed only with install = false"),
        (
            '[kubernetes.istio]\ninstall = false\ntls = "self-signed"',
            "tls is not allowed with install = false",
        ),
        ('[kubernetes.istio]\ninstall = false\naddress = "edge"', "kubernetes.istio.address"),
        (
            '[kubernetes.seldon]\nnamespace = "serving"',
            "namespace: allowed only with install = false",
        ),
        (
            '[kubernetes.images]\ndelivery = "kind"',
            "delivery = kind and cluster must be set together",
        ),
        ('[kubernetes.images]\ncluster = "a"', "delivery = kind and cluster must be set together"),
        (
            '[kubernetes.images]\nregistry = "https://r.example.com"',
            "not a valid prefix of an image name",
        ),
        (
            "[kubernetes]\nistio.install = false\nsamples.bookinfo = true",
            "samples.bookinfo requires istio.install = true",
        ),
    ],
)
def test_settings_of_a_cluster_that_contradict_each_other_are_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "mlops.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert reason in str(caught.value)


def test_settings_survive_the_way_through_the_graph(tmp_path: Path) -> None:
    (tmp_path / "mlops.toml").write_text(
        '[kubernetes]\ncontext = "theirs"\nkubeconfig = "their/config"\nnamespace = "models"\n'
        '[kubernetes.istio]\ninstall = false\ngateway = "edge/public"\n'
    )
    settings = load_settings(platform="kubernetes")
    again = Settings.model_validate(settings.model_dump(mode="json", exclude={"bundle"}))
    assert again.kubernetes == settings.kubernetes
    assert settings.kubernetes.kubeconfig == tmp_path / "their" / "config"
    assert settings.kubernetes.istio.reference == "edge/public"
    assert settings.models_namespace == "models"
    assert load_settings(platform="kind").models_namespace == "seldon"
    assert load_settings().models_namespace == "seldon"


def test_the_gateway_that_we_make_is_the_one_that_routes_are_bound_to() -> None:
    assert IstioSettings().reference == ExistingIstio().reference == f"{NAMESPACE}/{NAME}"


@pytest.mark.parametrize(
    "text",
    [
        'mirror = "https://me:SECRET@mirror.example"',
        '[kind.cluster.mirrors]\n"docker.io" = "https://me:SECRET@mirror.example"',
        '[kubernetes.object_store]\nendpoint = "https://me:SECRET@s3.example"',
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "mlops.toml").write_text(text)
    with pytest.raises(
        ConfigurationError, match=r"must not contain a user name or password; .* ~/\.netrc"
    ) as e:
        load_settings()
    assert "SECRET" not in "".join(traceback.format_exception(e.value))
