"""The installed wheel brings a platform up and serves its UI, with no checkout near."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline_tests.command_line import ODD_FLOWER, free_ports, predict
from mlops_pipeline_tests.packaging.conftest import (
    UV,
    VERSIONS,
    Installed,
    environment,
    find_python,
    run,
)

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]

IMPORT = """
import json, mlops_pipeline, mlops_pipeline.definitions as definitions
keys = definitions.embedded().resolve_asset_graph().get_all_asset_keys()
print(json.dumps([mlops_pipeline.__file__, sorted(key.to_user_string() for key in keys)]))
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder, outside the checkout like everything here; its path is short."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _variables(state: Path, gateway: int, store: int, model: int) -> dict[str, str]:
    return {
        "MLOPS_HOME": str(state / "home"),
        "MLOPS_EMBEDDED__GATEWAY_PORT": str(gateway),
        "MLOPS_EMBEDDED__OBJECT_STORE_PORT": str(store),
        "MLOPS_EMBEDDED__MODEL_PORT": str(model),
    }


def _processes(installed: Installed) -> list[str]:
    """Return the command lines of what runs from an environment."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if str(installed.folder) in line:
                lines.append(line)
    return lines


def test_its_requirements_fit_together(installed: Installed, away: Path) -> None:
    run(UV, "pip", "check", "--python", installed.python, cwd=away)


def test_its_definitions_load(installed: Installed, away: Path) -> None:
    said = run(installed.python, "-W", "error::SyntaxWarning", "-c", IMPORT, cwd=away)
    path, keys = json.loads(said.splitlines()[-1])
    assert installed.folder in Path(path).parents
    assert {"embedded/gateway", "embedded/iris/model", "embedded/mnist/model"} <= set(keys)


def test_it_brings_a_model_up_and_takes_everything_down(installed: Installed, state: Path) -> None:
    if installed.version != next(filter(find_python, reversed(VERSIONS))):
        pytest.skip("the newest Python is enough: other tests do this on the one that runs them")
    gateway, *others = free_ports(3)
    variables = _variables(state, gateway, *others)
    try:
        run(installed.command, "up", "iris", cwd=state, variables=variables)
        answer = predict(f"http://127.0.0.1:{gateway}/seldon/seldon/iris-model", ODD_FLOWER)
        assert answer.status_code == 200
        assert answer.json()["data"]["names"] == ["t:0", "t:1", "t:2"]
    finally:
        run(installed.command, "down", "--purge", "--yes", cwd=state, variables=variables)
    assert not _processes(installed)
    assert not list((state / "home").glob("*"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_serves_the_ui_and_ends_with_all_its_children(installed: Installed, state: Path) -> None:
    if installed.version != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip("one Python is enough for Dagster's own UI")
    (port,) = free_ports(1)
    with subprocess.Popen(
        [installed.command, "ui", "--port", str(port)],
        cwd=state,
        env=environment(_variables(state, *free_ports(3))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for_page(f"http://127.0.0.1:{port}", process, state / "home/dagster/ui.token")
            children = psutil.Process(process.pid).children(recursive=True)
            assert children, "the code location runs in a process of its own"
            process.send_signal(signal.SIGINT)
            process.wait(60)
            _, left = psutil.wait_procs(children, timeout=30)
            assert not left
        finally:
            process.kill()
    assert not _processes(installed)


def _wait_for_page(url: str, process: "subprocess.Popen[bytes]", token: Path) -> None:
    def describe_unready() -> str | None:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            headers = {"Authorization": f"Bearer {token.read_text()}"}
            page = httpx.get(url, headers=headers, timeout=5)
        except (OSError, httpx.HTTPError) as error:
            return repr(error)
        return None if page.status_code == 200 and "<html" in page.text else str(page.status_code)

    wait_until(f"the page at {url}", describe_unready, timeout=300)
