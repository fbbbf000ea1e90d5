"""Runs one network in PyTorch for run.py, which asks by lines on standard input.

  peer.py FOLDER cuda|cuda:N|cpu MODE     MODE as torch.compile takes it

  versions                         {"torch": ..., "gpu": ...}
  prepare ENGINE BATCH             {"seconds": ...}: compiles and warms up
  measure ENGINE BATCH KIND S      {"images_per_second": ..., "batch_ms": ..., "batches": ...}
  check ENGINE PHOTOS N            {"logits": [[...], ...]}

ENGINE: compile    torch.compile in fp16, channels-last, weights frozen so that it folds the norms
        eager      channels-last, automatic mixed precision
KIND:   device       photos lie on the device and logits stay there; one batch after the other, as fast as they go
        host         as device, with photos from the host's pinned memory and logits back to it
        sync_device  as device, each batch waited for
        sync_host    as host, each batch waited for
On a CPU both compute in float32 and all kinds are the same.
"""

import contextlib
import json
import os
import pathlib
import platform
import sys
import time

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "engine")]
import models  # noqa: E402

SIZE = models.SIZE


class Peer:
    def __init__(self, folder, device, mode):
        self.folder, self.device, self.mode = folder, torch.device(device), mode
        self.cuda = self.device.type == "cuda"
        self.dtype = torch.float16 if self.cuda else torch.float32
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = True  # measures cuDNN's algorithms, for eager
        self.ready = {}    # (engine, batch): (function, photos on the host, on the device, logits on the host)
        self.networks = {}
        self.notes = []

    def network(self, engine):
        if engine not in self.networks:
            dtype = self.dtype if engine == "compile" else torch.float32
            network = models.FromPixels(models.load(self.folder), dtype).eval()
            self.networks[engine] = network.to(self.device).to(memory_format=torch.channels_last)
        return self.networks[engine]

    def function(self, engine):
        network = self.network(engine)
        if engine == "eager":
            def eager(x):
                with torch.autocast("cuda", torch.float16) if self.cuda else contextlib.nullcontext():
                    return network(x)
            return eager
        import torch._dynamo
        import torch._inductor.config as inductor

        inductor.freezing = True
        for name in ("recompile_limit", "cache_size_limit"):  # one compilation for each batch size
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, 64)
        return torch.compile(network, mode=self.mode, dynamic=False)

    def prepare(self, engine, batch):
        key = (engine, batch)
        if key in self.ready:
            return
        pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 255, (batch, SIZE, SIZE, 3), np.uint8))
        host = pixels.pin_memory() if self.cuda else pixels
        device = host.to(self.device)
        function = self.function(engine)
        for _ in range(4):  # compile, record the graphs, replay
            logits = self.call(function, device)
        answers = torch.empty(logits.shape, dtype=torch.float32, pin_memory=self.cuda)
        self.synchronize()
        self.ready[key] = (function, host, device, answers)

    def call(self, function, x):
        if self.cuda:
            torch.compiler.cudagraph_mark_step_begin()
        return function(x)

    def synchronize(self):
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def measure(self, engine, batch, kind, seconds):
        self.prepare(engine, batch)
        function, host, device, answers = self.ready[engine, batch]
        wait, from_host = kind.startswith("sync"), kind.endswith("host")

        def once():
            x = host.to(self.device, non_blocking=True) if from_host else device
            logits = self.call(function, x)
            if from_host:
                answers.copy_(logits, non_blocking=True)
            if wait:
                self.synchronize()

        once()
        self.synchronize()
        begin = time.perf_counter()
        for _ in range(3):
            once()
        self.synchronize()
        count = max(3, int(seconds * 3 / (time.perf_counter() - begin)))
        begin = time.perf_counter()
        for _ in range(count):
            once()
        self.synchronize()
        took = time.perf_counter() - begin
        return {"images_per_second": count * batch / took, "batch_ms": took / count * 1e3, "batches": count}

    def check(self, engine, photos, count):
        stored = np.fromfile(photos, np.uint8).reshape(-1, SIZE, SIZE, 3)
        x = torch.from_numpy(stored[np.arange(count) % len(stored)]).to(self.device)
        self.prepare(engine, count)
        return self.call(self.ready[engine, count][0], x).float().cpu().tolist()

    def versions(self):
        found = {"python": platform.python_version(), "torch": torch.__version__, "mode": self.mode}
        if self.cuda:
            properties = torch.cuda.get_device_properties(self.device)
            found |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
                      "multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda,
                      "cudnn": torch.backends.cudnn.version()}
        return found


def main():
    folder, device, mode = sys.argv[1:]
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        peer = Peer(folder, device, mode)
        answer(peer.versions())
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        command, *words = line.split()
        try:
            if command == "versions":
                answer(peer.versions())
            elif command == "prepare":
                begin = time.perf_counter()
                peer.prepare(words[0], int(words[1]))
                answer({"seconds": round(time.perf_counter() - begin, 1)})
            elif command == "measure":
                answer(peer.measure(words[0], int(words[1]), words[2], float(words[3])))
            elif command == "check":
                answer({"logits": peer.check(words[0], words[1], int(words[2]))})
            else:
                answer({"error": f"unknown command: {line}"})
        except Exception as error:  # one cell of the table fails, not the run
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
