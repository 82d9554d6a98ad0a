"""WebSockets through the gateway and past it: the same bytes have to come back.

Needs in the environment (tests/websocket/run sets it):
  OBO_GATEWAY      the program
"""

import asyncio
import json
import logging
import os
import subprocess
import tempfile
import threading
import unittest

import h2.config
import h2.connection
import h2.events
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from cases import cases, close, frame

# Test cases run in debug mode, which tells of each slow step.
logging.getLogger("asyncio").setLevel(logging.ERROR)

ROUTES = """
listeners: [{ address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0" }
upstreams:
  echo: { url: "http://127.0.0.1:%d" }
routes:
  - { match: { path: "/{*rest}" }, auth: none, upstream: echo }
"""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PATIENCE = 20


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


def server(compression=None):
    # Without pings of its own: what comes back is what was caused.
    return serve(echo, "127.0.0.1", 0, compression=compression, max_size=1 << 24,
                 ping_interval=None, server_header=None)


def port_of(listening):
    return listening.sockets[0].getsockname()[1]


class Gateway:
    """The gateway in front of a port of loopback."""

    def __init__(self, port):
        self.folder = tempfile.TemporaryDirectory()
        routes = os.path.join(self.folder.name, "routes.yaml")
        with open(routes, "w", encoding="utf-8") as file:
            file.write(ROUTES % port)
        self.process = subprocess.Popen(
            [os.environ["OBO_GATEWAY"], "run", "--config", routes, "--log-format", "json"],
            stderr=subprocess.PIPE, text=True)
        log = []
        for line in self.process.stderr:
            log.append(line)
            event = json.loads(line)
            if event.get("message") == "listening":
                self.port = int(event["address"].rsplit(":", 1)[1])
                break
        else:
            raise AssertionError("the gateway did not start:\n" + "".join(log))
        # Whatever it logs later must not fill the pipe.
        self.reading = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reading.start()

    def end(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.reading.join()
        self.process.stderr.close()
        self.folder.cleanup()
        assert code == 0, code


async def exchange(port, pieces, extensions=""):
    """Shakes hands, sends the pieces and the end, and returns all that came back behind the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extensions}\r\n").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head

    came, ended, changed = bytearray(), False, asyncio.Condition()

    async def send():
        try:
            for piece in pieces:
                if isinstance(piece, int):
                    async with changed:
                        await changed.wait_for(lambda: len(came) >= piece or ended)
                    continue
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except ConnectionError:
            pass  # it has closed, as it may

    sending = asyncio.create_task(send())
    try:
        while data := await reader.read(65536):
            async with changed:
                came += data
                changed.notify()
    except ConnectionError:
        pass  # bytes behind a close make it a reset
    async with changed:
        ended = True
        changed.notify()
    await sending
    writer.close()
    return bytes(came)


def shown(came):
    return f"{len(came)} bytes, {came[:40]!r} … {came[-40:]!r}"


class WebSocket(unittest.IsolatedAsyncioTestCase):
    async def test_each_case_of_autobahn_has_the_same_answer_through_the_gateway(self):
        async with server() as listening:
            direct = port_of(listening)
            gateway = Gateway(direct)
            count = 0
            try:
                for name, pieces in cases():
                    count += 1
                    with self.subTest(name):
                        expected = await asyncio.wait_for(exchange(direct, pieces), PATIENCE)
                        came = await asyncio.wait_for(exchange(gateway.port, pieces), PATIENCE)
                        self.assertEqual(shown(came), shown(expected))
                        self.assertEqual(came, expected)
            finally:
                await asyncio.to_thread(gateway.end)
        self.assertGreater(count, 190)

    async def test_compression_is_between_the_two_ends(self):
        # 12 and 13 of the suite: a client that negotiates and compresses, and a server that does.
        async with server("deflate") as listening:
            gateway = Gateway(port_of(listening))
            try:
                async with connect(f"ws://127.0.0.1:{gateway.port}/", max_size=1 << 24,
                                   ping_interval=None) as socket:
                    self.assertIn("permessage-deflate",
                                  socket.response.headers["sec-websocket-extensions"])
                    for size in (0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072):
                        for message in ("*ä" * size, os.urandom(size), b"\x00" * size):
                            for _ in range(5):
                                await socket.send(message)
                                self.assertEqual(await socket.recv(), message)
                    # In fragments.
                    await socket.send(["a" * 1000, "", "b" * 70000])
                    self.assertEqual(await socket.recv(), "a" * 1000 + "b" * 70000)
                    await (await socket.ping(b"are you there"))
            finally:
                await asyncio.to_thread(gateway.end)

    async def test_a_subprotocol_and_a_refusal_pass(self):
        async def only_signed_in(connection, request):
            if request.path == "/no":
                return connection.respond(403, "not you\n")

        async with serve(echo, "127.0.0.1", 0, subprotocols=["chat"],
                         process_request=only_signed_in) as listening:
            gateway = Gateway(port_of(listening))
            try:
                url = f"ws://127.0.0.1:{gateway.port}"
                async with connect(f"{url}/", subprotocols=["superchat", "chat"]) as socket:
                    self.assertEqual(socket.subprotocol, "chat")
                with self.assertRaises(websockets.InvalidStatus) as refused:
                    async with connect(f"{url}/no"):
                        pass
                self.assertEqual(refused.exception.response.status_code, 403)
                self.assertEqual(refused.exception.response.body, b"not you\n")
            finally:
                await asyncio.to_thread(gateway.end)

    async def test_a_websocket_over_http2(self):
        async with server() as listening:
            gateway = Gateway(port_of(listening))
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                try:
                    await asyncio.wait_for(self.over_http2(reader, writer), PATIENCE)
                finally:
                    writer.close()
            finally:
                await asyncio.to_thread(gateway.end)

    async def over_http2(self, reader, writer):
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http2.initiate_connection()
        writer.write(http2.data_to_send())
        sent, came, ended = False, b"", False
        while not ended:
            data = await reader.read(65536)
            self.assertTrue(data, "the connection ended")
            for event in http2.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged) and not sent:
                    self.assertEqual(http2.remote_settings.enable_connect_protocol, 1)
                    http2.send_headers(1, [
                        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                        (":path", "/"), (":authority", "a"), ("sec-websocket-version", "13")])
                    sent = True
                elif isinstance(event, h2.events.ResponseReceived):
                    self.assertEqual(dict(event.headers)[b":status"], b"200")
                    http2.send_data(1, frame(1, b"over HTTP/2"))
                elif isinstance(event, h2.events.DataReceived):
                    http2.acknowledge_received_data(event.flow_controlled_length, 1)
                    came += event.data
                    if came == b"\x81\x0bover HTTP/2":
                        http2.send_data(1, close())
                elif isinstance(event, h2.events.StreamEnded):
                    ended = True
                    http2.end_stream(1)
            writer.write(http2.data_to_send())
        self.assertEqual(came, b"\x81\x0bover HTTP/2\x88\x02\x03\xe8")


if __name__ == "__main__":
    unittest.main()
