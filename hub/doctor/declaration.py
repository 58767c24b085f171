"""What can be seen in a declaration before anything is sent. Pure; values are judged and never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from hub.catalog.manifest import ServerSpec
from hub.doctor.checks import Finding, found

_PLACEHOLDER = re.compile(
    r"\$\{[^}]*\}|^\$[A-Z_]{3,}$|<[^<>]{2,60}>|\{\{[^}]*\}\}|%\(?[A-Z_]{3,}\)?s?%?$"
    r"|^(bearer\s+)?(x{3,}|\.{3}|…|your[-_ ].*|my[-_ ](api[-_ ]?)?(key|token)|change[-_ ]?me|todo|replace[-_ ]?me"
    r"|insert[-_ ].*)$",
    re.IGNORECASE,
)
_BARE_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")
_PLACEHOLDER_URL = re.compile(r"\$\{|\{\{|<[a-z]|%7B|your[-_]|\bexample\.(com|org|net)\b", re.IGNORECASE)
SHORTEST_SECRET = 6
"""Characters; what is shorter stands in too many words to be struck out of a text."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


def look(spec: ServerSpec) -> Iterator[Finding]:
    """All findings of a declaration."""
    for kind, values in (("header", spec.headers), ("environment variable", spec.env)):
        for name, secret in values.items():
            yield from _value(kind, name, secret.get_secret_value())
    for url in filter(None, (spec.url, spec.openapi, spec.base_url)):
        if _PLACEHOLDER_URL.search(url):
            yield found("address-placeholder", f"The URL is {_shown(url)}.")


def means_itself(url: str) -> bool:
    """Whether a URL says localhost where that is only this container."""
    return urlsplit(url).hostname in LOOPBACK and in_container()


def secrets_of(spec: ServerSpec) -> tuple[str, ...]:
    """What a declaration holds that nobody may be shown, the longest first: servers repeat what they are sent."""
    values = [secret.get_secret_value().strip() for secret in (*spec.headers.values(), *spec.env.values())]
    values += [word for value in values for word in value.split()]
    for url in filter(None, (spec.url, spec.openapi, spec.base_url)):
        query = urlsplit(url).query
        values += [query, *(value for pair in parse_qsl(query) for value in pair)]
    return tuple(sorted({value for value in values if len(value) >= SHORTEST_SECRET}, key=len, reverse=True))


def in_container() -> bool:
    """Whether this process runs in a container, by the marks that engines leave."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _value(kind: str, name: str, value: str) -> Iterator[Finding]:
    what = f"The {kind} {name}"
    bare = value.strip()
    if value != bare:
        yield found("secret-whitespace", f"{what} begins or ends with white space.")
    inner = bare.partition(" ")[2] if bare.lower().startswith(("bearer ", "basic ", "token ")) else bare
    if any(len(one) > 1 and one[0] == one[-1] and one[0] in "\"'`" for one in (bare, inner.strip())):
        yield found("secret-quoted", f"{what} stands in quotes.")
    if _PLACEHOLDER.search(bare):
        yield found("secret-placeholder", f"{what} looks like a placeholder.")
    elif name.lower() == "authorization" and _BARE_TOKEN.fullmatch(bare):
        yield found("header-scheme-missing", f"{what} is one word of {len(bare)} characters.")


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query="…" if parts.query else "", fragment="").geturl()
