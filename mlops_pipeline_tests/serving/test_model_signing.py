"""OpenSSF's own program and this project verify each other's signatures."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_pipeline.serving.artifact import hash_files
from mlops_pipeline.serving.signing.bundle import make_bundle
from mlops_pipeline.serving.signing.keys import fingerprint, make_private, public_pem
from mlops_pipeline.serving.signing.policy import Mode, Policy, read_signature

PROGRAM = Path(sys.prefix) / "model-signing" / "bin" / "model_signing"

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="`make test` installs model-signing; run that, or its target"
    ),
]


def _run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def test_each_verifies_what_the_other_signed(tmp_path: Path) -> None:
    private, folder = make_private(), tmp_path / "iris"
    pem = public_pem(private)
    (tmp_path / "private.pem").write_bytes(private)
    (tmp_path / "public.pem").write_text(pem)
    (folder / "1" / "variables").mkdir(parents=True)
    for name in ("model.joblib", "1/part", "1-more", "1/variables/é x", "Z"):
        (folder / name).write_bytes(name.encode())
    signature = folder / "model.sig"
    key, verify = tmp_path / "public.pem", ("verify", "key", folder, "--signature", signature)

    signature.write_bytes(make_bundle(hash_files(folder), name="iris", private_key=private))
    theirs = _run(*verify, "--public_key", key)
    assert theirs.returncode == 0, theirs.stderr
    (folder / "Z").write_bytes(b"altered")
    assert _run(*verify, "--public_key", key).returncode != 0

    signature.unlink()
    made = _run(
        *("sign", "key", folder, "--signature", signature),
        *("--private_key", tmp_path / "private.pem"),
    )
    assert made.returncode == 0, made.stderr
    policy = Policy(Mode.REQUIRED, {fingerprint(pem): pem})
    signed = policy.check(hash_files(folder), read_signature(folder), what="iris")
    assert signed is not None
    assert signed.statement.files == hash_files(folder)
    assert signed.fingerprint == fingerprint(pem)
