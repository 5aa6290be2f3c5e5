"""The developer's script, as a new user meets it."""

import os
import re
import subprocess
import sys
import unittest

from rig import paths
from rig.case import plain


@plain
class Script(unittest.TestCase):
    alone = True  # it builds
    timeout_s = 180

    def test_demo_shows_a_guest_that_read_nothing_wrong(self):
        # The runner has given this test namespaces of its own already.
        shown = subprocess.run([sys.executable, str(paths.ROOT / "tests" / "demo.py")],
                               capture_output=True, text=True, timeout=170)
        self.assertEqual(0, shown.returncode, shown.stdout + shown.stderr)
        said = {name: re.search(rf"{name} +([\d,.]+)", shown.stdout) for name in
                ("reads checked", "wrong reads", "wrong pages", "worst stall", "speed before",
                 "speed during", "speed after")}
        for name, match in said.items():
            self.assertIsNotNone(match, f"the demo does not say '{name}':\n{shown.stdout}")
        self.assertEqual("0", said["wrong reads"].group(1))
        self.assertEqual("0", said["wrong pages"].group(1))
        self.assertGreater(int(said["reads checked"].group(1).replace(",", "")), 10_000)

    def test_help_names_every_command(self):
        said = subprocess.run([str(paths.ROOT / "dev"), "help"], capture_output=True, text=True)
        self.assertEqual(0, said.returncode)
        for command in ("build", "demo", "test", "bench", "lint", "format"):
            self.assertIn(f"./dev {command}", said.stdout)

    def test_an_unknown_command_is_refused(self):
        said = subprocess.run([str(paths.ROOT / "dev"), "frobnicate"], capture_output=True, text=True)
        self.assertEqual(2, said.returncode)
        self.assertIn("no command 'frobnicate'", said.stderr)

    def test_build_leaves_the_command_and_the_hook(self):
        self.assertTrue(os.access(paths.BUILD / "faultline", os.X_OK))
        self.assertTrue((paths.BUILD / "faultline-qemu.so").is_file())
        said = subprocess.run([str(paths.BUILD / "faultline"), "--version"], capture_output=True,
                              text=True)
        self.assertRegex(said.stdout, r"^faultline \d+\.\d+\.\d+")

    def test_ci_calls_the_tests(self):
        self.assertIn("./dev test", (paths.ROOT / ".ci" / "run").read_text())
