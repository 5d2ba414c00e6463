"""What decides which tests run, and the fixture that several folders of tests use."""

import signal
from collections.abc import Iterator

import pytest

# A shell starts what runs in its background with SIGINT ignored. The tests' own processes would
# inherit that, and Dagster gives the same to SIGTERM: then neither signal ends what a test started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def worker_here() -> Iterator[None]:
    """Datasets are loaded and models trained in this process, not in processes of their own."""
    from mlops_pipeline_tests.worker_here import worker_here  # It imports what the worker does.

    with worker_here():
        yield
