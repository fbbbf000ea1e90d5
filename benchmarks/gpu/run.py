#!/usr/bin/env python3
"""Measures dla-serve on a GPU: forward pass against PyTorch, the whole server, and the parity of its logits.

  run.py --out FOLDER [--device cuda] [--parts parity,forward,served]   FOLDER/gpu.json, README.md and plots
  run.py --out FOLDER --smoke --device cpu                              tries every line without a GPU
  run.py --out FOLDER --minutes 9                                       ends by itself; --continue goes on

Needs Python 3.10, PyTorch, timm, and the folder that `benchmarks/gpu/pack` makes, which holds this file, too.
What is done is written after each figure, so a run that is cut off leaves valid JSON. README.md beside this
file tells what the figures mean.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402

OURS = "dla-serve"
MUST = ["dla34", "dla60", "dla102", "dla60x", "dla46_c"]  # what users ask for first
VARIANTS = MUST + ["dla46x_c", "dla60x_c", "dla60_res2net", "dla60_res2next", "dla102x", "dla102x2", "dla169"]
KINDS = ["device", "host", "sync_device", "sync_host"]
BOUND = 5e-3  # of the relative error of logits, fp16 against float32


def say(*words):
    print(*words, flush=True)


class Clock:
    """The time that is left; a part that would not fit is not begun."""

    def __init__(self, minutes):
        self.end = time.monotonic() + minutes * 60 if minutes else float("inf")

    def over(self, seconds=0.0):
        return time.monotonic() + seconds > self.end


class Results:
    """gpu.json: replaced as a whole each time, so that it is never half written."""

    def __init__(self, folder, before):
        self.path = folder / "gpu.json"
        self.data = {"rows": [], "compiled": [], "parity": [], "served": [], "limits": [], "failures": [], "states": [], "metrics": []}
        if before and before.exists():
            self.data |= json.loads(before.read_text())
            # What failed is tried again.
            self.data["failures"] = []
        self.data.setdefault("date", machine.now())
        self.data["machine"] = machine.describe()
        self.data.setdefault("versions", {})
        folder.mkdir(parents=True, exist_ok=True)
        self.save()

    def has(self, list_name, **fields):
        return any(fields.items() <= row.items() for row in self.data[list_name])

    def add(self, list_name, row):
        self.data[list_name].append(row)
        self.save()

    def failed(self, what, problem):
        say(f"  {what}: {problem}")
        self.add("failures", {"what": what, "error": str(problem)[-2000:]})

    def save(self):
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.data, indent=1))
        new.replace(self.path)


# --- Processes that are asked by lines


class Worker:
    """A process that answers each line with a JSON object. It is given up, and killed, after `patience` seconds."""

    def __init__(self, name, command, environment, log):
        self.name, self.log = name, log
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log, text=True, env=os.environ | environment)
        self.about = self.read(300)

    def read(self, patience):
        signal.signal(signal.SIGALRM, self.give_up)
        signal.alarm(max(int(patience), 1))
        try:
            line = self.process.stdout.readline()
        finally:
            signal.alarm(0)
        if not line:
            end = pathlib.Path(self.log.name).read_text(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}: {' '.join(end)[-800:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def give_up(self, *_):
        self.process.kill()

    def ask(self, *words, patience=120):
        print(*words, file=self.process.stdin, flush=True)
        return self.read(patience)

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(20)
        except (subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Setting:
    """Where things are and how they are started."""

    def __init__(self, options):
        self.options = options
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.log = open(self.work / "workers.log", "w")  # noqa: SIM115: as long as the run
        self.cuda = options.device.startswith("cuda")
        self.device = "cuda:0" if options.device == "cuda" else options.device

    def libraries(self):
        """What the loader searches: the carried libraries, then those of the machine's PyTorch."""
        import torch

        site = pathlib.Path(torch.__file__).resolve().parent.parent
        found = [self.options.pack / "lib", site / "torch/lib", *sorted(set(site.glob("nvidia/*/lib")))]
        return ":".join(str(path) for path in found if path.is_dir())

    def environment(self):
        before = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": self.libraries() + (f":{before}" if before else "")}

    def program(self, name):
        return self.options.pack / "bin" / name

    def model(self, variant):
        return self.work / "models" / variant

    def ours(self, folder, precision=None):
        most = [max(self.options.batches), self.options.card_replicas] if self.cuda else []
        return Worker(OURS, [self.program("dla_engine_worker"), folder, precision or self.options.precision, self.device, *most],
                      self.environment(), self.log)

    def peer(self, variant):
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(self.options.cache / "inductor"),
                  "TRITON_CACHE_DIR": str(self.options.cache / "triton"), "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}
        return Worker("PyTorch", [sys.executable, HERE / "peer.py", self.model(variant), self.device,
                                  self.options.compile_mode], caches, self.log)


def make_models(setting, variants):
    missing = [variant for variant in variants if not setting.model(variant).exists()]
    if not missing:
        return
    say(f"==> Making {', '.join(missing)} with random weights")
    script = next(path for path in (HERE / "models.py", HERE.parent / "engine/models.py") if path.exists())
    subprocess.run([sys.executable, script, setting.work / "models", *missing], check=True)


def embedded_model(setting):
    """A folder as make_models makes them, of the model that ships with the server; real photos where Pillow is."""
    folder = setting.work / "models/flowers5"
    if folder.exists():
        return folder
    import timm
    import torch
    from safetensors.torch import load_file

    sys.path[:0] = [str(HERE), str(HERE.parent / "engine")]
    import models

    source = setting.options.pack / "flowers5"
    config = json.loads((source / "config.json").read_text())
    network = timm.create_model(config["architecture"], num_classes=config["num_classes"])
    network.load_state_dict(load_file(source / "model.safetensors"))
    pixels = models.photos(models.PHOTOS)
    try:
        from PIL import Image

        found = [Image.open(path).convert("RGB").resize((models.SIZE, models.SIZE))
                 for path in sorted(setting.options.photos.glob("*.jpg"))]
        pixels = torch.from_numpy(np.stack([np.asarray(photo) for photo in found]))
    except (ImportError, ValueError) as problem:
        say(f"  flowers5 is tried on synthetic pictures: {problem}")
    new = folder.with_name("flowers5.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    with torch.no_grad():
        logits = models.FromPixels(network.eval())(pixels)
    pixels.numpy().tofile(new / "photos.bin")
    np.save(new / "logits.npy", logits.numpy())
    new.rename(folder)
    return folder


def relative_error(folder, logits):
    expected = np.load(folder / "logits.npy")
    actual = np.array(logits)
    expected = expected[np.arange(len(actual)) % len(expected)]
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def state_of_gpu():
    """Clocks and heat, which explain what changes between two rows."""
    fields = "name,driver_version,temperature.gpu,power.draw,power.limit,clocks.sm,clocks.mem,clocks_event_reasons.active"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"], check=True,
                              capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(fields.split(","), (word.strip() for word in done.stdout.splitlines()[0].split(","))))


# --- Parity


def parity(setting, results, clock):
    """Logits against timm's in float32, also of batches that are padded."""
    options = setting.options
    for variant in [*options.variants, "flowers5"]:
        if results.has("parity", variant=variant, precision=options.precision):
            continue
        if clock.over(20):
            return
        try:
            if variant != "flowers5":
                make_models(setting, [variant])
            folder = setting.model(variant) if variant != "flowers5" else embedded_model(setting)
            worker = setting.ours(folder)
        except Exception as problem:
            results.failed(f"parity of {variant}", problem)
            continue
        try:
            errors = {count: relative_error(folder, worker.ask("check", folder / "photos.bin", count)["logits"])
                      for count in options.parity_batches}
            worst = max(errors.values())
            results.add("parity", {"variant": variant, "precision": options.precision, "device": worker.about.get("device"),
                                   "engine": worker.about.get("engine"), "relative_error": worst,
                                   "by_batch": {str(count): error for count, error in errors.items()}, "bound": BOUND})
            say(f"  {variant:15} {options.precision} relative L2 of the logits {worst:.1e}"
                f"{'' if worst <= BOUND else '  OVER THE BOUND'}")
        except Exception as problem:
            results.failed(f"parity of {variant}", problem)
        finally:
            worker.close()


# --- Forward pass alone


class Forward:
    def __init__(self, setting, results, clock):
        self.setting, self.options, self.results, self.clock = setting, setting.options, results, clock

    def run(self):
        options = self.options
        first = [variant for variant in options.variants if variant in MUST]
        rest = [variant for variant in options.variants if variant not in MUST]
        few = [batch for batch in options.batches if batch in options.compile_batches]
        others = [batch for batch in options.batches if batch not in few]
        # What matters most comes first: a run may be cut off.
        for variants, batches in ((first, few), (first, others), (rest, few), (rest, others)):
            for variant in variants:
                self.variant(variant, batches)
                if self.clock.over():
                    return

    def variant(self, variant, batches):
        todo = [batch for batch in batches
                if not all(self.results.has("rows", variant=variant, batch=batch, engine=engine, round=self.options.rounds)
                           for engine in self.engines(batch))]
        if not todo or self.clock.over(15):
            return
        say(f"{variant}")
        make_models(self.setting, [variant])
        workers = {}
        for name, wanted, start in ((OURS, OURS in self.options.engines, lambda: self.setting.ours(self.setting.model(variant))),
                                    ("peer", {"compile", "eager"} & set(self.options.engines), lambda: self.setting.peer(variant))):
            try:
                if wanted:
                    workers[name] = start()
            except Exception as problem:
                self.results.failed(f"start of {name} for {variant}", problem)
        if not workers:
            return
        if "peer" in workers:
            self.results.data["versions"].update(workers["peer"].about)
        try:
            for batch in todo:
                if self.clock.over(10):
                    return
                self.batch(workers, variant, batch)
        finally:
            for worker in workers.values():
                worker.close()
            state = state_of_gpu()
            if state:
                self.results.add("states", {"after": variant, **state})

    def engines(self, batch):
        compiled = batch in self.options.compile_batches
        return [engine for engine in self.options.engines if engine != "compile" or compiled]

    def batch(self, workers, variant, batch):
        cells = []  # (engine, kind, replicas, how it is asked)
        cell = {"variant": variant, "batch": batch}
        for engine in self.engines(batch):
            worker = workers.get(OURS if engine == OURS else "peer")
            if worker is None or worker.process.poll() is not None:
                continue
            try:
                if engine == OURS:
                    for replicas in self.replicas(worker, batch):
                        cells.append((engine, "host", replicas, worker))
                else:
                    if engine == "compile" and self.clock.over(self.options.compile_seconds):
                        say(f"  {variant} batch {batch}: no time left for torch.compile")
                        continue
                    took = worker.ask("prepare", engine, batch, patience=self.options.patience)["seconds"]
                    if engine == "compile":
                        self.results.add("compiled", {**cell, "seconds": took})
                    kinds = KINDS if batch in self.options.latency_batches else KINDS[:2]
                    cells += [(engine, kind, 1, worker) for kind in kinds]
            except Exception as problem:
                self.results.failed(f"{engine} {variant} batch {batch}", problem)
        rows = []
        for number in range(1, self.options.rounds + 1):
            for engine, kind, replicas, worker in cells:
                if worker.process.poll() is not None:
                    continue
                seconds = self.options.seconds
                words = (batch, replicas, 1, seconds) if engine == OURS else (engine, batch, kind, seconds)
                try:
                    answer = worker.ask("measure", *words, patience=60 + 20 * seconds)
                except Exception as problem:
                    self.results.failed(f"{engine} {variant} batch {batch} {kind}", problem)
                    continue
                rate = answer["images_per_second"]
                rows.append({"engine": engine, **cell, "kind": kind, "replicas": replicas, "round": number,
                             "images_per_second": rate, "batch_ms": batch * replicas / rate * 1e3})
        self.results.data["rows"] += rows
        self.results.save()
        self.show(variant, batch, rows)

    def replicas(self, worker, batch):
        """One, for its latency, and the number with the most images/s."""
        rates = {replicas: worker.ask("measure", batch, replicas, 1, self.options.seconds / 2)["images_per_second"]
                 for replicas in self.options.replicas}
        best = max(rates, key=rates.get)
        return sorted({1, best}) if batch in self.options.latency_batches else [best]

    @staticmethod
    def show(variant, batch, rows):
        best = {}
        for row in rows:
            best.setdefault((row["engine"], row["kind"], row["replicas"]), []).append(row["images_per_second"])
        line = [f"{engine} {kind}{f' x{replicas}' if replicas > 1 else ''} {statistics.median(rates):.0f}"
                for (engine, kind, replicas), rates in best.items()]
        say(f"  {variant} batch {batch}, images/s: {', '.join(line)}")


# --- The whole server


class Server:
    """dla-server on ports of its choice, with one model."""

    def __init__(self, setting, variant, flags):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", dir=setting.work, delete=False)
        command = [setting.program("dla-server"), "--model", f"{variant}={setting.model(variant)}",
                   "--device", setting.options.device, "--precision", setting.options.precision,
                   "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0",
                   "--allow-shared-memory", "true", "--calibration-cache", "off", "--page", "false",
                   # What a benchmark keeps in flight is no flood.
                   "--queue-capacity", 8192, "--max-requests-in-flight", 16384,
                   "--max-bytes-in-flight", 8 << 30, "--max-pixels-in-flight", 1 << 34, "--max-receive-bytes", 8 << 30,
                   "--model-max-requests-in-flight", 16384, "--model-max-bytes-in-flight", 8 << 30,
                   "--model-max-pixels-in-flight", 1 << 34, *flags]
        self.process = subprocess.Popen([str(word) for word in command], stderr=self.log,
                                        env=os.environ | setting.environment())
        end = time.monotonic() + setting.options.patience
        while not (ready := re.search(r" ready grpc=(\S+) http=\S+ metrics=(\S+)", self.text())):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"dla-server did not start: {self.text()[-1500:]}")
            time.sleep(0.05)
        self.grpc, self.metrics = ready.groups()
        self.plan = [line.split(" ", 2)[-1] for line in self.text().splitlines()
                     if " loaded " in line or " plan " in line or "decod" in line]

    def text(self):
        return pathlib.Path(self.log.name).read_text()

    def gpu_metrics(self):
        """What /metrics tells of the GPU and of the stages of a batch."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError as problem:
            return [str(problem)]
        return [line for line in lines if re.match(r"dla_gpu_|dla_\w+_seconds_(sum|count)", line) and "_bucket{" not in line]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Served:
    def __init__(self, setting, results, clock):
        self.setting, self.options, self.results, self.clock = setting, setting.options, results, clock
        done = subprocess.run([setting.program("dla-server"), "--help"], capture_output=True, text=True,
                              env=os.environ | setting.environment())
        if done.returncode != 0:
            raise RuntimeError(f"dla-server does not start: {done.stderr.strip()}")
        self.help = done.stdout

    def run(self):
        for variant in self.options.served_variants:
            make_models(self.setting, [variant])
            self.pixels(variant)
            for decoder in self.options.decoders:
                self.photos(variant, decoder)
            if not self.clock.over(15):
                self.limit(variant)

    def measure(self, server, keys, load):
        command = [self.setting.program("dla_load_generator"), "--model", keys["variant"], "--server-pid", server.process.pid,
                   "--warm-up", self.options.warm_up, "--seconds", self.options.served_seconds, *load]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                              timeout=120 + self.options.served_seconds, env=os.environ | self.setting.environment())
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-1000:])
        row = json.loads(done.stdout) | keys  # in_flight: photos, not requests
        self.results.add("served", row)
        say(f"  {keys['variant']} {keys['input']} {keys['in_flight']} in flight: {row['images_per_second']:.0f} images/s, "
            f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, server {row['server_cpu_s_per_1000']:.2f} s CPU/1000, "
            f"generator {row['generator_cpu_s_per_1000']:.2f}" + (f", {row['errors']} ERRORS: {row['first_error']}" if row["errors"] else ""))

    def loads(self, variant, what, flags, loads):
        """One server, several loads: [(keys, words)], in which None stands for the server's address."""
        loads = [(keys, words) for keys, words in loads
                 if not self.results.has("served", variant=variant, **keys, round=self.options.served_rounds)]
        if not loads or self.clock.over(20):
            return
        try:
            server = Server(self.setting, variant, [*self.options.server_flags, *flags])
        except Exception as problem:
            self.results.failed(f"server of {variant}, {what}", problem)
            return
        try:
            self.card_limit(variant, server)
            for number in range(1, self.options.served_rounds + 1):
                for keys, words in loads:
                    if self.clock.over(self.options.served_seconds + self.options.warm_up + 5):
                        return
                    row = {"variant": variant, **keys, "round": number, "flags": flags, "log": server.plan}
                    try:
                        self.measure(server, row, [server.grpc if word is None else word for word in words])
                    except Exception as problem:
                        self.results.failed(f"load on {variant}, {keys['input']}", f"{problem}; log: {server.text()[-1000:]}")
            self.results.add("metrics", {"variant": variant, "what": what, "lines": server.gpu_metrics()})
        finally:
            server.stop()

    def pixels(self, variant):
        # 256 is what 224 / crop_pct 0.875 resizes to: the server has to crop, and nothing else.
        each = self.options.photos_per_request
        words = ["--pixels", None, "--side", 256, "--photos-per-request", each, "--connections", self.options.connections]
        loads = []
        for in_flight in self.options.in_flight:
            requests = max(in_flight // each, 1)
            for what, memory in (("pixels, shared memory", ["--shared-memory"]), ("pixels", [])):
                loads.append(({"input": what, "in_flight": requests * each}, [*words, *memory, "--in-flight", requests]))
        self.loads(variant, "pixels", [], loads)

    def photos(self, variant, decoder):
        if "--decoder" not in self.help and decoder != "cpu":
            return
        flags = ["--decoder", decoder] if "--decoder" in self.help else []
        words = ["--dla", None, "--photos", self.options.photos, "--connections", self.options.connections]
        loads = [({"input": f"JPEG, {decoder}", "in_flight": in_flight}, [*words, "--in-flight", in_flight])
                 for in_flight in sorted({min(in_flight, 512) for in_flight in self.options.in_flight})]
        self.loads(variant, f"JPEG, {decoder}", flags, loads)

    def card_limit(self, variant, server):
        """What nvJPEG decodes, as the server measured it to choose its decoder."""
        found = [int(rate) for line in server.plan for name, rate in re.findall(r'([^,;"=]+) (\d+) photos/s', line)
                 if name.strip() != "cpu"]
        if found and not self.results.has("limits", variant=variant, decoder="nvjpeg"):
            self.results.add("limits", {"variant": variant, "decoder": "nvjpeg", "decode_images_per_second": max(found)})

    def limit(self, variant):
        """CPU time of decoding one photo, on all cores at once."""
        if self.results.has("limits", variant=variant, decoder="cpu"):
            return
        command = [self.setting.program("dla_limit"), "--photos", self.options.photos, "--model", self.setting.model(variant),
                   "--precision", "fp32", "--seconds", min(self.options.served_seconds, 3)]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | self.setting.environment())
        if done.returncode != 0:
            self.results.failed(f"limit of {variant}", done.stderr.strip())
            return
        limit = json.loads(done.stdout)
        limit["decode_images_per_second"] = machine.cores() / limit["decode_cpu_s"]
        self.results.add("limits", {"variant": variant, "decoder": "cpu", **limit})
        say(f"  decoding alone, {machine.cores()} cores: {limit['decode_images_per_second']:.0f} images/s")


# --- What is to be done


def words(text):
    return [word for word in text.split(",") if word]


def numbers(text):
    return [int(word) for word in words(text)]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=pathlib.Path, required=True, help="folder of the results")
    add("--pack", type=pathlib.Path, help="what benchmarks/gpu/pack made (where this file lies in it: there)")
    add("--work", type=pathlib.Path, help="folder for models and logs (default: work/ beside the pack)")
    add("--cache", type=pathlib.Path, help="what torch.compile keeps, for the next run (default: in --work)")
    add("--photos", type=pathlib.Path, help="folder of .jpg photos (default: those of the pack)")
    add("--device", default="cuda", help="cuda, cuda:N or cpu")
    add("--precision", help="of dla-serve (default: fp16; fp32 on a CPU)")
    add("--parts", type=words, default=["parity", "forward", "served"])
    add("--variants", type=words, default=VARIANTS)
    add("--batches", type=numbers, default=[256, 1, 128, 64, 32, 16, 8, 4, 2])
    add("--engines", type=words, default=[OURS, "compile", "eager"])
    add("--compile-batches", type=numbers, default=[256, 1], help="each takes a minute or more for each variant")
    add("--compile-mode", default="max-autotune")
    add("--compile-seconds", type=float, default=120, help="torch.compile is not begun with less time left")
    add("--latency-batches", type=numbers, default=[1])
    add("--replicas", type=numbers, default=[1, 2, 4], help="batches of dla-serve at a time; the best number is measured")
    add("--card-replicas", type=int, default=2, help="of dla-serve on a GPU, with two batches under way each")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=0.5, help="of each measurement")
    add("--parity-batches", type=numbers, default=[1, 3, 4, 8])
    add("--served-variants", type=words, default=["dla34", "dla46_c"])
    add("--decoders", type=words, default=["nvjpeg", "cpu"])
    add("--in-flight", type=numbers, default=[256, 512, 2048], help="photos; at most 512 with one photo a request")
    add("--photos-per-request", type=int, default=16, help="of raw pixels")
    add("--connections", type=int, default=4)
    add("--served-rounds", type=int, default=2)
    add("--served-seconds", type=float, default=4)
    add("--warm-up", type=float, default=1)
    add("--server-flags", type=words, default=[], help="more flags of dla-server, separated by commas")
    add("--patience", type=float, default=420, help="seconds for a compilation, or for the server to be ready")
    add("--minutes", type=float, default=0, help="nothing is begun that would not end by then; 0: no limit")
    add("--continue", type=pathlib.Path, dest="go_on", metavar="FILE", help="keep what this gpu.json has and measure the rest")
    add("--peer-only", action="store_true", help="PyTorch alone, without the pack")
    add("--smoke", action="store_true", help="the least of everything, to see that it runs")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    if options.pack is None:
        options.pack = HERE if (HERE / "bin").is_dir() else HERE.parents[1] / "build/gpu-bench"
    if options.smoke:
        options.variants, options.served_variants = ["dla46x_c"], ["dla46x_c"]
        options.batches, options.compile_batches, options.parity_batches = [2, 1], [1], [1, 3]
        options.rounds, options.seconds, options.replicas = 2, 0.2, [1, 2]
        options.in_flight, options.photos_per_request, options.connections = [8], 4, 2
        options.served_rounds, options.served_seconds, options.warm_up = 1, 1, 0.3
        if not cuda:
            options.compile_mode = "default"
    if not cuda:
        options.decoders = ["cpu"]
    if options.peer_only:
        options.parts = ["forward"]
        options.engines = [engine for engine in options.engines if engine != OURS]
    elif not (options.pack / "bin").is_dir():
        parser.error(f"{options.pack} holds no programs; benchmarks/gpu/pack makes that folder")
    options.pack = options.pack.resolve()
    options.precision = options.precision or ("fp16" if cuda else "fp32")
    options.work = (options.work or options.pack.parent / "gpu-bench-work").resolve()
    options.cache = (options.cache or options.work / "cache").resolve()
    photos = options.pack / "photos"
    options.photos = (options.photos or (photos if photos.is_dir() else HERE.parents[1] / "tests/data/photos")).resolve()
    for name, known in ((options.variants + options.served_variants, VARIANTS), (options.engines, [OURS, "compile", "eager"]),
                        (options.parts, ["parity", "forward", "served"]), (options.decoders, ["auto", "cpu", "nvjpeg"])):
        for each in name:
            if each not in known:
                parser.error(f"unknown \"{each}\"; there are {', '.join(known)}")
    return options


def check_pack(setting):
    """Before any time is spent: what the loader cannot find on this machine."""
    names = ["dla-server", "dla-client", "dla_engine_worker", "dla_forward_bench", "dla_load_generator", "dla_limit"]
    files = [setting.program(name) for name in names] + ([setting.program("libdla_cuda.so")] if setting.cuda else [])
    for path in files:
        if not path.exists():
            say(f"  {path} is missing")
            continue
        done = subprocess.run(["ldd", path], capture_output=True, text=True, env=os.environ | setting.environment())
        for line in (done.stdout + done.stderr).splitlines():
            if "not found" in line:
                say(f"  {path.name}: {line.strip()}")


def main():
    options = parse()
    began = time.monotonic()
    clock = Clock(options.minutes)
    setting = Setting(options)
    results = Results(options.out.resolve(), options.go_on)
    results.data["settings"] = {key: str(value) if isinstance(value, pathlib.Path) else value
                                for key, value in vars(options).items() if key not in ("out", "pack", "work", "cache", "go_on", "photos")}
    revision = options.pack / "revision"
    results.data["versions"][OURS] = revision.read_text().strip() if revision.exists() else machine.revision()
    state = state_of_gpu()
    if state:
        results.add("states", {"after": "nothing", **state})
    if not options.peer_only:
        check_pack(setting)
    parts = {"parity": parity, "forward": lambda *a: Forward(*a).run(), "served": lambda *a: Served(*a).run()}
    for part in options.parts:
        if clock.over():
            say(f"==> No time left for {part}")
            continue
        say(f"==> {part.capitalize()}")
        try:
            parts[part](setting, results, clock)
        except Exception as problem:
            results.failed(part, f"{type(problem).__name__}: {problem}")
    results.save()
    say(f"==> {results.path}, {time.monotonic() - began:.0f} s, {len(results.data['failures'])} failures")
    report = subprocess.run([sys.executable, HERE / "report.py", options.out])
    return 1 if results.data["failures"] or report.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
