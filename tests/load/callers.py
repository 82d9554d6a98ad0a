"""Callers that go on and on, at a steady rate in all; what came of it is counted by phase."""

import asyncio
import collections
import dataclasses
import ssl
import time

from answer import Crossed, Failed
from http1 import Http1
from http2 import Http2
from world import PATIENCE

# HTTP/2 callers that share a connection.
SHARING = 4
# After so many requests callers with TLS leave a connection, so that handshakes go on all the time,
# and those by the listener that comes and goes look whether it is there again.
STAY = 10
# A connection that has no request when the end begins is closed after so many seconds
# (`limits::DRAIN_MOMENT`). A caller asks again in a tenth of it, unless the machine is too busy.
DRAIN_MOMENT = 1.0


class Over(Exception):
    """The gateway has told a caller to go, and is not to be called any more."""


@dataclasses.dataclass
class Kind:
    """How callers come in."""

    name: str
    protocol: type
    secure: bool = False
    # By the listener that comes and goes, as long as it is there.
    guest: bool = False


KINDS = [
    Kind("HTTP/1.1", Http1),
    Kind("HTTP/1.1 with TLS", Http1, secure=True),
    Kind("HTTP/1.1 by the listener that comes and goes", Http1, guest=True),
    Kind("h2c", Http2),
    Kind("h2 with TLS", Http2, secure=True),
    Kind("h2c by the listener that comes and goes", Http2, guest=True),
]


def context(protocol):
    """TLS with ALPN for one protocol, to whatever certificate."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2" if protocol is Http2 else "http/1.1"])
    return made


CONTEXTS = {protocol: context(protocol) for protocol in (Http1, Http2)}


class Phase:
    """What came of the requests of a part of the run."""

    def __init__(self, name, world):
        self.name, self.world = name, world
        self.latencies = []
        self.before = self.clocks()

    def clocks(self):
        """The time, and the processor time of the gateway and of the callers, in seconds."""
        return time.monotonic(), self.world.cpu(), time.process_time()

    def end(self):
        spent = (now - before for now, before in zip(self.clocks(), self.before))
        self.took, self.gateway, self.own = spent

    def rate(self):
        return len(self.latencies) / self.took

    def percentile(self, part):
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * part)] * 1e3 if ordered else float("nan")

    def __str__(self):
        count = len(self.latencies)
        return (
            f"{self.name}: {count} requests, {self.rate():.0f}/s, p50 {self.percentile(0.5):.2f} ms, "
            f"p99 {self.percentile(0.99):.2f} ms, CPU a request: gateway "
            f"{self.gateway * 1e6 / max(count, 1):.0f} us, callers {self.own * 1e6 / max(count, 1):.0f} us"
        )


class Load:
    """All callers, and what they met."""

    def __init__(self, world, rate, callers):
        self.world, self.rate, self.callers = world, rate, callers
        self.failures = []
        self.certificates = set()
        self.told = collections.Counter()
        self.by_kind = collections.Counter()
        self.phases = {}
        # Once the gateway is no longer ready nobody is sent to it: callers stay on the connections
        # they have until they are told to go.
        self.turned = False

    def enter(self, name):
        self.leave()
        self.phase = self.phases[name] = Phase(name, self.world)

    def leave(self):
        if self.phases:
            self.phase.end()

    def start(self):
        self.tasks = []
        while len(self.tasks) < self.callers:
            kind = KINDS[len(self.tasks) // SHARING % len(KINDS)]
            shared = Way(self, kind)
            for _ in range(SHARING):
                way = shared if kind.protocol is Http2 else Way(self, kind)
                caller = self.caller(len(self.tasks), way)
                self.tasks.append(asyncio.create_task(caller, name=kind.name))

    async def told_to_go(self):
        """Waits until each caller has been told to go."""
        _, left = await asyncio.wait(self.tasks, timeout=PATIENCE)
        if left:
            kinds = ", ".join(sorted({task.get_name() for task in left}))
            raise Failed(
                f"{len(left)} callers ({kinds}) got no answer, or were not told to go, in {PATIENCE} s"
            )
        for task in self.tasks:
            task.result()

    async def caller(self, number, way):
        pause = self.callers / self.rate
        due = time.monotonic() + pause * number / self.callers
        turn = number
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # Who is behind does not make up for it with a burst.
            due = max(due + pause, time.monotonic() - pause)
            path, token, status, body = self.request(number, turn)
            turn += 1
            phase, began = self.phase, time.monotonic()
            try:
                answer = await way.ask(path, token)
                if answer.status != status or body is not None and answer.body != body:
                    raise Failed(f"{answer.status} {answer.body!r} and not {status} {body!r}")
            except Over:
                return
            except Exception as error:  # whatever it is, a request failed
                self.failures.append(f"{phase.name}: {path} over {way.kind.name}: {error!r}")
            phase.latencies.append(time.monotonic() - began)
            self.by_kind[way.kind.name] += 1

    def request(self, number, turn):
        """What is asked, in turn, and what has to come."""
        token = self.world.token
        unique = f"{number}-{turn}"
        which = turn % 6
        if which == 0:
            return f"/open/{unique}", None, 200, f"/open/{unique} none".encode()
        if which in (1, 4):
            return f"/obo/{unique}", token, 200, f"/obo/{unique} bearer".encode()
        if which == 2:
            return "/hello", None, 200, b"hello"
        if which == 3:
            return f"/obo/{unique}", None, 401, None
        return "/nowhere", None, 404, None


class Way:
    """The way in of one caller, or of some that share it; there is a connection when one is wanted."""

    def __init__(self, load, kind):
        self.load, self.kind = load, kind
        self.connection = None
        # Whether it is to the listener that comes and goes.
        self.visiting = False
        self.asked = 0
        # When the last request was sent.
        self.last = time.monotonic()
        self.opening = asyncio.Lock()

    async def ask(self, path, token=None):
        """The whole answer; asks again if the request may have crossed with a close.

        Over HTTP/1.1 it may not on a connection that had an answer, where a drain gives a moment,
        but for a caller that left that unused: those are counted.
        """
        while True:
            connection, visiting = await self.usable(), self.visiting
            before, self.last = self.last, time.monotonic()
            answer = connection.ask(path, token)
            self.asked += 1
            try:
                await answer.ended
                return answer
            except Crossed as crossed:
                # That it is gone is said here; `usable` need not say it again.
                if self.connection is connection:
                    self.connection = None
                if not visiting and not self.load.turned:
                    raise Failed(f"{crossed}; and nothing is to be closed here") from crossed
                # Its last answer did not tell it to go, so the end began after that was asked for.
                if connection.heard and self.kind.protocol is Http1:
                    had = time.monotonic() - before
                    if had < DRAIN_MOMENT:
                        raise Failed(
                            f"{crossed}; {had:.3f} s after it was asked for an answer that did not tell "
                            f"to go, and who waits has {DRAIN_MOMENT} s"
                        ) from crossed
                since = "reused" if connection.heard else "new"
                self.load.told[f"crossed on a {since} {self.kind.protocol.__name__} connection"] += 1

    async def usable(self):
        async with self.opening:
            if self.connection and self.wants_another() and not self.load.turned:
                # It ends with the last answer on it.
                self.connection.retire()
                self.connection = None
            if self.connection and not self.connection.usable:
                self.connection = None
                if not self.visiting and not self.load.turned:
                    raise Failed("told to go, though this listener stays")
            if self.connection is None:
                if self.load.turned:
                    raise Over
                self.connection, self.asked = await self.open(), 0
            return self.connection

    def wants_another(self):
        return self.asked >= STAY and (self.kind.secure or self.kind.guest and not self.visiting)

    async def open(self):
        world = self.load.world
        if self.kind.guest:
            try:
                connection = await connect(world.extra, self.kind.protocol, self.load.told)
                self.visiting = True
                return connection
            except OSError:
                self.visiting = False
        if not self.kind.secure:
            return await connect(world.plain, self.kind.protocol, self.load.told)
        connection = await connect(world.tls, self.kind.protocol, self.load.told, secure=True)
        session = connection.transport.get_extra_info("ssl_object")
        self.load.certificates.add(session.getpeercert(True))
        if self.kind.protocol is Http2 and session.selected_alpn_protocol() != "h2":
            raise Failed(f"ALPN chose {session.selected_alpn_protocol()} and not h2")
        return connection


async def connect(port, protocol, told, secure=False):
    """A new connection to the gateway."""
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: protocol(told), "127.0.0.1", port, ssl=CONTEXTS[protocol] if secure else None
    )
    if not connection.usable:
        raise ConnectionResetError("closed as soon as it was open")
    return connection
