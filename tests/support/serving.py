"""A server as a process of its own: how it is started, watched and stopped, and what its /metrics say."""

import collections
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("DLA_BIN", ROOT / "build/release/bin"))
PHOTOS = sorted((ROOT / "tests/data/photos").glob("*.jpg"))

Vitals = collections.namedtuple("Vitals", "rss_bytes files threads")


class Server:
    """`flags` after the addresses; each of `ports` is 0 for a free one. Its log is the file `log`."""

    def __init__(self, program, *flags, before=(), ports=(0, 0, 0), wait=120):
        self.home = tempfile.TemporaryDirectory(prefix="dla-server-")
        self.log_path = pathlib.Path(self.home.name, "log")
        addresses = []
        for name, port in zip(("grpc", "http", "metrics"), ports):
            addresses += [f"--{name}-address", f"127.0.0.1:{port}"]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [BIN / program, *before, *addresses, "--calibrate", "false", *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"HOME": self.home.name})
        end = time.monotonic() + wait
        while not (ready := re.search(rb"ready grpc=(\S+) http=(\S+) metrics=(\S+)", self.log())):
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError("the server did not start:\n" + self.log().decode(errors="replace"))
            time.sleep(0.02)
        self.grpc, self.http, self.metrics = (address.decode() for address in ready.groups())
        self.pid = self.process.pid

    def log(self):
        return self.log_path.read_bytes()

    def vitals(self):
        proc = pathlib.Path(f"/proc/{self.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return Vitals(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(proc / "fd")),
                      len(os.listdir(proc / "task")))

    def thread_names(self):
        names = [task.read_text().strip() for task in pathlib.Path(f"/proc/{self.pid}/task").glob("*/comm")]
        return collections.Counter(names)

    def get(self, where, path, timeout=10):
        with urllib.request.urlopen(f"http://{where}{path}", timeout=timeout) as answer:
            return answer.read().decode()

    def read_metrics(self):
        """{(name, {label: value, ...} as a frozenset of pairs): value}"""
        values = {}
        for line in self.get(self.metrics, "/metrics").splitlines():
            found = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
            if found:
                labels = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found.group(2) or ""))
                values[found.group(1), labels] = float(found.group(3))
        return values

    def requests(self):
        """Counter of (model, method, code) out of dla_requests_total."""
        counts = collections.Counter()
        for (name, labels), value in self.read_metrics().items():
            if name == "dla_requests_total" and value:
                labels = dict(labels)
                counts[labels["model"], labels["method"], labels["code"]] = int(value)
        return counts

    def gauge(self, name):
        """Its sum over all models."""
        return sum(value for (found, _), value in self.read_metrics().items() if found == name)

    def terminate(self, timeout=60):
        """SIGTERM; the exit code, or None if it did not end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def stop(self):
        """The exit code of a server that is done with."""
        code = self.terminate()
        self.clean_up()
        return code

    def await_log(self, words, after=0):
        """Until `words` stand in the log, `after` so many bytes."""
        end = time.monotonic() + 60
        while words.encode() not in self.log()[after:]:
            if time.monotonic() > end:
                raise RuntimeError(f"the log does not say {words}:\n{self.log()[after:].decode()}")
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def clean_up(self):
        if self.process.poll() is None:
            self.kill()
        self.home.cleanup()
