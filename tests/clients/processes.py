"""Starts the program under test on free ports of loopback, and ends it."""

import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

BINARY = os.environ["OBO_GATEWAY"]


class Program:
    """One process; its log is kept, for what it says of itself and for when a test fails."""

    def __init__(self, *arguments, environment=None):
        self.lines = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [BINARY, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], **(environment or {})},
        )
        self.readers = [
            threading.Thread(target=self._read, args=[stream], daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append("")
            self.changed.notify_all()

    def wait_for(self, found, seconds=30):
        """What `found` makes of the lines, once it is not None."""
        with self.changed:
            result = None

            def ready():
                nonlocal result
                result = found(self.lines)
                return result is not None or self.process.poll() is not None

            self.changed.wait_for(ready, seconds)
            if result is None:
                raise AssertionError("it did not say what was expected:\n" + self.log())
            return result

    def log(self):
        return "\n".join(self.lines)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Gateway(Program):
    """`obo-gateway run` with this routes file; `addresses` are those of its listeners."""

    def __init__(self, routes, environment=None):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "routes.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(routes)
        super().__init__("run", "--log-format", "json", "--config", path, environment=environment)
        self.addresses = self.wait_for(self._listeners)
        self._until_ready(self.wait_for(self._admin))

    def _until_ready(self, admin, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"http://{admin}/readyz") as answer:
                    return answer.read()
            except urllib.error.HTTPError as not_yet:
                if time.monotonic() > deadline:
                    raise AssertionError(not_yet.read().decode() + "\n" + self.log()) from not_yet
            time.sleep(0.05)

    @staticmethod
    def _admin(lines):
        events = (json.loads(line) for line in lines if line.startswith("{"))
        ports = (event["address"] for event in events if event.get("message") == "admin port")
        return next(ports, None)

    @staticmethod
    def _listeners(lines):
        """Where it listens: the admin port is said after the listeners."""
        events = [json.loads(line) for line in lines if line.startswith("{")]
        if not any(event.get("message") == "admin port" for event in events):
            return None
        return [event["address"] for event in events if event.get("message") == "listening"]

    def events(self):
        """The access events so far."""
        events = (json.loads(line) for line in list(self.lines) if line.startswith("{"))
        return [event for event in events if "duration_ms" in event]

    def stop(self):
        super().stop()
        self.folder.cleanup()


class IdentityProvider(Program):
    """`obo-gateway dev-idp`; `url` is where it listens."""

    def __init__(self):
        super().__init__("dev-idp", "--address", "127.0.0.1:0")
        start = "listening on "
        self.url = self.wait_for(
            lambda lines: next((line[len(start):] for line in lines if line.startswith(start)), None)
        )


def certificate(folder):
    """A certificate for localhost, with its key: two files."""
    files = [os.path.join(folder, name) for name in ("tls.crt", "tls.key")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )
    return files
