#!/usr/bin/env python3
"""JPEG bytes in, five classes out: dla-server against Triton, LitServe and TorchServe, side by side.

    benchmarks/serving/run.py --name NAME [--photos FOLDER]

Installs the peers into virtual environments, makes the models, runs one server at a time in turns
(A B C, A B C, ...), and writes benchmarks/results/NAME/serving.json. README.md beside this file tells
what the fields mean.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import processes, servers  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LATENCY = ("dla-server-latency", "triton-latency")
LARGE_PHOTOS_ONLY = ("triton-reduced",)
INT8 = ("dla-server-int8", "triton-int8")  # not compared in fp32
DEFAULT_SERVERS = [
    "dla-server", "triton", "litserve", "torchserve",
    "dla-server-latency", "triton-latency", "triton-reduced",
]  # fmt: skip
RATES = (0.5, 0.7, 0.9)  # of what the same server reached at 32 in flight
MOST_DISTURBANCE = 0.06  # of a core, by other processes or other virtual machines
TRIES = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--photos", type=pathlib.Path, default=ROOT / "tests/data/photos", help="folder of ordinary .jpg photos")
    add("--name", required=True, help="folder of the results, such as the processor's name")
    add("--servers", nargs="+", choices=list(servers.SERVERS), default=DEFAULT_SERVERS)
    add("--models", nargs="+", default=["dla34", "dla46_c"])
    add(
        "--calibration", type=pathlib.Path, help="folder of a few hundred photos, for the servers in int8"
    )
    add("--file", default="serving", help="of the results: FILE.json")
    add("--in-flight", nargs="+", type=int, default=[1, 8, 32])
    add("--rounds", type=int, default=2)
    add("--first-round", type=int, default=1, help="with --append, to add rounds later")
    add("--seconds", type=float, default=10, help="measured for each row")
    add("--warm-up", type=float, default=3)
    add("--quick", action="store_true", help="one round of 3 s rows, for a first look")
    add("--no-open-loop", action="store_true")
    add("--no-large-photos", action="store_true")
    add("--no-limit", action="store_true")
    add("--no-agreement", action="store_true")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    add("--dla-flags", type=shlex.split, default=[], help="more flags of dla-server")
    add(
        "--dla-latency-flags",
        type=shlex.split,
        default=shlex.split("--optimize latency"),
        help="flags of dla-server set up for one request at a time (%(default)s)",
    )
    add("--prefix", type=shlex.split, default=[], help="command before each measuring one: taskset -c 1")
    add("--append", action="store_true", help="keep rows of other servers, models and rounds")
    add("--work", type=pathlib.Path, default=ROOT / "build" / "benchmarks")
    add("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    add("--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.warm_up = 1, 3, 1
    if not any(args.photos.glob("*.jpg")):
        parser.error(f"{args.photos} holds no .jpg")
    if set(INT8) & set(args.servers) and args.calibration is None:
        parser.error(f"{' and '.join(INT8)} want --calibration")
    return args


def say(*words):
    print(*words, flush=True)


def fail(message):
    sys.exit(f"run.py: {message}")


# --- What is needed before anything can be measured


def virtual_environment(folder, requirements):
    """The Python of a virtual environment that holds `requirements`; made anew when they changed."""
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        say(f"==> Installing {requirements.relative_to(ROOT)} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", requirements]
        if subprocess.run(pip).returncode != 0:
            fail(f"installing {requirements} failed: is there a network?")
        stamp.write_text(requirements.read_text())
    return python


def build(args):
    programs = ["dla-server", "dla-quantize", "dla_load_generator", "dla_limit"]
    if all((args.bin / program).exists() for program in programs):
        return
    say("==> Building", *programs)
    for command in (["--preset", "release"], ["--build", "--preset", "release", "--target", *programs]):
        if subprocess.run(["cmake", *command], cwd=ROOT).returncode != 0:
            fail("the build failed; script/bootstrap --tests installs what it needs")


def make_models(args, python):
    for variant in args.models:
        folder = args.work / "models" / variant
        if (folder / ".made").exists():
            continue
        say(f"==> Making {variant} with random weights")
        script = HERE / "peers" / "make_model.py"
        subprocess.run([python, script, variant, folder, "--photos", args.photos], check=True)
        (folder / ".made").touch()


def quantize_models(args, python):
    """Anew each time: who tells whether a folder is of this program and of these photos? Random weights tell
    classes apart by little, so the two networks need not agree."""
    for variant in args.models:
        folder = args.work / "models" / variant
        say(f"==> Quantising {variant}")
        for old in ("int8", "openvino-int8"):
            shutil.rmtree(folder / old, ignore_errors=True)
        command = [args.bin / "dla-quantize", folder / "timm", "--images", args.calibration, "--out", folder / "int8", "--force"]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
            fail(f"dla-quantize refused {folder / 'timm'}")
        script = HERE / "peers" / "make_int8.py"
        subprocess.run([python, script, folder, "--photos", args.calibration], check=True)


def photo_folders(args, python):
    folders = {"0.2 MP": args.photos}
    if not args.no_large_photos:
        folders["12 MP"] = args.work / "photos_12mp"
        if not folders["12 MP"].exists():
            say("==> Making photos of 4000x3000")
            script = HERE / "peers" / "make_photos.py"
            subprocess.run([python, script, args.photos, folders["12 MP"]], check=True)
    return folders


def cpu_flags():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def describe_machine():
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    interesting = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "avx512_vnni"}
    return {
        "processor": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "features": sorted(interesting & cpu_flags()),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
    }


def describe_versions(args, pythons):
    code = (
        "import json, importlib.metadata as m;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    versions = {"python": platform.python_version()}
    for python, names in pythons.items():
        found = json.loads(subprocess.check_output([python, "-c", code]))
        versions |= {name: found[name] for name in names if name in found}
    line = subprocess.run([args.bin / "dla-server", "--version"], capture_output=True, text=True)
    versions["dla-server"] = line.stdout.strip()
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"]
    line = subprocess.run(git, capture_output=True, text=True)
    versions["commit"] = line.stdout.strip() or "unknown"
    return versions


def describe_photos(folders):
    sizes = {k: [p.stat().st_size for p in f.glob("*.jpg")] for k, f in folders.items()}
    return {k: {"count": len(s), "mean_bytes": round(statistics.mean(s))} for k, s in sizes.items()}


# --- Measuring


def generate(args, server, photos, *load):
    command = [args.bin / "dla_load_generator", *server.target, "--photos", photos, *load]
    if "--answers" not in load:
        command = [*args.prefix, *command, "--server-pid", server.process.pid]
        command += ["--seconds", args.seconds, "--warm-up", args.warm_up]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise servers.ServerFailed(f"{done.stderr.strip()} (log: {server.log})")
    return json.loads(done.stdout)


def disturbance(row):
    """Cores that others took; or, if the generator itself was held up, the share of its time."""
    return max(row["other_cores"], row["stolen_cores"], abs(row["wall_s"] / row["seconds"] - 1))


class Run:
    def __init__(self, args, setting, document, path):
        self.args, self.setting, self.document, self.path = args, setting, document, path

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.document, indent=1) + "\n")
        new.replace(self.path)

    def measure(self, server, keys, folder, *load):
        """One row: of at most TRIES tries the first that was not disturbed, or the least disturbed."""
        tries = []
        while not tries or (disturbance(tries[-1]) > MOST_DISTURBANCE and len(tries) < TRIES):
            tries.append(generate(self.args, server, folder, *load))
        best = min(tries, key=disturbance)
        disturbed = disturbance(best) > MOST_DISTURBANCE
        row = {**keys, **best, "tries": len(tries), "disturbed": disturbed}
        self.document["rows"].append(row)
        self.save()
        kind = f"{row['rate_fraction']:.0%} load" if "rate_fraction" in row else f"{row['in_flight']} in flight"
        say(
            f"{row['model']:9} {row['server']:19} {row['photos']:7} {kind:13}"
            f" {row['images_per_second']:7.1f}/s  p50 {row['p50_ms']:7.1f} ms  p99 {row['p99_ms']:7.1f} ms"
            f"  {row['server_cpu_s_per_1000']:6.2f} s CPU/1000  {row['rss_mb']:5.0f} MB"
            + (f"  {row['errors']} ERRORS: {row['first_error']}" if row["errors"] else "")
            + (f"  DISTURBED {disturbance(row):.2f}" if disturbed else "")
        )
        return row

    def measure_server(self, name, variant, round_number, folders):
        args = self.args
        server = servers.start(name, self.setting, args.work / "models" / variant)
        try:
            keys = {"server": name, "model": variant, "round": round_number}
            if name not in LARGE_PHOTOS_ONLY:
                self.measure_small_photos(server, {**keys, "photos": "0.2 MP"}, folders["0.2 MP"])
            if "12 MP" in folders and name not in LATENCY:
                for in_flight in sorted({8, 32} & set(args.in_flight)):
                    row_keys = {**keys, "photos": "12 MP"}
                    self.measure(server, row_keys, folders["12 MP"], "--in-flight", in_flight)
        finally:
            processes.stop(server.process)

    def measure_small_photos(self, server, keys, folder):
        capacity = None
        for in_flight in [1] if keys["server"] in LATENCY else self.args.in_flight:
            row = self.measure(server, keys, folder, "--in-flight", in_flight)
            if in_flight == 32:
                capacity = row["images_per_second"]
        if not capacity or self.args.no_open_loop:
            return
        for fraction in RATES:
            load = ("--rate", fraction * capacity, "--seed", keys["round"])
            self.measure(server, {**keys, "rate_fraction": fraction}, folder, *load)

    def measure_limits(self, variant, folders):
        for photos, folder in folders.items():
            command = [
                *(*self.args.prefix, self.args.bin / "dla_limit", "--photos", folder),
                *("--model", self.args.work / "models" / variant / "timm"),
                *("--precision", self.setting.precision, "--seconds", min(self.args.seconds, 5)),
            ]
            output = subprocess.run([str(c) for c in command], capture_output=True, text=True)
            if output.returncode != 0:
                fail(output.stderr.strip())
            limit = {"model": variant, "photos": photos, **json.loads(output.stdout)}
            self.document["limits"].append(limit)
            self.save()
            say(
                f"{variant:9} limit               {photos:7} {limit['images_per_second']:20.1f}/s"
                f"  decode {1e3 * limit['decode_cpu_s']:.2f} ms + forward {1e3 * limit['forward_cpu_s']:.2f} ms"
                f" of CPU"
            )

    def check_agreement(self, variant, folder):
        """Runs every server once in fp32, where equal work gives equal answers."""
        setting = servers.dataclasses.replace(self.setting, precision="fp32")
        reference = None
        for name in dict.fromkeys(["dla-server", *self.args.servers]):
            if name in INT8:
                continue
            server = servers.start(name, setting, self.args.work / "models" / variant)
            try:
                answers = generate(self.args, server, folder, "--answers")
            finally:
                processes.stop(server.process)
            reference = reference or answers
            if name == "dla-server":
                continue
            same = sum(a[0]["index"] == reference[p][0]["index"] for p, a in answers.items())
            largest = max(
                abs(c["probability"] - r["probability"])
                for p, a in answers.items()
                for c, r in zip(a, reference[p])
            )
            agreement = {
                "server": name,
                "model": variant,
                "photos": len(answers),
                "same_first": same,
                "largest_difference": largest,
            }
            self.document["agreement"].append(agreement)
            say(
                f"{variant:9} {name:19} agrees with dla-server in fp32: first class {same} of {len(answers)},"
                f" largest difference of a probability {largest:.4f}"
            )
        self.save()


def print_summary(document, models):
    """Medians over the rounds without disturbed rows, and dla-server's ratio to the best peer."""

    def median(model, photos, in_flight, field):
        found = {}
        for row in document["rows"]:
            same = (row["model"], row["photos"], row.get("in_flight")) == (model, photos, in_flight)
            if same and not row["disturbed"]:
                found.setdefault(row["server"], []).append(row[field])
        return {server: statistics.median(values) for server, values in found.items()}

    for model in models:
        for photos in ("0.2 MP", "12 MP"):
            for in_flight in (1, 8, 32):
                field = "p50_ms" if in_flight == 1 else "images_per_second"
                values = median(model, photos, in_flight, field)
                ours = [v for s, v in values.items() if s.startswith("dla-server")]
                theirs = {s: v for s, v in values.items() if not s.startswith("dla-server")}
                if not ours or not theirs:
                    continue
                choose = min if field == "p50_ms" else max
                best = choose(theirs, key=theirs.get)
                say(
                    f"{model:9} {photos:7} {in_flight:2} in flight: {field} {choose(ours):.1f}, best peer"
                    f" {best} {theirs[best]:.1f}, ratio {choose(ours) / theirs[best]:.3f}"
                )


def main():
    args = parse_arguments()
    # So that the server which is running is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: fail("terminated"))
    args.work.mkdir(parents=True, exist_ok=True)
    python = virtual_environment(args.work / "venv-python", ROOT / "benchmarks" / "requirements.txt")
    triton_python = virtual_environment(
        args.work / "venv-triton", ROOT / "benchmarks" / "requirements-triton.txt"
    )
    build(args)
    make_models(args, python)
    if set(INT8) & set(args.servers):
        quantize_models(args, python)
    folders = photo_folders(args, python)

    precision = args.precision
    if precision == "auto":
        precision = "bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"
    setting = servers.Setting(
        bin=args.bin,
        work=args.work,
        python=python,
        triton_python=triton_python,
        precision=precision,
        cores=len(os.sched_getaffinity(0)),
        dla_flags=args.dla_flags,
        dla_latency_flags=args.dla_latency_flags,
    )
    pythons = {
        python: ["openvino", "litserve", "torchserve", "torch", "timm", "simplejpeg", "pillow"],
        triton_python: ["nvidia-pytriton"],
    }
    path = args.results / args.name / f"{args.file}.json"
    old = json.loads(path.read_text()) if args.append and path.exists() else {}

    def keep(kind, is_new):
        return [row for row in old.get(kind, []) if not is_new(row)]

    rounds = range(args.first_round, args.first_round + args.rounds)

    def measured_again(row):
        same_server = row["model"] in args.models and row["server"] in args.servers
        return same_server and row.get("round", rounds[0]) in rounds

    document = {
        "name": args.name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(args, pythons),
        "settings": {
            "precision": precision,
            "seconds": args.seconds,
            "warm_up": args.warm_up,
                        "dla_flags": args.dla_flags,
            "dla_latency_flags": args.dla_latency_flags,
        },
        "photos": describe_photos(folders),
        "agreement": keep("agreement", measured_again) if not args.no_agreement else old.get("agreement", []),
        "limits": keep("limits", lambda row: row["model"] in args.models and not args.no_limit),
        "rows": keep("rows", measured_again),
    }
    run = Run(args, setting, document, path)
    try:
        for variant in args.models:
            if not args.no_agreement:
                run.check_agreement(variant, args.photos)
            if not args.no_limit:
                run.measure_limits(variant, folders)
        for round_number in rounds:
            for variant in args.models:
                for name in args.servers:
                    run.measure_server(name, variant, round_number, folders)
    except servers.ServerFailed as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; what was measured is in " + str(path))
    print_summary(document, args.models)
    say(f"==> {path}")


if __name__ == "__main__":
    main()
