"""Steady load over mixed routes while the gateway is reloaded, renewed and drained; see `run`."""

import argparse
import asyncio
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time

from answer import Failed
from callers import KINDS, Load
from phases import drain, is_ready, reload, swap_unasked, until
from world import World

RELOADS = 100
# One with every fifth reload, and one without any; and the certificate that is there at first.
CERTIFICATES = RELOADS // 5 + 2
# A run that sends fewer than so many of the requests it means to send measures itself.
RATE_REACHED = 0.97


async def run(world, measure):
    await until("readiness", lambda: is_ready(world))
    # Pauses of our own would be measured too; what is left behind ends with us.
    gc.disable()
    load = Load(world, *((1000, 72) if measure else (250, 24)))
    load.enter("start")
    load.start()
    await asyncio.sleep(5 if measure else 1)
    load.enter("quiet")
    await asyncio.sleep(20 if measure else 3)
    load.enter("reloads")
    for number in range(RELOADS):
        due = time.monotonic() + (0.3 if measure else 0.05)
        await reload(world, number)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    load.enter("swap unasked")
    await swap_unasked(world, load)
    load.enter("drain")
    goaways = load.told["GOAWAY"]
    await drain(world, load)
    report(world, load)
    if load.failures:
        raise Failed("\n".join(["requests failed:", *load.failures[:20]]))
    if not 0 < goaways < load.told["GOAWAY"]:
        raise Failed(f"{goaways} GOAWAYs under reloads, {load.told['GOAWAY']} with the drain: none seen is none tested")
    if measure:
        judge(load)


def report(world, load):
    for phase in load.phases.values():
        print(phase)
    for kind in KINDS:
        print(f"{load.by_kind[kind.name]} requests over {kind.name}")
    print("how callers were told to go:", ", ".join(f"{how}: {count}" for how, count in load.told.items()))
    print(
        f"{sum(load.by_kind.values())} requests, {RELOADS} reloads, {world.swaps} certificate swaps, "
        f"{len(load.certificates)} certificates seen, {len(load.failures)} failed"
    )


def judge(load):
    """What only a quiet machine can be held to."""
    quiet, reloads = load.phases["quiet"], load.phases["reloads"]
    for phase in (quiet, reloads):
        if phase.rate() < RATE_REACHED * load.rate:
            raise Failed(
                f"{phase.rate():.0f} requests/s and not {load.rate}: the figures mean nothing; "
                "take a release build and a quiet machine"
            )
    if reloads.percentile(0.99) > 2 * quiet.percentile(0.99):
        raise Failed(
            f"p99 under reloads is {reloads.percentile(0.99):.2f} ms, more than twice the "
            f"{quiet.percentile(0.99):.2f} ms without"
        )


def take_cores():
    """Leaves the first core to the gateway: which that is. All else is started here and stays here."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise Failed("to measure, the gateway needs one core and all else another; there is one")
    os.sched_setaffinity(0, others)
    return first


def main():
    parser = argparse.ArgumentParser(prog="tests/load/run")
    parser.add_argument("--measure", action="store_true", help="1,000 requests/s, and compare p99")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="obo-load-")
    world = None
    try:
        world = World(folder, CERTIFICATES, take_cores() if arguments.measure else None)
        asyncio.run(run(world, arguments.measure))
    except (Failed, OSError, subprocess.SubprocessError) as failure:
        print(f"load: {failure}", file=sys.stderr)
        if world:
            lines = [line for line in world.events("") if '"duration_ms"' not in line]
            print("".join(line[:2000] for line in lines[-20:]), file=sys.stderr)
        return 1
    finally:
        if world:
            world.stop()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
