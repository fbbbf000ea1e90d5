"""What the tests of fetch_weights.py have in common."""

import contextlib
import hashlib
import io
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

from hub_server import HubServer

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "model" / "tools"
sys.path.insert(0, str(TOOLS))

import fetch_weights  # noqa: E402


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class FetchTest(unittest.TestCase):
    """A fresh server and folder for each test."""

    def setUp(self):
        self.server = HubServer()
        self.addCleanup(self.server.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "models" / "dla46_c"
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment = mock.patch.dict(os.environ, clean, clear=True)
        environment.start()
        self.addCleanup(environment.stop)

    def fetch(self, *options, variant="dla46_c"):
        """Runs the command; returns its exit status. self.errors is what it said."""
        stderr, stdout = io.StringIO(), io.StringIO()
        argv = [variant, "--out", str(self.out), "--hub-url", self.server.url]
        argv += ["--original-url", self.server.url, "--retry-delay", "0", *options]
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            status = fetch_weights.main(argv)
        self.errors = stderr.getvalue()
        return status

    def assert_failed_in_one_line(self, status, *parts):
        self.assertEqual(status, 1, self.errors)
        last = self.errors.rstrip("\n").splitlines()[-1]
        self.assertTrue(last.startswith("fetch_weights: "), self.errors)
        for part in parts:
            self.assertIn(part, last)

    def assert_folder_holds(self, **contents):
        """Exactly these files; the names' dots are written as two underscores."""
        contents = {name.replace("__", "."): body for name, body in contents.items()}
        found = {path.name: path.read_bytes() for path in self.out.iterdir()}
        self.assertEqual(sorted(found), sorted(contents))
        for name, body in contents.items():
            self.assertTrue(found[name] == body, f"{name} has other bytes")
