"""Strips secrets, by their shape, from text that is shown: log lines, error details, configuration. A net only.

The promise is that nobody logs tokens, arguments or bodies; this catches what slips through in foreign messages.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
SECRET_NAMES = (
    "authorization|proxy-authorization|cookie|set-cookie|x-api-key|api[_-]?key|apikey|access[_-]?token|"
    "refresh[_-]?token|id[_-]?token|client[_-]?secret|x-csrf-token|password|passwd|secret|token"
)
LONGEST = 20_000
"""Characters that are looked through; the rest of a longer text is cut, for a line has no business being longer."""

SHAPES = re.compile(
    r"\bek_[0-9a-z]{4,16}_[0-9A-Za-z]{20,}(?:_[0-9a-z]+)?"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|\b(?:sk|pk|rk)-[\w-]{16,}"
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}"
    r"|\bhf_\w{20,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
SCHEMES = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE)
MEMBERS = re.compile(
    rf"""(?P<name>["']?(?<![\w-])(?:[\w-]{{0,40}}[_-])?(?:{SECRET_NAMES})["']?\s*(?P<by>[:=])\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:(?:bearer|basic)\s+)?[^\s"',;&{}\[\]()]+)""",
    re.IGNORECASE,
)
USERINFO = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")


def redact(text: str) -> str:
    """The text with everything that looks like a secret hidden."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + " [cut]"
    text = SHAPES.sub(HIDDEN, text)
    text = USERINFO.sub(HIDDEN, text)
    text = MEMBERS.sub(_hidden_member, text)
    return SCHEMES.sub(rf"\1\2{HIDDEN}", text)


def _hidden_member(found: re.Match[str]) -> str:
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['name']}{quote}{HIDDEN}{quote}"
