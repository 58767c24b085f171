"""Around the relay: a place among the server's calls, the total deadline, and a few replays at most.

A call is sent again only when the first time cannot have had an effect: nothing was sent, or repeating it is harmless
by what the server declares of the tool or by the caller's own idempotency key. Everything else that broke off is
`outcome unknown`, and the error says how to find out. Nothing here costs a plain call more than a few look-ups.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hub.catalog.snapshot import Server, Target
from hub.errors import OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.gateway.calls import Call, Emit, Outcome, Relay
from hub.upstream.connection import Upstream, late
from hub.upstream.lanes import Place
from hub.upstream.pool import Pool

IDEMPOTENCY_KEYS = frozenset({"dev.entrepot/idempotencyKey", "idempotencyKey"})
"""Members of a call's `_meta` by which its caller says that its server takes the call once only."""

PAUSES = (0.1, 0.4)
"""Seconds before a harmless call that broke off twice, and three times, is sent once more: a server that restarts."""

MOST_SHOWN = 3
"""Tools that are named as a way to find out what became of a call."""


class Attempts:
    """A relay around another."""

    def __init__(self, relay: Relay, pool: Pool) -> None:
        self._relay = relay
        self._pool = pool

    async def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """The server's answer. Raises `UpstreamBusy` when no place became free, and what the relay raises."""
        upstream = self._pool.first(server.name, server.address, server.digest)
        lanes = upstream.lanes
        place = lanes.enter() or await lanes.wait()
        try:
            return await self._relay.send(call, server, target, emit)
        except UpstreamError as error:
            if not _repeatable(error, call, target):
                raise _explained(error, call, target) from error
            call.note = f"sent again after: {error.message}"
        except asyncio.CancelledError:
            raise _expired(upstream, place, call, target) from None
        finally:
            lanes.leave(place)
        return await self._again(upstream, place, call, server, target, emit)

    async def _again(
        self, upstream: Upstream, first: Place, call: Call, server: Server, target: Target, emit: Emit
    ) -> Outcome:
        lanes = upstream.lanes
        place = lanes.enter() or await lanes.wait()
        place.began = first.began
        try:
            for pause in PAUSES:
                try:
                    return await self._relay.send(call, server, target, emit)
                except OutcomeUnknown as error:
                    if not harmless(call.meta, target):
                        raise
                    call.note = f"sent again after: {error.message}"
                await asyncio.sleep(pause)
            return await self._relay.send(call, server, target, emit)
        except UpstreamError as error:
            raise _explained(error, call, target) from error
        except asyncio.CancelledError:
            raise _expired(upstream, place, call, target) from None
        finally:
            lanes.leave(place)


def _repeatable(error: UpstreamError, call: Call, target: Target) -> bool:
    if isinstance(error, UpstreamDown):
        return True
    # A deadline that passed once would only pass again.
    return isinstance(error, OutcomeUnknown) and harmless(call.meta, target)


def harmless(meta: Any, target: Target) -> bool:
    """Whether calling a second time does no more than calling once."""
    return target.repeatable or any(meta.get(key) for key in IDEMPOTENCY_KEYS)


def _expired(upstream: Upstream, place: Place, call: Call, target: Target) -> BaseException:
    """What a cancellation means: the end of the total deadline, or somebody else's wish."""
    if not place.expired or place.task is None or place.task.uncancel() > 0:
        return asyncio.CancelledError()
    return _explained(late(upstream.name, "total", upstream.terms.deadlines.total), call, target)


def _explained(error: UpstreamError, call: Call, target: Target) -> UpstreamError:
    """The error with the way to find out what became of the call, where that is not known."""
    if not isinstance(error, OutcomeUnknown | UpstreamTimeout) or harmless(call.meta, target):
        return error
    ways = _ways_to_look(call, target)
    hint = "It may have had its effect: check before you call again"
    hint += f", for example with {' or '.join(ways)}." if ways else "."
    if isinstance(error, UpstreamTimeout):
        hint = f"{hint} {error.hint}"
    told = error.extra | {"reconcile": {"tools": ways, "trace": call.trace}}
    return type(error)(error.message, hint=hint, reason=error.reason, data=told)


def _ways_to_look(call: Call, target: Target) -> list[str]:
    """Tools of the same server that only read, as the caller knows them."""
    listed = call.view.listed.get((call.era, "tool"), ())
    return [one.exposed for one in listed if one.server == target.server and one.reads and one is not target][
        :MOST_SHOWN
    ]
