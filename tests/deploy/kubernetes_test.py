#!/usr/bin/env python3
"""deploy/kubernetes: every object fits its schema and the others, and the real server starts with the very arguments and
settings of each Deployment and of the runtime for KServe (addresses and folders replaced) and answers their probes.

    tests/deploy/kubernetes_test.py [-v]
"""

import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]
try:
    import grpc
    import kubernetes_validate
    import yaml
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from kustomization import name_of, render
    from serving import BIN, ROOT, Server
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

FOLDER = ROOT / "deploy/kubernetes"
RENDERED = {name: render(FOLDER / name) for name in ("base", "overlays/gpu", "overlays/edge", "overlays/model-image", "kserve")}
OBJECTS = [(where, thing) for where, objects in RENDERED.items() for thing in objects]
OLDEST = "1.30"  # the first with preStop's sleep for everybody

# Fields of custom resources that we use; the CRDs that the projects published by August 2026 have them all.
CUSTOM = {
    "ScaledObject": {
        "spec": {"scaleTargetRef", "pollingInterval", "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"},
        "spec.fallback": {"failureThreshold", "replicas"},
        "spec.triggers": {"type", "name", "metricType", "metadata"},
        "spec.triggers.metadata": {"serverAddress", "query", "threshold"},
    },
    "PodMonitor": {
        "spec": {"jobLabel", "selector", "podMetricsEndpoints"},
        "spec.podMetricsEndpoints": {"port", "path", "interval"},
    },
    "ServingRuntime": {
        "spec": {"supportedModelFormats", "protocolVersions", "multiModel", "annotations", "containers"},
        "spec.supportedModelFormats": {"name", "version", "autoSelect", "priority"},
    },
    "InferenceService": {
        "spec": {"predictor"},
        "spec.predictor": {"minReplicas", "maxReplicas", "model"},
        "spec.predictor.model": {"modelFormat", "runtime", "protocolVersion", "storageUri", "ports"},
    },
}


def every(kind):
    return [(where, thing) for where, thing in OBJECTS if thing["kind"] == kind]


def pod_of(deployment):
    return deployment["spec"]["template"]["spec"]


def server_of(deployment):
    return next(each for each in pod_of(deployment)["containers"] if each["name"] == "dla-server")


def settings_of(where):
    """dla-server.yaml in the ConfigMap."""
    return next(thing["data"]["dla-server.yaml"] for thing in RENDERED[where] if thing["kind"] == "ConfigMap")


def at(thing, path):
    """All values at a path; lists on the way are walked."""
    found = [thing]
    for part in path.split("."):
        found = [each[part] for each in found if part in each]
        found = [item for each in found for item in (each if isinstance(each, list) else [each])]
    return found


class ObjectsTest(unittest.TestCase):
    def test_the_renderer_agrees_with_kustomize(self):
        tool = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
        for where, objects in RENDERED.items():
            try:
                done = subprocess.run([*tool, FOLDER / where], capture_output=True, text=True, check=False)
            except FileNotFoundError:
                self.skipTest("neither kustomize nor kubectl")
            if done.returncode and re.search("unknown field|unknown command", done.stderr):
                self.skipTest("this kustomize does not know components")
            self.assertEqual(done.returncode, 0, done.stderr)
            theirs = {name_of(thing): thing for thing in yaml.safe_load_all(done.stdout)}
            self.assertEqual({name_of(thing): thing for thing in objects}, theirs, where)

    def test_every_object_fits_its_schema(self):
        for where, thing in OBJECTS:
            if thing["kind"] in CUSTOM:
                continue
            for version in (OLDEST, kubernetes_validate.latest_version()):
                with self.subTest(where=where, object=name_of(thing), version=version):
                    kubernetes_validate.validate(thing, version, strict=True)

    def test_custom_resources_use_fields_that_there_are(self):
        found = set()
        for where, thing in OBJECTS:
            for path, fields in CUSTOM.get(thing["kind"], {}).items():
                found.add(thing["kind"])
                for place in at(thing, path):
                    self.assertLessEqual(set(place), fields, (where, thing["kind"], path))
        self.assertEqual(found, set(CUSTOM))

    def test_a_runtimes_container_is_a_container_of_kubernetes(self):
        for _, runtime in every("ServingRuntime"):
            containers = runtime["spec"]["containers"]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": containers}}
            kubernetes_validate.validate(pod, OLDEST, strict=True)

    def test_selectors_find_the_pods(self):
        for where, deployment in every("Deployment"):
            labels = deployment["spec"]["template"]["metadata"]["labels"].items()
            selectors = [deployment["spec"]["selector"]["matchLabels"]]
            selectors += [each["labelSelector"]["matchLabels"] for each in pod_of(deployment)["topologySpreadConstraints"]]
            for thing in RENDERED[where]:
                spec = thing.get("spec", {})
                if thing["kind"] == "Service":
                    selectors.append(spec["selector"])
                elif thing["kind"] in ("PodDisruptionBudget", "PodMonitor"):
                    selectors.append(spec["selector"]["matchLabels"])
                elif thing["kind"] == "NetworkPolicy":
                    selectors.append(spec["podSelector"]["matchLabels"])
                elif thing["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
                    self.assertEqual(spec["scaleTargetRef"]["name"], deployment["metadata"]["name"])
            self.assertGreaterEqual(len(selectors), 7)
            for selector in selectors:
                self.assertTrue(selector and selector.items() <= labels, (where, selector))

    def test_ports_are_those_of_the_server(self):
        text = subprocess.run([BIN / "dla-server", "--help"], capture_output=True, text=True, check=True).stdout
        defaults = {name: int(re.search(rf"--{name}-address ADDRESS=0\.0\.0\.0:(\d+)", text)[1])
                    for name in ("http", "grpc", "metrics")}
        for where, deployment in every("Deployment"):
            ports = {port["name"]: port["containerPort"] for port in server_of(deployment)["ports"]}
            self.assertEqual(ports, defaults)
            annotations = deployment["spec"]["template"]["metadata"]["annotations"]
            self.assertEqual(int(annotations["prometheus.io/port"]), ports["metrics"])
            for thing in RENDERED[where]:
                if thing["kind"] == "Service":
                    for port in thing["spec"]["ports"]:
                        self.assertEqual(port["port"], ports[port["targetPort"]])
                elif thing["kind"] == "PodMonitor":
                    self.assertEqual([each["port"] for each in thing["spec"]["podMetricsEndpoints"]], ["metrics"])
            callers, monitoring = next(t for t in RENDERED[where] if t["kind"] == "NetworkPolicy")["spec"]["ingress"]
            served = {port["port"] for t in RENDERED[where] if t["kind"] == "Service" for port in t["spec"]["ports"]}
            self.assertEqual({port["port"] for port in callers["ports"]}, served)
            self.assertEqual([port["port"] for port in monitoring["ports"]], [ports["metrics"]])

    def test_what_is_mounted_is_there(self):
        for where, deployment in every("Deployment"):
            volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
            maps = {thing["metadata"]["name"] for thing in RENDERED[where] if thing["kind"] == "ConfigMap"}
            self.assertIn(volumes["config"]["configMap"]["name"], maps)
            for container in pod_of(deployment)["containers"] + pod_of(deployment).get("initContainers", []):
                for mount in container["volumeMounts"]:
                    self.assertIn(mount["name"], volumes)
            self.assertIn(pod_of(deployment)["serviceAccountName"],
                          {t["metadata"]["name"] for t in RENDERED[where] if t["kind"] == "ServiceAccount"})

    def test_nothing_has_a_right_that_it_does_not_need(self):
        for where, deployment in every("Deployment"):
            pod = pod_of(deployment)
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertEqual((pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]), (True, 65532))
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for container in pod["containers"] + pod.get("initContainers", []):
                context = container["securityContext"]
                self.assertEqual(context, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                           "capabilities": {"drop": ["ALL"]}}, where)
                self.assertLessEqual({"cpu", "memory"}, set(container["resources"]["limits"]))

    def test_the_server_has_time_to_start_and_to_drain(self):
        for where, deployment in every("Deployment"):
            container = server_of(deployment)
            startup = container["startupProbe"]
            self.assertGreaterEqual(startup["periodSeconds"] * startup["failureThreshold"], 120)
            grace = pod_of(deployment)["terminationGracePeriodSeconds"]
            drain = yaml.safe_load(settings_of(where))["drain-timeout"]
            self.assertGreater(grace, container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain)

    def test_one_autoscaler_owns_the_number_of_servers(self):
        for where, deployment in every("Deployment"):
            self.assertNotIn("replicas", deployment["spec"])
            owners = [t for t in RENDERED[where] if t["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
            self.assertEqual(len(owners), 1, where)


class MetricsTest(unittest.TestCase):
    """The queries of the autoscalers on the real Prometheus's engine, with series as two servers write them."""

    # In a minute: a computed 30 of 2 x 60 seconds for one model and 90 for another, 60 photos waited 6 s in all; b did nothing.
    SERIES = {
        'dla_replicas{namespace="dla-serve",pod="a",model="m"}': "2+0x20",
        'dla_replicas{namespace="dla-serve",pod="a",model="n"}': "2+0x20",
        'dla_replicas{namespace="dla-serve",pod="b",model="m"}': "2+0x20",
        'dla_inference_seconds_sum{namespace="dla-serve",pod="a",model="m"}': "0+15x20",
        'dla_inference_seconds_sum{namespace="dla-serve",pod="a",model="n"}': "0+45x20",
        'dla_inference_seconds_sum{namespace="dla-serve",pod="b",model="m"}': "7+0x20",
        'dla_queue_seconds_sum{namespace="dla-serve",pod="a",model="m"}': "0+3x20",
        'dla_queue_seconds_count{namespace="dla-serve",pod="a",model="m"}': "0+30x20",
        'dla_queue_seconds_sum{namespace="dla-serve",pod="b",model="m"}': "1+0x20",
        'dla_queue_seconds_count{namespace="dla-serve",pod="b",model="m"}': "9+0x20",
    }

    @staticmethod
    def adapter():
        values = yaml.safe_load((FOLDER / "prometheus-adapter/values.yaml").read_text())
        return {rule["name"]["as"]: rule for rule in values["rules"]["custom"]}

    def evaluate(self, cases):
        """Cases: (query, [(labels, value)]) five minutes after the start."""
        if not shutil.which("promtool"):
            self.skipTest("no promtool; script/bootstrap --tests installs it")
        series = [{"series": name, "values": values} for name, values in self.SERIES.items()]
        tests = [{"expr": query, "eval_time": "5m",
                  "exp_samples": [{"labels": labels, "value": value} for labels, value in samples]}
                 for query, samples in cases]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "test.yml")
            path.write_text(yaml.safe_dump({"tests": [{"interval": "30s", "input_series": series,
                                                       "promql_expr_test": tests}]}))
            done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_adapters_queries_give_each_pod_its_figure(self):
        rules = self.adapter()
        queries = {name: rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
                   .replace("<<.LabelMatchers>>", 'namespace="dla-serve",pod=~"a|b"') for name, rule in rules.items()}
        self.evaluate([(queries["dla_replica_saturation"], [('{pod="a"}', 0.75), ('{pod="b"}', 0)]),
                       (queries["dla_queue_seconds_mean"], [('{pod="a"}', 0.1), ('{pod="b"}', 0)])])

    def test_kedas_queries_sum_over_the_servers(self):
        (_, scaled), = every("ScaledObject")
        saturation, queue = (trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"])
        self.evaluate([(saturation, [("{}", 0.75)]), (queue, [("{}", 0.1)])])

    def test_the_autoscaler_asks_for_what_the_adapter_offers(self):
        autoscalers = every("HorizontalPodAutoscaler")
        self.assertTrue(autoscalers)
        for _, autoscaler in autoscalers:
            asked = {metric["pods"]["metric"]["name"] for metric in autoscaler["spec"]["metrics"]}
            self.assertEqual(asked, set(self.adapter()))


class ServerTest(unittest.TestCase):
    """The real server with the very arguments; folders that only a pod has are replaced by `places`."""

    def start(self, arguments, places):
        for old, new in places.items():
            arguments = [argument.replace(old, str(new)) for argument in arguments]
        server = Server("dla-server", *arguments)
        self.addCleanup(server.clean_up)
        return server

    def places(self, folder, where):
        """What a pod would find mounted."""
        folder = pathlib.Path(folder)
        (folder / "config").mkdir()
        (folder / "config/dla-server.yaml").write_text(settings_of(where))
        shutil.copytree(ROOT / "model/zoo/flowers5", folder / "models/flowers5")
        (folder / "tls").mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=localhost", "-keyout", folder / "tls/tls.key", "-out", folder / "tls/tls.crt"],
                       check=True, capture_output=True)
        return {"/etc/dla-serve-tls": folder / "tls", "/etc/dla-serve/": f"{folder}/config/", "/models": folder / "models"}

    def probe(self, server, probe):
        """As kubelet asks; its port is the container's, so the server's address takes its place."""
        addresses = {8000: server.http, 8001: server.grpc, 8002: server.metrics}
        if "grpc" in probe:
            with grpc.insecure_channel(addresses[probe["grpc"]["port"]]) as channel:
                request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
        else:
            asked = probe["httpGet"]
            url = f"{asked.get('scheme', 'HTTP').lower()}://{addresses[asked['port']]}{asked['path']}"
            unchecked = ssl._create_unverified_context()  # kubelet checks no certificate
            with urllib.request.urlopen(url, timeout=10, context=unchecked) as answer:
                self.assertEqual(answer.status, 200)

    def test_each_deployments_server_starts_and_answers_its_probes(self):
        for where, deployment in every("Deployment"):
            container = server_of(deployment)
            with self.subTest(where), tempfile.TemporaryDirectory() as folder:
                places = self.places(folder, where)
                try:
                    server = self.start(container["args"], places)
                except RuntimeError as error:
                    # A build or a machine without a GPU says so, and not that the flag is wrong.
                    self.assertIn("--device=cuda", container["args"])
                    self.assertRegex(str(error), r"(?i)device.*cuda|GPU")
                    continue
                for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                    self.probe(server, container[name])
                self.assertEqual(server.terminate(), 0)

    def test_kserves_runtime_starts_and_answers_its_probes(self):
        (_, runtime), = every("ServingRuntime")
        container, = runtime["spec"]["containers"]
        server = self.start(container["args"], {"{{.Name}}": "dla34", "/mnt/models": ROOT / "model/zoo/flowers5"})
        for name in ("readinessProbe", "livenessProbe"):
            self.probe(server, container[name])
        for path in ("/v2/health/ready", "/v2/models/dla34/ready"):
            with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as answer:
                self.assertEqual(answer.status, 200)
        self.assertEqual(server.terminate(), 0)

    def test_inference_services_ask_for_a_format_and_protocol_of_the_runtime(self):
        (_, runtime), = every("ServingRuntime")
        services = every("InferenceService")
        self.assertEqual(len(services), 2)
        for _, service in services:
            model = service["spec"]["predictor"]["model"]
            self.assertEqual(model["runtime"], runtime["metadata"]["name"])
            self.assertIn(model["protocolVersion"], runtime["spec"]["protocolVersions"])
            self.assertIn(model["modelFormat"]["name"], at(runtime, "spec.supportedModelFormats.name"))
            port = model.get("ports", runtime["spec"]["containers"][0]["ports"])[0]["containerPort"]
            self.assertEqual(port, 8001 if model["protocolVersion"] == "grpc-v2" else 8000)


if __name__ == "__main__":
    unittest.main()
