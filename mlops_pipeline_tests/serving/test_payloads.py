import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.payloads import SMALL, numbers

FLOATS = np.dtype(np.float64)


@pytest.mark.parametrize(
    "values",
    [
        [["a" * 30_000], *[["b"]] * 10_000],
        ["a" * 30_000, *[1.0] * 10_000],
        [[[["a" * 30_000]]], 1.0, *[[1.0]] * 10_000],
        [[True, 1.0]],
        [[None, "1.0"]],
        [[{}, 1.0]],
    ],
)
def test_a_value_that_is_not_a_number_is_refused_before_it_uses_memory(
    values: list[object],
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="numbers only"):
            numbers(values, where="data", body=b"true" + b" " * SMALL, wanted=FLOATS)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", [b"small", b" " * (SMALL + 1), None])
def test_null_is_a_missing_number(body: bytes | None) -> None:
    rows = numbers([[None, 1.5], [2, None]], where="data", body=body, wanted=FLOATS)
    assert rows.dtype == FLOATS
    assert np.array_equal(rows, [[np.nan, 1.5], [2.0, np.nan]], equal_nan=True)
    wrongs: list[list[object]] = [[None, "1"], [None, True], [None, {}]]
    for wrong in wrongs:
        with pytest.raises(RequestError, match="numbers only"):
            numbers([wrong], where="data", body=body, wanted=FLOATS)


def test_strings_in_a_small_body_take_little_memory() -> None:
    values = ["a" * (SMALL // 2), *["b"] * (SMALL // 8)]
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="numbers only"):
            numbers(values, where="data", body=b"small", wanted=FLOATS)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("values", [[[1, 2], [3]], [[1], 2], [[[1]], [[1, 2]]]])
@pytest.mark.parametrize("body", [b"small", b" " * (SMALL + 1), None])
def test_rows_of_different_lengths_are_refused(values: list[object], body: bytes | None) -> None:
    with pytest.raises(RequestError, match="different lengths"):
        numbers(values, where="data", body=body, wanted=FLOATS)


def as_numpy(values: list[object]) -> object:
    try:
        return np.array(values)
    except ValueError:
        return None


@given(
    st.recursive(
        st.floats(allow_nan=False) | st.integers(-(2**64), 2**64),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    ).filter(lambda value: isinstance(value, list))
)
def test_rows_of_a_large_body_are_read_as_numpy_reads_them(values: list[object]) -> None:
    wanted = as_numpy(values)
    assume(not isinstance(wanted, np.ndarray) or wanted.dtype.kind in "fiu")
    try:
        rows = numbers(values, where="data", body=None, wanted=FLOATS)
    except RequestError:
        assert wanted is None
    else:
        assert isinstance(wanted, np.ndarray)
        assert (rows.dtype, rows.shape) == (wanted.dtype, wanted.shape)
        assert rows.tolist() == wanted.tolist()


def test_numbers_of_all_kinds_are_taken() -> None:
    for values in ([[1, 2.5]], [[1, 2]], [[2**63, -1]], []):
        assert np.array_equal(
            numbers(values, where="data", body=None, wanted=FLOATS), np.array(values)
        )
