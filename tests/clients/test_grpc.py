"""grpcio on both sides of the gateway: a server behind it, and callers with tokens of `dev-idp`
that it swaps for others."""

import socket
import tempfile
import threading
import unittest
import urllib.request
from concurrent import futures

import grpc

from processes import Gateway, IdentityProvider, certificate

TENANT = "10000000-0000-4000-8000-000000000001"
CLIENT_ID = "20000000-0000-4000-8000-000000000001"

ROUTES = """
listeners:
  - address: "127.0.0.1:0"
  - { address: "127.0.0.1:0", tls: { cert_file: "%(cert)s", key_file: "%(key)s" } }
admin: { address: "127.0.0.1:0" }
providers:
  entra:
    type: entra
    tenant: %(tenant)s
    authority: "%(authority)s"
    client_id: %(client_id)s
    credential: { client_secret: "${GATEWAY_SECRET}" }
upstreams:
  greeter:
    url: "http://127.0.0.1:%(port)d"
    protocol: http2
    token: { on_behalf_of: { scopes: ["https://graph.microsoft.com/.default"] } }
  gone: { url: "http://127.0.0.1:%(gone)d", protocol: http2 }
routes:
  - { match: { path: "/test.Greeter/{*rest}" }, auth: { scopes: [access_as_user] }, upstream: greeter }
  - { match: { path: "/test.Admin/{*rest}" }, auth: { scopes: [admin] }, upstream: greeter }
  - { match: { path: "/test.Gone/{*rest}" }, auth: none, upstream: gone }
  - { match: { path: "/test.Slow/{*rest}" }, auth: none, upstream: greeter, timeout: 300ms,
      token: { none: true } }
"""


class Greeter(grpc.GenericRpcHandler):
    """Messages are bytes: what is tested is the transport, not protobuf."""

    def __init__(self):
        self.metadata = {}
        self.ended = threading.Event()

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        self.metadata = dict(details.invocation_metadata)
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }.get(method)

    def unary(self, request, context):
        context.send_initial_metadata((("x-initial", "1"), ("x-raw-bin", b"\0\xff")))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-back-bin", b"\xff\0")))
        return b"hello " + request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nö: 100 %")

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def sum(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def chat(self, requests, context):
        for request in requests:
            yield b"you said " + request

    def hang(self, request, context):
        context.add_callback(self.ended.set)
        self.ended.wait(30)
        return b"late"

    def endless(self, request, context):
        context.add_callback(self.ended.set)
        number = 0
        while context.is_active():
            yield str(number).encode()
            number += 1


def free_port():
    """One on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Grpc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.greeter = Greeter()
        cls.server = grpc.server(futures.ThreadPoolExecutor(8))
        cls.server.add_generic_rpc_handlers((cls.greeter,))
        port = cls.server.add_insecure_port("127.0.0.1:0")
        cls.server.start()
        cls.folder = tempfile.TemporaryDirectory()
        cert, key = certificate(cls.folder.name)
        cls.provider = IdentityProvider()
        cls.gateway = Gateway(
            ROUTES % {
                "cert": cert, "key": key, "tenant": TENANT, "client_id": CLIENT_ID,
                "authority": cls.provider.url, "port": port, "gone": free_port(),
            },
            environment={"GATEWAY_SECRET": "dev-gateway-secret"},
        )
        url = f"{cls.provider.url}/dev/token?user=alice&scope=access_as_user"
        with urllib.request.urlopen(url) as answer:
            cls.token = answer.read().decode().strip()
        clear, secure = cls.gateway.addresses
        with open(cert, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        cls.clear = grpc.insecure_channel(clear)
        cls.secure = grpc.secure_channel(f"localhost:{secure.rsplit(':')[-1]}", credentials)
        cls.channels = [cls.clear, cls.secure]

    @classmethod
    def tearDownClass(cls):
        for channel in cls.channels:
            channel.close()
        cls.gateway.stop()
        cls.provider.stop()
        cls.server.stop(None).wait()
        cls.folder.cleanup()

    def setUp(self):
        self.greeter.ended.clear()

    def with_token(self, *more):
        return [("authorization", f"Bearer {self.token}"), *more]

    def test_unary_with_metadata_both_ways(self):
        for channel in self.channels:
            call = channel.unary_unary("/test.Greeter/Unary")
            more = ("x-own", "yes"), ("x-own-bin", b"\0\1\xfe")
            answer, outcome = call.with_call(b"you", metadata=self.with_token(*more), timeout=20)
            self.assertEqual(answer, b"hello you")
            self.assertEqual(outcome.code(), grpc.StatusCode.OK)
            initial, trailing = dict(outcome.initial_metadata()), dict(outcome.trailing_metadata())
            self.assertEqual((initial["x-initial"], initial["x-raw-bin"]), ("1", b"\0\xff"))
            self.assertEqual((trailing["x-trailing"], trailing["x-back-bin"]), ("2", b"\xff\0"))
            self.assertIn("x-request-id", initial)
            seen = self.greeter.metadata
            self.assertEqual((seen["x-own"], seen["x-own-bin"]), ("yes", b"\0\1\xfe"))
            # It is swapped: the server never sees the caller's token.
            self.assertTrue(seen["authorization"].startswith("Bearer ey"))
            self.assertNotEqual(seen["authorization"], f"Bearer {self.token}")

    def test_large_messages(self):
        for channel in self.channels:
            call = channel.unary_unary("/test.Greeter/Unary")
            message = bytes(range(256)) * (12 << 10)
            answer = call(message, metadata=self.with_token(), timeout=20)
            self.assertEqual(answer, b"hello " + message)

    def test_an_error_of_the_server_is_the_servers(self):
        for channel in self.channels:
            call = channel.unary_unary("/test.Greeter/Fail")
            with self.assertRaises(grpc.RpcError) as raised:
                call(b"", metadata=self.with_token(), timeout=20)
            error = raised.exception
            self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
            self.assertEqual(error.details(), "nö: 100 %")
            self.assertEqual(dict(error.trailing_metadata())["x-why"], "because")

    def test_a_method_that_the_server_lacks_is_the_servers_to_refuse(self):
        call = self.clear.unary_unary("/test.Greeter/Nothing")
        with self.assertRaises(grpc.RpcError) as raised:
            call(b"", metadata=self.with_token(), timeout=20)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(raised.exception.details(), "Method not found!")

    def test_server_streaming(self):
        for channel in self.channels:
            call = channel.unary_stream("/test.Greeter/Count")
            got = list(call(b"1000", metadata=self.with_token(), timeout=20))
            self.assertEqual(got, [str(number).encode() for number in range(1000)])

    def test_client_streaming(self):
        for channel in self.channels:
            call = channel.stream_unary("/test.Greeter/Sum")
            messages = (b"x" * size for size in range(1000))
            answer = call(messages, metadata=self.with_token(), timeout=20)
            self.assertEqual(answer, str(sum(range(1000))).encode())

    def test_a_conversation_goes_to_and_fro(self):
        for channel in self.channels:
            answers = threading.Semaphore(1)

            def questions():
                for number in range(20):
                    # Each waits for the answer to the one before: nothing is held back.
                    self.assertTrue(answers.acquire(timeout=20))
                    yield str(number).encode()

            call = channel.stream_stream("/test.Greeter/Chat")
            got = []
            for answer in call(questions(), metadata=self.with_token(), timeout=20):
                got.append(answer)
                answers.release()
            self.assertEqual(got, [f"you said {number}".encode() for number in range(20)])

    def test_a_deadline_ends_the_call_here_and_there(self):
        for channel in self.channels:
            self.greeter.ended.clear()
            call = channel.unary_unary("/test.Greeter/Hang")
            with self.assertRaises(grpc.RpcError) as raised:
                call(b"", metadata=self.with_token(), timeout=0.5)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            self.assertTrue(self.greeter.ended.wait(20), "the server learns of it")

    def test_a_cancelled_call_is_cancelled_at_the_server(self):
        for channel in self.channels:
            self.greeter.ended.clear()
            call = channel.unary_stream("/test.Greeter/Endless")(b"", metadata=self.with_token())
            self.assertEqual(next(call), b"0")
            call.cancel()
            self.assertEqual(call.code(), grpc.StatusCode.CANCELLED)
            self.assertTrue(self.greeter.ended.wait(20), "the server learns of it")

    def refused(self, method, metadata=()):
        with self.assertRaises(grpc.RpcError) as raised:
            self.clear.unary_unary(method)(b"", metadata=metadata, timeout=20)
        return raised.exception

    def test_refusals_of_the_gateway_are_statuses_with_its_sentence(self):
        bad = [("authorization", "Bearer nonsense")]
        for method, metadata, code, said in [
            ("/test.Greeter/Unary", [], grpc.StatusCode.UNAUTHENTICATED, "token"),
            ("/test.Greeter/Unary", bad, grpc.StatusCode.UNAUTHENTICATED, "token"),
            ("/test.Admin/Unary", self.with_token(), grpc.StatusCode.PERMISSION_DENIED, ""),
            ("/test.Nobody/Unary", [], grpc.StatusCode.UNIMPLEMENTED, ""),
            ("/test.Gone/Unary", [], grpc.StatusCode.UNAVAILABLE, "can't be reached"),
            ("/test.Slow/Hang", [], None, "did not answer in time"),
        ]:
            self.greeter.ended.clear()
            error = self.refused(method, metadata)
            # A timeout of the gateway's own is not the caller's deadline; both names fit it.
            late = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            self.assertIn(error.code(), (code,) if code else late, method)
            # Not "Received http2 header with status: 401", which is what grpcio makes of HTTP.
            self.assertNotIn("http2 header", error.details(), method)
            self.assertIn(said, error.details(), method)


if __name__ == "__main__":
    unittest.main()
