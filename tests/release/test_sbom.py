"""The SBOM that deploy/release/sbom printed."""

import json
import os
import tomllib
import unittest
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

TEXT = Path(os.environ["SBOM"]).read_text()
DOCUMENT = json.loads(TEXT)
PARTS = DOCUMENT["components"]
LOCKED = {(each["name"], each["version"]): each for each in tomllib.loads(Path(os.environ["LOCK"]).read_text())["package"]}


class Sbom(unittest.TestCase):
    def test_is_valid(self):
        self.assertIsNone(JsonStrictValidator(SchemaVersion.V1_5).validate_str(TEXT))

    def test_a_broken_one_would_be_found(self):
        broken = json.dumps({**DOCUMENT, "components": [{"name": "no type"}]})
        self.assertIsNotNone(JsonStrictValidator(SchemaVersion.V1_5).validate_str(broken))

    def test_every_part_is_locked_with_its_checksum(self):
        for part in PARTS:
            with self.subTest(part=part["name"]):
                locked = LOCKED[part["name"], part["version"]]
                self.assertEqual([(each["alg"], each["content"]) for each in part["hashes"]], [("SHA-256", locked["checksum"])])
                self.assertEqual(part["purl"], f"pkg:cargo/{part['name']}@{part['version']}")
                self.assertTrue(part["licenses"])

    def test_has_what_is_compiled_in_and_not_what_only_tests_use(self):
        names = {part["name"] for part in PARTS}
        self.assertLessEqual({"hyper", "rustls", "aws-lc-rs", "aws-lc-sys", "tokio", "serde-saphyr"}, names)
        self.assertFalse({"criterion", "proptest", "insta", "tempfile", "ring", "openssl-sys"} & names)

    def test_says_what_needs_what(self):
        refs = {part["bom-ref"] for part in PARTS} | {DOCUMENT["metadata"]["component"]["bom-ref"]}
        self.assertEqual({edge["ref"] for edge in DOCUMENT["dependencies"]}, refs)
        needed = {ref for edge in DOCUMENT["dependencies"] for ref in edge.get("dependsOn", [])}
        self.assertEqual(needed, refs - {DOCUMENT["metadata"]["component"]["bom-ref"]})

    def test_names_nobody_and_no_folder(self):
        self.assertNotIn("serialNumber", DOCUMENT)
        self.assertNotIn(str(Path.home()), TEXT)
        self.assertNotIn(str(Path(os.environ["LOCK"]).parent), TEXT)


if __name__ == "__main__":
    unittest.main()
