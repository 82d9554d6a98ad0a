"""The gateway whose page is looked at: one with a routes file of the tests' own before the provider and the stand-ins of
`demo`; and what may stand between it and the browser to give answers that a healthy gateway does not."""

import http.client
import http.server
import json
import os
import random
import socket
import subprocess
import threading
import urllib.error
import urllib.request

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"

ROUTES = """
listeners: [{ address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0"%(admin)s }
providers:
  entra:
    type: entra
    tenant: 10000000-0000-4000-8000-000000000001
    authority: "http://127.0.0.1:%(provider)s"
    client_id: 20000000-0000-4000-8000-000000000001
    credential: { client_secret: dev-gateway-secret }
upstreams:
  graph: { preset: graph, url: "http://127.0.0.1:%(graph)s" }
  dead: { url: "http://127.0.0.1:9" }
routes:
  - { name: graph, match: { path: "/graph/{*rest}" }, auth: { scopes: [access_as_user] }, upstream: graph, rewrite: { strip_prefix: /graph } }
  - { name: admins, match: { path: /admins }, auth: { roles: ["%(hostile)s"] }, upstream: graph }
  - { name: dead, match: { path: /dead }, auth: none, upstream: dead }
  - { name: seldom, match: { path: /seldom }, auth: none, rate_limit: { requests: 1, per: 1h, by: ip }, respond: { status: 204 } }
%(more)s"""


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def ports():
    """Five in a row that nobody listens on; another program may still take one in between."""
    while True:
        base = 20000 + random.randrange(2000) * 5
        try:
            for port in range(base, base + 5):
                socket.create_server(("127.0.0.1", port)).close()
            return base
        except OSError:
            continue


def start(*arguments, **pipes):
    return subprocess.Popen([os.environ["OBO_GATEWAY"], *arguments], text=True, **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **pipes})


class Demo:
    """The provider, and a Graph to be asked."""

    def __init__(self):
        for _ in range(5):
            base = ports()
            self.process = start("demo", "--port-base", str(base), stdout=subprocess.PIPE)
            if any(line.startswith("Ctrl-C ends it") for line in self.process.stdout):
                break
            self.process.wait()
        else:
            raise AssertionError("the demo did not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.provider, self.graph = base + 2, base + 3
        url = f"http://127.0.0.1:{self.provider}/dev/token?user=alice&scope=access_as_user"
        with urllib.request.urlopen(url) as answer:
            self.token = answer.read().decode().strip()

    def close(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    def __init__(self, demo, folder, admin=""):
        self.demo, self.token, self.admin, self.file = demo, demo.token, admin, os.path.join(folder, "routes.yaml")
        self.write()
        self.process = start("run", "--config", self.file, "--log-format", "json", stderr=subprocess.PIPE)
        said, warnings = {}, []
        for line in self.process.stderr:
            # What is odd about the file is said for people.
            if not line.startswith("{"):
                warnings.append(line)
                continue
            event = json.loads(line)
            said[event.get("message", "").split("`")[0]] = event
            if {"listening", "admin port", "the keys of provider "} <= said.keys():
                break
        else:
            raise AssertionError("the gateway did not start: " + "".join(warnings))
        self.url, self.page = ("http://" + said[name]["address"] for name in ("listening", "admin port"))
        # Whatever it logs later must not fill the pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def write(self, more=""):
        text = ROUTES % {"admin": self.admin, "hostile": HOSTILE, "more": more, "provider": self.demo.provider, "graph": self.demo.graph}
        with open(self.file + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(self.file + ".new", self.file)

    def get(self, url, token=None):
        request = urllib.request.Request(url, headers={"authorization": "Bearer " + token} if token else {})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def traffic(self):
        """Requests of each kind; the same ones each time but for the first."""
        self.get(self.url + "/seldom")
        for path, token, status in [
                *[("/graph/v1.0/me", self.token, 200)] * 5, ("/graph/v1.0/me", None, 401), ("/graph/v1.0/me", "nonsense", 401),
                ("/admins", self.token, 403), ("/dead", None, 502), ("/seldom", None, 429), ("/nowhere", None, 404)]:
            answer = self.get(self.url + path, token)
            assert answer[0] == status, (path, answer)

    def close(self):
        self.process.kill()
        self.process.wait()


class Between:
    """Passes on what a gateway's admin port says, as `alter(path, answer)` has it; or nothing."""

    def __init__(self, gateway):
        self.alter, self.is_down = lambda _path, answer: answer, False
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if between.is_down:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                upstream = http.client.HTTPConnection(gateway.page.removeprefix("http://"))
                upstream.request("GET", self.path)
                answer = upstream.getresponse()
                body = answer.read()
                if "/api/v1/" in self.path:
                    altered = between.alter(self.path.split("/api/v1/")[1].split("?")[0], json.loads(body))
                    body = json.dumps(altered).encode()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "date", "server"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                upstream.close()

            def log_message(self, *_):
                pass

        self.server = serve(Handler)
        # A tab that is closed hangs up in the middle.
        self.server.handle_error = lambda *_: None
        self.page = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
