"""One brought-up platform for the tests of the life cycle, through the command line alone."""

from collections.abc import Iterator

import pytest

from mlops_pipeline_tests.command_line import WINE, CommandLine, free_ports


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A platform that is up, with iris, mnist and wine; gone afterwards. Its path has a space."""
    directory = tmp_path_factory.mktemp("life cycle")
    (directory / "mlops.toml").write_text(f'models = ["{WINE}"]\n')
    made = CommandLine(directory / "state folder", directory, free_ports(3))
    try:
        made.run("up")
        yield made
    finally:
        made.run("down", "--purge", "--yes")
