"""What others wrote, made safe to show: every name, description and result of a server is taken as hostile.

Markdown becomes HTML without raw HTML, images or any link but http(s). Characters that change the reading order or
cannot be seen are shown as such everywhere, so that a name looks like what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

LONGEST = 20_000
"""Characters of one description that are rendered; the rest is cut, since a page is for reading."""

UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
SURROGATES = re.compile("[\ud800-\udfff]")


def reveal(text: str) -> str:
    """Text with invisible and direction-changing characters shown as `[U+202E]`, lone surrogates as U+FFFD."""
    return UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", SURROGATES.sub("\ufffd", text))


def shown(value: Any) -> Any:
    """What every expression of a template passes through: plain text is revealed, safe markup is left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return reveal(value)
    return "" if value is None else value


def only_web(url: str) -> bool:
    """Whether a link may be followed: http and https, nothing else."""
    return re.match(r"https?://[^\s]+\Z", url, re.IGNORECASE) is not None


def link_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """A link that tells its target nothing about this page."""
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, index, options, env)


def heading(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """A heading in a description is a strong line: the page's outline is ours."""
    return '<p class="said-heading">' if tokens[index].nesting == 1 else "</p>\n"


def cell(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """A table's cell without its inline style, which the pages' policy forbids."""
    tokens[index].attrs.pop("style", None)
    return self.renderToken(tokens, index, options, env)


def reader() -> MarkdownIt:
    """CommonMark with tables, without raw HTML and images."""
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    markdown.enable("table").disable(["image", "html_block", "html_inline"])
    markdown.validateLink = only_web  # pyright: ignore[reportAttributeAccessIssue]
    markdown.add_render_rule("link_open", link_open)
    markdown.add_render_rule("heading_open", heading)
    markdown.add_render_rule("heading_close", heading)
    markdown.add_render_rule("th_open", cell)
    markdown.add_render_rule("td_open", cell)
    return markdown


READER = reader()
"""Built once, as building it costs more than reading a description; it keeps nothing between two texts."""

MARKED = re.compile(r"[\\`*_\[\]<>&#|~!\n]|^\s*(?:[-+=]|\d+[.)])|^\s{4}")


def said(text: str) -> Markup:
    """A server's Markdown as safe HTML."""
    if not MARKED.search(text):
        # One plain line, as most descriptions are: nothing in it means anything to Markdown.
        return Markup(f"<p>{escape(reveal(text.strip()[:LONGEST]))}</p>\n") if text.strip() else Markup("")
    # markdown-it escapes all text and renders only its own tags; raw HTML is switched off above.
    return Markup(READER.render(reveal(text[:LONGEST])))
