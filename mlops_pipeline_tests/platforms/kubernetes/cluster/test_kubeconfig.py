import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes.cluster.kubeconfig import locate
from mlops_pipeline.settings.kubernetes import KubernetesSettings


def write(path: Path, *contexts: str, **parts: Any) -> Path:
    names = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts]
    content = {
        "current-context": contexts[0] if contexts else "",
        "contexts": names,
        "clusters": [{"name": "c", "cluster": {}}],
        "users": [{"name": "u", "user": {}}],
        **parts,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def settings(path: Path | None = None, *, context: str = "b") -> KubernetesSettings:
    return KubernetesSettings(context=context, kubeconfig=path)


def test_the_file_of_the_context_is_the_one_that_the_settings_name(tmp_path: Path) -> None:
    path = write(tmp_path / "config", "a", "b")
    before = path.read_bytes()
    assert locate(settings(path)) == path
    assert path.read_bytes() == before


def test_without_the_setting_it_is_where_kubectl_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    default = write(tmp_path / ".kube" / "config", "a", "b")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert locate(settings()) == default
    one, two = write(tmp_path / "one", "a"), write(tmp_path / "two", "b")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{one}:{two}")
    assert locate(settings()) == two


def test_the_current_context_is_never_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "config", "production", "staging")
    with pytest.raises(ConfigurationError) as caught:
        locate(settings(path, context=""))
    said = str(caught.value)
    assert "needs the name of a context" in said
    assert f"one of production, staging, from {path}" in said
    assert "nothing was changed" in said


def test_a_context_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "config", "production", "staging")
    with pytest.raises(ConfigurationError, match=r"no context 'b'.*one of production, staging"):
        locate(settings(path))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no kubeconfig .*none"):
        locate(settings(tmp_path / "none"))


@pytest.mark.parametrize("text", ["a: [", "\x00"])
def test_a_file_that_is_no_yaml_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigurationError, match=r"could not read the kubeconfig .*config: "):
        locate(settings(tmp_path / "config"))


def test_nothing_of_a_file_that_is_no_yaml_is_shown(tmp_path: Path) -> None:
    (tmp_path / "config").write_text('users:\n- user:\n    token: "SECRET\n  x: [\n')
    with pytest.raises(ConfigurationError, match=r"in line \d, column \d") as caught:
        locate(settings(tmp_path / "config"))
    shown = "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in shown
    assert caught.value.__context__ is None


@pytest.mark.parametrize("contexts", ["5", "[b]", "[{name: b, context: abc}]", "abc"])
def test_a_file_whose_contexts_are_none_is_told(tmp_path: Path, contexts: str) -> None:
    (tmp_path / "config").write_text(f"contexts: {contexts}")
    with pytest.raises(ConfigurationError, match="its list `contexts`"):
        locate(settings(tmp_path / "config"))


def test_a_file_is_parsed_once_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "config", "b", "of-this-test")
    loaded: list[int] = []
    load = yaml.load

    def counted(text: bytes, **given: Any) -> Any:
        loaded.append(1)
        return load(text, **given)

    monkeypatch.setattr(yaml, "load", counted)
    assert [locate(settings(path)) for _ in range(3)] == [path] * 3
    assert len(loaded) == 1
    write(path, "b", "changed")
    locate(settings(path))
    assert len(loaded) == 2


def test_a_file_of_something_else_has_no_contexts(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("just words")
    with pytest.raises(ConfigurationError, match="to one of none"):
        locate(settings(tmp_path / "config"))


@pytest.mark.parametrize(("table", "part"), [("users", "user 'u'"), ("clusters", "cluster 'c'")])
def test_a_context_whose_parts_are_in_another_file_is_refused(
    tmp_path: Path, table: str, part: str
) -> None:
    path = write(tmp_path / "config", "b", **{table: []})
    with pytest.raises(ConfigurationError, match=f"the {part}, which is not in that file"):
        locate(settings(path))
