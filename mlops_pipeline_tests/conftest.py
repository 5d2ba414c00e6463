"""What decides which tests run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--with-kind", action="store_true", help="also run the tests that need Docker")
    parser.addoption("--with-long", action="store_true", help="also run soaks and whole matrices")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {
        "kind": "needs Docker and minutes; `make test-kind` runs it",
        "long": "takes minutes; `make test-long` runs it",
    }
    for marker, reason in reasons.items():
        if config.getoption(f"--with-{marker}"):
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
