"""Secrets in the forms that services give out, put together at run time: no whole one stands in this file."""

import base64
import json
import string
from collections.abc import Callable
from random import Random

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"
Make = Callable[[Random], str]


def letters(random: Random, count: int, alphabet: str = ALNUM) -> str:
    """Random letters."""
    return "".join(random.choices(alphabet, k=count))


def _of(prefix: str, count: int, alphabet: str = ALNUM, suffix: str = "") -> Make:
    return lambda random: prefix + letters(random, count, alphabet) + suffix


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def jwt(random: Random) -> str:
    """A signed token of RFC 7519."""
    head = {"alg": random.choice(("HS256", "RS256", "ES256")), "typ": "JWT"}
    body = {"sub": letters(random, 10), "iat": random.randint(1_600_000_000, 1_800_000_000)}
    return ".".join((*(_encoded(json.dumps(part).encode()) for part in (head, body)), letters(random, 43, URL_SAFE)))


def private_key(random: Random) -> str:
    """A private key's armour and first lines; half of them on one line with escaped ends, as in JSON."""
    kind = random.choice(("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "))
    end = random.choice(("\n", "\\n"))
    lines = [f"-----BEGIN {kind}PRIVATE KEY-----", *(letters(random, 64, BASE64) for _ in range(4))]
    return end.join([*lines, f"-----END {kind}PRIVATE KEY-----"])


def password(random: Random) -> str:
    """A password as a generator makes it."""
    while True:
        made = letters(random, random.randint(12, 20), ALNUM + "!#%&*+-.:?^_~")
        if any(letter.isdigit() for letter in made) and any(letter.isalpha() for letter in made):
            return made


def _url(random: Random) -> str:
    scheme = random.choice(("postgres", "postgresql", "mysql", "mongodb+srv", "redis", "amqp", "https"))
    host = random.choice(("db.internal", "10.0.0.12:5432", "cache.example.com:6379", "localhost"))
    return (
        f"{scheme}://{random.choice(('app', 'root', 'svc_user'))}:{letters(random, random.randint(8, 20))}@{host}/main"
    )


def _assigned(random: Random) -> str:
    form = random.choice(
        ('password = "{}"', "DB_PASSWORD={}", "  password: {}", '"password": "{}"', "pwd='{}'", "passwd: '{}'")
    )
    return form.format(password(random))


def _assigned_key(random: Random) -> str:
    form = random.choice(
        ('api_key = "{}"', "API_KEY={}", "  api-key: {}", '"secret": "{}"', "client_secret='{}'", "access_token: {}")
    )
    return form.format(letters(random, random.randint(24, 40)))


TOKENS: tuple[tuple[str, Make], ...] = (
    ("AWS key id", _of("AK" + "IA", 16, string.ascii_uppercase + "234567")),
    ("AWS secret", lambda random: f"aws_secret_access_key = {letters(random, 40, BASE64)}"),
    ("Google API key", _of("AI" + "za", 35, URL_SAFE)),
    ("Azure storage", lambda random: f"AccountName=store;Account{'Key'}={letters(random, 86, BASE64)}=="),
    ("private key", private_key),
    ("GitHub", _of("gh" + "p_", 36)),
    ("GitHub fine-grained", _of("github" + "_pat_", 82, ALNUM + "_")),
    ("GitLab", _of("gl" + "pat-", 20, URL_SAFE)),
    ("Slack", lambda random: f"xo{'xb'}-{letters(random, 12, string.digits)}-{letters(random, 24)}"),
    ("Stripe", _of("sk" + "_live_", 24)),
    ("OpenAI", _of("sk" + "-proj-", 120, URL_SAFE)),
    ("OpenAI, old", lambda random: f"s{'k-'}{letters(random, 20)}T3Blbk{'FJ'}{letters(random, 20)}"),
    ("Anthropic", _of("sk" + "-ant-api03-", 93, URL_SAFE, "AA")),
    ("Hugging Face", _of("h" + "f_", 34)),
    ("npm", _of("np" + "m_", 36)),
    ("PyPI", _of("py" + "pi-AgEIcHlwaS5vcmc", 150, URL_SAFE)),
    ("Twilio", _of("S" + "K", 32, HEX)),
    ("SendGrid", lambda random: f"S{'G.'}{letters(random, 22, URL_SAFE)}.{letters(random, 43, URL_SAFE)}"),
    (
        "Telegram",
        lambda random: f"7{letters(random, 9, string.digits)}:A{'A'}{letters(random, 33, URL_SAFE)}",
    ),
    ("JWT", jwt),
    ("URL with a password", _url),
    ("password", _assigned),
    ("key", _assigned_key),
    ("bearer", lambda random: f"Authorization: Bearer {letters(random, 40)}"),
)
