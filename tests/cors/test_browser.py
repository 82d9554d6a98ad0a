"""A real browser's pages against the gateway: `page.html` on an origin of the routes file, and the
same page on one that is not. What a page could send and read is what its own `fetch` reports; what
came through is what the upstream saw."""

import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import unittest
import urllib.request

TENANT = "10000000-0000-4000-8000-000000000001"
CLIENT_ID = "20000000-0000-4000-8000-000000000001"
PATIENCE = 60  # seconds; nothing waits for so long when all is well

ROUTES = """
listeners: [{ address: "127.0.0.1:0" }]
admin: { address: "off" }
providers:
  entra: { type: entra, tenant: %(tenant)s, authority: %(idp)s, client_id: %(client)s }
upstreams:
  up: { url: "%(upstream)s" }
  dead: { url: "http://127.0.0.1:9" }
routes:
  - match: { path: "/api/{*rest}", methods: [GET, POST, PUT] }
    auth: { scopes: [access_as_user] }
    upstream: up
    max_body_bytes: 8B
    cors: { origins: ["%(page)s"], headers: [authorization, content-type, x-listed], expose: [x-total] }
  - match: { path: /role }
    auth: { roles: [nobody-has-this] }
    upstream: up
    cors: { origins: ["%(page)s"] }
  - match: { path: /seldom }
    auth: none
    upstream: up
    rate_limit: { requests: 1, per: 1h, by: ip }
    cors: { origins: ["%(page)s"] }
  - match: { path: /dead }
    auth: none
    upstream: dead
    cors: { origins: ["%(page)s"] }
  - match: { path: /cookies }
    auth: none
    upstream: up
    cors: { origins: ["%(page)s"], credentials: true }
  - match: { path: /for-all }
    auth: none
    upstream: up
    cors: { origins: ["*"], headers: ["*"], expose: ["*"] }
  - match: { path: /for-none }
    auth: none
    upstream: up
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says of this protocol what would open it to everybody, if it were believed."""

    seen = []

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.command, self.path, self.headers.get("origin")))
        text = b"from the upstream: " + body
        self.send_response(200)
        # `/for-none` has no `cors`: there this would be passed on.
        if self.path != "/for-none":
            self.send_header("access-control-allow-origin", "*")
            self.send_header("access-control-allow-credentials", "true")
            self.send_header("access-control-expose-headers", "x-inner")
        self.send_header("x-total", "42")
        self.send_header("x-inner", "not for pages")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves the page, what it is to call, and takes its report."""

    calls = []
    reports = queue.Queue()

    def do_GET(self):
        if self.path == "/calls.json":
            kind, body = "application/json", json.dumps(self.calls).encode()
        elif self.path == "/page.html":
            page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.html")
            with open(page, "rb") as file:
                kind, body = "text/html", file.read()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()
        self.reports.put(report)

    def log_message(self, *_):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def calls(gateway, token):
    bearer = {"authorization": "Bearer " + token}
    listed = {**bearer, "content-type": "application/json", "x-listed": "1"}

    def call(name, path, **options):
        return {"name": name, "url": gateway + path, "options": options}

    return [
        call("get", "/api/x", headers=bearer),
        call("put", "/api/x", method="PUT", headers=listed, body="{}"),
        call("no token", "/api/x"),
        call("bad token", "/api/x", headers={"authorization": "Bearer nonsense"}),
        call("no role", "/role", headers=bearer),
        call("too large", "/api/x", method="POST", headers=bearer, body="x" * 100),
        call("seldom", "/seldom"),
        call("too often", "/seldom"),
        call("dead", "/dead"),
        call("method not taken", "/api/x", method="DELETE", headers=bearer),
        call("header not listed", "/api/x", headers={**bearer, "x-unlisted": "1"}),
        call("credentials not allowed", "/api/x", headers=bearer, credentials="include"),
        call("credentials", "/cookies", credentials="include"),
        call("for all", "/for-all", headers={**bearer, "x-any": "1"}),
        call("for all with credentials", "/for-all", credentials="include"),
        call("for none", "/for-none"),
        call("for none, asked first", "/for-none", headers={"x-any": "1"}),
        call("nowhere", "/nowhere"),
    ]


class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.upstream, cls.pages = serve(Upstream), serve(Pages)
        cls.addClassCleanup(cls.upstream.shutdown)
        cls.addClassCleanup(cls.pages.shutdown)
        binary = os.environ["OBO_GATEWAY"]
        idp = cls.start([binary, "dev-idp", "--address", "127.0.0.1:0"], stdout=subprocess.PIPE)
        idp_url = next(line.split()[-1] for line in idp.stdout if line.startswith("listening on "))
        with urllib.request.urlopen(idp_url + "/dev/token?user=alice&scope=access_as_user") as answer:
            token = answer.read().decode().strip()
        port = cls.pages.server_address[1]
        # Two names of one machine are two origins.
        cls.page, cls.stranger = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        routes = os.path.join(cls.folder, "routes.yaml")
        with open(routes, "w", encoding="utf-8") as file:
            file.write(ROUTES % {
                "tenant": TENANT, "client": CLIENT_ID, "idp": idp_url, "page": cls.page,
                "upstream": f"http://127.0.0.1:{cls.upstream.server_address[1]}",
            })
        run = [binary, "run", "--config", routes, "--log-format", "json"]
        gateway = cls.start(run, stderr=subprocess.PIPE)
        address = None
        for line in gateway.stderr:
            event = json.loads(line)
            if event.get("message") == "listening":
                address = event["address"]
            if event.get("message", "").startswith("the keys of provider"):
                break
        assert address, "the gateway did not say where it listens"
        # Whatever it logs later must not fill the pipe.
        threading.Thread(target=gateway.stderr.read, daemon=True).start()
        Pages.calls = calls("http://" + address, token)

    @classmethod
    def start(cls, command, **pipes):
        process = subprocess.Popen(command, text=True, **{"stderr": subprocess.DEVNULL, **pipes})

        def end():
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()

        cls.addClassCleanup(end)
        return process

    def visit(self, origin):
        """What the page on `origin` saw of its calls, and what came through to the upstream."""
        Upstream.seen.clear()
        profile = tempfile.mkdtemp(dir=self.folder)
        browser = subprocess.Popen(
            [os.environ["CHROMIUM"], "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-background-networking", "--no-first-run", "--no-proxy-server",
             "--remote-debugging-port=0", "--user-data-dir=" + profile, origin + "/page.html"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return Pages.reports.get(timeout=PATIENCE), list(Upstream.seen)
        finally:
            browser.kill()
            browser.wait()

    def test_a_page_of_the_file_reads_answers_and_refusals(self):
        seen, upstream = self.visit(self.page)
        failed = {name for name, answer in seen.items() if "failed" in answer}
        self.assertEqual(failed, {
            "method not taken", "header not listed", "credentials not allowed",
            "for all with credentials", "for none", "for none, asked first", "nowhere",
        })
        for name in ("get", "put"):
            answer = seen[name]
            self.assertEqual((answer["status"], answer["type"]), (200, "cors"), answer)
            self.assertEqual(answer["headers"]["x-total"], "42")
            self.assertNotIn("x-inner", answer["headers"])
            self.assertIn("x-request-id", answer["headers"])
        self.assertEqual(seen["put"]["body"], "from the upstream: {}")
        for name, status, code in (
                ("no token", 401, "token_missing"), ("bad token", 401, "token_invalid"),
                ("no role", 403, "insufficient_scope"), ("too large", 413, "body_too_large"),
                ("too often", 429, "rate_limited"), ("dead", 502, "upstream_unreachable")):
            answer = seen[name]
            problem = json.loads(answer["body"])
            self.assertEqual((answer["status"], problem["code"]), (status, code), answer)
            self.assertEqual(answer["headers"]["x-request-id"], problem["request_id"])
        self.assertEqual(seen["no token"]["headers"]["www-authenticate"], 'Bearer realm="obo-gateway"')
        self.assertIn('error="invalid_token"', seen["bad token"]["headers"]["www-authenticate"])
        self.assertIn('error="insufficient_scope"', seen["no role"]["headers"]["www-authenticate"])
        self.assertGreater(int(seen["too often"]["headers"]["retry-after"]), 3500)
        self.assertEqual(seen["credentials"]["status"], 200)
        self.assertEqual(seen["for all"]["headers"]["x-inner"], "not for pages")
        self.assertNotIn("OPTIONS", {method for method, path, _ in upstream if path != "/for-none"})
        self.assertNotIn("DELETE", {method for method, _, _ in upstream})

    def test_a_page_of_another_origin_reads_what_is_for_all_and_nothing_else(self):
        seen, upstream = self.visit(self.stranger)
        readable = {name for name, answer in seen.items() if "failed" not in answer}
        self.assertEqual(readable, {"for all"})
        # What browsers ask leave for was not even sent.
        sent = {(method, path) for method, path, _ in upstream}
        self.assertNotIn(("GET", "/api/x"), sent)
        self.assertNotIn(("PUT", "/api/x"), sent)


if __name__ == "__main__":
    unittest.main()
