"""Bringing the platform up twice at once, and again after it was interrupted anywhere."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
CHILD = """
import json, sys
from pathlib import Path
from mlops_pipeline.platforms.embedded import EmbeddedOptions
from mlops_pipeline_tests.embedded.rig import Rig, predictor
rig = Rig(Path(sys.argv[1]), EmbeddedOptions(**json.loads(sys.argv[2])))
rig.up()
rig.apply(predictor(rig.publish("one"), replicas=2))
"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path / "s") as rig:
        yield rig


def test_two_at_once_both_succeed(rig: Rig) -> None:
    children = [up_elsewhere(rig) for _ in range(2)]
    for child in children:
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0, output
    assert len(rig.pids()) == 5
    assert rig.predict() == ["one"]


EVERY = [
    (seconds, blow)
    for seconds in (0.6, 1.0, 2.0, 2.8, 3.3)
    for blow in (signal.SIGINT, signal.SIGKILL)
]
# While layers are brought up, and while servers are; the fakes have every step of a deployment.
# What SIGINT does is shown with the command itself, in test_faults_commands.py.
SOME = [(1.0, signal.SIGKILL), (3.3, signal.SIGKILL)]


@pytest.mark.parametrize(
    ("seconds", "blow"),
    [c if c in SOME else pytest.param(*c, marks=pytest.mark.long) for c in EVERY],
)
def test_an_interrupted_one_is_finished_by_the_next(
    rig: Rig, seconds: float, blow: signal.Signals
) -> None:
    child = up_elsewhere(rig)
    try:
        child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(child.pid, blow)
        child.communicate(timeout=30)
    rig.up()
    rig.apply(predictor(rig.publish("one"), replicas=2))
    assert len(rig.pids()) == 5
    assert rig.predict() == ["one"]


def up_elsewhere(rig: Rig) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(rig.home), rig.settings.model_dump_json()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
