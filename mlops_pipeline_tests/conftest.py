"""What decides which tests run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--with-kind", action="store_true", help="also run the tests that need Docker")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--with-kind"):
        return
    skip = pytest.mark.skip(reason="needs Docker and minutes; `make test-kind` runs it")
    for item in items:
        if item.get_closest_marker("kind"):
            item.add_marker(skip)
