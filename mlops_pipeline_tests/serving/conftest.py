"""The artifacts that most tests with real servers serve; who changes one works on a copy."""

from pathlib import Path

import pytest

from mlops_pipeline_tests.serving import servers


@pytest.fixture(scope="session")
def iris_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scikit-learn model of four features and three classes. Its path has a space."""
    return servers.make_iris(tmp_path_factory.mktemp("with space") / "iris")


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow model of 784 features and ten classes, which takes seconds to export."""
    return servers.make_digits(tmp_path_factory.mktemp("models") / "digits")
