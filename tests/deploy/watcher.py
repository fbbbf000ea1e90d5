"""The real Prometheus with deploy/prometheus, its targets replaced by ones on loopback, asked every second."""

import json
import math
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

from proxy import free_port, replaced
from serving import ROOT

FOLDER = ROOT / "deploy/prometheus"


def targets(addresses):
    return f"static_configs: [{{targets: {json.dumps(addresses)}}}]"


class Prometheus:
    def __init__(self, servers, envoys):
        """Metrics addresses of both."""
        self.folder = tempfile.TemporaryDirectory(prefix="dla-prometheus-")
        folder = pathlib.Path(self.folder.name)
        shutil.copytree(FOLDER / "rules", folder / "rules")
        config = folder / "prometheus.yml"
        config.write_text(replaced(FOLDER / "prometheus.yml", [
            ("dns_sd_configs: [{names: [server], type: A, port: 8002, refresh_interval: 5s}]", targets(servers)),
            ("dns_sd_configs: [{names: [envoy, envoy-tls], type: A, port: 9902, refresh_interval: 30s}]", targets(envoys)),
            ("scrape_interval: 5s", "scrape_interval: 1s"), ("scrape_timeout: 4s", "scrape_timeout: 1s"),
            ("evaluation_interval: 5s", "evaluation_interval: 1s")]))
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address={self.address}"], stdout=log, stderr=log)

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """[({label: value}, number)], without those that are no number."""
        found = self.get("query", query=expression)["result"]
        values = [(each["metric"], float(each["value"][1])) for each in found]
        return [(labels, value) for labels, value in values if math.isfinite(value)]

    def await_data(self, expression, seconds=30, until=bool):
        """What the expression finds, once `until` likes it; else what it found last."""
        end = time.monotonic() + seconds
        found = []
        while time.monotonic() < end:
            try:
                found = self.query(expression)
                if until(found):
                    break
            except ConnectionError:
                pass
            except urllib.error.HTTPError as error:
                if error.code != 503:  # it is still starting
                    raise RuntimeError(f"{expression}: {error.read().decode()}") from error
            except urllib.error.URLError:
                if self.process.poll() is not None:
                    raise RuntimeError("Prometheus ended:\n" + self.log.read_text()) from None
            time.sleep(0.1)
        return found

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()
