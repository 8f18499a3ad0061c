"""Secrets by their surroundings."""

import base64

import pytest

from gpubalancer.brain.sensitivity.credentials import entropy_bits, is_placeholder
from tests.brain.sensitivity.scanning import found

BEGIN = "-----BEGIN {}PRIVATE KEY-----"
BODY = "MIIEvQ" + "IBADANBgkqhkiG9w0BAQEF"
HEAD = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        BEGIN.format("") + "\n" + BODY,
        BEGIN.format("OPENSSH ") + "\\n" + BODY,
        BEGIN.format("RSA ") + "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,3F17\n\n" + BODY,
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + BODY,
        '{"private_key": "' + BEGIN.format("") + "\\n" + BODY,
        HEAD + ".eyJzdWIiOiIxIn0." + "c2lnbmF0dXJl",
        "postgres://app:" + "S3cretPw@db.example.com/x",
        "mongodb+srv://app:" + "S3cretPw@db",
        "redis://:" + "S3cretPw@cache:6379",
        "password: " + "Tr0ub4dor&3",
        "DB_PASSWORD=" + "abc12345def!",
        '"pwd": "' + 'kX9$mQ2z"',
        "access_token=" + "3f5a9c7e1b2d4f6a8c0e",
        "accessToken: " + "3f5a9c7e1b2d4f6a8c0e",
        "api_key = '" + "3f5a9c7e1b2d4f6a8c0e'",
        "client_secret: " + "kYIWuFAQJzbukSFTQakkQuMz",
        "Authorization: Basic " + "dXNlcjpwYXNzd29yZDEyMw==",
        "AccountKey=" + "aB3dE6gH9jK2mN5p" * 5 + "Q7rS8t==",
        "https://x.blob.example/?sv=1&sig=" + "aB3dE6gH9jK2mN5pQ7rS8tU1vW4xY0zA2bC5dE8f" + "g%2Fh%3D",
        "aws secret access key: " + "aB3dE6gH9jK2mN5pQ7rS8tU1vW4xY0zA2bC5dE8f",
    ],
)
def test_secrets(text: str) -> None:
    """Keys in armour, passwords in URLs and assignments, signed tokens and cloud keys are found."""
    assert found(text) == {"secrets": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a file begins with " + BEGIN.format("") + " and goes on",
        "-----BEGIN PUBLIC KEY-----\n" + BODY,
        "eyJhIjoiYiJ9abcd.eyJzdWIiOiIxIn0",
        "eyJhbGciOjV9.eyJzdWIiOiIxIn0",
        "eyJ____________.eyJzdWIiOiIxIn0",
        "postgres://user:password@localhost/db",
        "postgres://user:${DB_PASS}@localhost/db",
        "https://example.com:8080/a@b",
        "password: correct horse",
        "password = os.environ['DB_PASSWORD_1']",
        "api_key: ${SERVICE_API_KEY_2}",
        "token = make_token(user_1, 12)",
        "password: <your password 1>",
        "secretName: my-tls",
        "token: getUserAuthenticationTokenName",
        "token_count: 1234567890123456",
        "the password is hunter2",
        "Authorization: Bearer <token>",
        "password: changeme123",
        "credentialsId: 29f63271-dc2f-4734-8221-5b31b5169bac",
        "TOKEN_AUDIENCE = 25872395-ed3a-4703-b647-22ec53f3683c",
        "notes: jsonwebtoken:jjwt-jackson-0.11.2",
    ],
)
def test_no_secrets(text: str) -> None:
    """Public keys, other JSON, variables, calls, placeholders and words are none."""
    assert found(text) == {}


def test_entropy() -> None:
    """One letter has none, two in turn have a bit, sixteen different ones have four."""
    assert entropy_bits(b"aaaa") == 0
    assert entropy_bits(b"abab") == 1
    assert entropy_bits(b"0123456789abcdef") == 4


def test_placeholders() -> None:
    """References and words of documentation stand for a secret."""
    assert all(map(is_placeholder, (b"vault:a/b", b"%s", b"$TOKEN", b"YourKeyHere1", b"file:/run/key")))
    assert not is_placeholder(b"kX9$mQ2z")
