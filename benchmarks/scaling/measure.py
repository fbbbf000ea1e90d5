#!/usr/bin/env python3
"""One server on one core against two servers on one core each, behind the real Envoy with deploy/envoy/envoy.yaml.

    benchmarks/scaling/measure.py [--name NAME] [--model dla34=DIR] [--rounds 1]

Writes scaling-MODEL.json to benchmarks/results/NAME, which model.py compares with its predictions. Needs two cores. With one
server, Envoy and the load generator have the second core to themselves; with two they take their time from the servers, so
each row also tells the CPU time of each.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests/support")]
import machine  # noqa: E402
from proxy import Envoy, free_port  # noqa: E402
from serving import BIN, Server  # noqa: E402

MAX_BATCH = 4
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9)  # of what a closed loop reached
FULL = 16  # requests in flight for each server that keep it busy


@contextlib.contextmanager
def on_cores(cores):
    """What is started inside runs there, and counts no others."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_server(model, core):
    flags = ["--replicas", "1", "--threads", "1", "--max-batch", str(MAX_BATCH)]
    with on_cores({core}):
        return Server("dla-server", *flags, *(["--model", model] if model else []),
                      ports=(free_port(), free_port(), free_port()))


def ports_of(server):
    return tuple(int(address.rsplit(":", 1)[1]) for address in (server.grpc, server.http))


def bench(options, servers, envoy, cores, *load):
    command = [BIN / "dla-client", "bench", options.photos, "--server", envoy.address, "--connections", "4", "--duration",
               str(options.seconds), "--warmup", "1", "--format", "json", *map(str, load)]
    pids = {"servers": [server.pid for server in servers], "envoy": [envoy.process.pid]}
    before = {name: sum(map(machine.process_seconds, each)) for name, each in pids.items()}
    busy = machine.busy_seconds()
    with on_cores(cores):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    busy = machine.busy_seconds() - busy
    found = json.loads(text)
    cpu = {name: sum(map(machine.process_seconds, each)) - before[name] for name, each in pids.items()}
    cpu["generator"] = usage.ru_utime + usage.ru_stime
    wall = found["seconds"] + found["warm_up_s"]
    answered = found["answered"] / found["seconds"] * wall  # with those of the warm-up
    return {
        "servers": len(servers), "mode": found["mode"], "offered": found.get("rate"), "in_flight": found.get("concurrency"),
        "images_per_second": found["images_per_second"], "failed": found["failed"], "latency_ms": found["latency_ms"],
        "server_ms": found["server_ms"], "mean_batch_size": found["mean_batch_size"],
        "cpu_ms_per_image": {name: seconds / answered * 1e3 for name, seconds in cpu.items()},
        "cores_of_others": round((busy - sum(cpu.values())) / wall, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="latest", help="results go to benchmarks/results/NAME")
    parser.add_argument("--model", help="NAME=DIR; without it the embedded model")
    parser.add_argument("--photos", default=str(ROOT / "tests/data/photos"))
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    all_cores = sorted(os.sched_getaffinity(0))
    if len(all_cores) < 2:
        parser.error("needs two cores")
    first, second = all_cores[:2]
    servers = [start_server(options.model, core) for core in (first, second)]
    rows = []
    try:
        for round_ in range(options.rounds):
            for count in (1, 2):
                used = servers[:count]
                others = {second} if count == 1 else {first, second}
                with on_cores(others):
                    envoy = Envoy([ports_of(server) for server in used])
                try:
                    envoy.await_healthy(count)
                    alone = bench(options, used, envoy, others, "--concurrency", 1)
                    full = bench(options, used, envoy, others, "--concurrency", FULL * count)
                    found = [alone, full]
                    for load in LOADS:
                        rate = load * full["images_per_second"]
                        found.append(bench(options, used, envoy, others, "--rate", f"{rate:.1f}", "--seed", round_ + 1)
                                     | {"load": load})
                    for row in found:
                        rows.append({"round": round_} | row)
                        print(f"{count} servers {row['mode']} {row.get('load', row['in_flight'])}: "
                              f"{row['images_per_second']:.1f} images/s, p50 {row['latency_ms']['p50']:.1f}, p99 "
                              f"{row['latency_ms']['p99']:.1f} ms, {row['failed']} failed, CPU ms/image "
                              f"{ {k: round(v, 2) for k, v in row['cpu_ms_per_image'].items()} }, "
                              f"others {row['cores_of_others']}", flush=True)
                finally:
                    envoy.stop()
    finally:
        for server in servers:
            server.clean_up()
    model = options.model.split("=")[0] if options.model else "embedded"
    folder = ROOT / "benchmarks/results" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"scaling-{model}.json").write_text(json.dumps(
        {"date": machine.now(), "commit": machine.revision(), "machine": machine.describe(), "model": model,
         "max_batch": MAX_BATCH, "seconds": options.seconds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
