"""The section `backends`: URLs, and what is derived from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.backends import Address, Backend, parse_url
from gpubalancer.policy.tiers import DEFAULT_TIERS, Tier


def backend(url: str = "http://127.0.0.1:8000", **settings: object) -> Backend:
    """A backend with these settings."""
    return Backend.model_validate({"url": url, **settings})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.11:8000", Address("10.0.0.11", 8000, False, "")),
        ("https://api.example.com/v1", Address("api.example.com", 443, True, "/v1")),
        ("https://api.example.com/v1/", Address("api.example.com", 443, True, "/v1")),
        ("http://Example.COM/", Address("example.com", 80, False, "")),
        ("http://[::1]:8000/a/b", Address("::1", 8000, False, "/a/b")),
    ],
)
def test_urls_are_taken_apart(url: str, address: Address) -> None:
    """Host, port, scheme and path come out of the URL."""
    assert parse_url(url) == address
    made = backend(url)
    assert Address(made.host, made.port, made.is_tls, made.path_prefix) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("10.0.0.11:8000", "http:// or https://"),
        ("ftp://a", "http:// or https://"),
        ("http://u:p@a", "without a user or password"),
        ("http://a?x=1", "without ? and #"),
        ("http://a/#", "without ? and #"),
        ("http://", "a URL such as"),
        ("http://a:99999", "a URL such as"),
        ("http://a:0", "a URL such as"),
        ("http://a:b", "a URL such as"),
        ("http://[::1", "a URL such as"),
        ("http://a b", "a URL such as"),
        ("http://a\n.com", "a URL such as"),
        ("http://1.2.3", "a URL such as"),
        ("http://é.com", "a URL such as"),
        ("", "a URL such as"),
        (5, "a URL such as"),
        (None, "a URL such as"),
    ],
)
def test_a_wrong_url_says_what_was_expected(url: object, said: str) -> None:
    """What is no server's root is refused with a message that helps."""
    with pytest.raises(ValueError, match="a URL") as caught:
        parse_url(url)
    assert said in str(caught.value)


@given(st.text(max_size=30) | st.text(max_size=30).map("http://".__add__) | st.text(max_size=9).map("http://[".__add__))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """No text raises anything but ValueError, and what is taken has a host and a port."""
    try:
        address = parse_url(text)
    except ValueError:
        return
    assert address.host
    assert 0 < address.port < 65_536


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://gpu-1:8000", "gpu-1:8000"), ("https://[fd00::1]/v1", "[fd00::1]:443"), ("http://a", "a:80")],
)
def test_a_name_is_host_and_port(url: str, name: str) -> None:
    """Where the file gives no name, the address is it."""
    assert backend(url).name == name
    assert backend(url, name="mine").name == "mine"


@pytest.mark.parametrize(("kind", "slots"), [("gpu", 64), ("cpu", 4), ("cloud", 256), (None, 64)])
def test_slots_by_kind(kind: str | None, slots: int) -> None:
    """Each kind has its usual number of slots, and the file may say another."""
    assert backend(kind=kind).slots == slots
    assert backend(kind=kind, slots=7).slots == 7


@pytest.mark.parametrize(
    ("models", "read"),
    [(["a", "b"], {"a": "a", "b": "b"}), ({"a": "x/a"}, {"a": "x/a"}), (None, None)],
)
def test_models_are_public_names_to_the_servers_own(models: object, read: object) -> None:
    """A list names models as the server does; without one the server is asked."""
    assert backend(models=models).models == read


@pytest.mark.parametrize("models", [[], {}, "a", ["a", "a"], ["a b"], [5], {"a": None}, [["a"]], 5])
def test_wrong_models_are_refused(models: object) -> None:
    """Neither nothing, nor one name without a list, nor doubled names are models."""
    with pytest.raises(ValueError, match="model"):
        backend(models=models)


@pytest.mark.parametrize(
    ("url", "kind", "clearance"),
    [
        ("http://127.0.0.1:1", None, "restricted"),
        ("http://localhost:1", "gpu", "restricted"),
        ("http://[fd00::1]:1", None, "restricted"),
        ("http://10.0.0.1:1", "cloud", "public"),
        ("http://8.8.8.8", "gpu", "public"),
        ("http://gpu-1.lan", "gpu", "public"),
        ("http://169.254.169.254", "gpu", "public"),
    ],
)
def test_what_an_address_alone_may_see(url: str, kind: str | None, clearance: str) -> None:
    """Only a private or loopback address vouches for a tier above the lowest."""
    assert backend(url, kind=kind).cleared(DEFAULT_TIERS).clearance == clearance


def test_a_default_clearance_keeps_to_the_tiers_networks() -> None:
    """The highest tier that the address may have, not the highest of all."""
    tiers = [
        Tier.model_validate({"name": name, "networks": [net]})
        for name, net in (("a", "0.0.0.0/0"), ("b", "10.0.0.0/8"))
    ]
    assert backend("http://192.168.0.1").cleared(tiers).clearance == "a"
    assert backend("http://10.0.0.1").cleared(tiers).clearance == "b"


def test_a_given_clearance_stays() -> None:
    """The file knows better."""
    assert backend(clearance="internal").cleared(DEFAULT_TIERS).clearance == "internal"


@pytest.mark.parametrize("metrics", ["/metrics", "http://10.0.0.1:9400/metrics"])
def test_metrics_are_a_path_or_a_url(metrics: str) -> None:
    """Both are kept as they stand."""
    assert backend(telemetry={"metrics": metrics}).telemetry.metrics == metrics


def test_telemetry_has_an_agent_or_an_exporter() -> None:
    """Where the GPUs are told of, the token for it, and which of them are meant."""
    telemetry = backend(
        telemetry={
            "agent": "http://10.0.0.1:9400",
            "credential": "test-token",
            "exporter": "http://10.0.0.1:9401/metrics",
            "gpus": [0, 3],
        }
    ).telemetry
    assert (telemetry.agent, telemetry.exporter) == ("http://10.0.0.1:9400", "http://10.0.0.1:9401/metrics")
    assert telemetry.credential is not None
    assert telemetry.credential.get_secret_value() == "test-token"
    assert telemetry.gpus == (0, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"telemetry": {"metrics": "metrics"}},
        {"telemetry": {"map": {"a b": "running"}}},
        {"telemetry": {"map": {"a": "fast"}}},
        {"telemetry": {"exporter": "/metrics"}},
        {"telemetry": {"metrics": 5}},
        {"telemetry": {"gpus": [-1]}},
        {"paths": ["custom"]},
        {"paths": ["/a*b"]},
        {"paths": ["/a?b"]},
        {"upgrades": ["v1"]},
        {"apis": ["chat", "telepathy"]},
        {"kind": "tpu"},
        {"slots": 0},
        {"labels": {"zone": ""}},
        {"price": {"usd_per_hour": -1}},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    """Each of these would do something else than what was meant."""
    with pytest.raises(ValueError, match="validation error"):
        Backend.model_validate({"url": "http://127.0.0.1:8000", **settings})


def test_claims_may_end_in_a_star() -> None:
    """A prefix, a path, and everything."""
    assert backend(paths=["/custom/*", "/run", "/*"]).paths == ("/custom/*", "/run", "/*")
