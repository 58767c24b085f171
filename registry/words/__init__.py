"""Every string of the pages as (English, Chinese): side by side, so that both are written and changed together."""

from __future__ import annotations

from collections.abc import Mapping

from registry.words.doctor import DOCTOR
from registry.words.pages import PAGES
from registry.words.shell import SHELL
from registry.words.terms import TERMS

WORDS: Mapping[str, tuple[str, str]] = {**SHELL, **TERMS, **PAGES, **DOCTOR}
