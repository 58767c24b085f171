"""One program from its start to its end: turns in an interpreter, and the tools' calls that run between them.

The interpreter is only held while there is something to compute. A program that waits for its calls is put aside as
bytes, so that many can wait at once; one that waits for nothing but a person's answers ends here as `Asked`, to be gone
on with by whoever has its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw
from pydantic_monty import (
    FunctionSnapshot,
    FutureSnapshot,
    MontyComplete,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
    MontyTypingError,
)

from hub.errors import HubError, TooLarge
from hub.gateway.code.sandbox import SCRIPT, Modules, Printed, Sandbox, Stay, Turn
from hub.gateway.code.values import ToolFailed
from hub.upstream.jsonrpc import Fragments

PATIENCE = 0.5
"""Seconds that a program may wait in its interpreter for its calls before it is put aside."""

LARGEST_DUMP = 2**20
"""Bytes of a program that is put aside. One that holds more keeps its interpreter, and cannot wait for a person."""

LONGEST_LINE = 300
"""Characters of a traceback's line: it quotes the program, which may be one line."""

INPUT = "<python-input-0>"
"""What the interpreter calls its input in tracebacks, whatever name it was given."""


@dataclass(frozen=True, slots=True)
class Request:
    """A tool's call as the program made it. `arguments` is a JSON object."""

    path: str
    arguments: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """A call whose tool asks for input first: its questions by key, and its state, both as it sent them."""

    request: Request
    asked: Fragments
    state: Raw | None


@dataclass(frozen=True, slots=True)
class Retry:
    """What a call is made again with: the answers to its questions, and its state."""

    answers: Fragments
    state: Raw | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A program that waits for answers: itself as bytes, and the questions by the number of the call."""

    dump: bytes
    questions: dict[int, Question]


@dataclass(frozen=True, slots=True)
class Finished:
    """A program's value: its last expression, or what it returned."""

    value: object


class ProgramFailed(Exception):
    """The program did not come to its end; the text says where and why."""


CallTool = Callable[[Request, Retry | None], Awaitable[Any]]
"""Makes one call: the tool's value, or the `Question`. Raises `HubError` or `ToolFailed`."""

ReadCall = Callable[[str, tuple[Any, ...], dict[str, Any]], Request]
"""What a program's call asks for. Raises `TypeError` when the arguments do not fit."""


@dataclass(slots=True)
class Program:
    """A program under way. `made` counts the calls of each function, in the order of their first."""

    sandbox: Sandbox
    modules: Modules
    printed: Printed
    read: ReadCall
    call: CallTool
    parallel: int
    made: dict[str, int] = field(default_factory=dict[str, int])
    _running: dict[int, asyncio.Task[Any]] = field(default_factory=dict[int, "asyncio.Task[Any]"])
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.parallel)

    async def start(self, text: str) -> Finished | Asked:
        """Run a program. Raises `ProgramFailed`."""
        return await self._ended(lambda stay: stay.start(text))

    async def go_on(self, dump: bytes, answered: dict[int, tuple[Request, Retry]]) -> Finished | Asked:
        """Run on from `Asked`, every question's call made again with its answers. Raises `ProgramFailed`."""
        for number, (request, retry) in answered.items():
            self._running[number] = asyncio.create_task(self._made(request, retry))
        return await self._ended(None, dump)

    async def _ended(self, first: Callable[[Stay], Awaitable[Turn]] | None, dump: bytes = b"") -> Finished | Asked:
        try:
            while True:
                if first is None:
                    await self._any_settled()
                    if self._only_questions():
                        return Asked(dump, self._questions())
                async with self.sandbox.stay(self.modules, self.printed) as stay:
                    turn = await (first(stay) if first is not None else stay.restore(dump))
                    first = None
                    turn = await self._turns(stay, turn)
                    if isinstance(turn, MontyComplete):
                        await self._left_over()
                        return Finished(turn.output)
                    dump = await stay.dump(turn)
                    if len(dump) > LARGEST_DUMP:
                        raise ProgramFailed(
                            f"The program holds {len(dump)} bytes, too much to wait for an answer to a tool's question."
                            " Ask first, or keep less."
                        )
        except MontyError as error:
            raise ProgramFailed(explained(error)) from error
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _turns(self, stay: Stay, turn: Turn) -> Turn:
        """Turn after turn, until the end or a wait that is better spent outside."""
        while not isinstance(turn, MontyComplete):
            if isinstance(turn, FutureSnapshot):
                settled = await self._settled(stay, turn)
                if settled is None:
                    return turn
                turn = await stay.resume(lambda turn=turn, settled=settled: turn.resume(settled))
            elif isinstance(turn, FunctionSnapshot) and not turn.is_os_function:
                answer = self._asked_for(turn)
                turn = await stay.resume(lambda turn=turn, answer=answer: turn.resume(answer))
            else:
                turn = await stay.resume(turn.resume_auto)
        return turn

    def _asked_for(self, turn: FunctionSnapshot) -> Any:
        """Begin the call that a program makes; its value is a future until the program waits for it."""
        path = str(turn.function_name)
        try:
            if sum(self.made.values()) >= self.sandbox.bounds.calls:
                raise RuntimeError(f"a program may make {self.sandbox.bounds.calls} calls, and this would be one more")
            request = self.read(path, turn.args, turn.kwargs)
        except (TypeError, RuntimeError) as error:
            return {"exception": error}
        except TooLarge as error:
            return {"exception": RuntimeError(error.message)}
        self.made[path] = self.made.get(path, 0) + 1
        self._running[turn.call_id] = asyncio.create_task(self._made(request, None))
        return {"future": ...}

    async def _made(self, request: Request, retry: Retry | None) -> Any:
        async with self._free:
            return await self.call(request, retry)

    async def _settled(self, stay: Stay, turn: FutureSnapshot) -> dict[int, Any] | None:
        """The results that a program waits for and that are there; None when it has to be put aside."""
        while True:
            # Every call that has no result yet is pending, also one that the program does not wait for now.
            ready = [number for number in turn.pending_call_ids if self._is_settled(number)]
            if ready:
                return {number: _result(self._running.pop(number)) for number in ready}
            if self._only_questions():
                return None
            if not await self._any_settled(PATIENCE) and len(await stay.dump(turn)) <= LARGEST_DUMP:
                return None

    async def _any_settled(self, seconds: float | None = None) -> bool:
        """Wait until some call has ended; False when none did for so long."""
        running = [task for task in self._running.values() if not task.done()]
        if not running or any(self._is_settled(number) for number in self._running):
            return True
        done, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _left_over(self) -> None:
        """Let calls end that the program did not wait for: each has its effect once, and its record."""
        if self._running:
            await asyncio.wait(self._running.values())

    def _is_settled(self, number: int) -> bool:
        return self._running[number].done() and not self._is_question(number)

    def _is_question(self, number: int) -> bool:
        task = self._running[number]
        return task.done() and not task.cancelled() and task.exception() is None and isinstance(task.result(), Question)

    def _only_questions(self) -> bool:
        return bool(self._running) and all(map(self._is_question, self._running))

    def _questions(self) -> dict[int, Question]:
        return {number: task.result() for number, task in self._running.items()}


def _result(task: asyncio.Task[Any]) -> dict[str, Any]:
    """A call's outcome as the interpreter takes it. A failure is a `RuntimeError` there, to be caught or not."""
    try:
        return {"return_value": task.result()}
    except ToolFailed as error:
        return {"exception": RuntimeError(str(error))}
    except HubError as error:
        hint = f" {error.hint}" if error.hint else ""
        return {"exception": RuntimeError(f"{error.message} ({error.code}).{hint}")}


def explained(error: MontyError) -> str:
    """What became of a program, with the lines that led there."""
    if isinstance(error, MontyTypingError):
        return f"Nothing was run, for the program does not fit its tools' types:\n{str(error).strip()}"
    if isinstance(error, MontyRuntimeError | MontySyntaxError):
        # A syntax error here is in a text that the program gave to `exec`: the program itself passed the checker.
        lines = error.display(format="traceback").replace(INPUT, SCRIPT).splitlines()
        return "\n".join(line[:LONGEST_LINE] for line in lines)
    if isinstance(error, MontyCrashedError):
        return "The interpreter was ended, for the program ran past its bounds or broke it."
    return str(error)
