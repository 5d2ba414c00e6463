"""Releases by the commands alone: promoted on real requests, taken back, aborted, held."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_pipeline_tests.command_line import WINE, CommandLine, free_ports, predict

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(1200)]
ROW = [13.2, 1.8, 2.1, 11.2, 100.0, 2.7, 2.8, 0.3, 1.3, 4.4, 1.1, 3.4, 1050.0]
PLAN = """    release=ReleaseSpec(
        "canary",
        steps=(Step(25, answers=20), Step(50, answers=20)),
        max_errors=0.05,
        max_slow=0.5,
    ),
)
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A platform on which the first version of wine serves."""
    directory = tmp_path_factory.mktemp("releases")
    (directory / "mlops.toml").write_text('models = ["wine.py"]\n')
    made = CommandLine(directory / "home", directory, free_ports(3))
    try:
        _write_model(directory, trees=20)
        made.run("up", "wine")
        yield made
    finally:
        made.run("down", "--purge", "--yes")


def _write_model(folder: Path, *, trees: int) -> None:
    head, _, _ = WINE.read_text().rpartition(")\n")
    text = head.replace(
        "from mlops_pipeline.catalog.spec import",
        "from mlops_pipeline.catalog.releasing import ReleaseSpec, Step\n"
        "from mlops_pipeline.catalog.spec import",
    )
    (folder / "wine.py").write_text(text.replace('{"trees": 20}', f'{{"trees": {trees}}}') + PLAN)


@contextmanager
def _requests(url: str) -> Iterator[Counter[int]]:
    """Send requests one after the other while the block runs; yield status → their number."""
    seen: Counter[int] = Counter()
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            try:
                seen[predict(url, ROW).status_code] += 1
            except httpx.HTTPError:
                seen[0] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _release(line: CommandLine) -> dict[str, Any]:
    found = json.loads(line.run("release", "status", "wine", "--json").stdout)
    (release,) = found["releases"]
    return dict(release)


def _records(line: CommandLine) -> list[tuple[str, str]]:
    """Return outcome and candidate of each record, the newest first."""
    found = json.loads(line.run("release", "history", "wine", "--json").stdout)
    return [(record["outcome"], record["candidate"]) for record in found["records"]]


def test_a_release_by_its_commands(line: CommandLine) -> None:
    old = line.digest("wine", code=3)
    assert _release(line)["state"] == "none"

    _write_model(line.directory, trees=30)
    plan = line.run("plan", code=3).stdout
    assert "a new artifact is released beside" in plan
    with _requests(line.url("wine", code=3)) as seen:
        done = line.run("up", "wine")
    assert set(seen) == {200}
    release = _release(line)
    new = release["versions"][0]["digest"]
    assert (release["state"], new != old) == ("kept", True)
    assert [(v["role"], v["traffic"]) for v in release["versions"]] == [
        ("promoted", 100),
        ("former", 0),
    ]
    for share in (25, 50):
        assert f"wine: {new[:12]} has {share} % of the traffic, {old[:12]} the rest" in done.stderr
    assert f"{new[:12]} has all traffic" in done.stderr
    assert _records(line) == [("promoted", new)]

    said = line.run("rollback", "wine").stdout
    assert f"{old[:12]} has the traffic" in said
    assert line.digest("wine", code=3) == old
    assert _records(line)[0] == ("rolled_back", new)
    assert "is not released again" in line.run("plan", code=3).stdout


def test_a_release_that_is_aborted(line: CommandLine) -> None:
    stable = line.digest("wine", code=3)
    _write_model(line.directory, trees=40)
    done = line.run("up", "wine", "--no-wait", code=4)
    release = _release(line)
    assert (release["state"], release["step"], release["steps"]) == ("observing", 1, 2)
    assert [(v["role"], v["traffic"]) for v in release["versions"]] == [
        ("stable", 75),
        ("candidate", 25),
    ]
    candidate = release["versions"][1]["digest"]
    assert f"wine: {candidate[:12]} has 25 % of the traffic" in done.stderr
    assert f"{candidate[:12]} has 25 % of the traffic" in line.run("status", code=3).stdout
    line.run("release", "pause", "wine")
    assert _release(line)["state"] == "paused"
    line.run("release", "resume", "wine")

    line.run("release", "abort", "wine", "--reason", "bad labels")
    assert {line.digest("wine", code=3) for _ in range(20)} == {stable}
    last = _release(line)["last"]
    assert (last["outcome"], last["reason"]) == ("aborted", "bad labels")
    (model,) = (m for m in line.status(code=3)["models"] if m["name"] == "wine")
    assert [(p["traffic"], p["digest"]) for p in model["predictors"]] == [(100, stable)]
    assert (
        "no release of wine is in progress" in line.run("release", "abort", "wine", code=2).stderr
    )


def test_a_deployment_is_deleted_during_a_release(line: CommandLine) -> None:
    _write_model(line.directory, trees=50)
    line.run("up", "wine", "--no-wait", code=4)
    line.run("delete", "wine-model")
    assert _release(line)["state"] == "none"
    (model,) = (m for m in line.status(code=3)["models"] if m["name"] == "wine")
    assert (model["predictors"], model["release"]) == ([], None)
