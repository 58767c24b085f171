"""The two languages: which one a visit gets, and the words in it.

Every string that a page shows stands in `registry.words` as an (English, Chinese) pair, so that neither can lack one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from registry.formats import Language
from registry.words import WORDS

LANGUAGES: tuple[Language, ...] = ("en", "zh")
TAGS: Mapping[Language, str] = {"en": "en", "zh": "zh-Hans"}
COOKIE = "entrepot_lang"


def choose(asked: str, kept: str, accepted: str) -> Language:
    """The language of a visit: `?lang=`, then the cookie, then Accept-Language (RFC 9110 §12.5.4), then English."""
    for wish in (asked, kept):
        if wish in LANGUAGES:
            return wish
    weighed: list[tuple[float, int, Language]] = []
    for place, item in enumerate(accepted.split(",")[:20]):
        tag, _, parameter = item.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in LANGUAGES:
            weighed.append((-weight(parameter), place, primary))
    return min(weighed)[2] if weighed else "en"


def weight(parameter: str) -> float:
    """The q value of one language range; 1 when absent, 0 when unusable."""
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """The words of one language."""

    language: Language

    def say(self, key: str, **values: object) -> str:
        """The words under `key`, with `{name}` filled in. Raises KeyError for an unknown key."""
        words = WORDS[key][LANGUAGES.index(self.language)]
        return words.format(**values) if values else words

    def knows(self, key: str) -> bool:
        """Whether there are words under `key`."""
        return key in WORDS

    def term(self, family: str, value: str) -> str:
        """A word of the platform (`state.ready`) in this language, or itself where it is not in the catalogue."""
        key = f"{family}.{value}"
        return self.say(key) if key in WORDS else value

    def rich(self, key: str, **values: object) -> Markup:
        """As `say`, escaped, with `` `code` `` set as code."""
        return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(self.say(key, **values)))))
