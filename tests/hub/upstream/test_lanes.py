"""Places for calls: so many at once, a queue with an end, and nobody's place lost."""

from __future__ import annotations

import asyncio

import pytest

from hub.errors import UpstreamBusy
from hub.upstream.lanes import Lanes, Place
from hub.upstream.terms import Concurrency

pytestmark = pytest.mark.anyio


def entered(lanes: Lanes) -> Place:
    place = lanes.enter()
    assert place is not None
    return place


async def waiting(lanes: Lanes, many: int) -> list[asyncio.Task[Place]]:
    tasks = [asyncio.create_task(lanes.wait()) for _ in range(many)]
    async with asyncio.timeout(5):
        while lanes.queued < many:
            await asyncio.sleep(0)
    return tasks


async def test_who_finds_no_place_gets_one_in_order_as_they_become_free() -> None:
    lanes = Lanes("s", Concurrency(calls=2, queue=5, wait=5))
    first, second = entered(lanes), entered(lanes)
    assert lanes.enter() is None
    third, fourth = await waiting(lanes, 2)
    lanes.leave(first)
    await third
    assert (lanes.running, lanes.queued, fourth.done()) == (2, 1, False)
    lanes.leave(second)
    await fourth
    assert lanes.running == 2


async def test_nobody_overtakes_the_queue_while_it_wakes_up() -> None:
    lanes = Lanes("s", Concurrency(calls=1, queue=5, wait=5))
    first = entered(lanes)
    (second,) = await waiting(lanes, 1)
    lanes.leave(first)
    assert lanes.enter() is None
    await second
    assert lanes.running == 1


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    lanes = Lanes("s", Concurrency(calls=1, queue=1, wait=5))
    entered(lanes)
    (queued,) = await waiting(lanes, 1)
    with pytest.raises(UpstreamBusy, match="'s' is busy") as refused:
        await lanes.wait()
    told = refused.value.envelope()
    assert (told["code"], told["effect"], told["retryAfter"]) == ("server-busy", "none", 1.0)
    queued.cancel()


async def test_the_wait_has_an_end() -> None:
    lanes = Lanes("s", Concurrency(calls=1, queue=1, wait=0.01))
    entered(lanes)
    with pytest.raises(UpstreamBusy, match="within 0.01 s"):
        await lanes.wait()
    assert lanes.queued == 0


async def test_a_place_given_to_somebody_who_left_goes_to_the_next() -> None:
    lanes = Lanes("s", Concurrency(calls=1, queue=5, wait=5))
    first = entered(lanes)
    gone, next_one = await waiting(lanes, 2)
    lanes.leave(first)
    gone.cancel()
    async with asyncio.timeout(5):
        await next_one
    assert lanes.running == 1


async def test_only_the_call_that_is_past_its_total_deadline_is_cancelled() -> None:
    lanes = Lanes("s", Concurrency())
    begun = asyncio.Event()

    async def call() -> bool:
        place = entered(lanes)
        place.began -= 100
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return place.expired
        return False

    task = asyncio.create_task(call())
    await begun.wait()
    young = entered(lanes)
    lanes.expire(60)
    assert await task
    assert not young.expired
