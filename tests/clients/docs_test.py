#!/usr/bin/env python3
"""Runs the blocks of docs/clients.md, in their order, against a real server, and compares what they print
with the ```text block that follows. Numbers may differ by 0.03: precision depends on the processor.

Run with the folder of the built programs in DLA_BIN.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import google.rpc.status_pb2
    import grpc_reflection
    import grpc_tools
    import hatchling
    import numpy
    import tritonclient.grpc  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from serving import BIN, PHOTOS, Server  # noqa: E402

BLOCK = re.compile(r"(?:<!-- (?P<mark>not run): .*? -->\n)?"
                   r"```(?P<language>\w+)\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")

# Installs the checkout's package beside; other packages must be there already.
PIP = """#!{python}
import importlib.metadata, subprocess, sys
assert sys.argv[1] == "install", sys.argv
for name in sys.argv[2:]:
    if name.startswith("./"):
        subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps",
                        "--no-index", "--no-build-isolation", "--target", "{site}", name], check=True)
    else:
        importlib.metadata.version(name)
"""


class DocsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        home = tempfile.TemporaryDirectory(prefix="dla-docs-")
        cls.addClassCleanup(home.cleanup)
        cls.folder = pathlib.Path(home.name, "checkout")
        tools, site = pathlib.Path(home.name, "bin"), pathlib.Path(home.name, "site")
        for folder in (cls.folder, tools, site):
            folder.mkdir()
        for name in ("client", "deploy", "proto"):
            (cls.folder / name).symlink_to(ROOT / name)
        (cls.folder / "photo.jpg").symlink_to(ROOT / "tests/data/photos/daisy_5885826924.jpg")
        (cls.folder / "photos").symlink_to(PHOTOS[0].parent)

        def add_tool(name, text):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)

        add_tool("pip", PIP.format(python=sys.executable, site=site))
        for name in ("python", "python3"):
            add_tool(name, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        if not shutil.which("grpcurl"):
            add_tool("grpcurl", f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/clients/grpcurl_stand_in.py "$@"\n')
        cls.environment = os.environ | {
            "PATH": f"{tools}:{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        cls.server = Server("dla-server")
        cls.addClassCleanup(cls.server.clean_up)

    def run_block(self, language, code):
        for standard, real in (("localhost:8001", self.server.grpc), ("localhost:8000", self.server.http)):
            code = code.replace(standard, real)
        command = {"python": ["python", "-c", code], "sh": ["bash", "-euo", "pipefail", "-c", code]}[language]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{code}\nprinted {done.stdout}\n{done.stderr}")
        return done.stdout

    def check_output(self, code, found, expected):
        where = f"{code}\nprinted:\n{found}\nnot:\n{expected}"
        self.assertEqual(NUMBER.sub("N", found).split(), NUMBER.sub("N", expected).split(), where)
        for one, other in zip(NUMBER.findall(found), NUMBER.findall(expected)):
            self.assertAlmostEqual(float(one), float(other), delta=0.03, msg=where)

    def test_blocks_do_what_the_page_says(self):
        text = (ROOT / "docs/clients.md").read_text()
        blocks = [block for block in BLOCK.finditer(text) if block["language"] != "text"]
        # Each fence belongs to a block that was found.
        self.assertEqual(text.count("```"), sum(2 + 2 * (block["output"] is not None) for block in blocks))
        ran = 0
        for block in blocks:
            if block["mark"]:
                continue
            with self.subTest(line=text.count("\n", 0, block.start("code"))):
                found = self.run_block(block["language"], block["code"])
                self.check_output(block["code"], found, block["output"] or "")
            ran += 1
        self.assertGreaterEqual(ran, 13)

    def test_output_that_differs_is_found(self):
        for found, expected in (("daisy 0.9", "rose 0.9"), ("daisy 0.90", "daisy 0.80"), ("", "daisy")):
            with self.assertRaises(self.failureException):
                self.check_output("", found, expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
