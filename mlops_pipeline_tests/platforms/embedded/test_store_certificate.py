"""The certificate of SeaweedFS's inner ports: made once, made anew in time, private."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_pipeline.platforms.embedded.store_certificate import RENEW_BEFORE, StoreCertificate
from mlops_pipeline_tests.platforms.embedded.test_state import DAMAGES, damage_by

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def made_at(folder: Path, now: datetime) -> str:
    certificate = StoreCertificate(folder)
    certificate.make(now=now)
    return certificate.fingerprint()


def test_it_is_made_once_and_anew_before_it_ends(tmp_path: Path) -> None:
    first = made_at(tmp_path, NOW)
    ten_years = NOW + timedelta(days=3650)
    assert made_at(tmp_path, ten_years - RENEW_BEFORE - timedelta(days=1)) == first
    assert made_at(tmp_path, ten_years - RENEW_BEFORE) != first


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_one_is_made_anew(tmp_path: Path, kind: str) -> None:
    for name in ("certificate.key", "certificate.pem"):
        first = made_at(tmp_path, NOW)
        damage_by(tmp_path / name, kind)
        assert made_at(tmp_path, NOW) != first
    first = made_at(tmp_path, NOW)
    damage_by(tmp_path / "security.toml", kind)
    assert made_at(tmp_path, NOW) == first


def test_one_that_is_not_valid_yet_is_made_anew(tmp_path: Path) -> None:
    """A clock that was a year ahead at the first start has been set right."""
    first = made_at(tmp_path, NOW + timedelta(days=365))
    second = made_at(tmp_path, NOW)
    assert second != first
    assert made_at(tmp_path, NOW - timedelta(minutes=59)) == second


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    made_at(tmp_path, NOW)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    names = ("certificate.key", "certificate.pem", "security.toml")
    assert modes == dict.fromkeys(names, "0o600")


def test_a_folder_with_odd_characters_is_written_as_toml(tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib")
    folder = tmp_path / "a folder \\ with 'é'"
    folder.mkdir()
    made_at(folder, NOW)
    read = tomllib.loads((folder / "security.toml").read_text())
    assert read["grpc"]["ca"] == read["https"]["volume"]["ca"] == str(folder / "certificate.pem")
    assert read["grpc"]["s3"]["key"] == read["https"]["client"]["key"]
    assert read["https"]["client"]["enabled"] is True
