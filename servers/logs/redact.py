"""Takes secrets out of log text before it leaves: what looks like a credential is replaced, its kind is named.

Better one word too many than one token out; nothing here is told which secrets exist.
"""

from __future__ import annotations

import re

# Every quantifier is bounded or over one disjoint class, so that matching stays linear on hostile lines.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "private key",
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S),
        "[private key]",
    ),
    (
        "authorization",
        re.compile(
            r"(?i)((?:proxy-)?authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:[a-z]{3,12}\s{1,3})?)[^\s\"',;]{3,}"
        ),
        r"\1[redacted]",
    ),
    ("bearer", re.compile(r"(?i)\b(bearer|basic)\s{1,3}[a-z0-9._~+/=-]{8,}"), r"\1 [redacted]"),
    ("cookie", re.compile(r"(?i)\b((?:set-)?cookie[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\"'\r\n]{3,}"), r"\1[redacted]"),
    (
        "connection string",
        re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,30}://)[^\s/@:\"']{0,256}:[^\s/@\"']{1,512}@"),
        r"\1[redacted]@",
    ),
    ("jwt", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), "[token]"),
    (
        "known key",
        re.compile(
            r"\b(?:ek_|sk-|sk_live_|sk_test_|rk_live_|pk_live_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|xox[abprs]-|hf_|npm_|pypi-|"
            r"AIza|AKIA|ASIA|ya29\.|dop_v1_|SG\.)[A-Za-z0-9_.-]{10,}"
        ),
        "[key]",
    ),
    (
        "named secret",
        re.compile(
            r"(?i)((?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|access[_-]?key|client[_-]?secret|private[_-]?key|"
            r"credential|signature|sig|密码|口令|密钥|令牌)[a-z0-9_-]{0,20}[\"']?\s{0,3}[:=：]\s{0,3})"
            r"(?:\"[^\"]{1,2000}\"|'[^']{1,2000}'|[^\s\"',;&}\]]{3,})"
        ),
        r"\1[redacted]",
    ),
)


def redact(text: str) -> str:
    """`text` with everything that looks like a credential replaced by a mark in square brackets."""
    for _, pattern, mark in _RULES:
        text = pattern.sub(mark, text)
    return text
