"""The rag server on its samples and on folders of its own: answers, citations, honest nothing, and keeping fresh."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from servers.kit import Environment
from servers.rag.chunks import TARGET, chunks_of, weight
from servers.rag.embed import LocalEmbedder
from servers.rag.extract import decode, extract_file, extract_text
from servers.rag.keywords import query_terms, terms
from servers.rag.library import Library
from servers.rag.server import SAMPLES, application

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(state: Path, folder: Path = SAMPLES, mode: str = "2026-07-28") -> AsyncGenerator[Client]:
    made = application(Environment({"ENTREPOT_STATE_DIR": str(state), "ENTREPOT_RAG_FOLDER": str(folder)}))
    with anyio.fail_after(60), made.running():
        async with Client(made.server, mode=mode) as client:
            yield client


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rag")


async def hits(client: Client, query: str, **more: Any) -> list[dict[str, Any]]:
    result = await client.call_tool("search_documents", {"query": query, **more})
    assert not result.is_error and result.structured_content, result.content
    return result.structured_content["hits"]


QUESTIONS = [
    ("How many days of annual leave do I get?", "harbour-works-leave-policy.md", "25 days"),
    ("What port does the hub listen on?", "connecting-a-client.md", "4180"),
    ("What is the speed limit on the quay?", "harbour-works-safety.pdf", "20 kilometres"),
    ("can the embedded model reason?", "models.html", "cannot reason"),
    ("does an agent have network access?", "sandbox-limits.txt", "no network"),
    ("年假有多少天？", "港务公司休假制度.md", "25 天"),
    ("登录链接有效期多久？", "连接客户端.md", "15 分钟"),
    ("内置模型有多少参数？", "沙箱与模型.md", "1.35 亿"),
]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_questions_in_both_languages_find_their_passage_with_a_citation(state: Path, mode: str) -> None:
    async with serving(state, mode=mode) as client:
        for question, path, words in QUESTIONS:
            found = await hits(client, question, limit=3)
            assert path in [hit["citation"]["path"] for hit in found], question
            assert any(words in " ".join(hit["text"].split()) for hit in found), question
        leave = (await hits(client, "carry over unused leave days"))[0]["citation"]
        assert leave["section"] == "Harbour Works staff handbook: leave > Annual leave" and leave["lines"] == "7-9"
        quay = (await hits(client, "speed limit on the quay"))[0]["citation"]
        assert quay["page"] == 2 and quay["title"] == "Harbour Works quay safety card"


FOREIGN = ["What is the capital of Peru?", "How do I bake sourdough bread?", "秘鲁的首都是哪里？", "如何做红烧肉？"]


async def test_what_the_documents_do_not_say_is_not_found(state: Path) -> None:
    async with serving(state) as client:
        assert [await hits(client, question) for question in FOREIGN] == [[], [], [], []]


async def test_documents_are_listed_read_in_parts_and_offered_as_resources(state: Path) -> None:
    async with serving(state) as client:
        listed = (await client.call_tool("list_documents", {"language": "zh"})).structured_content
        assert listed and listed["total"] == 3 and listed["state"] == "ready" and not listed["problems"]
        one = listed["documents"][0]
        part = (await client.call_tool("get_document", {"document": one["id"], "limit": 100})).structured_content
        assert part and len(part["text"]) == 100 and part["next_offset"] == 100
        resources = await client.list_resources()
        assert one["uri"] in {str(resource.uri) for resource in resources.resources}
        whole = await client.read_resource(one["uri"])
        assert part["text"] in whole.contents[0].text  # pyright: ignore[reportAttributeAccessIssue]
        unknown = await client.call_tool("get_document", {"document": "0" * 12})
        assert unknown.is_error and unknown.meta and unknown.meta["dev.entrepot/error"]["code"] == "unknown-document"
        with pytest.raises(MCPError):
            await client.read_resource("rag://document/000000000000")


async def test_the_index_follows_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Lamps\n\nThe blue lamp burns whale oil.\n")
    (folder / "b.txt").write_bytes("码头上的起重机每月检查一次。".encode("gb18030"))
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 nonsense")
    (folder / "out.md").symlink_to("/etc/hostname")
    async with serving(tmp_path / "state", folder) as client:
        assert (await hits(client, "what does the blue lamp burn"))[0]["citation"]["title"] == "Lamps"
        assert (await hits(client, "起重机多久检查一次"))[0]["language"] == "zh"
        listed = (await client.call_tool("list_documents", {})).structured_content
        assert listed and listed["total"] == 2 and "bad.pdf" in listed["problems"][0]
        (folder / "a.md").write_text("# Lamps\n\nThe green lamp burns paraffin.\n")
        (folder / "b.txt").unlink()
        changed = (await client.call_tool("ingest", {"folder": "."})).structured_content
        assert changed and (changed["changed"], changed["removed"], changed["failed"]) == (1, 1, 1)
        assert "paraffin" in (await hits(client, "what does the green lamp burn"))[0]["text"]
    async with serving(tmp_path / "state", folder) as client:
        again = (await client.call_tool("ingest", {"folder": "."})).structured_content
        assert again and (again["added"], again["changed"], again["unchanged"]) == (0, 0, 1)


async def test_texts_are_added_replaced_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Gate\n\nThe gate code changes every Friday.\n")
    async with serving(tmp_path / "state", folder) as client:
        for price in ("40", "45"):
            text = f"A mooring costs {price} crowns a night."
            added = await client.call_tool("ingest", {"title": "Mooring fees", "text": text})
            assert added.structured_content, added.content
        found = await hits(client, "what does a mooring cost")
        assert len(found) == 1 and "45 crowns" in found[0]["text"]
        document = found[0]["citation"]["document"]
        await client.call_tool("remove_document", {"document": document})
        assert await hits(client, "what does a mooring cost") == []
        gate = (await hits(client, "when does the gate code change"))[0]["citation"]["document"]
        await client.call_tool("remove_document", {"document": gate})
        await client.call_tool("ingest", {"folder": "."})
        assert await hits(client, "when does the gate code change") == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "invalid-arguments"),
        ({"text": "x"}, "invalid-arguments"),
        ({"text": "x", "title": "t", "folder": "."}, "invalid-arguments"),
        ({"folder": "../.."}, "outside-folder"),
        ({"folder": "/etc"}, "outside-folder"),
    ],
)
async def test_an_ingest_that_cannot_be_done_says_why(state: Path, arguments: dict[str, Any], code: str) -> None:
    async with serving(state) as client:
        result = await client.call_tool("ingest", arguments)
    assert result.is_error and result.meta and result.meta["dev.entrepot/error"]["code"] == code


async def test_an_index_that_cannot_be_opened_names_who_must_act(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    async with serving(tmp_path / "state") as client:
        result = await client.call_tool("search_documents", {"query": "anything"})
    assert result.is_error and result.meta and result.meta["dev.entrepot/error"]["owner"] == "administrator"


def test_a_lost_vector_folder_is_filled_again(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Lamps\n\nThe blue lamp burns whale oil.\n")
    for name in ("one", "two"):
        embedder = LocalEmbedder()
        embedder.name = name  # another model: other vectors
        with Library(folder, tmp_path / "state", embedder).running() as library:
            assert library.wait(60)
            assert library.store().by_vector(embedder.encode(["lamp"])[0], 5)


def test_chinese_words_of_two_characters_are_terms() -> None:
    assert terms("年假2天") == ["年假", "2", "天"]
    assert query_terms("What is the leave policy?") == ["leave", "policy"]
    assert "年假" in query_terms("年假有多少天？")


def test_chunks_keep_their_size_their_heading_and_their_overlap() -> None:
    sentence = "The crane on pier seven lifts forty tonnes when the wind is calm. "
    made = chunks_of(extract_text("t", "# One\n\n" + sentence * 40 + "\n\n# Two\n\nShort.").blocks)
    assert all(weight(chunk.text) <= TARGET for chunk in made)
    assert [chunk.headings for chunk in made][-2:] == [("One",), ("Two",)]
    assert made[0].text.split(". ")[-1].strip(". ") in made[1].text


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\x00" * 50, b"<p", b"<html><body><h1>\xff", b"# \n\n```\nopen"]
)
def test_odd_files_are_read_without_harm(content: bytes) -> None:
    for suffix in (".md", ".txt", ".html"):
        chunks_of(extract_file(Path(f"x{suffix}"), content).blocks)


def test_older_chinese_files_are_read() -> None:
    assert decode("港口".encode("gb18030")) == decode("港口".encode()) == decode("港口".encode("utf-16")) == "港口"


def test_retrieval_keeps_its_figures_on_public_questions(capsys: pytest.CaptureFixture[str]) -> None:
    data = os.environ.get("ENTREPOT_TEST_DATA")
    if not data:
        pytest.skip("set ENTREPOT_TEST_DATA to the folder of evaluation data")
    path = Path(__file__).parents[2] / "benchmarks" / "rag_retrieval.py"
    spec = importlib.util.spec_from_file_location("rag_retrieval", path)
    assert spec and spec.loader
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    figures = bench.measure(Path(data), "xquad_zh", 60)
    with capsys.disabled():
        print(f"\nxquad_zh, short form: {figures}")
    assert figures["fused"] >= 93 and figures["fused"] >= figures["keyword"] - 1
