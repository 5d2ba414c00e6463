"""Numbers in the tables of the UI."""

import pytest

from mlops_pipeline.assets import metadata


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.958123, 0.9581), (27568.34567, 27568.3457), (1.23456e-5, 1.235e-5), (0.0, 0.0), (3, 3)],
)
def test_small_numbers_keep_four_digits(value: float, shown: float) -> None:
    assert metadata.records([{"value": value}]).records[0].data == {"value": shown}
