#!/usr/bin/env python3
"""A queueing model of dla-servers behind a load balancer, against what measure.py measured, and beyond it.

    benchmarks/scaling/model.py [--name NAME]

Reads scaling-*.json, writes scaling.svg and scaling-model.json to benchmarks/results/NAME and prints tables.

The model: photos arrive at random (Poisson) and are given to one of k servers. An idle server takes what waits, at most B photos,
and is busy for a + c * (photos taken): a for each batch, c for each photo, decoding included, since on one core both take turns.
What is outside of the servers (Envoy, client, loopback) adds a constant. Three figures come from the measurement, all of them at
other loads than those that are predicted: CPU time of the server for each photo with one photo in flight (a + c) and with full
batches (a / b + c, b the measured mean), and the latency of a lone photo, which gives the constant.
"""

import argparse
import heapq
import json
import math
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import report  # noqa: E402

PHOTOS = 40000
COLORS = {1: "#1f6f8b", 2: "#c8553d"}


class Servers:
    """k alike servers; each a FIFO queue that is served in batches."""

    def __init__(self, k, a, c, max_batch):
        self.a, self.c, self.max_batch = a, c, max_batch
        self.queues = [[] for _ in range(k)]
        self.outstanding = [0] * k  # waiting and in the batch
        self.busy = [False] * k
        self.ends = []  # (time, server, arrivals of its batch)
        self.latencies = []

    def run_until(self, time):
        while self.ends and self.ends[0][0] <= time:
            end, server, batch = heapq.heappop(self.ends)
            self.latencies += [end - arrival for arrival in batch]
            self.outstanding[server] -= len(batch)
            self.busy[server] = False
            self.start(server, end)

    def start(self, server, now):
        if self.busy[server] or not self.queues[server]:
            return
        batch = self.queues[server][:self.max_batch]
        del self.queues[server][:self.max_batch]
        self.busy[server] = True
        heapq.heappush(self.ends, (now + self.a + self.c * len(batch), server, batch))

    def arrive(self, server, now):
        self.queues[server].append(now)
        self.outstanding[server] += 1
        self.start(server, now)


def pick_least_of_two(servers, dice, _):
    """Envoy's LEAST_REQUEST: the less busy of two at random."""
    k = len(servers.outstanding)
    one, other = (dice.randrange(k), dice.randrange(k)) if k > 1 else (0, 0)
    return one if servers.outstanding[one] <= servers.outstanding[other] else other


def pick_round_robin(servers, _, number):
    return number % len(servers.outstanding)


def pick_at_random(servers, dice, _):
    return dice.randrange(len(servers.outstanding))


def simulate(k, rate, a, c, max_batch, pick=pick_least_of_two, seed=1, photos=PHOTOS):
    """Latencies in the servers in seconds, sorted; photos of the first tenth are left out."""
    dice = random.Random(seed)
    servers = Servers(k, a, c, max_batch)
    now = 0.0
    for number in range(photos):
        now += dice.expovariate(rate)
        servers.run_until(now)
        servers.arrive(pick(servers, dice, number), now)
    servers.run_until(math.inf)
    return sorted(servers.latencies[photos // 10:])


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


def capacity(a, c, max_batch):
    """Photos a second of one server with full batches."""
    return 1 / (a / max_batch + c)


def fit(rows, max_batch):
    """(a, c, constant) in seconds from the two closed loops of one server."""
    alone, full = ([r for r in rows if r["mode"] == "closed" and (r["in_flight"] == 1) is lone][0] for lone in (True, False))
    one, many = (row["cpu_ms_per_image"]["servers"] / 1e3 for row in (alone, full))
    a = max(0.0, (one - many) / (1 - 1 / full["mean_batch_size"]))
    c = one - a
    constant = max(0.0, alone["latency_ms"]["p50"] / 1e3 - one)
    return a, c, constant


def stolen(rows):
    """Seconds of Envoy and the generator for each photo that two servers on two cores lose: a half for each core."""
    full = [r for r in rows if r["mode"] == "closed" and r["in_flight"] > 1][0]
    return (full["cpu_ms_per_image"]["envoy"] + full["cpu_ms_per_image"]["generator"]) / 1e3


def compare(data):
    """Rows with the measured and the predicted figures, for one and two servers."""
    found = []
    alone = [row for row in data["rows"] if row["servers"] == 1]
    a, c, constant = fit(alone, data["max_batch"])
    for k in (1, 2):
        rows = [row for row in data["rows"] if row["servers"] == k]
        # On this machine two servers share their cores with what loads them. On machines of their own they do not.
        lost = stolen(rows) if k == 2 else 0.0
        full = [row for row in rows if row["mode"] == "closed" and row["in_flight"] > 1][0]
        found.append({"servers": k, "what": "capacity", "measured": full["images_per_second"],
                      "model": k * capacity(a, c + lost, data["max_batch"]), "without_sharing": k * capacity(a, c, data["max_batch"])})
        for row in rows:
            if row["mode"] == "open":
                times = simulate(k, row["offered"], a, c + lost, data["max_batch"])
                found.append({"servers": k, "what": "latency", "rate": row["offered"], "load": row["load"],
                              "others": row["cores_of_others"]}
                             | {f"measured_{name}": row["latency_ms"][name] for name in ("p50", "p99")}
                             | {f"model_{name}": (percentile(times, part) + constant) * 1e3
                                for name, part in (("p50", 0.5), ("p99", 0.99))})
    return {"model": data["model"], "a_ms": a * 1e3, "c_ms": c * 1e3, "constant_ms": constant * 1e3, "rows": found}


def utilisation_at(k, a, c, max_batch, constant, bound, pick=pick_least_of_two):
    """The highest utilisation at which 99 of 100 photos are answered within `bound` seconds."""
    low, high = 0.05, 0.99
    while high - low > 0.01:
        middle = (low + high) / 2
        times = simulate(k, middle * k * capacity(a, c, max_batch), a, c, max_batch, pick, photos=20000)
        low, high = (middle, high) if percentile(times, 0.99) + constant <= bound else (low, middle)
    return low


def beyond(compared, max_batch):
    """By servers and balancer: the utilisation that keeps p99 within six times the latency of a lone photo."""
    a, c, constant = (compared[name] / 1e3 for name in ("a_ms", "c_ms", "constant_ms"))
    bound = 6 * (a + c + constant)
    rows = []
    for k in (1, 2, 4, 8, 16):
        row = {"servers": k, "bound_ms": bound * 1e3}
        for name, pick in (("least_request", pick_least_of_two), ("round_robin", pick_round_robin), ("random", pick_at_random)):
            row[name] = utilisation_at(k, a, c, max_batch, constant, bound, pick)
        row["images_per_second"] = row["least_request"] * k * capacity(a, c, max_batch)
        rows.append(row)
    return rows


def busiest_share(k, connections, tries=4000):
    """Sticky connections, each on a server at random: mean load of the busiest server, relative to an equal share."""
    dice = random.Random(1)
    total = 0
    for _ in range(tries):
        counts = [0] * k
        for _ in range(connections):
            counts[dice.randrange(k)] += 1
        total += max(counts)
    return total / tries / (connections / k)


def draw(compared, files, path):
    plt = report.load_plotting()
    figure, axes = plt.subplots(1, len(compared), figsize=(5.6 * len(compared), 3.9), squeeze=False)
    for axis, each, data in zip(axes[0], compared, files):
        a, c, constant = (each[name] / 1e3 for name in ("a_ms", "c_ms", "constant_ms"))
        for k in (1, 2):
            rows = [row for row in data["rows"] if row["servers"] == k]
            lost = stolen(rows) if k == 2 else 0.0
            top = k * capacity(a, c + lost, data["max_batch"])
            rates = [top * part / 40 for part in range(8, 39)]
            curves = [simulate(k, rate, a, c + lost, data["max_batch"]) for rate in rates]
            points = [row for row in each["rows"] if row["servers"] == k and row["what"] == "latency"]
            for name, part, style, mark in (("p50", 0.5, "-", "o"), ("p99", 0.99, "--", "s")):
                axis.plot(rates, [(percentile(times, part) + constant) * 1e3 for times in curves], style,
                          color=COLORS[k], linewidth=1.3, label=f"{k} server{'s' if k > 1 else ''}, {name}, model")
                axis.plot([p["rate"] for p in points], [p[f"measured_{name}"] for p in points], mark, color=COLORS[k],
                          markersize=5, markerfacecolor="white" if name == "p99" else COLORS[k],
                          label=f"{k} server{'s' if k > 1 else ''}, {name}, measured")
        axis.set_yscale("log")
        axis.set_xlabel("images/s offered (Poisson)", fontsize=8.5)
        axis.set_ylabel("ms from when a request was due", fontsize=8.5)
        axis.set_title(each["model"], loc="left", fontsize=11, fontweight="bold")
        report.tidy(axis, "y")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=7.5, bbox_to_anchor=(0.5, -0.06))
    report.finish(figure, path, plt, f"One server on one core, two on one each, behind Envoy. {report.where(files[0])}", bottom=0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="latest", help="results are in benchmarks/results/NAME")
    options = parser.parse_args()
    folder = ROOT / "benchmarks/results" / options.name
    paths = [path for path in sorted(folder.glob("scaling-*.json")) if path.name != "scaling-model.json"]
    if not paths:
        parser.error(f"{folder} has no scaling-*.json; run benchmarks/scaling/measure.py --name {options.name}")
    files = [json.loads(path.read_text()) for path in paths]
    compared = [compare(data) for data in files]
    for each, data in zip(compared, files):
        print(f"\n{each['model']}: a {each['a_ms']:.2f} ms, c {each['c_ms']:.2f} ms, constant {each['constant_ms']:.2f} ms")
        for row in each["rows"]:
            if row["what"] == "capacity":
                print(f"  {row['servers']} servers: capacity {row['measured']:.0f}, model {row['model']:.0f}, "
                      f"on machines of their own {row['without_sharing']:.0f} images/s")
            else:
                print(f"  {row['servers']} servers, {row['rate']:.0f}/s ({row['load']:.0%}): p50 {row['measured_p50']:.1f} "
                      f"({row['model_p50']:.1f}), p99 {row['measured_p99']:.1f} ({row['model_p99']:.1f}) ms; "
                      f"others {row['others']}")
        each["beyond"] = beyond(each, data["max_batch"])
        for row in each["beyond"]:
            print(f"  {row['servers']:2} servers, p99 within {row['bound_ms']:.0f} ms: utilisation {row['least_request']:.2f} least "
                  f"request, {row['round_robin']:.2f} round robin, {row['random']:.2f} random; {row['images_per_second']:.0f} images/s")
    sticky = [{"servers": k, "connections": n * k, "busiest": busiest_share(k, n * k)} for k in (2, 4, 8) for n in (1, 4, 16)]
    for row in sticky:
        print(f"{row['connections']} sticky connections to {row['servers']} servers: the busiest gets {row['busiest']:.2f} shares")
    (folder / "scaling-model.json").write_text(json.dumps({"models": compared, "sticky": sticky}, indent=1) + "\n")
    draw(compared, files, folder / "scaling.svg")


if __name__ == "__main__":
    main()
