"""Damage of any one file of the state folder: what serves goes on, and `up` makes it whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.platforms.layers import Drifted, Ready, describe
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in
from mlops_pipeline_tests.platforms.test_embedded_state import damage_by

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two deployments that serve."""
    with rig_in(tmp_path_factory.mktemp("state") / "home") as made:
        made.up()
        for name in ("toy", "other"):
            made.apply(predictor(made.publish(f"of-{name}")), name=name)
        yield made


@pytest.mark.parametrize("kind", ["truncated", "a directory"])
@pytest.mark.parametrize("file", ["ports.json", "deployments/seldon/toy.yaml"])
def test_a_damaged_file_is_named_and_mended_while_all_serve(rig: Rig, file: str, kind: str) -> None:
    url = rig.platform.gateway_url()
    damage_by(rig.home / file, kind)
    state = rig.platform.layers[2].observe()
    assert isinstance(state, Drifted), state
    assert f"{rig.home / file} is damaged" in state.differences[0]
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]
    assert rig.apply(predictor(rig.publish("of-other")), name="other").action == "unchanged"
    assert [d.name for d in rig.platform.deployments.list()] == ["other", "toy"]
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]
    assert rig.ensure("gateway").action == "updated"
    assert isinstance(rig.platform.layers[2].observe(), Ready)
    assert rig.platform.gateway_url() == url
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]


@pytest.mark.parametrize("kind", ["truncated", "a directory"])
def test_a_damaged_mark_is_named_and_written_anew_while_all_serve(rig: Rig, kind: str) -> None:
    mark = rig.home / ".mlops-pipeline-embedded"
    damage_by(mark, kind)
    assert f"{mark} is damaged" in describe(rig.platform.layers[2].observe())
    rig.ensure("gateway")
    assert isinstance(rig.platform.layers[2].observe(), Ready)
    assert rig.predict() == ["of-toy"]


@pytest.mark.parametrize("kind", ["truncated", "binary", "a directory"])
def test_a_damaged_configuration_of_a_program_stops_no_other(rig: Rig, kind: str) -> None:
    configurations = sorted((rig.home / "supervisor" / "programs").glob("*.conf"))
    damaged = next(path for path in configurations if "toy" in path.name)
    damage_by(damaged, kind)
    assert f"{damaged} is damaged" in describe(rig.platform.layers[0].observe())
    assert rig.apply(predictor(rig.publish(f"new-{kind[:3]}")), name="other").action == "updated"
    assert rig.predict() + rig.predict(name="other") == ["of-toy", f"new-{kind[:3]}"]
    rig.ensure("supervisor")
    assert isinstance(rig.platform.layers[0].observe(), Ready)
    rig.kill("supervisor")
    rig.up()
    assert rig.predict() + rig.predict(name="other") == ["of-toy", f"new-{kind[:3]}"]
    rig.apply(predictor(rig.publish("of-other")), name="other")


def test_a_damaged_configuration_is_mended_where_supervisord_is_lost(rig: Rig) -> None:
    rig.kill("supervisor")
    programs = rig.home / "supervisor" / "programs"
    for path in [*programs.glob("*.conf"), programs.parent / "supervisord.conf"]:
        damage_by(path, "binary")
    rig.up()
    assert all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers)
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]


def _files(home: Path) -> list[Path]:
    """Return every file but the object store's data and logs."""
    own = (p for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    return sorted(
        p for p in own if not {"data", "logs"} & set(p.relative_to(home).parts) and p.stat().st_size
    )


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_no_truncated_file_blocks_the_way_back(rig: Rig) -> None:
    for file in [path.relative_to(rig.home) for path in _files(rig.home)]:
        damage_by(rig.home / file, "truncated")
        for layer in rig.platform.layers:
            layer.observe()
        assert len(rig.platform.deployments.list()) == 2, file
        rig.up()
        for name in ("toy", "other"):
            rig.apply(predictor(rig.publish(f"of-{name}")), name=name)
            assert rig.predict(name=name) == [f"of-{name}"], file
        assert all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers), file
