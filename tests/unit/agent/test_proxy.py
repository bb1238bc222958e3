"""Which way leads to the relay, as HTTPS_PROXY and NO_PROXY say it."""

import base64

import pytest

from fairlead_agent.proxy import is_excepted, parse_proxy, proxy_variables


def test_a_proxy_with_a_password_never_shows_it() -> None:
    """User and password are decoded for the header, and in nothing that may be logged."""
    proxy = parse_proxy("http://ann:p%40ss@proxy.example:3128")
    assert (proxy.address, proxy.tls) == ("proxy.example:3128", False)
    assert proxy.authorization == f"Basic {base64.b64encode(b'ann:p@ss').decode()}"
    assert "ann" not in repr(proxy)
    assert base64.b64encode(b"ann:p@ss").decode() not in repr(proxy)


@pytest.mark.parametrize(
    ("url", "address", "tls"),
    [
        ("proxy:8080", "proxy:8080", False),
        ("http://proxy", "proxy:80", False),
        ("https://proxy/", "proxy:443", True),
        ("http://[fd00::1]:3128", "fd00::1:3128", False),
    ],
)
def test_forms_of_an_address(url: str, address: str, tls: bool) -> None:  # noqa: FBT001
    """A scheme is optional, so is the port."""
    proxy = parse_proxy(url)
    assert (proxy.address, proxy.tls, proxy.authorization) == (address, tls, None)


@pytest.mark.parametrize("url", ["socks5://proxy:1", "http://:3128", "http://proxy:port", "http://u:secret@p:1/path?q"])
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    """The text may hold a password."""
    with pytest.raises(ValueError, match=r"^(it must look like|a proxy with the scheme)") as refused:
        parse_proxy(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("no_proxy", "host", "excepted"),
    [
        ("", "relay.example", False),
        ("*", "relay.example", True),
        ("example", "relay.example", True),
        (".example", "relay.example", True),
        ("*.example", "relay.example", True),
        ("lay.example", "relay.example", False),
        ("other, RELAY.example", "relay.example", True),
        ("relay.example:9443", "relay.example", True),
        ("relay.example:443", "relay.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("2.3", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "fd00::5", True),
        ("[fd00::5]:9443", "fd00::5", True),
    ],
)
def test_exceptions(no_proxy: str, host: str, excepted: bool) -> None:  # noqa: FBT001
    """Names with their subdomains, addresses, ranges, ports."""
    assert is_excepted(no_proxy, host, 9443) is excepted


def test_small_letters_win() -> None:
    """As curl and Python's own libraries read them."""
    found = proxy_variables({"HTTPS_PROXY": "a", "https_proxy": "b", "NO_PROXY": "c"})
    assert found == {"https_proxy": "b", "no_proxy": "c"}
