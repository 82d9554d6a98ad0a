"""curl, as people use it, over HTTP/1.1 and HTTP/2: what it gets through the gateway is what the
upstream sent, and the other way round."""

import hashlib
import http.server
import os
import re
import subprocess
import tempfile
import threading
import unittest

from processes import Gateway, certificate

ROUTES = """
listeners:
  - address: "127.0.0.1:0"
  - { address: "127.0.0.1:0", tls: { cert_file: "%(cert)s", key_file: "%(key)s" } }
admin: { address: "127.0.0.1:0" }
providers:
  sso:
    type: oidc
    issuer: https://sso.example.com
    audiences: [orders]
    jwks_file: "%(keys)s"
upstreams:
  files: { url: "http://127.0.0.1:%(port)d" }
routes:
  - { match: { path: "/files/{*rest}" }, auth: none, upstream: files, rewrite: { strip_prefix: /files } }
  - { match: { path: /guarded }, auth: any, upstream: files }
  - { match: { path: /small }, auth: none, upstream: files, max_body_bytes: 1KiB }
"""

# Any key will do: nobody has a token of it.
KEYS = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'

BIG = 20 << 20
CONTENT = bytes(range(251)) * (BIG // 251) + b"end"


class Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path == "/big":
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
            if wanted:
                first, last = (int(number) for number in wanted.groups())
                part = CONTENT[first:last + 1]
                self._answer(206, part, content_range=f"bytes {first}-{last}/{len(CONTENT)}")
            else:
                self._answer(200, CONTENT, accept_ranges="bytes", etag='"1"')
        elif self.path == "/moved":
            self._answer(302, b"there", location="https://elsewhere.example/x?y=z")
        elif self.path == "/unchanged":
            self.send_response(304)
            self.send_header("etag", '"1"')
            self.end_headers()
        elif self.path == "/trailers":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.send_header("trailer", "x-checksum")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n0\r\nx-checksum: abc\r\n\r\n")
        else:
            self._answer(200, self.path.encode())

    do_HEAD = do_GET

    def do_PUT(self):
        body = self._body()
        length = self.headers.get("content-length", "unsaid")
        self._answer(200, f"{hashlib.sha256(body).hexdigest()} {len(body)} {length}".encode())

    do_POST = do_PUT


def curl(*arguments, stdin=None):
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *arguments],
        input=stdin, capture_output=True, check=False,
    )
    if done.returncode:
        raise AssertionError(f"curl {arguments}: {done.returncode} {done.stderr.decode()}")
    return done.stdout


class Curl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        cls.server.daemon_threads = True
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = cls.folder.name
        cert, key = certificate(cls.path)
        keys = os.path.join(cls.path, "keys.json")
        with open(keys, "w", encoding="utf-8") as file:
            file.write(KEYS)
        cls.file = os.path.join(cls.path, "content")
        with open(cls.file, "wb") as file:
            file.write(CONTENT)
        cls.gateway = Gateway(ROUTES % {
            "cert": cert, "key": key, "keys": keys, "port": cls.server.server_address[1],
        })
        clear, secure = cls.gateway.addresses
        tls = f"https://localhost:{secure.rsplit(':')[-1]}"
        cls.ways = [
            (f"http://{clear}", ["--http1.1"], "1.1"),
            (f"http://{clear}", ["--http2-prior-knowledge"], "2"),
            (tls, ["--http1.1", "--cacert", cert], "1.1"),
            (tls, ["--http2", "--cacert", cert], "2"),
        ]

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.server.shutdown()
        cls.server.server_close()
        cls.folder.cleanup()

    def each_way(self, *, again=False):
        """`again` leaves out the way on which Debian's curl 7.88 can't use a connection twice: it
        says "Error in the HTTP2 framing layer" and sends nothing."""
        for base, options, version in self.ways:
            if not (again and "--http2-prior-knowledge" in options):
                yield base, options, version

    def test_a_download_is_what_the_upstream_sent(self):
        for base, options, version in self.each_way():
            target = os.path.join(self.path, "got")
            said = curl(*options, "--output", target, "--write-out",
                        "%{http_version} %{http_code} %{size_download}", f"{base}/files/big")
            self.assertEqual(said.decode(), f"{version} 200 {len(CONTENT)}")
            with open(target, "rb") as file:
                self.assertEqual(file.read(), CONTENT)

    def test_an_upload_of_known_length_arrives_whole(self):
        expected = f"{hashlib.sha256(CONTENT).hexdigest()} {len(CONTENT)} {len(CONTENT)}"
        for base, options, _ in self.each_way():
            got = curl(*options, "--upload-file", self.file, f"{base}/files/up")
            self.assertEqual(got.decode(), expected)

    def test_an_upload_of_unsaid_length_arrives_whole(self):
        expected = f"{hashlib.sha256(CONTENT).hexdigest()} {len(CONTENT)} unsaid"
        for base, options, version in self.each_way():
            chunked = ["--header", "transfer-encoding: chunked"] if version == "1.1" else []
            got = curl(*options, *chunked, "--upload-file", "-", f"{base}/files/up", stdin=CONTENT)
            self.assertEqual(got.decode(), expected)

    def test_a_form_arrives(self):
        body = b"a=b&c=d%20e"
        for base, options, _ in self.each_way():
            got = curl(*options, "--data", body.decode(), f"{base}/files/form")
            self.assertEqual(got.decode(), f"{hashlib.sha256(body).hexdigest()} 11 11")

    def test_head_has_the_length_and_no_body(self):
        for base, options, _ in self.each_way():
            head = curl(*options, "--head", f"{base}/files/big").decode().lower()
            self.assertIn(f"content-length: {len(CONTENT)}\r\n", head)
            self.assertTrue(head.endswith("\r\n\r\n"), head)

    def test_a_range_is_a_range(self):
        for base, options, _ in self.each_way():
            got = curl(*options, "--range", "1000-1999", "--write-out", "%{http_code}",
                       f"{base}/files/big")
            self.assertEqual(got, CONTENT[1000:2000] + b"206")

    def test_an_unchanged_answer_has_no_body_and_the_connection_goes_on(self):
        for base, options, _ in self.each_way(again=True):
            got = curl(*options, "--write-out", "%{http_code} %{num_connects};",
                       f"{base}/files/unchanged", f"{base}/files/a", f"{base}/files/unchanged")
            self.assertEqual(got, b"304 1;/a200 0;304 0;")

    def test_a_continue_is_awaited_and_comes(self):
        for base, options, version in self.each_way():
            done = subprocess.run(
                ["curl", "--silent", "--verbose", "--max-time", "60", "--expect100-timeout", "50",
                 *options, "--header", "expect: 100-continue", "--upload-file", self.file,
                 "--write-out", " %{http_code} %{time_total}", f"{base}/files/up"],
                capture_output=True, check=True,
            )
            digest, length, _, status, seconds = done.stdout.decode().split()
            self.assertEqual((digest, int(length), status),
                             (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "200"))
            self.assertLess(float(seconds), 30, "it was not waited for in vain")
            if version == "1.1":
                self.assertIn(b"< HTTP/1.1 100 Continue", done.stderr)

    def test_a_body_that_will_be_refused_is_not_sent(self):
        for base, options, version in self.each_way():
            if version != "1.1":
                continue
            said = curl(*options, "--expect100-timeout", "50", "--header", "expect: 100-continue",
                        "--upload-file", self.file, "--output", "/dev/null",
                        "--write-out", "%{http_code} %{size_upload}", f"{base}/small")
            self.assertEqual(said, b"413 0")

    def test_redirects_are_passed_on(self):
        for base, options, _ in self.each_way():
            got = curl(*options, "--write-out", " %{http_code} %header{location}",
                       f"{base}/files/moved")
            self.assertEqual(got, b"there 302 https://elsewhere.example/x?y=z")

    def test_trailers_come_through(self):
        for base, options, _ in self.each_way():
            heads = os.path.join(self.path, "heads")
            got = curl(*options, "--header", "te: trailers", "--dump-header", heads,
                       f"{base}/files/trailers")
            self.assertEqual(got, b"hello")
            with open(heads, encoding="utf-8") as file:
                self.assertIn("x-checksum: abc", file.read().lower())

    def test_a_refusal_is_a_problem_that_curl_shows(self):
        for base, options, _ in self.each_way():
            got = curl(*options, "--write-out", "\n%{http_code} %header{www-authenticate}",
                       f"{base}/guarded").decode()
            self.assertIn('"code":"token_missing"', got)
            self.assertIn("\n401 Bearer realm=", got)

    def test_many_at_once(self):
        for base, options, _ in self.each_way(again=True):
            target = os.path.join(self.path, "many-#1")
            got = curl(*options, "--parallel", "--parallel-max", "20", "--output", target,
                       "--write-out", "%{http_code};", f"{base}/files/[0-49]")
            self.assertEqual(got, b"200;" * 50)
            for number in range(50):
                with open(target.replace("#1", str(number)), encoding="utf-8") as file:
                    self.assertEqual(file.read(), f"/{number}")


if __name__ == "__main__":
    unittest.main()
