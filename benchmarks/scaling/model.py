#!/usr/bin/env python3
"""A queueing model of dla-servers behind a load balancer, against what measure.py measured, and beyond it.

    benchmarks/scaling/model.py [--name NAME]

Reads scaling-*.json, writes scaling.svg and scaling-model.json to benchmarks/results/NAME and prints tables.

The model: photos arrive at random (Poisson) and are given to one of k servers of one core each. Decoding takes d and goes first,
so it holds up the batch that is running. When nothing is left to decode, an idle server takes what waits, at most B photos, for
a + f * (photos taken). What is outside of the servers (Envoy, client, loopback, waking up) adds a constant. What the measurement
gives: CPU time of the server for each photo with one photo in flight (a + d + f) and with full batches (a / b + d + f, b the
measured mean), the time that a lone photo is decoded (d), and for the constant the median of one server at the lowest random load.
All other points are predicted.
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
    """k alike servers; each has at most one event ahead: its batch starts, or it ends."""

    def __init__(self, k, a, d, f, max_batch):
        self.a, self.d, self.f, self.max_batch = a, d, f, max_batch
        self.waiting = [[] for _ in range(k)]
        self.batch = [[] for _ in range(k)]
        self.outstanding = [0] * k  # waiting and in the batch
        self.due = [math.inf] * k
        self.events = []  # (time, server); old ones stay in the heap and are known by their time
        self.latencies = []

    def schedule(self, server, time):
        self.due[server] = time
        heapq.heappush(self.events, (time, server))

    def run_until(self, time):
        while self.events and self.events[0][0] <= time:
            now, server = heapq.heappop(self.events)
            if now != self.due[server]:
                continue
            self.latencies += [now - arrival for arrival in self.batch[server]]
            self.outstanding[server] -= len(self.batch[server])
            self.batch[server] = self.waiting[server][:self.max_batch]
            del self.waiting[server][:self.max_batch]
            taken = len(self.batch[server])
            self.due[server] = math.inf
            if taken:
                self.schedule(server, now + self.a + self.f * taken)

    def arrive(self, server, now):
        self.waiting[server].append(now)
        self.outstanding[server] += 1
        self.schedule(server, (now if self.due[server] == math.inf else self.due[server]) + self.d)


def pick_least_of_two(servers, dice, _):
    """Envoy's LEAST_REQUEST: the less busy of two at random."""
    k = len(servers.outstanding)
    one, other = (dice.randrange(k), dice.randrange(k)) if k > 1 else (0, 0)
    return one if servers.outstanding[one] <= servers.outstanding[other] else other


def pick_round_robin(servers, _, number):
    return number % len(servers.outstanding)


def pick_at_random(servers, dice, _):
    return dice.randrange(len(servers.outstanding))


def simulate(k, rate, times, max_batch, pick=pick_least_of_two, seed=1, photos=PHOTOS):
    """Latencies in the servers in seconds, sorted; photos of the first tenth are left out."""
    dice = random.Random(seed)
    servers = Servers(k, *times, max_batch)
    now = 0.0
    for number in range(photos):
        now += dice.expovariate(rate)
        servers.run_until(now)
        servers.arrive(pick(servers, dice, number), now)
    servers.run_until(math.inf)
    return sorted(servers.latencies[photos // 10:])


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


def capacity(times, max_batch):
    """Photos a second of one server with full batches."""
    a, d, f = times
    return 1 / (a / max_batch + d + f)


def slowed(times, seconds):
    """As much is taken from the core for each photo, at any time, as decoding does."""
    a, d, f = times
    return a, d + seconds, f


def fit(rows, max_batch):
    """((a, d, f), constant) in seconds from the closed loops and the lowest load of one server."""
    alone, full = ([r for r in rows if r["mode"] == "closed" and (r["in_flight"] == 1) is lone][0] for lone in (True, False))
    one, many = (row["cpu_ms_per_image"]["servers"] / 1e3 for row in (alone, full))
    a = max(0.0, (one - many) / (1 - 1 / full["mean_batch_size"]))
    d = alone["server_ms"]["decode"] / 1e3
    times = (a, d, one - a - d)
    lowest = min((r for r in rows if r["mode"] == "open"), key=lambda r: r["load"])
    median = percentile(simulate(1, lowest["offered"], times, max_batch), 0.5)
    return times, max(0.0, lowest["latency_ms"]["p50"] / 1e3 - median)


def stolen(rows):
    """Seconds of Envoy and the generator for each photo that two servers on two cores lose: a half for each core."""
    full = [r for r in rows if r["mode"] == "closed" and r["in_flight"] > 1][0]
    return (full["cpu_ms_per_image"]["envoy"] + full["cpu_ms_per_image"]["generator"]) / 1e3


def compare(data):
    """Rows with the measured and the predicted figures, for one and two servers."""
    found = []
    alone = [row for row in data["rows"] if row["servers"] == 1]
    times, constant = fit(alone, data["max_batch"])
    for k in (1, 2):
        rows = [row for row in data["rows"] if row["servers"] == k]
        # On this machine two servers share their cores with what loads them. On machines of their own they do not.
        lost = stolen(rows) if k == 2 else 0.0
        full = [row for row in rows if row["mode"] == "closed" and row["in_flight"] > 1][0]
        found.append({"servers": k, "what": "capacity", "measured": full["images_per_second"],
                      "model": k * capacity(slowed(times, lost), data["max_batch"]),
                      "without_sharing": k * capacity(times, data["max_batch"])})
        for row in rows:
            if row["mode"] == "open":
                latencies = simulate(k, row["offered"], slowed(times, lost), data["max_batch"])
                found.append({"servers": k, "what": "latency", "rate": row["offered"], "load": row["load"],
                              "others": row["cores_of_others"]}
                             | {f"measured_{name}": row["latency_ms"][name] for name in ("p50", "p99")}
                             | {f"model_{name}": (percentile(latencies, part) + constant) * 1e3
                                for name, part in (("p50", 0.5), ("p99", 0.99))})
    return {"model": data["model"], "times_ms": [each * 1e3 for each in times], "constant_ms": constant * 1e3, "rows": found}


def utilisation_at(k, times, max_batch, constant, bound, pick=pick_least_of_two):
    """The highest utilisation at which 99 of 100 photos are answered within `bound` seconds."""
    low, high = 0.05, 0.99
    while high - low > 0.01:
        middle = (low + high) / 2
        latencies = simulate(k, middle * k * capacity(times, max_batch), times, max_batch, pick, photos=20000)
        low, high = (middle, high) if percentile(latencies, 0.99) + constant <= bound else (low, middle)
    return low


def unpack(compared):
    return tuple(each / 1e3 for each in compared["times_ms"]), compared["constant_ms"] / 1e3


def beyond(compared, max_batch):
    """By servers and balancer: the utilisation that keeps p99 within six times the latency of a lone photo."""
    times, constant = unpack(compared)
    bound = 6 * (sum(times) + constant)
    rows = []
    for k in (1, 2, 4, 8, 16):
        row = {"servers": k, "bound_ms": bound * 1e3}
        for name, pick in (("least_request", pick_least_of_two), ("round_robin", pick_round_robin), ("random", pick_at_random)):
            row[name] = utilisation_at(k, times, max_batch, constant, bound, pick)
        row["images_per_second"] = row["least_request"] * k * capacity(times, max_batch)
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
        times, constant = unpack(each)
        for k in (1, 2):
            rows = [row for row in data["rows"] if row["servers"] == k]
            lost = stolen(rows) if k == 2 else 0.0
            top = k * capacity(slowed(times, lost), data["max_batch"])
            rates = [top * part / 40 for part in range(8, 39)]
            curves = [simulate(k, rate, slowed(times, lost), data["max_batch"]) for rate in rates]
            points = [row for row in each["rows"] if row["servers"] == k and row["what"] == "latency"]
            for name, part, style, mark in (("p50", 0.5, "-", "o"), ("p99", 0.99, "--", "s")):
                axis.plot(rates, [(percentile(latencies, part) + constant) * 1e3 for latencies in curves], style,
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
        a, d, f = each["times_ms"]
        print(f"\n{each['model']}: a {a:.2f}, d {d:.2f}, f {f:.2f}, constant {each['constant_ms']:.2f} ms")
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
