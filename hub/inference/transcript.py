"""Reading and rewriting chat messages for an engine that knows nothing of tools."""

from __future__ import annotations

from typing import Any, cast

import orjson

Message = dict[str, Any]

ANSWER_FROM_RESULTS = "Answer this question using only the results above:"
"""Said again after the results, for a small model answers what it read last."""


def text_of(message: Message) -> str:
    """The words of a message, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [cast("Message", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
    return "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))


def question(messages: list[Message]) -> str:
    """The user's last words."""
    return next((text_of(message) for message in reversed(messages) if message.get("role") == "user"), "")


def calls_made(messages: list[Message]) -> list[tuple[str, str]]:
    """Name and arguments of each tool call since the user's last words."""
    made: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message.get("role") == "user":
            break
        made.extend((str(call.get("name", "")), str(call.get("arguments", ""))) for call in reversed(_calls(message)))
    return made[::-1]


def has_results(messages: list[Message]) -> bool:
    """Whether a tool's result came after the user's last words."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return False
        if message.get("role") in ("tool", "function"):
            return True
    return False


def without_tools(messages: list[Message]) -> list[Message]:
    """The same conversation in words only: calls left out, results told by the user, then the question again."""
    plain: list[Message] = []
    names: dict[str, str] = {}
    for message in messages:
        role = message.get("role")
        if role == "assistant" and message.get("tool_calls"):
            names |= {str(call["id"]): str(call.get("name", "")) for call in _calls(message) if "id" in call}
            if text_of(message):
                plain.append({"role": "assistant", "content": text_of(message)})
            continue
        if role in ("tool", "function"):
            name = names.get(str(message.get("tool_call_id")), "") or str(message.get("name") or "the tool")
            _add(plain, f"Result of {name}:\n{text_of(message)}")
            continue
        plain.append(message)
    if has_results(messages):
        _add(plain, f"{ANSWER_FROM_RESULTS} {question(messages)}")
    return plain


def _add(plain: list[Message], text: str) -> None:
    """Add to the user's turn: many chat templates refuse two turns of one role in a row."""
    if plain and plain[-1].get("role") == "user":
        plain[-1] = {"role": "user", "content": f"{text_of(plain[-1])}\n\n{text}"}
    else:
        plain.append({"role": "user", "content": text})


def _calls(message: Message) -> list[Message]:
    calls: Any = message.get("tool_calls")
    found: list[Message] = []
    for call in cast("list[Any]", calls) if isinstance(calls, list) else []:
        function = cast("Message", call).get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append(cast("Message", function) | {"id": cast("Message", call).get("id", "")})
    return found


def compact(value: Any) -> str:
    """JSON on one line."""
    return orjson.dumps(value).decode()
