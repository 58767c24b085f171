"""One call of an operation: check the arguments, send the request once, and make a tool result of the answer.

Redirects are not followed, an answer has bounds in time and size, and whatever went wrong says who must act.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import anyio
import httpx
import mcp_types as types
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend  # pyright: ignore[reportUnknownVariableType] - untyped
from referencing import Registry

from servers.kit import Fault, Owner, our_version
from servers.openapi.operations import Operation, plain
from servers.openapi.request import build

CALL_SECONDS = 30.0
LARGEST_ANSWER = 2**20
"""Bytes of an answer that are shown."""
LONGEST_REFUSAL = 4_000
"""Characters of the body of an answer that is an error."""
MOST_COMPLAINTS = 10


def _let_through(*_: Any) -> Generator[ValidationError]:
    yield from ()


Checker: Any = extend(  # pyright: ignore[reportUnknownVariableType] - untyped
    Draft202012Validator, {"pattern": _let_through, "patternProperties": _let_through}
)
"""Without regular expressions: those of a description can take for ever on what a caller sends. The API judges them."""


NOWHERE: Registry[Any] = Registry()
"""Where schemas look for remote references: there are none."""


@dataclass(frozen=True)
class Api:
    """How the API is reached: the administrator's headers, which go with every request, and one TLS context."""

    headers: Mapping[str, str]
    tls: ssl.SSLContext


async def call(api: Api, operation: Operation, arguments: dict[str, Any]) -> types.CallToolResult:
    """Call an operation. Raises `Fault`."""
    _check(operation, arguments)
    request = build(operation, arguments)
    # Identity: a compressed answer could unpack to any size.
    ours = {"Accept": "application/json, text/*;q=0.8, */*;q=0.5", "Accept-Encoding": "identity"}
    ours["User-Agent"] = f"entrepot-openapi/{our_version()}"
    # Names without regard to case: the administrator's replace ours, and ours the caller's.
    headers = httpx.Headers(request.headers)
    headers.update(ours)
    headers.update(api.headers)
    try:
        with anyio.fail_after(CALL_SECONDS):
            async with (
                httpx.AsyncClient(verify=api.tls, timeout=CALL_SECONDS, follow_redirects=False) as client,
                client.stream(request.method, request.url, headers=headers, content=request.content) as answer,
            ):
                body, whole = await _body(answer)
    except (TimeoutError, httpx.TimeoutException):
        raise Fault(
            f"The API gave no whole answer within {CALL_SECONDS:.0f} seconds.",
            code="timeout",
            owner="server",
            hint="What was asked may have happened all the same; look before you call again.",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Fault(
            f"The API at {urlsplit(operation.base).netloc} cannot be reached: {type(error).__name__}.",
            code="unreachable",
            owner="administrator",
            hint="Check that the API runs and that the hub may reach it.",
        ) from error
    if answer.is_redirect or 300 <= answer.status_code < 400:
        raise _redirected(request.url, answer)
    if not answer.is_success:
        raise _failed(answer, body)
    if not whole:
        raise Fault(
            f"The answer is larger than {LARGEST_ANSWER} bytes. It begins:\n{_decoded(answer, body)[:LONGEST_REFUSAL]}",
            code="answer-too-large",
            hint="Ask for less, as with the operation's own filters or pages. What was asked has happened.",
        )
    return _result(operation, answer, body)


def _check(operation: Operation, arguments: dict[str, Any]) -> None:
    checker = Checker(operation.input_schema, registry=NOWHERE)
    said: list[str] = []
    try:
        for error in checker.iter_errors(arguments):
            # Field and rule only: the rejected value is the caller's and may be long or secret.
            place = ".".join(str(step) for step in error.absolute_path)[:200] or "arguments"
            said.append(f"{place}: {_rule(error)}")
            if len(said) == MOST_COMPLAINTS:
                break
    except RecursionError:
        said = ["arguments: nested too deep"]
    if said:
        raise Fault(
            f"The arguments do not fit the tool's input schema. {'; '.join(said)}",
            code="invalid-arguments",
            hint="Correct the named arguments and call again.",
        )


def _rule(error: ValidationError) -> str:
    keyword, wanted = str(error.validator), cast("Any", error.validator_value)
    if keyword == "required" and isinstance(error.instance, dict):
        missing = [name for name in wanted if name not in error.instance]
        return f"missing {', '.join(map(str, missing))}"[:300]
    if keyword == "additionalProperties":
        return "it has a member that is not declared"
    return f"{keyword} {json.dumps(wanted, ensure_ascii=False, default=str)[:200]}"


async def _body(answer: httpx.Response) -> tuple[bytes, bool]:
    """The body as far as the bound goes, and whether that was all."""
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > LARGEST_ANSWER:
            return bytes(body[:LARGEST_ANSWER]), False
    return bytes(body), True


def _result(operation: Operation, answer: httpx.Response, body: bytes) -> types.CallToolResult:
    kind = plain(answer.headers.get("content-type", ""))
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise _unexpected("The answer came compressed although that was not asked for.", "")
    if kind.startswith("image/") and operation.output_schema is None:
        data = base64.b64encode(body).decode()
        return types.CallToolResult(content=[types.ImageContent(type="image", data=data, mime_type=kind)])
    text = _decoded(answer, body)
    value: Any = None
    if not body.strip():
        text, value = f"Done: status {answer.status_code}, no content.", {}
    elif kind == "application/json" or kind.endswith("+json") or not kind:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
    elif not kind.startswith("text/") and kind not in ("application/xml", "application/yaml"):
        text = f"The answer is {len(body)} bytes of {kind[:100]}, which is not shown."
    structured = (
        cast("dict[str, Any]", value) if isinstance(value, dict) and (body.strip() or operation.output_schema) else None
    )
    if operation.output_schema is not None and not _fits(structured, operation.output_schema):
        raise _unexpected("The API succeeded, but its answer does not fit what it declares.", text)
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=structured)


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    try:
        return value is not None and Checker(schema, registry=NOWHERE).is_valid(value)
    except RecursionError:
        return False


def _decoded(answer: httpx.Response, body: bytes) -> str:
    try:
        return body.decode(answer.charset_encoding or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")


def _redirected(url: str, answer: httpx.Response) -> Fault:
    target = urlsplit(urljoin(url, answer.headers.get("location", "")))
    where = f" to {target.scheme}://{target.netloc.rpartition('@')[2]}"[:300] if "location" in answer.headers else ""
    return Fault(
        f"The API answered with status {answer.status_code}, a redirect{where}, which is not followed.",
        code="redirected",
        owner="administrator",
        hint="Register the API at the address that it redirects to, if you trust it.",
    )


def _failed(answer: httpx.Response, body: bytes) -> Fault:
    status = answer.status_code
    owner: Owner = "caller"
    hint = "Read the answer, correct the arguments and call again."
    if status in (401, 403, 407):
        owner, hint = "administrator", "Register the server with a header that the API accepts, as Authorization."
    elif status == 429:
        wait = answer.headers.get("retry-after", "")
        hint = f"Wait {wait} seconds before the next call." if wait.isdigit() else "Wait before the next call."
    elif status >= 500:
        owner, hint = "server", "The fault lies with the API; try again later, or tell who runs it."
    said = _decoded(answer, body).strip()
    cut = said[:LONGEST_REFUSAL] + (" …" if len(said) > LONGEST_REFUSAL else "")
    return Fault(
        f"The API answered with status {status}.\n{cut}".rstrip(), code=f"status-{status}", owner=owner, hint=hint
    )


def _unexpected(message: str, text: str) -> Fault:
    return Fault(
        f"{message}\n{text[:LONGEST_REFUSAL]}".rstrip(),
        code="answer-unexpected",
        owner="server",
        hint="What was asked has happened; do not repeat it for this reason.",
    )
