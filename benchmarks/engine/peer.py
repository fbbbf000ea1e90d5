"""Runs one model folder in another engine; compare.py asks by lines on standard input.

  peer.py openvino|onnxruntime|compile|eager FOLDER fp32|bf16|int8     int8: openvino, a folder of int8.py

  check PHOTOS N STREAMS THREADS     {"logits": [[...], ...]}
  measure B STREAMS THREADS SECONDS  {"images_per_second": ..., "cpu_ms_per_image": ..., "batches": ...}

STREAMS batches run at the same time, with THREADS threads each. Between the lines the process sleeps.
"""

import gc
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np

SIZE = 224


def pixels(batch):
    return np.random.default_rng(3).integers(0, 255, (batch, SIZE, SIZE, 3), np.uint8)


def rate_of(batch, done):
    """images/s from the moments at which each stream began (first entry) and ended its batches."""
    return sum((len(times) - 1) * batch / (times[-1] - times[0]) for times in done)


class Threaded:
    """An engine that runs a batch in the thread that asks for it."""

    def start_thread(self, threads):
        """Called first by every thread that runs batches."""

    def run(self, key, x):
        raise NotImplementedError

    def check(self, x, streams, threads):
        key = self.prepare(len(x), streams, threads)
        self.start_thread(threads)
        return np.asarray(self.run(key, x))

    def measure(self, batch, streams, threads, seconds):
        key = self.prepare(batch, streams, threads)
        done = [[] for _ in range(streams)]
        cpu = []
        barrier = threading.Barrier(streams, action=lambda: cpu.append(time.process_time()))

        def work(times):
            self.start_thread(threads)
            x = pixels(batch)
            for _ in range(2):
                self.run(key, x)
            barrier.wait()
            times.append(time.perf_counter())
            while len(times) < 3 or times[-1] - times[0] < seconds:
                self.run(key, x)
                times.append(time.perf_counter())

        workers = [threading.Thread(target=work, args=(times,)) for times in done[1:]]
        for worker in workers:
            worker.start()
        work(done[0])
        for worker in workers:
            worker.join()
        return done, time.process_time() - cpu[0]


class Eager(Threaded):
    """Plain LibTorch: channels-last, no compiler."""

    def __init__(self, folder, precision):
        import torch

        import models

        self.torch = torch
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.network = models.FromPixels(models.load(folder), dtype).eval()

    def start_thread(self, threads):
        self.torch.set_num_threads(threads)
        self.torch.set_grad_enabled(False)

    def prepare(self, batch, streams, threads):
        return None

    def run(self, key, x):
        return self.network(self.torch.from_numpy(x)).numpy()


class Compiled(Eager):
    """torch.compile with inductor and freezing, compiled anew for each batch size and thread count.

    What it compiles is not to be run by two threads, so each further stream is a process of its own.
    """

    def __init__(self, folder, precision):
        super().__init__(folder, precision)
        import torch._inductor.config as inductor

        inductor.freezing = True
        self.key = self.compiled = None
        self.others = []
        self.command = [sys.executable, __file__, "compile", str(folder), precision]

    def prepare(self, batch, streams, threads):
        if self.key != (batch, threads):
            self.torch._dynamo.reset()
            self.key = (batch, threads)
            self.compiled = self.torch.compile(self.network)
            self.start_thread(threads)  # the number of threads is compiled in
            self.run(None, pixels(batch))
        return None

    def run(self, key, x):
        return self.compiled(self.torch.from_numpy(x)).numpy()

    def measure(self, batch, streams, threads, seconds):
        self.prepare(batch, 1, threads)
        while len(self.others) < streams - 1:
            self.others.append(subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                                stdout=subprocess.PIPE, text=True))
            self.others[-1].stdout.readline()
        others = self.others[:streams - 1]
        # First so that all have compiled, then at the same time.
        if others:
            self.ask(others, batch, threads, 0)
        for other in others:
            self.tell(other, batch, threads, seconds)
        done, cpu = super().measure(batch, 1, threads, seconds)
        for other in others:
            answer = json.loads(other.stdout.readline())
            done.append(answer["times"])
            cpu += answer["cpu"]
        return done, cpu

    @staticmethod
    def tell(other, *words):
        batch, threads, seconds = words
        print("times", batch, 1, threads, seconds, file=other.stdin, flush=True)

    def ask(self, others, *words):
        for other in others:
            self.tell(other, *words)
            other.stdout.readline()


class OnnxRuntime(Threaded):
    def __init__(self, folder, precision):
        if precision != "fp32":
            raise SystemExit("ONNX Runtime's CPU provider has no bf16")
        import onnxruntime

        self.ort = onnxruntime
        self.path = pathlib.Path(folder) / "model.onnx"
        if not self.path.exists():
            self.export(folder)
        self.sessions = {}

    def export(self, folder):
        import torch

        import models

        network = models.FromPixels(models.load(folder)).eval()
        example = (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),)
        torch.onnx.export(network, example, str(self.path), dynamo=True, input_names=["pixels"],
                          dynamic_shapes=[{0: torch.export.Dim("batch", max=4096)}])

    def prepare(self, batch, streams, threads):
        if threads not in self.sessions:
            options = self.ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            # Threads that spin after a batch would burn the cores of the engine measured next.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            self.sessions[threads] = self.ort.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"])
        return self.sessions[threads]

    def run(self, key, x):
        return key.run(None, {"pixels": x})[0]


class OpenVino:
    """One compiled model for each batch size and setting, with mean and scale inside the graph."""

    def __init__(self, folder, precision):
        keep_quiet()
        import openvino

        self.ov = openvino
        # Of an int8 model, what NNCF left float is computed in bf16.
        self.precision = "f32" if precision == "fp32" else "bf16"
        self.core = openvino.Core()
        self.model = (self.core.read_model(pathlib.Path(folder) / "openvino.xml") if precision == "int8"
                      else self.convert(folder))
        self.compiled = {}

    @staticmethod
    def convert(folder):
        """The network in float32 from pixels to logits, for any batch size."""
        import openvino
        import torch

        import models

        network = models.load(folder)
        example = torch.zeros(2, 3, SIZE, SIZE)
        model = openvino.convert_model(network, example_input=example, input=[-1, 3, SIZE, SIZE])
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        to_float = steps.input().preprocess().convert_element_type(openvino.Type.f32)
        to_float.mean([m * 255 for m in models.MEAN]).scale([s * 255 for s in models.STD])
        return steps.build()

    def prepare(self, batch, streams, threads):
        if any(key[0] != batch for key in self.compiled):
            self.compiled.clear()
            gc.collect()
        key = (batch, streams, threads)
        if key not in self.compiled:
            self.model.reshape([batch, SIZE, SIZE, 3])
            self.compiled[key] = self.core.compile_model(self.model, "CPU", {
                "INFERENCE_PRECISION_HINT": self.precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams * threads,
            })
        return self.compiled[key]

    def check(self, x, streams, threads):
        return self.prepare(len(x), streams, threads)(x)[0]

    def measure(self, batch, streams, threads, seconds):
        compiled = self.prepare(batch, streams, threads)
        x = pixels(batch)
        compiled(x)
        begin = time.perf_counter()
        compiled(x)
        # A second request for each stream hides what lies between two batches; that of a batch which
        # takes long does not matter.
        jobs = streams * (2 if time.perf_counter() - begin < 0.05 else 1)
        done = [[] for _ in range(jobs)]
        queue = self.ov.AsyncInferQueue(compiled, jobs)
        queue.set_callback(lambda request, job: done[job].append(time.perf_counter()))
        cpu = time.process_time()
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds or min(map(len, done)) < 3:
            job = queue.get_idle_request_id()
            queue.start_async({0: x}, job, share_inputs=True)
        queue.wait_all()
        return done, time.process_time() - cpu


ENGINES = {"openvino": OpenVino, "onnxruntime": OnnxRuntime, "compile": Compiled, "eager": Eager}


def keep_quiet():
    """OpenVINO and NNCF report their use over the network, unless this package is missing."""
    sys.modules["openvino_telemetry"] = None


def versions(name, precision):
    import importlib.metadata

    packages = {"openvino": ["openvino"], "onnxruntime": ["onnxruntime"]}.get(name, ["torch"])
    if precision == "int8":
        packages.append("nncf")
    return {each: importlib.metadata.version(each) for each in packages}


def main():
    name, folder, precision = sys.argv[1:]
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if precision == "int8" and name != "openvino":
        raise SystemExit("int8 is compared with OpenVINO alone")
    engine = ENGINES[name](folder, precision)

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    answer({"ready": precision, "versions": versions(name, precision)})
    for line in sys.stdin:
        command, *words = line.split()
        try:
            if command == "check":
                stored = np.fromfile(words[0], np.uint8).reshape(-1, SIZE, SIZE, 3)
                x = stored[np.arange(int(words[1])) % len(stored)]
                logits = engine.check(np.ascontiguousarray(x), int(words[2]), int(words[3]))
                answer({"logits": logits.tolist()})
                continue
            batch, streams, threads = map(int, words[:3])
            done, cpu = engine.measure(batch, streams, threads, float(words[3]))
            if command == "times":  # of one stream, for a process that sums them up
                answer({"times": done[0], "cpu": cpu})
            else:
                answer({"images_per_second": rate_of(batch, done),
                        "cpu_ms_per_image": cpu * 1e3 / (batch * count(name, done)),
                        "batches": count(name, done)})
        except Exception as error:  # one cell of the table fails, not the run
            answer({"error": f"{type(error).__name__}: {error}"})


def count(name, done):
    """Batches within the CPU time that was taken."""
    first = 0 if name == "openvino" else 1  # the others note when they began, too
    return sum(len(times) - first for times in done)


if __name__ == "__main__":
    main()
