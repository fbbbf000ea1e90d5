#!/usr/bin/env python3
"""Compares engines that run the same networks: forward pass only, in turns, in one run.

Each engine is a process of its own that sleeps while it is not its turn. For each variant, precision
and batch size the outputs are first checked against timm; then every engine is tried with one batch
at a time on all cores and with one batch on each core; then the better of the two (both, where they
are close) is measured in each round. int8 takes turns with bf16, which it is compared with. Results are
written after each batch size; --continue goes on where a run was interrupted. report.py turns them into
tables.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import int8  # noqa: E402
import machine  # noqa: E402

OURS = "dla-serve"
VARIANTS = ["dla34", "dla46_c", "dla46x_c", "dla60", "dla60x", "dla60x_c", "dla60_res2net",
            "dla60_res2next", "dla102", "dla102x", "dla102x2", "dla169"]
ENGINES = [OURS, "openvino", "onnxruntime", "eager", "compile"]
PRECISIONS = ["fp32", "bf16", "int8"]
CLOSE = 0.07        # settings that differ by less are both measured in each round
DISTURBED = 0.06    # cores that others may use during a measurement
# Of int8's logits, as relative L2 error: a cosine of about 0.995. Other precisions are only reported.
INT8_MOST_ERROR = 0.1
# glibc would give the activations back to the kernel after every batch; see model/memory.h.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}


class Worker:
    def __init__(self, engine, variant, precision, folder, log):
        """`folder`: of models.py, for int8 of int8.py."""
        if engine == OURS:
            model = folder / OURS if precision == "int8" else folder
            command = [str(ROOT / "build/release/bin/dla_engine_worker"), str(model), precision]
        else:
            command = [sys.executable, str(HERE / "peer.py"), engine, str(folder), precision]
        self.engine, self.variant, self.precision, self.folder = engine, variant, precision, folder
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | ({} if engine == OURS else KEEP_MEMORY))
        answer = self.read()
        if answer["ready"] != precision:
            self.close()
            raise RuntimeError(f"{engine} computes {answer['ready']} in place of {precision} here")
        self.versions = answer.get("versions", {})

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.engine} ended with {self.process.wait()}; see workers.log")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.engine}: {answer['error']}")
        return answer

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.read()

    def cell(self, batch):
        return {"engine": self.engine, "variant": self.variant, "precision": self.precision, "batch": batch}

    def check(self, batch, setting):
        """Relative L2 error of the logits against timm in float32."""
        expected = np.load(self.folder / "logits.npy")
        expected = expected[np.arange(batch) % len(expected)]
        words = () if self.engine == OURS else setting
        actual = np.array(self.ask("check", self.folder / "photos.bin", batch, *words)["logits"])
        error = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
        if self.precision == "int8" and not error <= INT8_MOST_ERROR:
            raise RuntimeError(f"{self.engine}: int8 is {error:.2f} off float32, more than {INT8_MOST_ERROR}")
        return error

    def measure(self, batch, setting, seconds):
        """What others on the machine disturb is repeated, up to twice; the least disturbed counts."""
        tries = []
        while len(tries) < 3 and (not tries or tries[-1]["other_cores"] > DISTURBED):
            began, busy = time.time(), machine.busy_seconds()
            own = machine.process_seconds(self.process.pid)
            answer = self.ask("measure", batch, *setting, seconds)
            own = machine.process_seconds(self.process.pid) - own
            others = (machine.busy_seconds() - busy - own) / (time.time() - began)
            tries.append(answer | {"other_cores": round(max(others, 0), 3)})
        return min(tries, key=lambda answer: answer["other_cores"])

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Results:
    """engine.json: replaced as a whole each time, so that it is never half written."""

    def __init__(self, path, go_on):
        self.path = path
        self.data = {"rows": [], "checks": [], "failures": []}
        if go_on and path.exists():
            self.data = json.loads(path.read_text())
            if self.data["machine"] != machine.describe():
                raise SystemExit(f"{path} was measured on another machine; use another --name")
        self.data["machine"] = machine.describe()
        self.data.setdefault("date", machine.now())
        self.data.setdefault("versions", {}).update({OURS: machine.revision()})

    def has(self, variant, precision, batch):
        cell = {"variant": variant, "precision": precision, "batch": batch}
        return any(cell.items() <= row.items() for row in self.data["rows"])

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.data, indent=1))
        new.rename(self.path)


def one_batch_size(workers, batch, settings, options, results):
    rows, checks = [], []

    def measure(worker, setting, seconds, number):
        answer = worker.measure(batch, setting, seconds)
        answer.pop("batches")
        rows.append({**worker.cell(batch), "setting": "%dx%d" % setting, "round": number, **answer})
        return answer["images_per_second"]

    chosen = []
    for worker in list(workers):
        try:
            error = worker.check(batch, settings[0])
            checks.append({**worker.cell(batch), "relative_error": error})
            rates = {each: measure(worker, each, options.seconds / 2, 0) for each in settings}
        except RuntimeError as problem:
            print(f"  {problem}", flush=True)
            results.data["failures"].append({**worker.cell(batch), "error": str(problem)})
            continue
        best = max(rates.values())
        chosen.append((worker, [each for each in settings if rates[each] > best * (1 - CLOSE)]))
    for number in range(1, options.rounds + 1):
        for worker, mine in chosen:
            for setting in mine:
                measure(worker, setting, options.seconds, number)
    results.data["rows"] += rows
    results.data["checks"] += checks
    results.save()
    for precision in dict.fromkeys(row["precision"] for row in rows):
        show({"variant": rows[0]["variant"], "precision": precision, "batch": batch},
             [row for row in rows if row["precision"] == precision],
             [check for check in checks if check["precision"] == precision])


def best_medians(rows):
    """{engine: (images/s, setting)}: the median over the rounds at each engine's best setting."""
    samples = {}
    for row in rows:
        if row["round"] > 0:
            samples.setdefault((row["engine"], row["setting"]), []).append(row["images_per_second"])
    best = {}
    for (engine, setting), values in samples.items():
        best[engine] = max(best.get(engine, (0, "")), (statistics.median(values), setting))
    return best


def show(cell, rows, checks):
    errors = {check["engine"]: check["relative_error"] for check in checks}
    best = best_medians(rows)
    ours = best.get(OURS, (0, ""))[0]
    print("{variant} {precision} batch {batch}".format(**cell), flush=True)
    for engine, (rate, setting) in best.items():
        ratio = f"{ours / rate:5.2f}" if ours and engine != OURS else "     "
        print(f"  {engine:12} {rate:8.1f} images/s  {setting:>5}  ours/it {ratio}  "
              f"error {errors[engine]:.1e}", flush=True)


def wanted(engine, variant, precision, batch, options):
    if engine == "onnxruntime":
        return precision == "fp32"
    if precision == "int8":
        return engine in (OURS, "openvino")
    if engine == "compile":
        return variant in options.compile_variants and batch in options.compile_batches
    return True


def groups(precisions):
    """Those of a group take turns."""
    together = [each for each in precisions if each in ("bf16", "int8")]
    return [[each] for each in precisions if each not in together] + ([together] if together else [])


def words(text):
    return text.split(",")


def numbers(text):
    return [int(word) for word in text.split(",")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--name", default="latest", help="results go to benchmarks/results/NAME/FILE.json")
    parser.add_argument("--file", default="engine", choices=["engine", "engine-int8"],
                        help="a run of its own for int8 leaves engine.json as it is")
    parser.add_argument("--variants", type=words, default=VARIANTS)
    parser.add_argument("--precisions", type=words, default=PRECISIONS)
    parser.add_argument("--photos", type=pathlib.Path, default=ROOT / "tests/data/photos",
                        help="folder that int8 is calibrated on, 200 photos of it at most")
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--engines", type=words, default=ENGINES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--compile-variants", type=words, default=["dla34", "dla46_c", "dla60x"],
                        help="torch.compile takes a minute for each variant and batch size")
    parser.add_argument("--compile-batches", type=numbers, default=[8])
    parser.add_argument("--quick", action="store_true", help="two variants, two batch sizes, short")
    parser.add_argument("--continue", action="store_true", dest="go_on",
                        help="keep what engine.json has and measure the rest")
    options = parser.parse_args()
    if options.quick:
        options.variants, options.batches = ["dla34", "dla46_c"], [1, 8]
        options.engines = [each for each in options.engines if each != "compile"]
        options.rounds, options.seconds = 2, 0.5
    for name, known in ((options.variants, VARIANTS), (options.engines, ENGINES),
                        (options.precisions, PRECISIONS)):
        for each in name:
            if each not in known:
                parser.error(f"unknown \"{each}\"; there are {', '.join(known)}")
    return options


def main():
    options = parse()
    folders = ROOT / "build/bench/models"
    subprocess.run([sys.executable, HERE / "models.py", folders, *options.variants], check=True)
    if "int8" in options.precisions:
        subprocess.run([sys.executable, HERE / "int8.py", folders, options.photos, ",".join(options.engines),
                        *options.variants], check=True)
    results = Results(ROOT / "benchmarks/results" / options.name / f"{options.file}.json", options.go_on)
    count = machine.cores()
    settings = sorted({(1, count), (count, 1)})
    todo = [(variant, precisions, batch)
            for variant in options.variants
            for precisions in groups(options.precisions)
            for batch in options.batches
            if not (options.go_on and all(results.has(variant, each, batch) for each in precisions))]
    began = time.time()
    workers, running = [], None
    with open(ROOT / "build/bench/workers.log", "w") as log:
        try:
            for number, (variant, precisions, batch) in enumerate(todo):
                if running != (variant, precisions):
                    while workers:
                        workers.pop().close()
                    running = (variant, precisions)
                    for precision, engine in itertools.product(precisions, options.engines):
                        folder = (int8.folder_of(folders, variant, options.photos) if precision == "int8"
                                  else folders / variant)
                        batches = [each for each in options.batches
                                   if wanted(engine, variant, precision, each, options)]
                        try:
                            if batches:
                                workers.append(Worker(engine, variant, precision, folder, log))
                                results.data["versions"].update(workers[-1].versions)
                        except RuntimeError as problem:
                            print(f"  {problem}", flush=True)
                            results.data["failures"] += [
                                {"engine": engine, "variant": variant, "precision": precision, "batch": each,
                                 "error": str(problem)} for each in batches]
                now = [worker for worker in workers
                       if wanted(worker.engine, variant, worker.precision, batch, options)]
                one_batch_size(now, batch, settings, options, results)
                left = (time.time() - began) / (number + 1) * (len(todo) - number - 1)
                print(f"  {number + 1} of {len(todo)}, about {left / 60:.0f} min left", flush=True)
        finally:
            while workers:
                workers.pop().close()
    print(f"wrote {results.path}")


if __name__ == "__main__":
    main()
