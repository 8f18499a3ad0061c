"""The table of all settings."""

import pytest

from gpubalancer.policy.findings import Path
from gpubalancer.policy.settings import idle, is_secret, keys, one_of, pattern_of, settings
from tests.policy.reading import BACKEND, EXAMPLE, read


def test_every_setting_has_a_meaning() -> None:
    """A setting without a description is unfinished, and one sentence ends with a full stop."""
    assert len(settings()) > 100
    for setting in settings().values():
        assert setting.meaning.rstrip("*").endswith("."), setting.pattern
        assert setting.words, setting.pattern


@pytest.mark.parametrize(
    ("pattern", "words", "default"),
    [
        ("backends[].slots", "a whole number of at least 1", ""),
        ("listen.limits.body_timeout", "a duration such as 250ms, 10s, 5m, 1h or 1d, above zero", "1m"),
        (
            "listen.limits.head_bytes",
            "a size such as 64KiB, 32MiB or 1GiB, or a whole number of bytes, at least 1KiB",
            "32KiB",
        ),
        ("backends[].kind", "gpu, cpu or cloud", ""),
        ("backends[].url", "a URL such as http://10.0.0.11:8000 or https://api.example.com/v1", None),
        ("tenants[].models", 'a list, with in it a model\'s name, or a pattern such as "*" or "llama-*"', '["*"]'),
        ("models", "a mapping of mappings", ""),
        ("state.ledger", "sqlite, or a URL such as postgresql://user@10.0.0.5/gpubalancer", "sqlite"),
    ],
)
def test_what_settings_take(pattern: str, words: str, default: str | None) -> None:
    """Types and defaults are told in the file's own spelling."""
    assert (settings()[pattern].words, settings()[pattern].default) == (words, default)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ((), ""),
        (("backends", 3, "slots"), "backends[].slots"),
        (("models", "name", "aliases", 0), "models.*.aliases[]"),
        (("sensitivity", "detectors", "iban"), "sensitivity.detectors.iban"),
    ],
)
def test_patterns(path: Path, pattern: str) -> None:
    """Indexes and free keys are any."""
    assert pattern_of(path) == pattern


def test_keys_of_a_mapping() -> None:
    """The keys of one level only."""
    assert keys("")[:3] == ("version", "listen", "admin")
    assert keys("listen.tls") == ("certificate", "key", "client_ca")
    assert keys("models.*")[0] == "tokenizer"
    assert keys("listen.port") == ()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (("admin", "token"), True),
        (("backends", 0, "credential"), True),
        (("backends", 0, "credential", "deep", 3), True),
        (("tenants", 0, "keys", 1), True),
        (("state", "ledger"), True),
        (("state", "budgets"), True),
        (("tenants", 0, "budgets"), False),
        (("backends", 0, "url"), False),
        ((), False),
    ],
)
def test_secrets(path: Path, answer: bool) -> None:
    """What stands at a secret's place is a secret, however wrong."""
    assert is_secret(path) is answer


def test_choices_in_words() -> None:
    """The last one has an or."""
    assert (one_of(["a"]), one_of(["a", "b"]), one_of(["a", "b", "c"])) == ("a", "a or b", "a, b or c")


def test_what_is_set_but_not_acted_on_is_known() -> None:
    """The example sets much that waits for its part; the least file sets nothing of it."""
    assert idle(read(BACKEND)) == []
    waiting = idle(read(EXAMPLE.read_text()))
    for path in waiting:
        assert path.split("[")[0].split(".")[0] in keys("")
    assert idle(read(BACKEND + "listen: {port: 9}\n")) == []
