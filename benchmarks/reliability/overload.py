#!/usr/bin/env python3
"""What dla-server does with more than it can: goodput, refusals, fairness and memory at three times its capacity.

    benchmarks/reliability/overload.py [--name NAME] [--model DIR] [--minutes 10]

Prints one row for each figure and writes overload-MODEL.json and overload-MODEL.svg to benchmarks/results/NAME. Server and
load generator share the machine, so the load at three times the capacity costs the server some of its cores.
"""

import argparse
import json
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import machine  # noqa: E402

BIN = ROOT / "build/release/bin"
IN_FLIGHT = 32  # a closed loop that keeps the server busy: what it answers then is its capacity
GREEDY = 1000  # requests that the greedy caller keeps in flight


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="latest", help="results go to benchmarks/results/NAME")
    parser.add_argument("--model", help="model folder; without it the embedded model")
    parser.add_argument("--photos", default=str(ROOT / "tests/data/photos"), help="folder of .jpg files")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10, help="of the overload during which memory is watched")
    parser.add_argument("server_flags", nargs="*", help="after --: more flags for dla-server")
    return parser.parse_args()


class Server:
    def __init__(self, model, flags):
        command = [BIN / "dla-server", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0",
                   "--metrics-address", "127.0.0.1:0", "--client-id-metadata", "client-id",
                   "--max-concurrent-streams", str(GREEDY), *flags]
        if model:
            command += ["--model", f"model={model}"]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stderr=self.log)
        deadline = time.monotonic() + 120
        while not (ready := re.search(r"ready grpc=(\S+)", self.text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dla-server does not start:\n{self.text()}")
            time.sleep(0.05)
        self.address = ready[1]

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def rss_mb(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * 4096 / 1e6

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise SystemExit(f"dla-server ended with {self.process.returncode}:\n{self.text()[-2000:]}")


def load(server, arguments, seconds, *flags):
    """Starts one load generator."""
    command = [BIN / "dla_load_generator", "--dla", server.address, "--photos", arguments.photos, "--allow-refusals",
               "--warm-up", "3", "--seconds", str(seconds), "--server-pid", str(server.process.pid), *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(generator):
    output, _ = generator.communicate()
    if generator.returncode != 0:
        raise SystemExit(f"the load generator ended with {generator.returncode}")
    row = json.loads(output)
    if row["errors"]:
        raise SystemExit(f"{row['errors']} requests failed: {row['first_error']}")
    return row


def generator_cores(row):
    return row["generator_cpu_s_per_1000"] * row["images"] / 1000 / row["wall_s"]


def show(name, value, wanted=""):
    print(f"{name:<58} {value:>12} {wanted}", flush=True)


def say(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def watch_memory(server, arguments, rate):
    """One row for each second of an overload."""
    generator = load(server, arguments, arguments.minutes * 60, "--rate", rate)
    rows, start = [], time.monotonic()
    answer = {}
    waiter = threading.Thread(target=lambda: answer.update(result(generator)))
    waiter.start()
    while waiter.is_alive():
        rows.append((time.monotonic() - start, server.rss_mb()))
        say(f"overload: {rows[-1][0]:.0f} of {arguments.minutes * 60:.0f} s, {rows[-1][1]:.0f} MB ")
        waiter.join(1)
    say("")
    return rows, answer


def draw(path, rows, capacity):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    axes.plot([t / 60 for t, _ in rows], [mb for _, mb in rows], color="#d1410c", linewidth=1.5)
    axes.set_ylim(0, max(mb for _, mb in rows) * 1.25)
    axes.set_xlabel("minutes")
    axes.set_ylabel("RSS, MB")
    axes.set_title(f"Memory while {3 * capacity:,.0f} photos/s are offered, three times the capacity", fontsize=10,
                   loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


def fairness(arguments, figures):
    """A caller that asks for one photo after the other, alone and beside one that has a thousand in the queue."""
    server = Server(arguments.model, ["--queue-capacity", str(4 * GREEDY), *arguments.server_flags])
    try:
        polite = ("--in-flight", 1, "--client", "polite")
        alone = result(load(server, arguments, arguments.seconds, *polite))
        crowds = {"a greedy caller's 1000 requests": (), "1000 requests of bulk work": ("--bulk",)}
        for name, more in crowds.items():
            greedy = [load(server, arguments, arguments.seconds + 3, "--in-flight", GREEDY // 2, "--client",
                           "greedy", *more) for _ in range(2)]
            time.sleep(2)
            beside = result(load(server, arguments, arguments.seconds, *polite))
            crowd = [result(generator) for generator in greedy]
            for key in ("p50_ms", "p99_ms"):
                show(f"{key[:3]} of a polite caller beside {name}, ms", f"{beside[key]:.1f}", f"alone {alone[key]:.1f}")
            show(f"p50 of {name}, ms", f"{statistics.median(row['p50_ms'] for row in crowd):.0f}")
            figures[name] = {"alone": alone, "beside": beside, "crowd": crowd}
    finally:
        server.stop()


def main():
    arguments = parse_arguments()
    server = Server(arguments.model, arguments.server_flags)
    figures = {"machine": machine.describe(), "model": pathlib.Path(arguments.model or "embedded").name}
    try:
        capacity = result(load(server, arguments, arguments.seconds, "--in-flight", IN_FLIGHT))["images_per_second"]
        show("capacity, photos/s", f"{capacity:.1f}")

        rounds = []
        for i in range(arguments.rounds):
            say(f"goodput: round {i + 1} of {arguments.rounds} ")
            rounds.append({f"{times}x": result(load(server, arguments, arguments.seconds, "--rate", times * capacity,
                                                    "--seed", i + 1)) for times in (1, 3)})
        say("")
        once, thrice = ([r[key] for r in rounds] for key in ("1x", "3x"))
        goodput = {key: statistics.median(r[key]["images_per_second"] for r in rounds) for key in ("1x", "3x")}
        show("goodput at 1x, photos/s", f"{goodput['1x']:.1f}")
        show("goodput at 3x, photos/s", f"{goodput['3x']:.1f}")
        show("goodput at 3x / at 1x", f"{goodput['3x'] / goodput['1x']:.3f}", ">= 0.95")
        refusal = statistics.median(r["refusal_p99_ms"] for r in thrice)
        show("refusals at 3x, each second", f"{statistics.median(r['refusals'] / r['seconds'] for r in thrice):.0f}")
        show("refusal p50 at 3x, ms", f"{statistics.median(r['refusal_p50_ms'] for r in thrice):.2f}")
        show("refusal p99 at 3x, ms", f"{refusal:.1f}", "<= 20")
        left = {key: machine.cores() - statistics.median(generator_cores(r[key]) for r in rounds) for key in goodput}
        show("cores that the load generator takes at 1x, at 3x",
             " ".join(f"{machine.cores() - left[key]:.2f}" for key in goodput))
        show("goodput for each core that is left, at 3x / at 1x",
             f"{goodput['3x'] / left['3x'] / (goodput['1x'] / left['1x']):.3f}")
        figures |= {"capacity": capacity, "goodput_1x": once, "goodput_3x": thrice}

        if arguments.minutes > 0:
            rows, answer = watch_memory(server, arguments, 3 * capacity)
            warm = [mb for t, mb in rows if t > min(60, arguments.minutes * 60 / 5)]
            tenth = max(1, len(warm) // 10)
            growth = statistics.median(warm[-tenth:]) / statistics.median(warm[:tenth]) - 1
            show(f"RSS after warm-up, MB ({arguments.minutes:g} minutes at 3x)", f"{statistics.median(warm[:tenth]):.0f}")
            show("RSS growth", f"{100 * growth:.1f} %", "<= 5 %")
            figures["memory"] = {"rows": [[round(t, 1), round(mb, 1)] for t, mb in rows], "growth": growth, **answer}
    finally:
        server.stop()
    fairness(arguments, figures)
    folder = ROOT / "benchmarks/results" / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"overload-{figures['model']}.json").write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.minutes > 0:
        try:
            draw(folder / f"overload-{figures['model']}.svg", rows, capacity)
        except ImportError:
            print("no plot: matplotlib is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
