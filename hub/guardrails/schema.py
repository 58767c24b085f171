"""Arguments against the schema that their tool was listed with, so that a server meets only what it asked for.

Compiled at a tool's first call and kept by its digest. A tool whose schema cannot be used passes unchecked: the
catalog shows that as a problem of its server. A server may be exempted where its schemas forbid what it takes.
"""

from __future__ import annotations

import orjson

from hub.catalog.schemas import Schema, Unusable
from hub.catalog.snapshot import Target
from hub.errors import InvalidParams
from hub.guardrails.chain import Broken, Looked, Phase

MOST_SCHEMAS = 4096
"""Compiled schemas kept, some 5 KiB each; the one made first goes first."""


class BadArguments(InvalidParams):
    """The arguments are not of the form that the tool's schema asks for. The model gets this as the tool's error."""

    code = "invalid-arguments"


class ArgumentSchema:
    """Refuses arguments that their tool's schema forbids: 1 µs for small ones, mostly spent on reading them."""

    name = "schema"
    phases = frozenset({Phase.ARGUMENTS})
    broken = Broken.PASS

    def __init__(self) -> None:
        self._compiled: dict[str, Schema | None] = {}

    def look(self, looked: Looked, body: bytes) -> bytes:
        """The same bytes. Raises `BadArguments`."""
        target = looked.target
        if target.kind != "tool" or not looked.server.check_arguments:
            return body
        try:
            schema = self._compiled[target.digest]
        except KeyError:
            schema = self._compile(target)
        if schema is None or schema.too_much(body):
            return body
        try:
            arguments = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadArguments(f"The arguments of {target.exposed} are not JSON: {error}") from error
        if arguments is None:
            # Some clients say null where they have none.
            arguments = {}
        if not schema.is_valid(arguments):
            raise BadArguments(
                f"Invalid arguments for the tool {target.exposed}: {schema.complaint(arguments)}",
                hint="Call it again with arguments that fit its inputSchema.",
                # Arguments are never recorded, and the complaint quotes them.
                reason="the arguments do not fit the tool's schema",
            )
        return body

    def _compile(self, target: Target) -> Schema | None:
        while len(self._compiled) >= MOST_SCHEMAS:
            del self._compiled[next(iter(self._compiled))]
        try:
            schema = Schema(orjson.loads(target.fragment)["inputSchema"])
        except Unusable:
            schema = None
        self._compiled[target.digest] = schema
        return schema
