"""Each way in which a signature does not count."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mlops_pipeline.serving.signing.bundle import (
    MOST_BYTES,
    make_bundle,
    parse_bundle,
    verify_bundle,
)
from mlops_pipeline.serving.signing.errors import KeyFileError, Problem, SignatureError
from mlops_pipeline.serving.signing.keys import (
    fingerprint,
    load_private,
    make_private,
    public_pem,
)
from mlops_pipeline.serving.signing.policy import Mode, Policy, parse_policy, remedy
from mlops_pipeline.serving.signing.statement import Statement, parse_statement

KEY, OTHER = make_private(), make_private()
PEM, OTHER_PEM = public_pem(KEY), public_pem(OTHER)
FILES = {
    "model.joblib": hashlib.sha256(b"weights").hexdigest(),
    "1/part": hashlib.sha256(b"part").hexdigest(),
    "manifest.json": hashlib.sha256(b"{}").hexdigest(),
}
POLICY = Policy(Mode.REQUIRED, {fingerprint(PEM): PEM})


def _bundle() -> bytes:
    return make_bundle(FILES, name="iris", private_key=KEY)


def _signed(payload: bytes, *, key: bytes = KEY) -> bytes:
    """Return a bundle whose key really signed `payload`, whatever it is."""
    fields = json.loads(_bundle())
    head = f"DSSEv1 28 application/vnd.in-toto+json {len(payload)} ".encode()
    signature = load_private(key).sign(head + payload, ec.ECDSA(_sha256()))
    fields["verificationMaterial"]["publicKey"]["hint"] = fingerprint(public_pem(key))
    fields["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    fields["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]
    return json.dumps(fields).encode()


def _sha256() -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _refusal(
    signature: bytes | None, *, files: Mapping[str, str] = FILES, policy: Policy = POLICY
) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        policy.check(files, signature, what="iris")
    return caught.value


def test_what_was_signed_is_accepted_and_names_the_key() -> None:
    signed = POLICY.check(FILES, _bundle(), what="iris")
    assert signed is not None
    assert signed.fingerprint == fingerprint(PEM)
    assert signed.statement.files == FILES
    assert signed.statement.name == "iris"


def test_a_bundle_has_the_form_of_model_signing() -> None:
    fields = json.loads(_bundle())
    payload = base64.b64decode(fields["dsseEnvelope"]["payload"])
    statement = json.loads(payload)
    resources = statement["predicate"]["resources"]
    digests = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)

    assert [resource["name"] for resource in resources] == [
        "1/part",
        "manifest.json",
        "model.joblib",
    ]
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(digests).hexdigest()
    assert fields["verificationMaterial"]["publicKey"]["hint"] == fingerprint(PEM)
    head = f"DSSEv1 28 application/vnd.in-toto+json {len(payload)} ".encode()
    public = load_private(KEY).public_key()
    signature = base64.b64decode(fields["dsseEnvelope"]["signatures"][0]["sig"])
    public.verify(signature, head + payload, ec.ECDSA(_sha256()))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({**FILES, "model.joblib": "0" * 64}, "altered: model.joblib"),
        ({**FILES, "manifest.json": "0" * 64}, "altered: manifest.json"),
        ({**FILES, "more.py": "0" * 64}, "not signed: more.py"),
        ({k: v for k, v in FILES.items() if k != "1/part"}, "missing: 1/part"),
        ({f"file{n}": "0" * 64 for n in range(9)}, "file4 and 4 more"),
    ],
)
def test_other_files_than_those_that_were_signed(files: dict[str, str], complaint: str) -> None:
    refusal = _refusal(_bundle(), files=files)
    assert complaint in str(refusal)
    assert refusal.problem is Problem.ALTERED


def test_no_signature() -> None:
    refusal = _refusal(None)
    assert refusal.problem is Problem.MISSING
    assert "iris has no model.sig" in str(refusal)


def test_a_key_that_nobody_trusts() -> None:
    refusal = _refusal(make_bundle(FILES, name="iris", private_key=OTHER))
    assert refusal.problem is Problem.UNKNOWN_KEY
    assert fingerprint(OTHER_PEM)[:16] in str(refusal)


def test_a_revoked_key_even_if_it_is_trusted_too() -> None:
    policy = Policy(Mode.REQUIRED, POLICY.trusted, frozenset({fingerprint(PEM)}))
    assert _refusal(_bundle(), policy=policy).problem is Problem.REVOKED_KEY


def test_a_revoked_key_that_the_bundle_does_not_name() -> None:
    fields = json.loads(_bundle())
    fields["verificationMaterial"]["publicKey"] = {}
    policy = Policy(Mode.REQUIRED, POLICY.trusted, frozenset({fingerprint(PEM)}))
    unnamed = json.dumps(fields).encode()
    assert _refusal(unnamed, policy=policy).problem is Problem.UNKNOWN_KEY
    assert POLICY.check(FILES, unnamed, what="iris") is not None


def test_a_trusted_key_that_the_bundle_claims_but_did_not_sign() -> None:
    fields = json.loads(make_bundle(FILES, name="iris", private_key=OTHER))
    fields["verificationMaterial"]["publicKey"]["hint"] = fingerprint(PEM)
    assert _refusal(json.dumps(fields).encode()).problem is Problem.ALTERED


def test_a_statement_that_was_changed_after_it_was_signed() -> None:
    fields = json.loads(_bundle())
    statement = Statement("iris", {**FILES, "model.joblib": "0" * 64}).to_json()
    fields["dsseEnvelope"]["payload"] = base64.b64encode(statement).decode()
    refusal = _refusal(json.dumps(fields).encode(), files={**FILES, "model.joblib": "0" * 64})
    assert refusal.problem is Problem.ALTERED


def _edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(_bundle())
    edit(fields)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"7",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        _bundle()[:-20],
        b" " * (MOST_BYTES + 1),
        _edited(lambda f: f.update(mediaType="application/json")),
        _edited(lambda f: f["dsseEnvelope"].update(payloadType="application/json")),
        _edited(lambda f: f["dsseEnvelope"].update(payload="*")),
        _edited(lambda f: f["dsseEnvelope"].update(signatures=[])),
        _edited(lambda f: f["dsseEnvelope"]["signatures"].append({"sig": ""})),
        _edited(lambda f: f["verificationMaterial"].pop("publicKey")),
        _edited(lambda f: f.pop("dsseEnvelope")),
    ],
)
def test_a_bundle_that_cannot_be_read(signature: bytes) -> None:
    refusal = _refusal(signature)
    assert refusal.problem is Problem.DAMAGED
    assert len(str(refusal)) < 600


def _statement(edit: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(Statement("iris", FILES).to_json())
    edit(fields)
    return json.dumps(fields).encode()


def _named(name: str) -> bytes:
    """Return a consistent statement with a file of this name."""
    return Statement("iris", {name: "0" * 64}).to_json()


@pytest.mark.parametrize(
    "payload",
    [
        *map(
            _named,
            ["../model.joblib", "/etc/passwd", "a/../../b", "a//b", "./a", "", "a\\..\\b", "a\0"],
        ),
        _named("model.sig"),
        b"{}",
        b"not JSON",
        _statement(lambda f: f.update(_type="https://in-toto.io/Statement/v0.1")),
        _statement(lambda f: f.update(predicateType="https://model_signing/Digests/v0.1")),
        _statement(lambda f: f.update(subject=[])),
        _statement(lambda f: f["subject"][0]["digest"].update(sha256="0" * 64)),
        _statement(lambda f: f["predicate"]["serialization"].update(method="shards")),
        _statement(lambda f: f["predicate"]["serialization"].update(hash_type="blake3")),
        _statement(lambda f: f["predicate"]["resources"][0].update(algorithm="md5")),
        _statement(lambda f: f["predicate"]["resources"][0].update(digest="12")),
        _statement(lambda f: f["predicate"]["resources"].append(f["predicate"]["resources"][0])),
        _statement(lambda f: f["predicate"].pop("resources")),
    ],
)
def test_a_statement_that_no_folder_can_have_although_a_trusted_key_signed_it(
    payload: bytes,
) -> None:
    assert _refusal(_signed(payload)).problem is Problem.DAMAGED


def test_the_signature_of_another_folder_with_the_same_model_file() -> None:
    other = {**FILES, "manifest.json": hashlib.sha256(b'{"name": "other"}').hexdigest()}
    assert "altered: manifest.json" in str(_refusal(_bundle(), files=other))


@pytest.mark.parametrize("signature", [None, b"", make_bundle(FILES, name="", private_key=OTHER)])
def test_a_warning_instead_of_a_refusal(
    signature: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(Mode.WARN, POLICY.trusted)
    assert policy.check(FILES, signature, what="iris") is None
    assert "iris" in caplog.text
    assert "signing.mode is warn" in caplog.text
    assert Policy(Mode.OFF).check(FILES, signature, what="iris") is None


def test_a_policy_comes_to_a_server_without_a_secret() -> None:
    policy = Policy(Mode.REQUIRED, POLICY.trusted, frozenset({"0" * 64}))
    text = policy.to_json()
    assert parse_policy(text) == policy
    assert "PRIVATE" not in text


@pytest.mark.parametrize(
    "text", ["", "7", "{}", '{"mode": "none", "trusted": [], "revoked": []}', "[" * 100_000]
)
def test_a_damaged_policy_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_policy(text)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_key_of_the_organisation(curve: ec.EllipticCurve) -> None:
    private = _private_pem(ec.generate_private_key(curve))
    pem = public_pem(private)
    bundle = make_bundle(FILES, name="iris", private_key=private)
    signed = verify_bundle(bundle, trusted={fingerprint(pem): pem}, revoked=frozenset())
    assert signed.fingerprint == fingerprint(pem)
    assert public_pem(pem.encode()) == pem


def _private_pem(key: Any, password: bytes = b"") -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return pem


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"not a key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        _private_pem(ed25519.Ed25519PrivateKey.generate()),
        _private_pem(ec.generate_private_key(ec.SECP256K1())),
        _private_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
    ],
)
def test_a_file_without_a_usable_key(pem: bytes) -> None:
    with pytest.raises(KeyFileError, match="P-256, P-384 or P-521"):
        public_pem(pem)


def test_reading_a_bundle_believes_nothing() -> None:
    envelope = parse_bundle(_bundle())
    assert envelope.hint == fingerprint(PEM)
    assert parse_statement(envelope.payload).files == FILES


@pytest.mark.parametrize("problem", Problem)
def test_each_problem_has_a_remedy_with_a_command(problem: Problem) -> None:
    assert "`mlops-pipeline sign iris/0123`" in remedy(problem, "iris/0123")
