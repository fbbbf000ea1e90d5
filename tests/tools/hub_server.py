"""A web server on the loopback that behaves like the sites that weights are fetched from."""

import dataclasses
import http.server
import re
import threading


@dataclasses.dataclass
class File:
    body: bytes
    headers: dict = dataclasses.field(default_factory=dict)
    redirect: str = None  # path of another file
    ranges: bool = True
    announced: int = None  # Content-Length, where it is not the body's
    # What goes wrong with the next requests, one each: ("status", code, headers),
    # ("cut", bytes) ends the connection early, ("stall", bytes, event) sends no more after setting
    # the event until the server stops.
    troubles: list = dataclasses.field(default_factory=list)


class HubServer:
    """Serves `files` by path. `requests` lists (path, headers) as they come in."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def ranges_asked(self, path):
        return [headers.get("Range") for asked, headers in self.requests if asked == path]

    def stop(self):
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub = None

    def do_GET(self):
        path = re.sub("^http://[^/]+", "", self.path)  # whole where the server plays the proxy
        self.hub.requests.append((path, dict(self.headers)))
        file = self.hub.files.get(path)
        if file is None:
            self.send_error(404)
            return
        trouble = file.troubles.pop(0) if file.troubles else ("none",)
        if trouble[0] == "status":
            self._head(trouble[1], trouble[2], 0)
        elif file.redirect:
            self._head(302, {**file.headers, "Location": self.hub.url + file.redirect}, 0)
        else:
            self._send(file, trouble)

    def _send(self, file, trouble):
        start = self._start(file)
        body = file.body[start:]
        length = len(body) if file.announced is None else file.announced
        if start:
            total = len(file.body)
            content_range = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
            self._head(206, {**file.headers, **content_range}, length)
        else:
            self._head(200, file.headers, length)
        self.wfile.write(body if trouble[0] == "none" else body[: trouble[1]])
        self.wfile.flush()
        if trouble[0] == "stall":
            trouble[2].set()
            self.hub.stopping.wait()
        self.close_connection = True

    def _start(self, file):
        """First byte to send: 0 for the whole file."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not asked or not file.ranges or condition not in (None, file.headers.get("ETag")):
            return 0
        return int(asked[1])

    def _head(self, status, headers, length):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass
