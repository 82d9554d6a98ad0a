"""What the load run is about: the gateway, its provider, its upstream, its files."""

import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

from answer import Failed

BINARY = os.environ["OBO_GATEWAY"]
HERE = os.path.dirname(os.path.abspath(__file__))
TENANT = "10000000-0000-4000-8000-000000000001"
CLIENT = "20000000-0000-4000-8000-000000000001"
# Longer than anything takes on a busy machine, in seconds.
PATIENCE = 60
# `shutdown_delay` in seconds: a busy machine needs some to notice that readiness turned.
DELAY = 5


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
    """The provider, the upstream, the files, and the gateway, on `core` if one is given."""

    def __init__(self, folder, certificates, core):
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
        self.certificates = [self.make_certificate(number) for number in range(certificates)]
        self.swaps = -1
        self.swap_certificate()
        self.write(self.routes("first", False))
        self.log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
        self.gateway = subprocess.Popen(
            [*([] if core is None else ["taskset", "--cpu-list", str(core)]),
             BINARY, "run", "--log-format", "json", "-c", self.path("routes.yaml")],
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

    def swap_certificate(self):
        """Swaps the link through which both files are seen, as Kubernetes does."""
        self.swaps += 1
        os.symlink(f"..{self.swaps}", self.path("..new"))
        os.rename(self.path("..new"), self.path("..data"))
        self.newest = self.certificates[self.swaps]

    def write(self, text):
        """Replaces the routes file as editors do."""
        with open(self.path("routes.new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path("routes.new"), self.path("routes.yaml"))

    def routes(self, version, with_extra, good=True):
        folder = self.folder
        # The middle one of three, so that others move up and down in the list.
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

    def cpu(self):
        """Seconds of processor time that the gateway has used."""
        # The clock of another process, as clock_getcpuclockid(3) makes its number.
        return time.clock_gettime(~self.gateway.pid << 3 | 2)

    def events(self, text):
        """Lines of the gateway's log with `text`."""
        with open(self.path("log"), encoding="utf-8") as file:
            return [line for line in file if text in line]
