from itertools import combinations

import pytest

from mlops_pipeline.clients.masking import Mask

SECRETS = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-ijkl\nshort\nmnopqrst", "KEYS": "visible-1"}
TEXT = "1 abcdefgh 2 abcdefgh-ijkl 3 mnopqrst 4 short 5 visible-1 abcdefg"
MASKED = "1 *** 2 *** 3 *** 4 short 5 visible-1 abcdefg"


@pytest.fixture
def mask(monkeypatch: pytest.MonkeyPatch) -> Mask:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Mask()


def test_secrets_are_masked_wherever_the_text_is_cut(mask: Mask) -> None:
    for one, two in combinations(range(len(TEXT) + 1), 2):
        pieces = [TEXT[:one], TEXT[one:two], TEXT[two:]]
        assert "".join(mask.masked(pieces)) == MASKED, pieces


def test_a_whole_line_is_passed_on_at_once(mask: Mask) -> None:
    lines = iter(["1 abcdefgh\n", "abcdefg\n", "2"])
    masked = mask.masked(lines)
    assert [next(masked), next(masked)] == ["1 ***\n", "abcdefg\n"]
    assert list(lines) == ["2"]


def test_without_secrets_nothing_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.environ", {"A_TOKEN": "short"})
        mask = Mask()
    assert list(mask.masked(["a short", "text"])) == ["a short", "text"]
