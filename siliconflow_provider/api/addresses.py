"""Where results may come from: an answer of the service must not lead into the network around us."""

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
    """Return `public`, `loopback`, `link-local` or `private`; an IPv4 address within one of IPv6 counts as itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        ip = inner or ip
    # The address of no host is this host's, when it is connected to.
    if ip.is_loopback or ip.is_unspecified:
        return LOOPBACK
    if ip.is_link_local:
        return "link-local"
    return PUBLIC if ip.is_global and not ip.is_multicast else "private"


def checked_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that results may come from, as they are compared.

    :param hosts: names such as `bucket.example.com`, or `*.example.com` for all below one
    :raises InvalidRequestError: when one is no name
    """
    checked = tuple(str(each).strip().lower().removeprefix("*") for each in hosts)
    for each in checked:
        if not each.strip(".") or any(mark in each for mark in "/@*? ") or (":" in each and each.count(":") < 2):
            raise InvalidRequestError(
                f"storage_hosts has {each!r}: give names of hosts, such as 'bucket.example.com' or '*.example.com'"
            )
    return checked


class ResultHosts:
    """Where files may be fetched from, beside the API itself.

    :param base_url: the API; where it is on this machine, or in a private network, results may be there too
    :param hosts: the only ones that results may come from; all, where there are none
    """

    def __init__(self, base_url: str, hosts: Collection[str] = ()) -> None:
        api = urlsplit(base_url)
        self._is_secure = api.scheme == "https"
        self._host = api.hostname or ""
        self._port = api.port or (443 if self._is_secure else 80)
        self._hosts = checked_hosts(hosts)

    def check_url(self, url: str) -> None:
        """Raise UnsafeAddressError when nothing may be fetched from a URL."""
        parts = urlsplit(url)
        host = (parts.hostname or "").removesuffix(".")
        if self._is_secure and parts.scheme != "https":
            raise UnsafeAddressError(
                f"results at {host} are offered over {parts.scheme}, and the API is on https: nothing was fetched; "
                "tell the service's support"
            )
        if host == self._host:
            return
        if self._hosts and not any(host == each or (each[0] == "." and host.endswith(each)) for each in self._hosts):
            raise UnsafeAddressError(
                f"results are offered at {host}, which the connection's storage_hosts does not name: nothing was "
                "fetched; add it there if it is the service's"
            )
        # What a name stands for is checked once it is connected to; behind a proxy, only this is.
        kind = LOOPBACK if host == "localhost" or host.endswith(".localhost") else _kind_of_literal(host)
        self._check_kind(host, kind)

    def check_peer(self, host: str, port: int, address: str) -> None:
        """Raise UnsafeAddressError when a connection has come about that must not be.

        :param address: the IP address that is at the other end
        """
        if (host, port) != (self._host, self._port):
            self._check_kind(host, kind_of_address(address))

    def _check_kind(self, host: str, kind: str) -> None:
        if kind != PUBLIC and kind not in self._kinds_of_api:
            raise UnsafeAddressError(
                f"results are offered at {host}, a {kind} address, and the API has none: nothing was fetched; tell the "
                "service's support"
            )

    @cached_property
    def _kinds_of_api(self) -> frozenset[str]:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return frozenset()
        return frozenset(kind_of_address(str(each[4][0])) for each in found)


def _kind_of_literal(host: str) -> str:
    try:
        return kind_of_address(host)
    except ValueError:
        return PUBLIC
