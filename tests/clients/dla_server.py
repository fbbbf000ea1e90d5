"""The real server, for clients that nobody here wrote.

The folder of the built programs is in DLA_BIN.
"""

import os
import pathlib
import queue
import re
import signal
import subprocess
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("DLA_BIN", ROOT / "build/release/bin"))
PHOTOS = sorted((ROOT / "tests/data/photos").glob("*.jpg"))
MODEL = "flowers5"


class Server:
    """dla-server on free ports of the loopback."""

    def __init__(self, *flags):
        self.home = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [BIN / "dla-server", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0",
             "--metrics-address", "127.0.0.1:0", "--calibrate", "false", *flags],
            stderr=subprocess.PIPE, text=True, env=os.environ | {"HOME": self.home.name})
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"ready grpc=(\S+) http=(\S+)", line)
            if found:
                self.address, self.http_address = found.groups()
                break
        else:
            raise RuntimeError("the server ended: " + "".join(self.log))
        # Whoever does not read the log would stop the server once the pipe is full.
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.lines.put(line)

    def await_line(self, words):
        while words not in self.lines.get(timeout=60):
            pass

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        code = self.process.wait(60)
        self.reader.join()
        self.process.stderr.close()
        self.home.cleanup()
        return code
