"""One wheel, built from a copy of the checkout, and what it becomes in empty environments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
VERSIONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, with the locked dependencies and nothing else."""

    version: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "mlops-pipeline"


def run(*command: str | Path, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command where no checkout is near, and return all that it says."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what points into a checkout or at a platform."""
    ours = ("MLOPS_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV", "COVERAGE_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(variables)


def find_python(version: str) -> Path | None:
    """Return a Python of that version which really runs: a shim of pyenv may be there and fail."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path.home() / ".local/share/uv/python"
    found = [shutil.which(f"python{version}"), sys.executable]
    found += sorted(str(p) for p in pyenv.glob(f"versions/{version}.*/bin/python"))
    found += sorted(str(p) for p in uv.glob(f"cpython-{version}.*/bin/python{version}"))
    say = "import sys; print(sys.version_info[:2] == tuple(map(int, sys.argv[1].split('.'))))"
    for python in filter(None, found):
        asked = subprocess.run(
            [python, "-c", say, version], capture_output=True, text=True, timeout=20, check=False
        )
        if asked.stdout.strip() == "True":
            return Path(python)
    return None


@pytest.fixture(scope="session")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout."""
    folder = tmp_path_factory.mktemp("away from the checkout")
    assert ROOT not in folder.parents
    return folder


def _sources() -> Sequence[str]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return [name for name in names.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def wheel(away: Path) -> Path:
    """The wheel; nothing is written into the checkout. Warnings of the build are beside it."""
    for name in _sources():
        (away / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, away / "source" / name)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", away / "dist", ".")
    log = run(sys.executable, *build, cwd=away / "source")
    shutil.rmtree(away / "source")
    (away / "build.log").write_text(log)
    (built,) = (away / "dist").glob("*.whl")
    return built


@pytest.fixture(
    scope="session",
    # One between the oldest and the newest has nothing that neither of them has.
    params=[VERSIONS[0], pytest.param(VERSIONS[1], marks=pytest.mark.long), VERSIONS[2]],
)
def installed(request: pytest.FixtureRequest, wheel: Path, away: Path) -> Iterator[Installed]:
    """The wheel, installed for each Python that it declares and that is on this machine."""
    version = str(request.param)
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} runs on this machine")
    made = Installed(version, away / f"python {version}")
    run(UV, "venv", "--python", python, made.folder, cwd=away)
    install = (UV, "--quiet", "pip", "install", "--python", made.python)
    run(*install, "--require-hashes", "-r", ROOT / "requirements/runtime.lock", cwd=away)
    run(*install, "--no-deps", wheel, cwd=away)
    yield made
    shutil.rmtree(made.folder)
