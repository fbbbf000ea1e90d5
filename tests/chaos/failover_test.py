#!/usr/bin/env python3
"""Two real dla-servers behind a real Envoy with deploy/envoy/envoy.yaml. One after the other is killed,
started again and stopped while clients call; not one call may fail.

    tests/chaos/failover_test.py [--seconds 20]
"""

import argparse
import collections
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
try:
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    import clients
    from proxy import Envoy, free_port
    from serving import PHOTOS, Server
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

CLIENTS = 6


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
    ports = [(free_port(), free_port()) for _ in range(2)]  # gRPC, HTTP

    def start(pair):
        return Server("dla-server", "--drain-timeout", "20", ports=(*pair, 0))

    servers = [start(pair) for pair in ports]
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
