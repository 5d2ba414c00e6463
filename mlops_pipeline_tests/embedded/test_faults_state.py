"""Damage of any one file of the state folder: what serves goes on, and `up` makes it whole."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready, describe
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in
from mlops_pipeline_tests.platforms.embedded.test_state import damage_by

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two deployments that serve."""
    with rig_in(tmp_path_factory.mktemp("state") / "home") as made:
        made.up()
        for name in ("toy", "other"):
            made.apply(predictor(made.publish(f"of-{name}")), name=name)
        yield made


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("ports.json", "truncated"),
        ("deployments/seldon/toy.yaml", "a directory"),
        pytest.param("ports.json", "a directory", marks=pytest.mark.long),
        pytest.param("deployments/seldon/toy.yaml", "truncated", marks=pytest.mark.long),
    ],
)
def test_a_damaged_file_is_reported_and_repaired_while_all_serve(
    rig: Rig, file: str, kind: str
) -> None:
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
def test_a_damaged_mark_is_reported_and_written_again_while_all_serve(rig: Rig, kind: str) -> None:
    mark = rig.home / ".mlops-pipeline-embedded"
    damage_by(mark, kind)
    assert f"{mark} is damaged" in describe(rig.platform.layers[2].observe())
    rig.ensure("gateway")
    assert isinstance(rig.platform.layers[2].observe(), Ready)
    assert rig.predict() == ["of-toy"]


@pytest.mark.parametrize(
    "kind", ["binary", "a directory", pytest.param("truncated", marks=pytest.mark.long)]
)
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


def test_a_damaged_configuration_is_repaired_when_supervisord_is_lost(rig: Rig) -> None:
    rig.kill("supervisor")
    programs = rig.home / "supervisor" / "programs"
    for path in [*programs.glob("*.conf"), programs.parent / "supervisord.conf"]:
        damage_by(path, "binary")
    rig.up()
    assert all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers)
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]


def test_a_removed_socket_of_the_gateway_is_named_and_made_again(rig: Rig) -> None:
    (rig.home / "run" / "ev.sock").unlink()
    state = rig.platform.layers[2].observe()
    assert isinstance(state, Broken)
    assert "ev.sock was removed" in state.reason
    assert rig.predict() == ["of-toy"]
    assert rig.ensure("gateway").action == "repaired"
    assert rig.predict() + rig.predict(name="other") == ["of-toy", "of-other"]


def test_a_lost_copy_is_written_again(rig: Rig) -> None:
    lost = [rig.home / ".ports.json.copy", *rig.home.glob("deployments/seldon/.*.copy")]
    assert len(lost) == 3
    for path in lost:
        path.unlink()
    assert rig.ensure("gateway").action == "unchanged"
    assert [path for path in lost if not path.exists()] == []


@pytest.mark.parametrize("then", ["down", "up"])
def test_what_a_state_folder_that_is_gone_left_is_named_and_ended(
    tmp_path: Path, then: str
) -> None:
    with rig_in(tmp_path / "s") as rig:
        rig.up()
        left = rig.pids()
        rig.home.rename(tmp_path / "elsewhere")
        state = rig.platform.layers[0].observe()
        assert isinstance(state, Broken)
        assert "its state folder was deleted, but its processes still run" in state.reason
        if then == "up":
            rig.up()
            assert not set(rig.pids()) & set(left)
        rig.platform.down()
        assert rig.pids() == []
        assert isinstance(rig.platform.layers[0].observe(), Absent)


def _files(home: Path) -> list[Path]:
    """Return every file but the object store's data, logs, and artifacts.

    The stand-in's artifacts have no manifest that their files could be compared with.
    """
    own = (p.relative_to(home) for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    passed_over = {"data", "logs", "models"}
    return sorted(p for p in own if not passed_over & set(p.parts) and ".damaged-" not in str(p))


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "kind", ["truncated", "binary", "an object", "a directory", "lost", "unreadable"]
)
def test_no_damaged_file_blocks_the_way_back(rig: Rig, kind: str) -> None:
    if kind == "unreadable":
        (probe := rig.home.with_name("probe")).touch(mode=0)
        if os.access(probe, os.R_OK):
            pytest.skip("this user reads whatever its permissions are")
    for file in _files(rig.home):
        if not (rig.home / file).exists() or (kind == "unreadable" and file.suffix == ".lock"):
            continue  # Gone since, with what it belonged to; or a lock, which is named.
        damage_by(rig.home / file, kind)
        for layer in rig.platform.layers:
            layer.observe()
        assert len(rig.platform.deployments.list()) == 2, file
        rig.up()
        for name in ("toy", "other"):
            rig.apply(predictor(rig.publish(f"of-{name}")), name=name)
            assert rig.predict(name=name) == [f"of-{name}"], file
        assert all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers), file
