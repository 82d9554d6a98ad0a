"""The program under test, and what its routes files say."""

import os
import re
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BINARY = os.environ["OBO_GATEWAY"]
TOOLS = Path(os.environ["DEPLOY_VENV"]) / "bin"

# What the webhook of workload identity sets in a pod: the development provider's names, so that a gateway can be started with them.
TENANT = "10000000-0000-4000-8000-000000000001"
CLIENT = "20000000-0000-4000-8000-000000000001"


def run(*command, environment=None, check=True, text=None):
    """What a command prints; its complaints are in the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, input=text,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def workload_identity(folder, authority="https://login.microsoftonline.com/"):
    token = Path(folder) / "federated-token"
    token.write_text("not-a-real-token")
    return {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_AUTHORITY_HOST": authority,
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
    }


class Routes:
    """A routes file as it will be mounted, with the files it reads put under `folder` in place of their real places."""

    FILE = re.compile(r"\$\{file:([^}]+)\}")

    def __init__(self, text, folder, environment):
        self.files = [Path(name) for name in self.FILE.findall(strip_comments(text))]
        for file in self.files:
            moved = Path(folder) / str(file).lstrip("/")
            moved.parent.mkdir(parents=True, exist_ok=True)
            moved.write_text("a-secret-of-the-tests-0123456789")
        moved = self.FILE.sub(lambda found: "${file:" + str(Path(folder) / found[1].lstrip("/")) + "}", text)
        self.path = Path(folder) / "routes.yaml"
        self.path.write_text(moved)
        self.environment = environment
        self.read = yaml.safe_load(self.substituted(text))

    def substituted(self, text):
        """The text with its variables replaced: good enough for these files, which use them for whole values."""
        def value(found):
            name, default = found[1], found[2]
            return self.environment.get(name) or (default[2:] if default else "")
        return re.sub(r"\$\{([A-Z_]+)(:-[^}]*)?\}", value, text)

    def check(self):
        return run(BINARY, "check", "--config", self.path, environment=self.environment)

    def listeners(self):
        return [listener["address"] for listener in self.read["listeners"]]

    def admin(self):
        return self.read["admin"]["address"]

    def seconds(self, key, default):
        found = re.fullmatch(r"(\d+)s", str(self.read.get("server", {}).get(key, default)))
        assert found, f"server.{key} is not in whole seconds"
        return int(found[1])


def strip_comments(text):
    return "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in text.split("\n"))


class Process:
    """A started program. `said` is told each line of stdout and stderr, until it returns True."""

    def __init__(self, *arguments, environment=None):
        self.lines = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [BINARY, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": os.environ["PATH"], **(environment or {})},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.lines.append("")
            self.changed.notify_all()

    def wait_for(self, pattern):
        """The match of the first line that has `pattern`."""
        def found():
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self.changed:
            self.changed.wait_for(lambda: found() or "" in self.lines, 60)
            if not found():
                raise AssertionError(f"it never said `{pattern}`:\n" + "".join(self.lines))
            return found()

    def stop(self):
        """Its exit code, some time after SIGTERM."""
        self.process.terminate()
        code = self.process.wait(60)
        self.reader.join()
        self.process.stdout.close()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def temporary(test):
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return folder.name
