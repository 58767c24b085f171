"""The tool `run_code`: a program of the model's over the caller's tools, its value and what it printed as the answer.

Where a tool in it asks for input, a modern client is asked in turn: the program goes along, sealed, in `requestState`
and is gone on with by whichever worker gets the answers. A legacy client is asked on its stream, and the program waits.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.snapshot import Era, Mode
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Calls, Emit, Outcome
from hub.gateway.code.calling import Calling, Withdrawn, key_of, number_of, withdrawable
from hub.gateway.code.namespace import Namespaces
from hub.gateway.code.program import Asked, Finished, Program, ProgramFailed, Request, Retry
from hub.gateway.code.sandbox import Printed, Sandbox
from hub.gateway.code.values import shown
from hub.gateway.own import OWN, answered, arguments, failed
from hub.gateway.seals import Seals
from hub.policy.admission import Admission
from hub.upstream import jsonrpc

CODE: frozenset[Mode] = frozenset({"code"})

LONGEST_PROGRAM = 64 * 2**10
"""Characters: a model that writes more has put data into it."""

ANSWER_SECONDS = 3600.0
"""How long a program can be gone on with after it asked."""

DEFINITION = {
    "name": "run_code",
    "title": "Run a program over tools",
    "description": (
        "Run a short Python program over the tools and get its last expression (or what it returns at top level) and"
        " what it prints. Each tool is an async function in the module of its server, as describe_tool shows it:"
        " `import shop`, then `await shop.get_order(id='1')`. Use `asyncio.gather` for calls that do not depend on each"
        " other, and keep intermediate data in the program: return only what you need. A tool that fails raises"
        " RuntimeError. Types are checked before anything runs. Standard modules such as json, re, math, datetime are"
        " there; no files, no network, no other packages."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The program"}},
        "required": ["code"],
    },
}


@dataclass(frozen=True, slots=True)
class RunCode:
    """Runs programs. `seconds` is for a program in all, its calls and a legacy client's answers included."""

    calls: Calls
    admission: Admission
    sandbox: Sandbox
    namespaces: Namespaces
    seals: Seals
    seconds: float
    parallel: int
    name: str = "run_code"
    modes: frozenset[Mode] = CODE
    hands_on: bool = False
    _fragment: bytes = field(default=orjson.dumps(DEFINITION))

    def fragment(self, era: Era) -> bytes:
        """Its definition."""
        return self._fragment

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """Run, or go on with, a program."""
        code = _program(call)
        digest = hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()
        state = self._opened(call, digest) if "requestState" in call.params else None
        printed = Printed(self.sandbox.bounds.output_bytes, str(state["printed"]) if state else "")
        calling = Calling(
            call, self.calls, self.admission, self.namespaces.of(call.snapshot, call.view), emit, self.name
        )
        program = Program(self.sandbox, calling.modules(code), printed, calling.read, calling.made, self.parallel)
        if state:
            program.made.update(state["made"])
        try:
            async with withdrawable(calling), asyncio.timeout(self.seconds):
                if state is None:
                    ended = await program.start(code)
                else:
                    ended = await program.go_on(base64.b64decode(state["dump"]), _answered(call, state))
        except TimeoutError:
            ended = ProgramFailed(f"The program took longer than {self.seconds:g} seconds, its calls included.")
        except ProgramFailed as error:
            ended = error
        except Withdrawn:
            withdrawn = jsonrpc.error(call.identifier, -32800, "Request cancelled")
            return Outcome(200, withdrawn, "cancelled", _detail(digest, program))
        return self._outcome(call, program, digest, ended)

    def _outcome(self, call: Call, program: Program, digest: str, ended: Finished | Asked | ProgramFailed) -> Outcome:
        detail = _detail(digest, program)
        if isinstance(ended, Asked):
            return Outcome(200, self._asking(call, program, digest, ended), "input_required", detail)
        limit = self.sandbox.bounds.output_bytes
        parts = [program.printed.text.rstrip("\n")] if program.printed.text else []
        if program.printed.dropped:
            parts.append(f"[{program.printed.dropped} more characters were printed; {limit} are shown]")
        if isinstance(ended, ProgramFailed):
            parts.append(str(ended)[:limit])
            if program.made:
                parts.append(f"Calls that were made: {_counted(program.made)}. Their effects stand.")
            return Outcome(200, failed(call, "\n".join(parts)).body, "tool-error", detail)
        text, cut = shown(ended.value, max(limit - len(program.printed.text), 1000))
        if ended.value is not None or not parts:
            parts.append(text)
        if cut:
            parts.append(f"[cut: a program's output is {limit} characters at most; return less]")
        return Outcome(200, answered(call, "\n".join(parts)).body, "ok", detail)

    def _asking(self, call: Call, program: Program, digest: str, asked: Asked) -> bytes:
        """The questions of the program's tools, each under its own call's number, and the program itself."""
        questions = {
            key_of(number, key): raw for number, one in asked.questions.items() for key, raw in one.asked.items()
        }
        state = {
            "code": digest,
            "until": time.time() + ANSWER_SECONDS,
            "dump": base64.b64encode(asked.dump).decode(),
            "printed": program.printed.text,
            "made": program.made,
            "asked": {
                str(number): [
                    one.request.path,
                    one.request.arguments.decode(),
                    bytes(one.state).decode() if one.state is not None else None,
                ]
                for number, one in asked.questions.items()
            },
        }
        sealed = self.seals.wrap("program", call.principal, OWN, orjson.dumps(state))
        told: dict[str, Any] = {"resultType": b'"input_required"', "requestState": sealed}
        if questions:
            told["inputRequests"] = jsonrpc.write(questions)
        return jsonrpc.result(call.identifier, jsonrpc.write(told))

    def _opened(self, call: Call, digest: str) -> Mapping[str, Any]:
        """The program that waits. Raises `InvalidParams` for another's, another program's, or one that is too old."""
        raw = self.seals.unwrap("program", call.principal, OWN, call.params["requestState"])
        state = jsonrpc.mapping(jsonrpc.value(raw))
        if state.get("code") != digest:
            raise InvalidParams("The requestState belongs to another program", hint="Repeat the call as it was.")
        if state["until"] < time.time():
            raise InvalidParams("The program waited too long for its answers", hint="Run it again.")
        return state


def _program(call: Call) -> str:
    given = arguments(call)
    code = jsonrpc.value(given["code"]) if "code" in given else None
    if not isinstance(code, str) or not code.strip():
        raise InvalidParams("run_code needs a program in `code`")
    if len(code) > LONGEST_PROGRAM:
        raise InvalidParams(f"The program is longer than {LONGEST_PROGRAM} characters")
    return code


def _answered(call: Call, state: Mapping[str, Any]) -> dict[int, tuple[Request, Retry]]:
    """Every call that waits, with those answers that are its own."""
    given = jsonrpc.fragments(call.params["inputResponses"]) if "inputResponses" in call.params else {}
    answers: dict[int, jsonrpc.Fragments] = {}
    for key, raw in given.items():
        number, own = number_of(key)
        answers.setdefault(number, {})[own] = raw
    return {
        int(number): (
            Request(path, arguments.encode()),
            Retry(answers.get(int(number), {}), None if inner is None else Raw(inner.encode())),
        )
        for number, (path, arguments, inner) in state["asked"].items()
    }


def _detail(digest: str, program: Program) -> str:
    """For the audit: which program, and what it called."""
    return f"program sha256:{digest[:16]}; {sum(program.made.values())} calls: {_counted(program.made)}"


def _counted(made: Mapping[str, int]) -> str:
    return ", ".join(path if number == 1 else f"{path} ×{number}" for path, number in made.items()) or "none"
