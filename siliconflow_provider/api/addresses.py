"""Check download URLs: a response of the service must not send a request into the local network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from functools import cached_property
from urllib.parse import urlsplit

from siliconflow_provider.api.errors import InvalidRequestError, UnsafeAddressError

PUBLIC, LOOPBACK = "public", "loopback"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def kind_of_address(address: str) -> str:
    """Return `public`, `loopback`, `link-local` or `private`. An embedded IPv4 address counts as an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        ip = inner or ip
    # A connection to the unspecified address reaches this machine.
    if ip.is_loopback or ip.is_unspecified:
        return LOOPBACK
    if ip.is_link_local:
        return "link-local"
    return PUBLIC if ip.is_global and not ip.is_multicast else "private"


def checked_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the allowed download hosts in the form that `ResultHosts` compares.

    :param hosts: host names such as `bucket.example.com`, or `*.example.com` for all subdomains
    :raises InvalidRequestError: if one is not a host name
    """
    checked = tuple(str(host).strip().lower().removeprefix("*") for host in hosts)
    for host in checked:
        if not host.strip(".") or any(mark in host for mark in "/@*? ") or (":" in host and host.count(":") < 2):
            raise InvalidRequestError(
                f"storage_hosts has {host!r}: give host names, such as 'bucket.example.com' or '*.example.com'"
            )
    return checked


class ResultHosts:
    """The hosts that files may be downloaded from, besides the API.

    :param base_url: the API. If it is on this machine or in a private network, downloads from there are allowed too
    :param hosts: the only allowed hosts; empty allows all public hosts
    """

    def __init__(self, base_url: str, hosts: Collection[str] = ()) -> None:
        api = urlsplit(base_url)
        self._is_secure = api.scheme == "https"
        self._host = api.hostname or ""
        self._port = api.port or (443 if self._is_secure else 80)
        self._hosts = checked_hosts(hosts)

    def check_url(self, url: str) -> None:
        """Raise UnsafeAddressError if downloads from a URL are not allowed."""
        parts = urlsplit(url)
        host = (parts.hostname or "").removesuffix(".")
        if self._is_secure and parts.scheme != "https":
            raise UnsafeAddressError(
                f"the result URL at {host} uses {parts.scheme}, but the API uses https: nothing was downloaded; "
                "report this to the service's support"
            )
        if host == self._host:
            return
        if self._hosts and not any(
            host == allowed or (allowed[0] == "." and host.endswith(allowed)) for allowed in self._hosts
        ):
            raise UnsafeAddressError(
                f"the result URL leads to {host}, which is not in the connection's storage_hosts: nothing was "
                "downloaded; add the host there if it belongs to the service"
            )
        # check_peer checks the IP address of a name after connecting, but not behind a proxy.
        kind = LOOPBACK if host == "localhost" or host.endswith(".localhost") else _kind_of_literal(host)
        self._check_kind(host, kind)

    def check_peer(self, host: str, port: int, address: str) -> None:
        """Raise UnsafeAddressError if a new connection leads to an address that is not allowed.

        :param address: the IP address of the peer
        """
        if (host, port) != (self._host, self._port):
            self._check_kind(host, kind_of_address(address))

    def _check_kind(self, host: str, kind: str) -> None:
        if kind != PUBLIC and kind not in self._kinds_of_api:
            raise UnsafeAddressError(
                f"the result URL leads to {host}, a {kind} address, but the API does not: nothing was downloaded; "
                "report this to the service's support"
            )

    @cached_property
    def _kinds_of_api(self) -> frozenset[str]:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return frozenset()
        return frozenset(kind_of_address(str(socket_address[0])) for *_, socket_address in found)


def _kind_of_literal(host: str) -> str:
    try:
        return kind_of_address(host)
    except ValueError:
        return PUBLIC
