"""deploy/release/rustc: which compilations get the profile's flag."""

import os
import subprocess
import unittest
from pathlib import Path

WRAPPER = Path(__file__).parents[2] / "deploy" / "release" / "rustc"


def run(profile, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "OBO_GATEWAY_PROFILE"}
    if profile is not None:
        environment["OBO_GATEWAY_PROFILE"] = profile
    return subprocess.run([WRAPPER, "printf", "%s\n", *arguments], env=environment, capture_output=True, text=True, check=False)


class Rustc(unittest.TestCase):
    def test_what_runs_on_the_target_is_counted_or_laid_out(self):
        for profile, flag in [("generate:/a b", "-Cprofile-generate=/a b"), ("use:/a:b", "-Cprofile-use=/a:b")]:
            done = run(profile, "--crate-name", "x", "--target", "t")
            self.assertEqual(done.stdout.splitlines(), ["--crate-name", "x", "--target", "t", flag])

    def test_what_runs_while_building_is_left_alone(self):
        self.assertEqual(run("use:/a", "--crate-name", "build script").stdout.splitlines(), ["--crate-name", "build script"])

    def test_no_profile_is_no_build(self):
        for profile in [None, "", "use:", "generate:", "other:/a"]:
            done = run(profile, "--target", "t")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("OBO_GATEWAY_PROFILE", done.stderr)


if __name__ == "__main__":
    unittest.main()
