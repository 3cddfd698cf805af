from __future__ import annotations

import io
import socket
from typing import Any

import pytest

from siliconflow_provider.api.addresses import ResultHosts, checked_hosts, kind_of_address
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ConnectionFailedError, InvalidRequestError, UnsafeAddressError

PUBLIC_API = "https://8.8.8.8/v1"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"),
        ("2001:4860:4860::8888", "public"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::1", "loopback"),
        ("::", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("224.0.0.1", "private"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b::808:808", "public"),
    ],
)
def test_address_has_a_kind(address: str, kind: str) -> None:
    assert kind_of_address(address) == kind


@pytest.mark.parametrize(
    ("base_url", "url", "is_refused"),
    [
        (PUBLIC_API, "https://bucket.example.com/a?b", False),
        (PUBLIC_API, "https://9.9.9.9/a", False),
        (PUBLIC_API, "http://bucket.example.com/a", True),
        (PUBLIC_API, "https://127.0.0.1/a", True),
        (PUBLIC_API, "https://localhost/a", True),
        (PUBLIC_API, "https://a.localhost./a", True),
        (PUBLIC_API, "https://[::1]/a", True),
        (PUBLIC_API, "https://169.254.169.254/latest", True),
        (PUBLIC_API, "https://10.0.0.1/a", True),
        ("http://8.8.8.8/v1", "http://bucket.example.com/a", False),
        ("http://8.8.8.8/v1", "https://bucket.example.com/a", False),
        ("http://127.0.0.1:8900/v1", "http://127.0.0.1:8901/a", False),
        ("http://127.0.0.1:8900/v1", "http://[::1]:8901/a", False),
        ("http://127.0.0.1:8900/v1", "http://10.0.0.1/a", True),
        ("http://127.0.0.1:8900/v1", "http://169.254.169.254/a", True),
        ("https://10.0.0.1/v1", "https://10.9.9.9/a", False),
        ("https://10.0.0.1/v1", "https://169.254.169.254/a", True),
        ("https://10.0.0.1/v1", "https://127.0.0.1/a", True),
        ("https://10.0.0.1/v1", "https://10.0.0.1:9000/a", False),
    ],
)
def test_result_url_must_not_lead_into_local_network(base_url: str, url: str, is_refused: bool) -> None:
    hosts = ResultHosts(base_url)
    if is_refused:
        with pytest.raises(UnsafeAddressError, match=r"^the result URL (at|leads to) \S+ .*: nothing was downloaded"):
            hosts.check_url(url)
    else:
        hosts.check_url(url)


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [
        ("bucket.oss.example.com", False),
        ("a.b.oss.example.com", False),
        ("results.example.org", False),
        ("RESULTS.example.org", False),
        ("8.8.8.8", False),
        ("oss.example.com", True),
        ("evil-oss.example.com", True),
        ("a.results.example.org", True),
        ("results.example.org.evil.com", True),
    ],
)
def test_storage_hosts_limit_the_allowed_hosts(host: str, is_refused: bool) -> None:
    hosts = ResultHosts(PUBLIC_API, ["*.oss.example.com", " results.example.ORG "])
    if is_refused:
        with pytest.raises(UnsafeAddressError, match="which is not in the connection's storage_hosts"):
            hosts.check_url(f"https://{host}/a")
    else:
        hosts.check_url(f"https://{host}/a")


@pytest.mark.parametrize("host", ["https://a.b", "a.b/c", "a.b:443", "a@b", "*", "", ".", "a *.b", "a.*.b"])
def test_invalid_host_name_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^storage_hosts has "):
        checked_hosts([host])


def test_loopback_result_of_a_remote_api_is_refused(storage: Any, key: str, held_time: Any) -> None:
    client = SiliconFlowClient(key, "http://8.8.8.8/v1", max_retries=0)
    with pytest.raises(UnsafeAddressError, match=r"^the result URL leads to 127\.0\.0\.1, a loopback address, but the"):
        client.download(storage.signed_url, io.BytesIO())
    assert storage.received == []


def test_host_name_is_checked_by_its_ip_address(
    storage: Any, key: str, held_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check of the name before connecting could see another address."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *arguments, **options: look_up(
            "127.0.0.1" if host == "bucket.example.com" else host, *arguments, **options
        ),
    )
    url = storage.signed_url.replace("127.0.0.1", "bucket.example.com")
    client = SiliconFlowClient(key, "http://8.8.8.8/v1", max_retries=0)
    with pytest.raises(UnsafeAddressError, match=r"^the result URL leads to bucket\.example\.com, a loopback address"):
        client.download(url, io.BytesIO())
    assert storage.received == []
    storage.text("signed")
    assert SiliconFlowClient(key, "http://localhost:1/v1").download(url, io.BytesIO()) == 6


def test_redirect_target_is_checked_too(server: Any, storage: Any, key: str, held_time: Any) -> None:
    server.redirects("http://169.254.169.254/latest/meta-data").redirects(storage.signed_url)
    caller = SiliconFlowClient(key, server.base_url)
    with pytest.raises(UnsafeAddressError, match=r"^the result URL leads to 169\.254\.169\.254, a link-local address"):
        caller.download("file-1", io.BytesIO())
    narrow = SiliconFlowClient(key, server.base_url.replace("127.0.0.1", "localhost"), storage_hosts=["a.example.com"])
    with pytest.raises(UnsafeAddressError, match=r"is not in the connection's storage_hosts"):
        narrow.download("file-1", io.BytesIO())
    assert (len(server.received), storage.received) == (2, [])


@pytest.mark.parametrize(
    "proxy",
    [
        "foo://x",
        "ftp://127.0.0.1:1",
        "http://",
        "http://user:s3cret@",
        "http://host:99999",
        "http://host:x",
        "http://[",
    ],
)
def test_unusable_proxy_means_nothing_was_sent(
    proxy: str, key: str, held_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create that was not sent is not uncertain."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    client = SiliconFlowClient(key, "https://api.invalid/v1")
    with pytest.raises(
        InvalidRequestError, match=r"^the proxy .* for api\.invalid cannot be used: set HTTPS_PROXY"
    ) as caught:
        client.create_batch("file-1")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("REQUESTS_CA_BUNDLE", "/no/such/file", ConnectionFailedError),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", InvalidRequestError),
    ],
)
def test_unusable_settings_mean_nothing_was_sent(
    name: str, value: str, kind: type[Exception], key: str, held_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(kind):
        SiliconFlowClient(key, "https://127.0.0.1:1/v1", max_retries=0).create_batch("file-1")


def test_server_without_tls_was_sent_nothing(server: Any, key: str, held_time: Any) -> None:
    server.text("x")
    with pytest.raises(ConnectionFailedError):
        SiliconFlowClient(key, server.base_url.replace("http:", "https:"), max_retries=0).create_batch("file-1")
