"""Terms for the keyword index: words in Latin and other alphabets, overlapping pairs of Han characters.

SQLite's own tokenizers do not segment Chinese, and its trigrams cannot find a word of two characters.
"""

from __future__ import annotations

import re

_HAN = r"\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+(?:[.'_-][^\W_{_HAN}]+)*")
_CJK = re.compile(rf"[{_HAN}]")

_ENGLISH = """a about above after all also am an and any are as at be because been before being below between both but
by can could did do does doing down during each few for from further had has have having he her here hers
him his how i if in into is it its itself just me more most my no nor not now of off on once only or
other our out over own same she should so some such than that the their them then there these they this
those through to too under until up very was we were what when where which while who whom why will with
would you your tell please many much"""
_STOP = frozenset(_ENGLISH.split())
# Pairs that only carry the question. "的" and its like are filtered as single characters of a pair below.
_CHINESE = "什么 怎么 怎样 如何 哪些 哪个 哪里 为什 多少 请问 是否 可以 我们 他们 你们 这个 那个 一个 几个 时候"
_STOP_ZH = frozenset(_CHINESE.split())
_PARTICLES = frozenset("的了吗呢吧是在和与或被把也都就这那哪几么之其")


def terms(text: str) -> list[str]:
    """Every term of `text` in order, for the index. `MCP-2`, `v1.2` give the whole and the parts."""
    found: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if _CJK.match(token):
            found += [token[at : at + 2] for at in range(len(token) - 1)] or [token]
        else:
            found.append(token)
            parts = re.split(r"[.'_-]", token)
            if len(parts) > 1:
                found += [part for part in parts if part]
    return found


def query_terms(text: str) -> list[str]:
    """The distinct terms of a question to rank by: English filler left out, single Han characters only when alone."""
    every = list(dict.fromkeys(terms(text)))
    pairs = [term for term in every if not (_CJK.match(term) and len(term) == 1)] or every
    return ([term for term in pairs if term not in _STOP] or pairs)[:64]


def telling_terms(query: list[str]) -> list[str]:
    """Those of `query_terms` that say what the question is about; all of them where none would be left."""
    return [term for term in query if not _empty(term)] or query


def _empty(term: str) -> bool:
    if _CJK.match(term):
        return term in _STOP_ZH or any(character in _PARTICLES for character in term)
    return term in _STOP


def match_expression(query: list[str]) -> str:
    """The FTS5 expression that finds any of the terms."""
    return " OR ".join(f'"{term}"' for term in query)
