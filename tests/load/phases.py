"""What is done to the gateway while callers call: reloads, certificate swaps, a drain."""

import asyncio
import collections
import signal
import sys
import time

from answer import Failed
from callers import Kind, connect
from http1 import Http1
from http2 import Http2
from world import DELAY, PATIENCE

# Pieces of a slow stream, 10 a second: it outlives the delay.
PIECES = 2 * 10 * DELAY
# What these connections are told is not the callers' affair.
UNCOUNTED = collections.Counter()


async def until(what, found, pause=0.02):
    """Asks again and again."""
    deadline = time.monotonic() + PATIENCE
    while not await found():
        if time.monotonic() > deadline:
            raise Failed(f"in vain waited {PATIENCE} s for {what}")
        await asyncio.sleep(pause)


async def ask(port, path, method="GET"):
    """The answer to one request, on a connection of its own."""
    connection = await connect(port, Http1, UNCOUNTED)
    answer = connection.ask(path, method=method)
    connection.retire()
    await asyncio.wait_for(answer.ended, PATIENCE)
    return answer


async def connects(port):
    try:
        connection = await connect(port, Http1, UNCOUNTED)
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    connection.retire()
    return True


async def is_ready(world):
    try:
        return (await ask(world.admin, "/readyz")).status == 200
    except OSError:
        return False


async def reloads(world, outcome):
    """How many reloads ended so."""
    name = f'obo_gateway_config_reloads_total{{outcome="{outcome}"}} '
    for line in (await ask(world.admin, "/metrics")).body.decode().splitlines():
        if line.startswith(name):
            return int(float(line.removeprefix(name)))
    return 0


async def reload(world, number):
    """One reload: every second is bad, every fifth comes with new certificates."""
    good = number % 2 == 0
    with_extra = number % 4 == 0
    version = f"v{number}"
    if number % 5 == 0:
        world.swap_certificate()
    outcome = "success" if good else "failure"
    before = await reloads(world, outcome)
    world.write(world.routes(version, with_extra, good))
    if number % 3 == 0:
        await ask(world.admin, "/api/v1/reload", "POST")
    else:
        world.gateway.send_signal(signal.SIGHUP)

    async def done():
        return await reloads(world, outcome) > before

    await until(f"reload {number}", done)
    if not good:
        return
    answer = await ask(world.plain, f"/{version}")
    if (answer.status, answer.body) != (200, version.encode()):
        raise Failed(f"reload {number} is in force, and `/{version}` answers {answer.status} {answer.body!r}")
    if with_extra:
        if (await ask(world.extra, "/hello")).body != b"hello":
            raise Failed(f"reload {number} has one listener more, and it does not serve")
    else:
        # It is closed when the loop that accepts has heard of it.
        async def closed():
            return not await connects(world.extra)

        await until("a removed listener to close", closed)


async def swap_unasked(world, load):
    """The last swap is seen without a signal, once the file is good again."""
    world.write(world.routes("last", False))
    world.swap_certificate()

    async def shown():
        return world.newest in load.certificates

    await until("a new certificate to be shown", shown)


async def slow_streams(world):
    """Streams in flight: two by each kind of connection, for HTTP/2 side by side on one."""
    answers = []
    for kind in (Kind("", Http1), Kind("", Http1, True), Kind("", Http2), Kind("", Http2, True)):
        connections = [
            await connect(world.tls if kind.secure else world.plain, kind.protocol, UNCOUNTED, kind.secure)
            for _ in range(2 if kind.protocol is Http1 else 1)
        ]
        answers += [(connections * 2)[at].ask(f"/open/stream/{PIECES}") for at in range(2)]
    for answer in answers:
        await asyncio.wait_for(answer.begun, PATIENCE)
    return answers


async def drain(world, load):
    """SIGTERM with slow streams: those in flight end well, and readiness turns first."""
    streams = await slow_streams(world)
    began = time.monotonic()
    world.gateway.send_signal(signal.SIGTERM)

    async def turned():
        return not await is_ready(world)

    await until("readiness to turn", turned)
    load.turned = True
    if not await connects(world.plain):
        if time.monotonic() - began < DELAY:
            raise Failed("new connections are refused while the drain has not begun")
        print("load: too slow a machine to see the delay of the drain", file=sys.stderr)
    await load.told_to_go()

    async def refused():
        return not await connects(world.plain) and not await connects(world.tls)

    await until("new connections to be refused", refused)
    if time.monotonic() - began < DELAY:
        raise Failed("the drain began before its delay was over")
    if any(answer.ended.done() for answer in streams):
        print("load: too slow a machine for streams that outlive the delay", file=sys.stderr)
    for answer in streams:
        await asyncio.wait_for(answer.ended, PATIENCE)
        pieces = answer.body.count(b"piece ")
        if (answer.status, pieces) != (200, PIECES):
            raise Failed(f"a stream ended with {answer.status} after {pieces} pieces of {PIECES}")
    load.leave()
    code = await asyncio.to_thread(world.gateway.wait, PATIENCE)
    if code != 0:
        raise Failed(f"it ended with {code}")
    if not world.events("nothing was cut off"):
        raise Failed("the drain cut something off")
