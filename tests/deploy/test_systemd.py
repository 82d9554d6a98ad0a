"""The units, as systemd-analyze reads them, and what they ask of the program."""

import json
import os
import re
import shlex
import unittest
from pathlib import Path

from box import Box, end, is_permitted
from program import BINARY, DEPLOY, Routes, run, temporary

UNITS = DEPLOY / "systemd"
# Of 100; what is left is the network, which a gateway needs, and the machine's own files to read.
EXPOSURE = 12


class Unit:
    """A unit file: keys may come twice, so each has a list."""

    def __init__(self, name):
        self.name = name
        self.text = (UNITS / name).read_text()

    def values(self, key):
        return re.findall(rf"^{re.escape(key)}=(.*)$", self.text, re.MULTILINE)

    def value(self, key):
        found = self.values(key)
        assert len(found) == 1, f"{key} is there {len(found)} times"
        return found[0]


SERVICE = Unit("obo-gateway.service")
SOCKET = Unit("obo-gateway.socket")


class Units(unittest.TestCase):
    def copied(self, change=lambda text: text):
        """The units with the program that is tested in place of the installed one."""
        folder = Path(temporary(self))
        for unit in (SERVICE, SOCKET):
            (folder / unit.name).write_text(change(unit.text).replace("/usr/local/bin/obo-gateway", BINARY))
        return sorted(folder.iterdir())

    def test_verify(self):
        done = run("systemd-analyze", "verify", "--man=no", *self.copied())
        self.assertEqual(done.stderr, "")

    def test_a_misspelt_key_would_be_found(self):
        units = self.copied(lambda text: text.replace("ProtectSystem=", "ProtectSystems="))
        done = run("systemd-analyze", "verify", "--man=no", *units, check=False)
        self.assertIn("ProtectSystems", done.stderr)

    def test_exposure(self):
        service = next(unit for unit in self.copied() if unit.suffix == ".service")
        run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", service)

    def test_exposure_would_be_found(self):
        units = self.copied(lambda text: text.replace("SystemCallFilter=@system-service\n", ""))
        service = next(unit for unit in units if unit.suffix == ".service")
        done = run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", service, check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_what_is_started_parses(self):
        for command in SERVICE.values("ExecStart") + SERVICE.values("ExecReload"):
            program, *arguments = shlex.split(command)
            if program == "/usr/local/bin/obo-gateway":
                run(BINARY, *arguments, "--help")
            else:
                self.assertEqual((program, arguments), ("/bin/kill", ["-HUP", "$MAINPID"]))
        known = run(BINARY, "--help").stdout
        for assignment in SERVICE.value("Environment").split():
            self.assertIn(f"env: {assignment.split('=')[0]}", known)

    def test_the_routes_file_fits(self):
        folder = temporary(self)
        environment = {
            "AZURE_TENANT_ID": "11111111-2222-3333-4444-555555555555", "AZURE_CLIENT_ID": "66666666-7777-8888-9999-000000000000",
        }
        routes = Routes((UNITS / "routes.yaml").read_text(), folder, environment)
        routes.check()
        # What it reads is a credential of the unit.
        credentials = {f"/run/credentials/obo-gateway.service/{each.split(':')[0]}" for each in SERVICE.values("LoadCredential")}
        self.assertEqual({str(file) for file in routes.files}, credentials)
        # Where it listens is where the socket unit would.
        self.assertEqual(SOCKET.values("ListenStream"), routes.listeners())
        # It has the time it was promised.
        stop = int(SERVICE.value("TimeoutStopSec").rstrip("s"))
        self.assertGreater(stop, routes.seconds("shutdown_delay", "0s") + routes.seconds("shutdown_grace", "30s"))


class Activated(unittest.TestCase):
    """The gateway with its socket opened by systemd's own tool, as the socket unit says."""

    def test_serves_where_systemd_listens(self):
        addresses = SOCKET.values("ListenStream")
        folder = Path(temporary(self))
        (folder / "routes.yaml").write_text(
            f"listeners: [{', '.join('{ address: %s }' % json.dumps(each) for each in addresses)}]\n"
            "routes: [{ match: { path: / }, auth: none, respond: { status: 204 } }]\n"
        )
        if not is_permitted():
            self.skipTest("no network namespace may be made here")
        box = Box("/", 0, 0)
        self.addCleanup(box.close)
        listen = [f"--listen={each}" for each in addresses]
        environment = {"PATH": os.environ["PATH"], "OBO_GATEWAY_CONFIG": str(folder / "routes.yaml")}
        setenv = [f"--setenv={name}" for name in environment]
        activate = box.start(["systemd-socket-activate", *listen, *setenv, BINARY, "--log-format", "json", "run"], environment)
        self.addCleanup(end, activate)
        said = self.until(activate, "Listening on")
        # The first connection starts the gateway, and waits for it.
        port = addresses[0].rpartition(":")[2]
        curl = ["curl", "--silent", "--output", "-", "--write-out", "%{http_code}", "--max-time", "60", f"http://127.0.0.1:{port}/"]
        asked = box.start(curl, environment)
        answer = asked.communicate(timeout=90)
        said += self.until(activate, "passed in")
        self.assertEqual(answer[0], "204", (answer, said))
        activate.terminate()
        activate.communicate(timeout=60)
        self.assertEqual(activate.returncode, 0)

    def until(self, process, text):
        said = ""
        for line in process.stderr:
            said += line
            if text in line:
                return said
        self.fail(f"it never said `{text}`:\n{said}")


if __name__ == "__main__":
    unittest.main()
