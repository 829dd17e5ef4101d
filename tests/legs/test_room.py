"""The room of a route's payloads: given in the order it was asked for, and given back whatever happens."""

from __future__ import annotations

import asyncio

from bridge.legs.claims import Room


async def test_room_is_given_in_the_order_it_was_asked_for_and_comes_back_whatever_happens() -> None:
    room, order = Room(10), list[int]()

    async def use(size: int) -> None:
        async with room.take(size):
            order.append(size)
            await asyncio.sleep(0)

    async with room.take(9):
        waiting = [asyncio.create_task(use(size)) for size in (10, 1, 50, 2)]
        await asyncio.sleep(0)
        waiting[2].cancel()
    waiting[0].cancel()  # it has its turn, and does not know yet
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [1, 2]
    assert room.free == 10
