"""Access: who is let in, by headers alone."""

import pytest
from multidict import CIMultiDict

from gpubalancer.control.access import CONTENT, HOST, MISSING, ORIGIN, WRONG, Access, Refusal, is_loopback_host, refuse

LOCAL = {"Host": "127.0.0.1:8081"}
TOKEN = "open sesame"


def judge(access: Access, token: str | None, headers: dict[str, str]) -> Refusal | None:
    """Judge headers as aiohttp hands them over."""
    return refuse(access, CIMultiDict(headers), token)


@pytest.mark.parametrize("token", [None, "", TOKEN])
@pytest.mark.parametrize("headers", [{}, {"Host": "evil.example"}, {"Authorization": "Bearer nonsense"}])
def test_open_routes_let_everybody_in(token: str | None, headers: dict[str, str]) -> None:
    """Health is told to anybody."""
    assert judge("open", token, headers) is None


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize(
    ("authorization", "refusal"),
    [
        (f"Bearer {TOKEN}", None),
        (f"bearer   {TOKEN} ", None),
        ("", MISSING),
        ("Bearer", MISSING),
        ("Bearer ", MISSING),
        (f"Basic {TOKEN}", MISSING),
        (TOKEN, MISSING),
        ("Bearer open", WRONG),
        (f"Bearer {TOKEN}!", WRONG),
        ("Bearer \udcff\xe9", WRONG),
    ],
)
def test_a_token_is_wanted_where_there_is_one(access: Access, authorization: str, refusal: Refusal | None) -> None:
    """Only the very token passes; its host does not matter then."""
    assert judge(access, TOKEN, {"Host": "admin.example", "Authorization": authorization}) is refusal


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_only_loopback_names_are_hosts(access: Access, token: str | None) -> None:
    """A stranger's name that points at this machine is refused, and so is a request without a host."""
    assert judge(access, token, LOCAL) is None
    assert judge(access, token, {"Host": "rebound.example:8081"}) is HOST
    assert judge(access, token, {}) is HOST


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST:8081", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("[::1]:8081", True),
        ("::1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
        ("evil.example@localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("2130706433", False),
        ("[", False),
        ("", False),
    ],
)
def test_loopback_hosts(host: str, loopback: bool) -> None:
    """Names that only look like loopback are none."""
    assert is_loopback_host(host) == loopback


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, None),
        ({"Content-Type": "application/json"}, None),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, None),
        ({"Content-Type": "application/x-www-form-urlencoded"}, CONTENT),
        ({"Content-Type": "multipart/form-data; boundary=x"}, CONTENT),
        ({"Content-Type": "text/plain"}, CONTENT),
        ({"Content-Type": "application/octet-stream"}, None),
        ({"Origin": "http://127.0.0.1:8081"}, None),
        ({"Origin": "http://127.0.0.1:3000"}, ORIGIN),
        ({"Origin": "https://evil.example"}, ORIGIN),
        ({"Origin": "null"}, ORIGIN),
        ({"Origin": "http://["}, ORIGIN),
        ({"Sec-Fetch-Site": "cross-site"}, ORIGIN),
        ({"Sec-Fetch-Site": "same-site"}, ORIGIN),
        ({"Sec-Fetch-Site": "same-origin"}, None),
        ({"Sec-Fetch-Site": "none"}, None),
    ],
)
def test_a_page_of_another_site_changes_nothing(headers: dict[str, str], refusal: Refusal | None) -> None:
    """Forms, other origins and cross-site fetches are refused for writing, with a token too, and not for reading."""
    assert judge("write", None, LOCAL | headers) is refusal
    assert judge("write", TOKEN, LOCAL | headers | {"Authorization": f"Bearer {TOKEN}"}) is refusal
    assert judge("read", None, LOCAL | headers) is None
