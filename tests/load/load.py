"""Steady load over mixed routes while the gateway is reloaded, renewed and drained; see `run`."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

BINARY = os.environ["OBO_GATEWAY"]
HERE = os.path.dirname(os.path.abspath(__file__))
TENANT = "10000000-0000-4000-8000-000000000001"
CLIENT = "20000000-0000-4000-8000-000000000001"
RELOADS = 100
SWAPS = 20
# Longer than anything takes on a busy machine.
PATIENCE = 60
# `shutdown_delay` in seconds: a busy machine needs some to notice that readiness turned, and callers
# have to be done before it is over.
DELAY = 10
# Pieces of a slow stream, 10 a second: it outlives the delay.
PIECES = 160


class Failed(Exception):
    """The run shows that something is wrong; a sentence says what."""


def free_ports(count):
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class World:
    """The provider, the upstream, the files and the gateway."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "GATEWAY_SECRET": "dev-gateway-secret"}
        self.processes = []
        self.plain, self.tls, self.extra, self.admin = free_ports(4)
        upstream = self.start([sys.executable, "-B", os.path.join(HERE, "upstream.py")])
        self.upstream = int(upstream.stdout.readline())
        provider = self.start([BINARY, "dev-idp", "--address", "127.0.0.1:0", "--log-level", "error"])
        line = provider.stdout.readline()
        if not line.startswith("listening on "):
            raise Failed(f"the provider said {line!r}")
        self.provider = line.removeprefix("listening on ").strip()
        self.token = self.fetch(f"{self.provider}/dev/token?user=alice&scope=access_as_user")
        self.version = 0
        self.certificates = [self.make_certificate(number) for number in range(SWAPS + 2)]
        self.put_certificate(0)
        self.write(self.routes("first", False))
        self.log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
        self.gateway = subprocess.Popen(
            [BINARY, "run", "--log-format", "json", "-c", self.path("routes.yaml")],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        self.processes.append(self.gateway)

    def start(self, command):
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def fetch(url):
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def make_certificate(self, number):
        """A folder with a certificate and its key, as Kubernetes would write it."""
        folder = self.path(f"..{number}")
        os.mkdir(folder)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "100", "-subj", f"/CN=localhost-{number}",
             "-out", f"{folder}/tls.crt", "-keyout", f"{folder}/tls.key"],
            check=True, capture_output=True,
        )
        with open(f"{folder}/tls.crt", encoding="ascii") as file:
            return ssl.PEM_cert_to_DER_cert(file.read())

    def put_certificate(self, number):
        """Swaps the link through which both files are seen, as Kubernetes does."""
        os.symlink(f"..{number}", self.path("..new"))
        os.rename(self.path("..new"), self.path("..data"))
        self.newest = self.certificates[number]

    def write(self, text):
        """Replaces the routes file as editors do."""
        with open(self.path("routes.new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path("routes.new"), self.path("routes.yaml"))

    def routes(self, version, with_extra, good=True):
        folder = self.folder
        extra = f"  - address: 127.0.0.1:{self.extra}\n" if with_extra else ""
        upstream = "up" if good else "upp"
        return f"""\
listeners:
  - address: 127.0.0.1:{self.plain}
{extra}  - address: 127.0.0.1:{self.tls}
    tls: {{ cert_file: {folder}/..data/tls.crt, key_file: {folder}/..data/tls.key }}
admin: {{ address: "127.0.0.1:{self.admin}" }}
server: {{ workers: 1, shutdown_delay: {DELAY}s, shutdown_grace: 60s }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {self.provider}
    client_id: {CLIENT}
    credential: {{ client_secret: "${{GATEWAY_SECRET}}" }}
upstreams:
  up: {{ url: "http://127.0.0.1:{self.upstream}" }}
  swap:
    url: "http://127.0.0.1:{self.upstream}"
    token: {{ on_behalf_of: {{ scopes: ["https://graph.microsoft.com/.default"] }} }}
routes:
  - {{ name: open, match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: {upstream} }}
  - {{ name: obo, match: {{ path: "/obo/{{*rest}}" }}, auth: any, upstream: swap }}
  - {{ name: hello, match: {{ path: /hello }}, auth: none, respond: {{ status: 200, body: hello }} }}
  - {{ name: version, match: {{ path: "/{version}" }}, auth: none, respond: {{ status: 200, body: "{version}" }} }}
"""

    def readiness(self):
        """Whether it is ready; asked on a connection of its own."""
        try:
            self.fetch(f"http://127.0.0.1:{self.admin}/readyz")
            return True
        except OSError:
            return False

    def metric(self, line):
        for found in self.fetch(f"http://127.0.0.1:{self.admin}/metrics").splitlines():
            if found.startswith(line + " "):
                return float(found.rsplit(" ", 1)[1])
        return 0.0

    def reloads(self):
        name = 'obo_gateway_config_reloads_total{outcome="%s"}'
        return self.metric(name % "success"), self.metric(name % "failure")

    def events(self, text):
        self.log.flush()
        with open(self.path("log"), encoding="utf-8") as file:
            return [line for line in file if text in line]


async def until(what, found, pause=0.02):
    """Asks again and again, elsewhere than where the load runs."""
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(found):
        if time.monotonic() > deadline:
            raise Failed(f"in vain waited {PATIENCE} s for {what}")
        await asyncio.sleep(pause)


class Connection:
    """One connection, with one request at a time."""

    def __init__(self, port, context=None):
        self.port, self.context = port, context
        self.writer = None

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, limit=1 << 20
        )

    def certificate(self):
        return self.writer.get_extra_info("ssl_object").getpeercert(True)

    def close(self):
        if self.writer:
            self.writer.close()
            self.writer = None

    async def send(self, path, token):
        authorization = f"authorization: Bearer {token}\r\n" if token else ""
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n{authorization}\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.lower()

    async def get(self, path, token=None):
        """Status and body; and closes if the gateway says so."""
        status, head = await self.send(path, token)
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return status, body.decode()


class Load:
    """Callers that go on and on, at a steady rate in all."""

    def __init__(self, world, rate, callers):
        self.world, self.rate, self.callers = world, rate, callers
        self.ended = False
        self.failures = []
        self.sent = 0
        self.latencies = {"quiet": [], "reloads": [], "drain": []}
        self.phase = "quiet"
        self.seen = set()
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def requests(self, number):
        """What is asked, in turn, and what has to come."""
        token = self.world.token
        unique = f"{number}-{self.sent}"
        return [
            (f"/open/{unique}", None, 200, f"/open/{unique} none"),
            (f"/obo/{unique}", token, 200, f"/obo/{unique} bearer"),
            ("/hello", None, 200, "hello"),
            (f"/obo/{unique}", None, 401, None),
            (f"/obo/{unique}", token, 200, f"/obo/{unique} bearer"),
            ("/nowhere", None, 404, None),
        ]

    async def caller(self, number):
        secure = number % 4 == 3
        port = self.world.tls if secure else self.world.plain
        connection = Connection(port, self.context if secure else None)
        pause = self.callers / self.rate
        due = time.monotonic() + pause * number / self.callers
        turn = number
        while not self.ended:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.ended:
                break
            # Who is behind does not make up for it with a burst.
            due = max(due + pause, time.monotonic() - pause)
            asked = self.requests(number)
            path, token, status, body = asked[turn % len(asked)]
            turn += 1
            began = time.monotonic()
            try:
                if connection.writer is None:
                    await connection.open()
                    if secure:
                        self.seen.add(connection.certificate())
                answer = await asyncio.wait_for(connection.get(path, token), PATIENCE)
                if answer[0] != status or body is not None and answer[1] != body:
                    raise Failed(f"{answer} and not {status} {body!r}")
            except Exception as error:  # whatever it is, a request failed
                self.failures.append(f"{self.phase}: {path} on {port}: {error!r}")
                connection.close()
            self.sent += 1
            self.latencies[self.phase].append(time.monotonic() - began)
            # New handshakes go on all the time.
            if secure and turn % 5 == 0:
                connection.close()
        connection.close()

    def start(self):
        self.tasks = [asyncio.create_task(self.caller(number)) for number in range(self.callers)]

    async def end(self):
        self.ended = True
        await asyncio.gather(*self.tasks)


async def stream(world, port, context, pieces):
    """A slow stream, from its first piece to its proper end; how many pieces came."""
    connection = Connection(port, context)
    await connection.open()
    status, head = await connection.send(f"/open/stream/{pieces}", None)
    if status != 200 or b"transfer-encoding: chunked" not in head:
        raise Failed(f"a stream began with {head!r}")
    came = b""
    while True:
        size = int(await connection.reader.readline(), 16)
        chunk = await connection.reader.readexactly(size + 2)
        if size == 0:
            connection.close()
            return came.count(b"piece ")
        came += chunk[:-2]


async def reload(world, number):
    """One reload: every second is bad, every fifth comes with new certificates."""
    good = number % 2 == 0
    version = f"v{number}"
    if number % 5 == 0:
        world.version += 1
        world.put_certificate(world.version)
    before = await asyncio.to_thread(world.reloads)
    world.write(world.routes(version, number % 4 == 0, good))
    world.gateway.send_signal(signal.SIGHUP)
    which = 0 if good else 1
    await until(f"reload {number}", lambda: world.reloads()[which] > before[which])
    if not good:
        return
    connection = Connection(world.plain)
    await connection.open()
    answer = await connection.get(f"/{version}")
    connection.close()
    if answer != (200, version):
        raise Failed(f"reload {number} is in force, and `/{version}` answers {answer}")
    extra = Connection(world.extra)
    try:
        await extra.open()
        answer = await extra.get("/hello")
        served = answer == (200, "hello")
    except OSError:
        served = False
    extra.close()
    if served and number % 4 != 0:
        # It is closed when the loop that accepts has heard of it.
        await until("a removed listener to close", lambda: not connects(world.extra))
    if not served and number % 4 == 0:
        raise Failed(f"reload {number} has one listener more, and it does not serve")


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        return True
    except ConnectionRefusedError:
        return False


async def drain(world, load):
    """SIGTERM with slow streams: those in flight end well, and readiness turns first."""
    load.phase = "drain"
    streams = [
        asyncio.create_task(stream(world, port, context, PIECES))
        for port, context in [(world.plain, None), (world.tls, load.context)] * 3
    ]
    await until("the streams to begin", lambda: world.metric("obo_gateway_requests_in_flight") >= 6)
    began = time.monotonic()
    world.gateway.send_signal(signal.SIGTERM)
    await until("readiness to turn", lambda: not world.readiness())
    if not connects(world.plain):
        if time.monotonic() - began < DELAY:
            raise Failed("new connections are refused while the drain has not begun")
        print("load: too slow a machine to see the delay of the drain", file=sys.stderr)
    # A load balancer sends nobody here any more.
    await load.end()
    await until("new connections to be refused", lambda: not connects(world.plain))
    if any(each.done() for each in streams):
        print("load: too slow a machine for streams that outlive the delay", file=sys.stderr)
    for each in streams:
        pieces = await asyncio.wait_for(each, PATIENCE)
        if pieces != PIECES:
            raise Failed(f"a stream ended after {pieces} pieces of {PIECES}")
    code = await asyncio.to_thread(world.gateway.wait, PATIENCE)
    if code != 0:
        raise Failed(f"it ended with {code}")
    if not world.events("nothing was cut off"):
        raise Failed("the drain cut something off")


def percentile(latencies, part):
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3 if ordered else float("nan")


async def run(world, measure):
    await until("readiness", world.readiness)
    load = Load(world, *((1000, 64) if measure else (250, 24)))
    load.start()
    began = time.monotonic()
    await asyncio.sleep(20 if measure else 4)
    load.phase = "reloads"
    for number in range(RELOADS):
        await reload(world, number)
        await asyncio.sleep(0.2 if measure else 0.02)
    took = time.monotonic() - began
    # The last swap is seen without a signal, once the file is good again.
    world.write(world.routes("last", False))
    world.version += 1
    world.put_certificate(world.version)
    await until("a new certificate to be shown", lambda: world.newest in load.seen)
    await drain(world, load)

    for phase, latencies in load.latencies.items():
        print(
            f"{phase}: {len(latencies)} requests, p50 {percentile(latencies, 0.5):.2f} ms, "
            f"p99 {percentile(latencies, 0.99):.2f} ms"
        )
    print(
        f"{load.sent} requests, {load.sent / took:.0f}/s, {RELOADS} reloads, {world.version} certificate swaps, "
        f"{len(load.seen)} certificates seen, {len(load.failures)} failed"
    )
    if load.failures:
        raise Failed("\n".join(["requests failed:", *load.failures[:20]]))
    quiet, reloads = (percentile(load.latencies[phase], 0.99) for phase in ("quiet", "reloads"))
    if measure and reloads > 2 * quiet:
        raise Failed(f"p99 under reloads is {reloads:.2f} ms, more than twice the {quiet:.2f} ms without")


def main():
    parser = argparse.ArgumentParser(prog="tests/load/run")
    parser.add_argument("--measure", action="store_true", help="1,000 requests/s, and compare p99")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="obo-load-")
    world = None
    try:
        world = World(folder)
        asyncio.run(run(world, arguments.measure))
    except (Failed, OSError, subprocess.SubprocessError) as failure:
        print(f"load: {failure}", file=sys.stderr)
        if world and hasattr(world, "log"):
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
