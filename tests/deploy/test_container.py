"""The container file: linted by hadolint, and its image built by buildah and run.

Only the stage that builds the program is not gone through, as it takes an image of Rust from a registry and an hour: its result is put in its
place, with the program that is tested. That one is not static here, so the libraries it asks for come along.
"""

import json
import re
import shutil
import signal
import tempfile
import tomllib
import unittest
from pathlib import Path

from box import Box, end, is_permitted
from program import BINARY, DEPLOY, ROOT, TOOLS, run

FILE = DEPLOY / "container" / "Containerfile"
TEXT = FILE.read_text()

ROUTES = """
listeners: [{ address: "${LISTEN_ADDRESS}" }]
admin: { address: "${ADMIN_ADDRESS}" }
routes: [{ match: { path: / }, auth: none, respond: { status: 204 } }]
"""


class Written(unittest.TestCase):
    def test_lints(self):
        run(TOOLS / "hadolint", "--failure-threshold", "style", FILE)

    def test_a_mistake_would_be_found(self):
        text = TEXT.replace("USER 65532:65532", "USER root")
        self.assertNotEqual(text, TEXT)
        self.assertIn("DL3002", run(TOOLS / "hadolint", "-", text=text, check=False).stdout)

    def test_the_context_has_what_the_build_reads_and_nothing_that_is_secret(self):
        context = Context()
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
        wanted = {"Cargo.toml", "Cargo.lock", "deploy/release/build", "deploy/release/sbom", "deploy/systemd/obo-gateway.service"}
        # Cargo wants every target of the manifest to be there, also those that are not built.
        wanted |= {each.get("path", f"benches/{each['name']}.rs") for each in manifest["bench"]}
        wanted |= {each["path"] for each in manifest["test"]}
        if (ROOT / "build.rs").exists():
            wanted.add("build.rs")
        for source in (ROOT / "src").rglob("*.rs"):
            for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
                file = (source.parent / included).resolve().relative_to(ROOT)
                wanted.add(str(file))
        for copied in re.findall(r"^cp -- (.*)$", (DEPLOY / "release" / "build").read_text(), re.MULTILINE):
            wanted |= {each for each in copied.split() if re.fullmatch(r"[A-Za-z.]+", each) and not each.startswith("$")}
        self.assertEqual({each for each in wanted if not context.has(each)}, set())
        for other in (".git/config", "target/release/obo-gateway", ".env", "routes.secret.yaml", "app.key"):
            self.assertFalse(context.has(other), other)


class Context:
    """.dockerignore, as far as ours goes: everything is left out but what has a line with `!`."""

    def __init__(self):
        lines = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
        assert lines[0] == "*" and all(line.startswith("!") and "*" not in line for line in lines[1:])
        self.kept = [line[1:] for line in lines[1:]]

    def has(self, path):
        return any(path == kept or path.startswith(kept + "/") for kept in self.kept)


class Built(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        stage = cls.folder / "stage"
        certificates = stage / "etc/ssl/certs"
        certificates.mkdir(parents=True)
        (certificates / "ca-certificates.crt").write_text("")
        (stage / "image").mkdir()
        shutil.copy(ROOT / "LICENSE", stage / "image")
        shutil.copy(BINARY, stage / "image/obo-gateway")
        try:
            cls.buildah("from", "scratch")
        except AssertionError as refused:
            # Some sandboxes that tests run in take these rights even from root; what is not that fails.
            if "not permitted" in str(refused) or "permission denied" in str(refused).lower():
                raise unittest.SkipTest(f"buildah may not work here: {refused}") from refused
            raise
        cls.buildah("build", "--quiet", "--isolation", "chroot", "--format", "docker", "--build-context", f"build={stage}",
                    "--target", "image", "--build-arg", "COMMIT=0123456789abcdef", "--file", FILE, "--tag", "image", ROOT)
        cls.config = json.loads(cls.buildah("inspect", "--type", "image", "image"))["Docker"]["config"]
        cls.container = cls.buildah("from", "--pull-never", "image").strip()
        cls.tree = Path(cls.buildah("mount", cls.container).strip())

    @classmethod
    def buildah(cls, *arguments):
        return run("buildah", "--storage-driver", "vfs", "--root", cls.folder / "images", "--runroot", cls.folder / "run", *arguments,
                   environment={"HOME": str(cls.folder), "BUILDAH_ISOLATION": "chroot"}).stdout

    def test_has_the_program_and_little_else(self):
        files = {str(file.relative_to(self.tree)) for file in self.tree.rglob("*") if file.is_file()}
        self.assertEqual(files, {"LICENSE", "obo-gateway", "etc/ssl/certs/ca-certificates.crt"})

    def test_says_what_it_is(self):
        labels = {name.removeprefix("org.opencontainers.image."): text for name, text in self.config["Labels"].items()}
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
        self.assertEqual(labels["version"], package["version"])
        self.assertEqual(labels["licenses"], package["license"])
        self.assertEqual(labels["description"], package["description"])
        self.assertEqual(labels["revision"], "0123456789abcdef")

    def test_runs_as_nobody_in_particular(self):
        self.assertEqual(self.config["User"], "65532:65532")
        self.assertEqual(self.config["StopSignal"], "SIGTERM")
        self.assertEqual(set(self.config["ExposedPorts"]), {"8080/tcp", "9901/tcp"})

    def test_starts_and_is_healthy(self):
        """Its entry point and its health check, as its user, in its own file system."""
        start = self.config["Entrypoint"] + self.config["Cmd"]
        kind, *healthcheck = self.config["Healthcheck"]["Test"]
        self.assertEqual(kind, "CMD")
        environment = dict(each.split("=", 1) for each in self.config["Env"] if not each.startswith("PATH="))
        root = self.runnable()
        config = root / environment["OBO_GATEWAY_CONFIG"].lstrip("/")
        config.parent.mkdir(parents=True)
        config.write_text(ROUTES)

        if not is_permitted():
            self.skipTest("no network namespace may be made here, so the image is built and not started")
        box = Box(root, *map(int, self.config["User"].split(":")))
        self.addCleanup(box.close)
        gateway = box.start(start, environment)
        self.addCleanup(end, gateway)
        unseen = {f"0.0.0.0:{port.removesuffix('/tcp')}" for port in self.config["ExposedPorts"]}
        said = ""
        while unseen:
            line = gateway.stderr.readline()
            self.assertTrue(line, f"it never listened on {unseen}:\n{said}")
            said += line
            unseen = {address for address in unseen if address not in line}
        health = box.start(healthcheck, environment)
        answer = health.communicate(timeout=60)
        self.assertEqual(health.returncode, 0, answer)
        gateway.send_signal(signal.Signals[self.config["StopSignal"]])
        gateway.communicate(timeout=60)
        self.assertEqual(gateway.returncode, 0)

    def runnable(self):
        """The image's tree with the libraries that the tested program asks for; a released one asks for none."""
        root = self.folder / "tree"
        shutil.copytree(self.tree, root)
        for library in re.findall(r"(?:=> )?(/\S+) \(0x", run("ldd", BINARY, check=False).stdout):
            place = root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
        return root


if __name__ == "__main__":
    unittest.main()
