"""The chain's order and failures, and the bounds on size and depth."""

from __future__ import annotations

import contextlib
from time import perf_counter

import orjson
import pytest

from hub.catalog.snapshot import Address, Server, Target
from hub.errors import Forbidden, TooLarge, Unavailable
from hub.guardrails.chain import Broken, Guardrails, Looked, Phase
from hub.guardrails.size import Size, check_depth
from hub.identity.principal import OPEN_CALLER


class Mark:
    """Appends its name; or fails as told."""

    phases = frozenset({Phase.ARGUMENTS})

    def __init__(self, name: str, broken: Broken = Broken.REFUSE, error: Exception | None = None) -> None:
        self.name = name
        self.broken = broken
        self._error = error

    async def look(self, looked: Looked, body: bytes) -> bytes:
        if self._error:
            raise self._error
        return body + self.name.encode()


SERVER = Server("rag", Address("http://rag"), "", frozenset(), {}, {})
TARGET = Target("rag", "tool", "search", "search", b"{}", "")


async def run(*guardrails: Mark | Size, phase: Phase = Phase.ARGUMENTS, body: bytes = b"") -> bytes:
    return await Guardrails(guardrails).run(Looked(phase, OPEN_CALLER, SERVER, TARGET), body)


@pytest.mark.anyio
async def test_guardrails_look_in_order_and_only_in_their_phase() -> None:
    assert await run(Mark("a"), Mark("b")) == b"ab"
    body = b"untouched"
    assert await run(Mark("a"), phase=Phase.RESULT, body=body) is body


@pytest.mark.anyio
async def test_a_refusal_ends_the_chain_whatever_the_guardrail_says_about_its_own_failure() -> None:
    with pytest.raises(Forbidden):
        await run(Mark("a", Broken.PASS, Forbidden("no")), Mark("b"))


@pytest.mark.anyio
async def test_a_broken_guardrail_refuses_or_passes_as_it_declared() -> None:
    assert await run(Mark("a", Broken.PASS, ValueError("x")), Mark("b")) == b"b"
    with pytest.raises(Unavailable, match="a is not working"):
        await run(Mark("a", Broken.REFUSE, ValueError("x")))


@pytest.mark.anyio
async def test_too_many_bytes_are_refused() -> None:
    assert await run(Size(10), body=b"0123456789") == b"0123456789"
    with pytest.raises(TooLarge):
        await run(Size(10), body=b"01234567890")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_counted_exactly(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for depth, fits in ((1, True), (64, True), (65, False), (5000, False)):
        body = opening * depth + b"1" + closing * depth
        # Siblings, and brackets in strings with escapes, do not count.
        body = b"[" + b"[],{}," * 200 + b'"[[\\"[[{{\\\\",' + body + b"]" if depth > 1 else body
        if fits and depth < 64:
            check_depth(body)
        elif not fits:
            with pytest.raises(TooLarge):
                check_depth(body)
    check_depth(opening * 64 + b"1" + closing * 64)
    with pytest.raises(TooLarge):
        check_depth(opening * 65 + b"1" + closing * 65)


def test_wide_values_pass() -> None:
    check_depth(orjson.dumps([{"text": "][" * 50, "more": [[], {}]} for _ in range(5000)]))


@pytest.mark.parametrize("body", [b"[" * 2_000_000, b"[" * 10**6 + b"]" * 10**6, b'"' + b"\\" * 10**6, b"{[" * 10**6])
def test_hostile_bytes_cost_little_time(body: bytes) -> None:
    started = perf_counter()
    with contextlib.suppress(TooLarge):
        check_depth(body)
    assert perf_counter() - started < 2
