#!/usr/bin/env python3
"""Installs the build into a folder, moves the folder away, and uses what is in it.

Run with the build folder in DLA_BUILD and the program cmake in CMAKE.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DLA_BUILD", ROOT / "build/release"))
PLUGIN = "libdla_cuda.so"
PHOTO = ROOT / "tests/data/photos/daisy_5885826924.jpg"


def run(*command, code=0):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=240)
    if done.returncode != code:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Server:
    """The installed server with its example configuration, on free ports of the loopback."""

    def __init__(self, prefix):
        self.process = subprocess.Popen(
            [prefix / "bin/dla-server", "--config", prefix / "share/doc/dla-serve/dla-server.yaml", "--calibrate", "false",
             "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"],
            stderr=subprocess.PIPE, text=True)
        log = ""
        for line in self.process.stderr:
            log += line
            if found := re.search(r"ready grpc=(\S+)", line):
                self.address = found.group(1)
                return
        raise AssertionError(f"the server ended: {log}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


class Installation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.first = pathlib.Path(cls.folder.name) / "first"
        cls.prefix = pathlib.Path(cls.folder.name) / "else where"
        run(os.environ.get("CMAKE", "cmake"), "--install", BUILD, "--prefix", cls.first)
        shutil.move(cls.first, cls.prefix)

    def test_finds_its_libraries_in_itself_and_in_the_system(self):
        for program in ("dla-server", "dla-client", "dla-quantize"):
            for line in run("ldd", self.prefix / "bin" / program).splitlines():
                self.assertNotIn("not found", line)
                path = line.partition(" => ")[2]
                if path:
                    self.assertTrue(path.startswith(("/lib/", "/usr/lib/", str(self.prefix))), line)

    def test_holds_no_library_that_nothing_needs(self):
        needed = run("ldd", self.prefix / "bin/dla-server")
        libraries = [path for path in self.prefix.rglob("*.so*") if path.name != PLUGIN]
        self.assertGreater(len(libraries), 3)
        for library in libraries:
            self.assertRegex(needed, re.escape(library.name) + " => " + re.escape(str(self.prefix)))

    def test_finds_its_half_for_gpus_and_says_what_that_lacks(self):
        error = subprocess.run([self.prefix / "bin/dla-server", "--device", "cuda"], capture_output=True, text=True).stderr
        self.assertRegex(error, "CUDA libraries cannot be loaded: lib|there is no NVIDIA driver|there is no NVIDIA card")
        self.assertNotIn("no libdla_cuda.so", error)

    def test_serves_classifies_and_tells_its_health(self):
        server = Server(self.prefix)
        try:
            client = self.prefix / "bin/dla-client"
            self.assertEqual(run(client, "health", "--server", server.address), "SERVING\n")
            self.assertEqual(run(client, "health", "--server", server.address, "--model", "flowers5"), "SERVING\n")
            run(client, "health", "--server", server.address, "--model", "dla34", code=1)
            answer = run(client, "classify", PHOTO, "--server", server.address, "--format", "csv", "--top-k", "1")
            self.assertIn(",daisy,", answer)
        finally:
            code = server.stop()
        self.assertEqual(code, 0)
        run(client, "health", "--server", server.address, code=1)

    def test_has_the_licences_of_what_it_bundles(self):
        docs = self.prefix / "share/doc/dla-serve"
        self.assertIn("Apache License", (docs / "LICENSE").read_text())
        for library in (self.prefix / "lib/dla-serve").rglob("*.so*"):
            if library.name == PLUGIN:
                continue
            wheel = {"libcudart.so.13": "nvidia_cuda_runtime", "libcupti.so.13": "nvidia_cuda_cupti"}.get(library.name, "torch")
            self.assertTrue([path for path in (docs / wheel).iterdir() if path.stat().st_size > 1000], library)

    def test_has_the_cuda_half_where_the_server_looks_for_it(self):
        self.assertTrue((self.prefix / "lib/dla-serve" / PLUGIN).is_file())
        done = subprocess.run([self.prefix / "bin/dla-server", "--device", "cuda:99"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        # Not that it is not there, but that there is no GPU or no library of NVIDIA's.
        self.assertRegex(done.stderr, r'device "cuda:99" cannot be used')
        self.assertNotIn(f"no {PLUGIN}", done.stderr)

    def test_the_component_cuda_has_all_that_libtorch_is_linked_to(self):
        installed = {path.name for path in self.prefix.rglob("*.so*")}
        listed = set(re.findall(r"/(lib[\w+.-]+\.so[\d.]*)\"", (BUILD / "cmake_install.cmake").read_text()))
        self.assertIn("libcudnn.so.9", listed)
        for name in sorted(listed | installed):
            path = ROOT / ".deps/libtorch/torch/lib" / name
            if not path.exists():  # one that script/bootstrap --cuda installs
                continue
            for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path)):
                if needed == "libcuda.so.1" or needed in installed | listed:  # the first is the driver's
                    continue
                self.assertRegex(needed, r"^(lib(c|dl|gcc_s|m|pthread|rt|stdc\+\+)|ld-linux-x86-64)\.so\.", f"{name} needs it")

    def test_has_pages_and_completion_where_they_are_looked_for(self):
        for program in ("dla-server", "dla-client", "dla-quantize"):
            shown = subprocess.run(["man", "-M", self.prefix / "share/man", program], capture_output=True, text=True,
                                   timeout=60, env=os.environ | {"LC_ALL": "C.UTF-8"})
            self.assertIn("--generate", shown.stdout, shown.stderr)
            for path in (f"bash-completion/completions/{program}", f"zsh/site-functions/_{program}",
                         f"fish/vendor_completions.d/{program}.fish"):
                self.assertIn(program, (self.prefix / "share" / path).read_text())

    def test_has_a_unit_that_names_the_installed_program(self):
        unit = (self.prefix / "lib/systemd/system/dla-server.service").read_text()
        self.assertIn(f"ExecStart={self.first}/bin/dla-server --config ", unit)


class Unit(unittest.TestCase):
    """deploy/systemd/dla-server.service, as the Debian package installs it."""

    def analyze(self, verb, *flags):
        with tempfile.TemporaryDirectory() as folder:
            # systemd looks whether the program is there.
            text = (ROOT / "deploy/systemd/dla-server.service").read_text()
            self.assertIn("ExecStart=/usr/bin/dla-server ", text)
            path = pathlib.Path(folder) / "dla-server.service"
            path.write_text(text.replace("/usr/bin/dla-server ", f"{BUILD}/bin/dla-server "))
            return subprocess.run(["systemd-analyze", verb, *flags, path], capture_output=True, text=True, timeout=60,
                                  env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"})

    def test_is_valid(self):
        done = self.analyze("verify", "--man=no")
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_leaves_time_to_drain(self):
        text = (ROOT / "deploy/systemd/dla-server.service").read_text()
        drain = re.search(r"--drain-timeout N=(\d+)", run(BUILD / "bin/dla-server", "--help")).group(1)
        self.assertGreater(int(re.search(r"TimeoutStopSec=(\d+)", text).group(1)), int(drain))

    def test_is_confined(self):
        done = self.analyze("security", "--offline=yes", "--threshold=20")
        self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr)


if __name__ == "__main__":
    unittest.main()
