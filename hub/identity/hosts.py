"""Which Host names and Origins are ours: the answer to DNS rebinding and to other sites' scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from hub.settings import Settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
DEFAULT_PORTS = {"http": 80, "https": 443}


class Hosts:
    """The allow-list of one hub. Names compare in lower case, with their port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_port: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def host_allowed(self, host: str, server: tuple[str, int | None] | None) -> bool:
        """Whether a `Host` header names us; `server` is the local address of the connection.

        The literal address that the connection came to is allowed: a rebinding attack needs a name.
        """
        host = host.lower()
        if host in self._sets(server)[0]:
            return True
        return server is not None and host == _with_port(_bracketed(server[0]), server[1] or 0)

    def origin_allowed(self, origin: str, host: str, server: tuple[str, int | None] | None) -> bool:
        """Whether an `Origin` header is ours or was allowed by the administrator; `null` never is."""
        origin = origin.lower()
        return origin in self._sets(server)[1] or (
            origin == f"http://{host.lower()}" and self.host_allowed(host, server)
        )

    def _sets(self, server: tuple[str, int | None] | None) -> tuple[frozenset[str], frozenset[str]]:
        # Port 0 means that the system chose one; only the connection knows it.
        port = self._settings.port or (server[1] if server and server[1] else 0)
        known = self._by_port.get(port)
        if known is None:
            known = self._by_port[port] = (
                frozenset(_allowed_hosts(self._settings, port)),
                frozenset(_allowed_origins(self._settings, port)),
            )
        return known


def is_loopback(host: str) -> bool:
    """Whether an address or name of ours can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _allowed_hosts(settings: Settings, port: int) -> Iterable[str]:
    for name in (*LOOPBACK_NAMES, _bracketed(settings.host)):
        yield _with_port(name, port)
        if port == DEFAULT_PORTS["http"]:
            yield name.lower()
    for name in settings.allowed_hosts:
        yield name.lower()
        yield _with_port(name, port)
    if settings.public_url:
        yield from _netlocs(settings.public_url)


def _allowed_origins(settings: Settings, port: int) -> Iterable[str]:
    for host in _allowed_hosts(settings, port):
        # What stands in front of a name from `allowed_hosts` may speak TLS; loopback speaks what we speak.
        yield f"http://{host}"
        if host.rpartition(":")[0] not in LOOPBACK_NAMES:
            yield f"https://{host}"
    for origin in settings.allowed_origins:
        yield origin.lower().rstrip("/")


def _netlocs(url: str) -> Iterable[str]:
    parts = urlsplit(url)
    if not parts.hostname:
        return
    name = _bracketed(parts.hostname)
    default = DEFAULT_PORTS.get(parts.scheme, 0)
    if parts.port is None or parts.port == default:
        yield name
    yield f"{name}:{parts.port or default}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _with_port(name: str, port: int) -> str:
    return f"{name}:{port}".lower()
