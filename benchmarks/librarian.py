"""How often the librarian is right, and how long it takes: `python -m benchmarks.librarian`.

Asks a running hub (`ENTREPOT_HOME`, through its admin socket) about the sample documents of the rag server, in English
and Chinese, with facts to find and questions that the documents do not answer. Exit status 1 below nine in twelve.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx

from hub.settings import Settings

MODERN = "2026-07-28"
SECONDS = 240
LEAST_RIGHT = 0.75


@dataclass(frozen=True)
class Question:
    """A question, and what its answer must hold; None where the documents do not answer it."""

    text: str
    fact: str | None


QUESTIONS = (
    Question("How many days of annual leave does Harbour Works give?", "25 days"),
    Question("When do carried-over leave days expire?", "31 March"),
    Question("From which day of absence is a doctor's note needed?", "fourth"),
    Question("How many weeks of paid parental leave may each parent take?", "16 weeks"),
    Question("What is the speed limit on the quay?", "20 kilometres"),
    Question("Who is paged when nobody acknowledges after 30 minutes?", "Grete Voss"),
    Question("Where do the paper passes lie?", "red cabinet"),
    Question("How long is the sign-in link valid?", "15 minutes"),
    Question("Which extension does the harbour master have?", "4711"),
    Question("In which block are containers with dangerous goods stored?", "block D"),
    Question("工作满五年后有多少天年假?", "28 天"),
    Question("育儿假可以休几周?", "16 周"),
    Question("中枢默认监听哪个地址?", "127.0.0.1:4180"),
    Question("缺勤第几天起需要医生证明?", "第四天"),
    Question("办公室员工每周最多可以在家办公几天?", "3 天"),
    Question("内置模型的参数量是多少?", "1.35 亿"),
    Question("Who is the chief executive of Harbour Works?", None),
    Question("How much does a forklift cost at Harbour Works?", None),
    Question("What is the capital of France?", None),
    Question("北京明天的天气怎么样?", None),
)


def ask(hub: httpx.Client, question: str) -> dict[str, Any]:
    """The librarian's output. Raises `RuntimeError` where the run did not end with one."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "librarian", "arguments": {"question": question}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "librarian",
    }
    text = hub.post("/mcp/s/agents", json=body, headers=headers).text
    data = [line[5:] for line in text.splitlines() if line.startswith("data:")]
    answer: dict[str, Any] = json.loads(data[-1] if data else text)
    output: dict[str, Any] | None = answer.get("result", {}).get("structuredContent")
    if output is None:
        raise RuntimeError(text[:500])
    return output


def is_right(question: Question, output: dict[str, Any]) -> bool:
    """Whether the fact is in the answer and in a cited passage; or nothing was found where nothing is."""
    if question.fact is None:
        return not output["found"] and not output["citations"]
    quotes = " ".join(citation["quote"] for citation in output["citations"])
    return question.fact in output["answer"] and question.fact in " ".join(quotes.split())


def main() -> int:
    """Ask everything, print a table, say whether it is good enough."""
    settings = Settings()  # pyright: ignore[reportCallIssue] - every field has a default or a source
    transport = httpx.HTTPTransport(uds=str(settings.run_dir / "admin.sock"))
    right, took = 0, list[float]()
    with httpx.Client(transport=transport, base_url="http://hub", timeout=SECONDS) as hub:
        for question in QUESTIONS:
            began = time.perf_counter()
            output = ask(hub, question.text)
            took.append(time.perf_counter() - began)
            fits = is_right(question, output)
            right += fits
            print(f"{'right' if fits else 'WRONG'} {took[-1]:5.1f} s  {question.text}\n{'':15}{output['answer'][:300]}")
            sys.stdout.flush()
    took.sort()
    print(f"{right} of {len(QUESTIONS)} right; median {took[len(took) // 2]:.1f} s, longest {took[-1]:.1f} s")
    return 0 if right >= LEAST_RIGHT * len(QUESTIONS) else 1


if __name__ == "__main__":
    raise SystemExit(main())
