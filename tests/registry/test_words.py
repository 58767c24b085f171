"""Both languages have every word, and no template speaks for itself."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import registry
from registry.i18n import choose
from registry.words import WORDS
from registry.words.doctor import DOCTOR
from registry.words.pages import PAGES
from registry.words.shell import SHELL
from registry.words.terms import TERMS

TEMPLATES = sorted((Path(registry.__file__).parent / "templates").rglob("*.html"))
SPOKEN = ("aria-label", "title", "alt", "placeholder", "data-busy", "data-done")


def test_every_word_is_there_in_both_languages_with_the_same_gaps() -> None:
    assert len(WORDS) == len(PAGES) + len(SHELL) + len(TERMS) + len(DOCTOR)
    for key, (english, chinese) in WORDS.items():
        assert english.strip(), key
        assert chinese.strip(), key
        gaps = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
        if "{ " not in english:
            assert gaps[0] == gaps[1], key


def test_every_word_that_a_template_says_exists() -> None:
    for path in TEMPLATES:
        for key in re.findall(r"\b(?:say|rich)\(\"([a-z_.]+[a-z_])\"[,)]", path.read_text()):
            assert key in WORDS, (path.name, key)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_bare_string(path: Path) -> None:
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text(), flags=re.DOTALL)
    for attribute, value in re.findall(r"\b([a-z-]+)=\"([^\"]*)\"", text):
        assert attribute not in SPOKEN or not re.search(r"[^\W\d_]", value), (attribute, value)
    text = re.sub(r"\b[a-z-]+=\"[^\"]*\"", "", text)
    bare = re.sub(r"<pre >entrepot sign-in</pre>", "", text)
    bare = re.sub(r"<[^>]*>", " ", bare)
    assert not re.search(r"[^\W\d_]", re.sub(r"&[a-z]+;", "", bare)), bare.strip()


def test_the_language_is_what_was_asked_kept_or_accepted() -> None:
    assert choose("zh", "en", "en") == "zh"
    assert choose("xx", "zh", "en") == "zh"
    assert choose("", "", "fr, zh-CN;q=0.9, en;q=0.4") == "zh"
    assert choose("", "", "en;q=nonsense, zh;q=0.1") == "zh"
    assert choose("", "", "*") == "en"
