"""Ranking: words in any script and spelling, only what is visible has a say, and figures that must not fall."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.search import Model, measured
from benchmarks.toolsets import ToolSet, chinese, public
from hub.catalog import search
from hub.catalog.search import Asked, Meaning
from hub.catalog.snapshot import Target
from hub.catalog.words import is_dense, terms
from hub.runner import embedder
from hub.runner.embedder import Encoder
from hub.runner.minilm import MiniLm

DATA = os.environ.get("ENTREPOT_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="set ENTREPOT_TEST_DATA to the folder of evaluation data")


def tool(name: str, description: str = "", schema: object = None, server: str = "s") -> Target:
    body = orjson.dumps({"name": name, "description": description, "inputSchema": schema or {}})
    return Target(server, "tool", name, name, body, "")


TOOLS = (
    tool("readTextFile", "Reads the contents of a file."),
    tool("delete_file", "Removes a file for good."),
    tool("stock.quote", "The price of a share.", {"properties": {"ticker_symbol": {"description": "Such as AAPL"}}}),
    tool(
        "\u67e5\u8be2\u8ba2\u5355",
        "\u6839\u636e\u8ba2\u5355\u53f7\u67e5\u8be2\u8ba2\u5355\u7684\u7269\u6d41\u72b6\u6001\u3002",
    ),
    tool("book_hotel", "Reserve a room.", {"properties": {"kind": {"enum": ["suite", "dormitory"]}}}),
)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("reading text from files", "readTextFile"),
        ("removing files", "delete_file"),
        ("quote for a ticker symbol", "stock.quote"),
        ("\u6211\u7684\u8ba2\u5355\u5230\u54ea\u4e86", "\u67e5\u8be2\u8ba2\u5355"),
        ("a dormitory for 2 nights", "book_hotel"),
        ("RESERVATION", "book_hotel"),
    ],
)
def test_words_are_found_in_any_form(question: str, first: str) -> None:
    index = search.build(TOOLS)
    rows, held = index.rows(TOOLS)
    assert held[index.rank(question, rows, 1)[0]].name == first


def test_what_has_nothing_in_common_is_not_found() -> None:
    index = search.build(TOOLS)
    rows, _ = index.rows(TOOLS)
    assert index.rank("zzzz 12345", rows, 5) == []
    assert index.rank("", rows, 5) == []
    assert search.build(()).rank("file", np.array([], dtype=np.intp), 5) == []


def test_what_is_withheld_has_no_say_in_what_is_found() -> None:
    some = TOOLS[:2]
    hidden = tuple(tool(f"file_{number}", "file file file") for number in range(50))
    whole, part = search.build((*some, *hidden)), search.build(some)
    for question in ("remove a file", "contents of a file", "file"):
        in_whole = whole.rank(question, whole.rows(some)[0], 5)
        assert in_whole == part.rank(question, part.rows(some)[0], 5)


def test_one_chance_word_of_many_does_not_outweigh_meaning() -> None:
    index = search.build(TOOLS)
    rows, _ = index.rows(TOOLS)
    # The question shares `text` with one tool and means another.
    near = np.array([0.1, 0.6, 0.1, 0.1, 0.1], dtype=np.float32)
    matrix = np.stack((near, np.sqrt(1 - near**2)), axis=1)
    meant = Asked(Meaning("m", matrix, np.ones(5, dtype=np.bool_)), np.array([1, 0], dtype=np.float32), 1.0)
    assert index.rank("wipe this text so that nobody ever recovers anything", rows, 1, meant) == [1]
    assert index.rank("read text file", rows, 1, meant) == [0]


def test_two_definitions_of_one_name_are_ranked_each_by_its_own_words() -> None:
    old = replace(tool("send", "Sends a letter."), digest="1")
    new = replace(tool("send", "Sends a parcel."), digest="2")
    index = search.build((old, *TOOLS, new))
    for version, other in ((old, "parcel"), (new, "letter")):
        rows, held = index.rows((version, *TOOLS))
        assert held[0] is version
        assert index.rank(other, rows, 5) == []
    # One that the index does not know yet is found by what its name stood for.
    assert index.rows((replace(new, digest="3"),))[0].tolist() == [0]


def test_a_tool_without_a_vector_is_neither_helped_nor_hindered() -> None:
    index = search.build(TOOLS)
    rows, _ = index.rows(TOOLS)
    matrix = np.zeros((len(TOOLS), 4), dtype=np.float32)
    matrix[1] = (0, 1, 0, 0)
    matrix[2] = (1, 0, 0, 0)
    known = np.array([False, True, True, False, False])
    asked = Asked(Meaning("m", matrix, known), np.array([1, 0, 0, 0], dtype=np.float32), 1.0)
    ranked = index.rank("contents of a file", rows, 5, asked)
    assert ranked.index(0) < ranked.index(1)
    untrusted = Asked(asked.meaning, asked.vector, 0.2)
    assert index.rank("contents of a file", rows, 5, untrusted) == index.rank("contents of a file", rows, 5)


def test_scripts_and_identifiers_are_read() -> None:
    assert terms("getUserByID via HTTPServer_v2") == ["user", "id", "via", "http", "server", "v2"]
    assert terms("\u5929\u6c14\u9884\u62a5") == ["\u5929\u6c14", "\u6c14\u9884", "\u9884\u62a5"]
    assert is_dense("\u5e2e\u6211\u67e5 DNA \u5e8f\u5217") and not is_dense(
        "weather in \u5317\u4eac please, for tomorrow and after"
    )


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a" * 100_000, "\u0301" * 5000, "{}" * 10_000])
def test_no_text_is_too_strange(text: str) -> None:
    index = search.build((tool("odd", text.encode("utf-8", "replace").decode()), *TOOLS))
    rows, _ = index.rows(TOOLS)
    index.rank(text, rows, 5)


@needs_data
@pytest.mark.parametrize(
    ("name", "bound"), [("bfcl", 85.5), ("metatool", 62.0), ("apibank", 60.0), ("gorilla_huggingface", 30.5)]
)
def test_recall_by_words_alone_stays_where_it_was(name: str, bound: float) -> None:
    tools = public(Path(str(DATA)), name)
    index = search.build(tools.targets)
    rows, _ = index.rows(tools.targets)
    shares = [len(one.gold & set(index.rank(one.text, rows, 5))) / len(one.gold) for one in tools.questions[:1200]]
    assert 100 * sum(shares) / len(shares) >= bound


@needs_data
def test_recall_with_meaning_stays_above_every_plain_way(tmp_path: Path) -> None:
    # The folder keeps vectors, so that the same tools are not read twice.
    models = [Model("minilm-l6", MiniLm(), tmp_path), Model(embedder.MODEL, Encoder(), tmp_path)]
    whole = public(Path(str(DATA)), "apibank")
    english = measured(ToolSet(whole.name, whole.targets, whole.questions[:60]), models)
    assert english["hub"] >= max(english[name] for name in ("BM25", "minilm-l6", "fusion minilm-l6"))
    in_chinese = measured(chinese(Path(str(DATA)), "apibank"), models)
    assert in_chinese["hub"] >= 90
    assert in_chinese["hub"] > in_chinese["BM25"] + 20
