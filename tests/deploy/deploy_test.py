#!/usr/bin/env python3
"""What deploy/ holds, started for real: two servers with deploy/serve.yaml, the real Envoy and the real Prometheus with the
very files, only their addresses and intervals replaced. Each query of the dashboard, each rule and each alert must find data,
and the alert for a server that is killed must come.

    tests/deploy/deploy_test.py [-v]
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "chaos"), str(HERE.parent / "support")]
try:
    import grpc
    import yaml

    import clients
    from proxy import Envoy, get_envoy_path, with_tls
    from serving import BIN, PHOTOS, ROOT, Server
    from watcher import Prometheus
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)
for tool in ("prometheus", "promtool", "docker-compose", "openssl"):
    if not shutil.which(tool):
        print(f"skipped: no {tool}; script/bootstrap --tests installs it")
        sys.exit(77)

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/dla-serve.json"
# The form of every alert; see the head of alerts.yml.
COMPARISON = re.compile(r"(?P<value>.*\S)\s*(?:<|>|<=|>=|==|!=)\s*[\d.]+\s*", re.DOTALL)


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **options)


def rules():
    """Of all rule files."""
    return [rule for path in sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
            for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


class Panels:
    """Of the dashboard: those that need a GPU apart."""

    def __init__(self):
        self.everywhere, self.gpu = [], []
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            if panel["type"] == "row":
                self.gpu += panel["panels"]
            else:
                self.everywhere.append(panel)

    def queries(self):
        for panel in self.everywhere:
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in (("$__rate_interval", "20s"), ("$model", ".*"), ("$instance", ".*")):
                    expression = expression.replace(variable, value)
                yield panel["title"], expression


class ComposeTest(unittest.TestCase):
    def config(self, *profiles, **environment):
        flags = [flag for profile in profiles for flag in ("--profile", profile)]
        done = run("docker-compose", "-f", DEPLOY / "compose.yaml", *flags, "config", env=os.environ | environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return yaml.safe_load(done.stdout)["services"]

    def test_every_profile_is_valid(self):
        for profiles in ((), ("gpu",), ("cpu", "tls"), ("gpu", "tls")):
            services = self.config(*profiles)
            for name, profile in (("server", "cpu"), ("server-gpu", "gpu"), ("envoy-tls", "tls")):
                self.assertEqual(services[name]["profiles"], [profile])
        self.assertIn("COMPOSE_PROFILES=cpu\n", (DEPLOY / ".env").read_text())

    def test_two_cpu_servers_by_default_as_many_as_wanted_otherwise(self):
        self.assertEqual(self.config()["server"]["deploy"]["replicas"], 2)
        self.assertEqual(self.config(DLA_REPLICAS="5")["server"]["deploy"]["replicas"], 5)

    def test_the_gpu_server_asks_for_an_nvidia_device(self):
        server = self.config("gpu")["server-gpu"]
        self.assertEqual(server["build"]["target"], "cuda")
        devices = server["deploy"]["resources"]["reservations"]["devices"]
        self.assertEqual(devices, [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}])

    def test_nothing_runs_with_more_rights_than_it_needs(self):
        for name, service in self.config().items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                # Whatever is not our own build is pinned.
                self.assertRegex(service["image"], r"^dla-serve:(cpu|cuda)$|^[\w/-]+:v?\d+\.\d+\.\d+$")
                self.assertTrue(name in ("prometheus", "grafana") or service["user"] in ("65532:65532", "101:101"))

    def test_only_tls_is_open_to_other_machines(self):
        for name, service in self.config().items():
            for port in service.get("ports", []):
                if name != "envoy-tls":
                    self.assertTrue(str(port).startswith("127.0.0.1:"), f"{name}: {port}")

    def test_servers_may_finish_what_they_have_before_they_are_killed(self):
        settings = yaml.safe_load((DEPLOY / "serve.yaml").read_text())
        for name in ("server", "server-gpu"):
            grace = self.config()[name]["stop_grace_period"]
            self.assertGreater(int(grace.removesuffix("s")), settings["drain-timeout"])

    def test_every_file_that_is_mounted_is_there(self):
        for service in self.config().values():
            for volume in service.get("volumes", []):
                source = str(volume).split(":")[0]
                if source.startswith(str(DEPLOY)) and not source.endswith("/tls"):
                    self.assertTrue(pathlib.Path(source).exists(), source)


class RulesTest(unittest.TestCase):
    def test_promtool_accepts_them_and_they_fire_when_they_should(self):
        for arguments in (("check", "config", DEPLOY / "prometheus/prometheus.yml"),
                          ("test", "rules", HERE / "rules_test.yml")):
            done = run("promtool", *arguments)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("SUCCESS", done.stdout + done.stderr)

    def test_every_alert_says_what_it_means_and_what_to_do(self):
        handbook = (ROOT / "docs/operations.md").read_text()
        tests = (HERE / "rules_test.yml").read_text()
        for alert in alerts():
            with self.subTest(alert["alert"]):
                self.assertEqual(set(alert["annotations"]), {"summary", "meaning", "action"})
                self.assertIn(alert["labels"]["severity"], ("page", "ticket"))
                self.assertIn(f"`{alert['alert']}`", handbook)
                self.assertIn(alert["alert"], tests)
                self.assertTrue(COMPARISON.fullmatch(alert["expr"]))


class DashboardTest(unittest.TestCase):
    def test_the_file_is_what_the_script_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path(folder, "make_dashboard.py")
            shutil.copy(DEPLOY / "grafana/make_dashboard.py", script)
            script.parent.joinpath("dashboards").mkdir()
            done = run(sys.executable, script)
            self.assertEqual(done.returncode, 0, done.stderr)
            written = script.parent.joinpath("dashboards/dla-serve.json").read_text()
        self.assertTrue(written == DASHBOARD.read_text(), "run deploy/grafana/make_dashboard.py")

    def test_provisioning_names_what_there_is(self):
        folder = DEPLOY / "grafana/provisioning"
        source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"][0]
        self.assertEqual(source["url"], "http://prometheus:9090")
        where = yaml.safe_load((folder / "dashboards/dla-serve.yaml").read_text())["providers"][0]["options"]["path"]
        volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
        self.assertIn(f"./grafana/dashboards:{where}:ro", volumes)

    def test_the_gpu_row_asks_for_what_the_gpu_collector_tells(self):
        asked = " ".join(target["expr"] for panel in Panels().gpu for target in panel["targets"])
        for name in ("memory_used_bytes", "memory_total_bytes", "utilization_ratio", "temperature_celsius", "power_watts",
                     "ecc_uncorrected_errors_total", "xid_errors_total", "stage_seconds_sum"):
            self.assertIn(f"dla_gpu_{name}{{", asked)


class Load:
    """Calls through Envoy from three threads, without retries of their own: most are right, some are wrong."""

    def __init__(self, address):
        self.address, self.stop = address, threading.Event()
        self.good, self.problems = 0, []
        self.threads = [threading.Thread(target=self.call, args=(i,)) for i in range(3)]
        for thread in self.threads:
            thread.start()

    def call(self, i):
        photos = [path.read_bytes() for path in PHOTOS]
        with grpc.insecure_channel(self.address, options=[("grpc.enable_retries", 0),
                                                          ("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = clients.Classifier(channel)
            while not self.stop.is_set():
                i += 1
                fields, expected = {"image": photos[i % len(photos)]}, grpc.StatusCode.OK
                if i % 10 == 0:
                    fields, expected = {"image": b"not a photo"}, grpc.StatusCode.INVALID_ARGUMENT
                elif i % 10 == 5:
                    fields, expected = fields | {"model": "nosuch"}, grpc.StatusCode.NOT_FOUND
                try:
                    stub.Classify(stub.request("Classify", **fields), timeout=30)
                    code, details = grpc.StatusCode.OK, ""
                except grpc.RpcError as error:
                    code, details = error.code(), error.details()
                if code != expected:
                    self.problems.append(f"{code} instead of {expected}: {details}")
                self.good += code == grpc.StatusCode.OK
                time.sleep(0.02)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class StackTest(unittest.TestCase):
    """One stack for all of its tests, which are run by name: the server is killed last."""

    @classmethod
    def setUpClass(cls):
        cls.certificate = pathlib.Path(cls.keep(tempfile.TemporaryDirectory(), "cleanup").name)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-keyout", cls.certificate / "key.pem", "-out", cls.certificate / "cert.pem", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", check=True)
        cls.servers = [cls.keep(Server("dla-server", "--config", DEPLOY / "serve.yaml"), "clean_up") for _ in range(2)]
        ports = [[int(address.rsplit(":", 1)[1]) for address in (server.grpc, server.http)] for server in cls.servers]
        cls.envoy = cls.keep(Envoy(ports), "stop")
        cls.tls = cls.keep(Envoy(ports, tls=cls.certificate), "stop")
        for envoy in (cls.envoy, cls.tls):
            envoy.await_healthy(2)
        cls.prometheus = cls.keep(
            Prometheus([server.metrics for server in cls.servers], [cls.envoy.metrics, cls.tls.metrics]), "stop")
        cls.load = cls.keep(Load(cls.envoy.address), "end")

    @classmethod
    def keep(cls, thing, end):
        cls.addClassCleanup(getattr(thing, end))
        return thing

    def client(self, *arguments):
        done = run(BIN / "dla-client", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_1_envoy_accepts_both_forms_of_its_file(self):
        for envoy in (self.envoy, self.tls):
            done = run(get_envoy_path(), "--mode", "validate", "-c", envoy.config)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("eprecated", done.stderr)
            self.assertEqual(envoy.log.read_text(), "")  # no warning either
        plain = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
        tls = yaml.safe_load(with_tls((DEPLOY / "envoy/envoy.yaml").read_text()))

        def doors(config):
            return {door["name"]: "transport_socket" in door["filter_chains"][0]
                    for door in config["static_resources"]["listeners"]}
        self.assertEqual(doors(plain), {"grpc": False, "http": False, "metrics": False})
        self.assertEqual(doors(tls), {"grpc": True, "http": True, "metrics": False})

    def test_1_http_passes_and_the_admin_interface_does_not(self):
        with urllib.request.urlopen(f"http://{self.envoy.http}/healthz", timeout=10) as answer:
            self.assertEqual(answer.status, 200)
        for path in ("/quitquitquit", "/config_dump", "/stats"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://{self.envoy.metrics}{path}", timeout=10)
            with refused.exception as answer:
                self.assertEqual(answer.code, 404)

    def test_1_photos_pass_over_http(self):
        photo = PHOTOS[0].read_bytes()
        # With a length, and in chunks, which the servers take from nobody else: Envoy puts them together.
        for body in photo, iter([photo[:1000], photo[1000:]]):
            request = urllib.request.Request(f"http://{self.envoy.http}/v1/models/:classify?top_k=1", body,
                                             {"Content-Type": "image/jpeg"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.assertIn(json.load(answer)["classes"][0]["label"], PHOTOS[0].name)

    def test_1_what_is_larger_than_the_servers_take_stays_outside(self):
        request = urllib.request.Request(f"http://{self.envoy.http}/healthz", data=bytes(34603009), method="POST")
        with self.assertRaises(OSError) as refused:  # 413, or hung up on while it still sent
            urllib.request.urlopen(request, timeout=30)
        if isinstance(refused.exception, urllib.error.HTTPError):
            with refused.exception as answer:
                self.assertEqual(answer.code, 413)
        stats = self.envoy.get("/stats?format=json&filter=^http.http.downstream_rq_too_large$")["stats"]
        self.assertEqual(stats[0]["value"], 1)

    def test_1_a_caller_cannot_pass_for_another(self):
        class Echo(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(self.headers.get_all("x-dla-client")).encode())

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Echo) as echo:
            threading.Thread(target=echo.serve_forever).start()
            envoy = Envoy([(echo.server_port, echo.server_port)])
            request = urllib.request.Request(f"http://{envoy.http}/", headers={"x-dla-client": "somebody else"})
            end, seen = time.monotonic() + 20, None
            while seen is None and time.monotonic() < end:
                try:
                    with urllib.request.urlopen(request, timeout=10) as answer:
                        seen = json.load(answer)
                except OSError:  # Envoy is still starting
                    time.sleep(0.05)
            envoy.stop()
            echo.shutdown()
        self.assertEqual(seen, ["127.0.0.1"])

    def test_1_a_call_over_tls(self):
        port = self.tls.address.rsplit(":", 1)[1]
        answer = self.client("classify", PHOTOS[0], "--server", f"localhost:{port}", "--tls-ca", self.certificate / "cert.pem",
                             "--format", "json")
        self.assertEqual(len(json.loads(answer)["classes"]), 5)
        refused = run(BIN / "dla-client", "classify", PHOTOS[0], "--server", f"localhost:{port}", "--timeout", "1")
        self.assertNotEqual(refused.returncode, 0)  # plaintext

    def test_2_every_query_of_the_dashboard_finds_data(self):
        queries = list(Panels().queries())
        self.assertGreater(len(queries), 30)
        for title, expression in queries:
            with self.subTest(title, query=expression):
                self.assertTrue(self.prometheus.await_data(expression))

    def test_2_every_recording_rule_and_every_alert_finds_data(self):
        for rule in rules():
            if "dla_gpu_" in rule["expr"]:  # these servers have none
                continue
            with self.subTest(rule.get("alert") or rule["record"]):
                expression = COMPARISON.fullmatch(rule["expr"])["value"] if "alert" in rule else rule["record"]
                self.assertTrue(self.prometheus.await_data(expression), expression)

    def test_2_both_servers_are_found_and_get_calls(self):
        found = self.prometheus.await_data('sum by (instance) (dla_requests_total{code="OK"}) > 0',
                                           until=lambda found: len(found) == 2)
        self.assertEqual({labels["instance"] for labels, _ in found}, {server.metrics for server in self.servers})

    def test_2_wrong_calls_are_counted_as_the_callers_fault(self):
        for code in ("INVALID_ARGUMENT", "NOT_FOUND"):
            self.assertTrue(self.prometheus.await_data(f'sum(rate(dla_requests_total{{code="{code}"}}[1m])) > 0'))
        self.assertEqual(self.prometheus.query("max(dla:request_errors:ratio_rate5m >= 0)"), [({}, 0)])

    def test_2_the_certificate_is_watched(self):
        found = self.prometheus.await_data("min(envoy_server_days_until_first_cert_expiring)")
        self.assertTrue(28 <= found[0][1] <= 30, found)

    def test_3_nothing_fires_while_all_is_well(self):
        known = self.prometheus.get("rules", type="alert")["groups"]
        state = {rule["name"]: rule["state"] for group in known for rule in group["rules"]}
        self.assertEqual(set(state), {alert["alert"] for alert in alerts()})
        self.assertNotIn("firing", state.values(), state)
        self.assertEqual(self.load.problems, [])

    def test_4_a_server_that_is_killed_is_noticed_and_calls_go_on(self):
        victim = self.servers[1]
        self.assertEqual(self.prometheus.await_data('ALERTS{alertname="DlaServerDown"}', seconds=0.2), [])
        victim.kill()
        good = self.load.good
        found = self.prometheus.await_data('ALERTS{alertname="DlaServerDown",alertstate=~"pending|firing"}')
        self.assertEqual([labels["instance"] for labels, _ in found], [victim.metrics])
        found = self.prometheus.await_data('min(envoy_cluster_membership_healthy{envoy_cluster_name="dla-serve"}) < 2')
        self.assertEqual(found, [({}, 1)])
        self.client("classify", ROOT / "tests/data/photos", "--server", self.envoy.address)
        self.assertGreater(self.load.good, good)
        self.assertEqual(self.load.problems, [])


if __name__ == "__main__":
    unittest.main()
