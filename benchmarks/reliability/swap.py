#!/usr/bin/env python3
"""What a model swap costs the callers: failed requests, and p50 and p99 before, during and after swaps under
a steady open-loop load of half of what the server can do.

    benchmarks/reliability/swap.py [--swaps 20] [--load 0.5]

Needs the release build (dla-server) and the tests' Python packages. A swap is what an operator does: a new
version folder, RepositoryModelLoad, the old folder deleted. "During" are the requests that were due between the
begin of a load and its end.
"""

import argparse
import asyncio
import pathlib
import random
import sys
import tempfile
import threading
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/chaos"))
import clients  # noqa: E402
import model_operator  # noqa: E402
from serving import PHOTOS, Server  # noqa: E402

MODEL = model_operator.SWAPPED


class Load:
    """Open loop: requests at random (Poisson) times that do not depend on the answers. Latency counts from the
    time at which a request was due."""

    def __init__(self, address, seed):
        self.address, self.dice = address, random.Random(seed)
        self.photos = [path.read_bytes() for path in PHOTOS]
        self.samples = []  # (due, seconds, code)

    async def ask(self, call, request, due):
        try:
            await call(request)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        self.samples.append((due, time.monotonic() - due, code))

    async def run(self, rate, stop):
        async with grpc.aio.insecure_channel(self.address) as channel:
            message, answer = clients.messages()["ClassifyRequest"], clients.messages()["ClassifyResponse"]
            call = channel.unary_unary("/dla.v1.Classifier/Classify",
                                       request_serializer=message.SerializeToString,
                                       response_deserializer=answer.FromString)
            requests = [message(model=MODEL, image=photo, top_k=1) for photo in self.photos]
            tasks, due, i = set(), time.monotonic(), 0
            while not stop.is_set():
                due += self.dice.expovariate(rate)
                await asyncio.sleep(max(0, due - time.monotonic()))
                task = asyncio.create_task(self.ask(call, requests[i % len(requests)], due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                i += 1
            await asyncio.gather(*tasks)


def closed_loop(address, seconds, in_flight=16):
    """Photos a second, with the clients beside the server on the same cores."""
    photo, count, end = PHOTOS[0].read_bytes(), [0], time.monotonic() + seconds

    async def run():
        async with grpc.aio.insecure_channel(address) as channel:
            message = clients.messages()["ClassifyRequest"]
            call = channel.unary_unary("/dla.v1.Classifier/Classify",
                                       request_serializer=message.SerializeToString)

            async def one():
                while time.monotonic() < end:
                    await call(message(model=MODEL, image=photo, top_k=1))
                    count[0] += 1

            await asyncio.gather(*[one() for _ in range(in_flight)])

    asyncio.run(run())
    return count[0] / seconds


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] * 1000 if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--load", type=float, default=0.5, help="share of the capacity")
    parser.add_argument("--rate", type=float, help="requests a second instead")
    parser.add_argument("--seconds", type=float, default=15, help="before, and after")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "model/zoo/flowers5", help="folder to serve")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="dla-swap-") as work:
        folder = pathlib.Path(work)
        model_operator.make_repository(folder, options.model)
        server = Server("dla-server", "--model-repository", folder, "--model-control", "explicit",
                        "--load-model", MODEL)
        try:
            return measure(options, server, folder)
        finally:
            server.clean_up()


def measure(options, server, folder):
    closed_loop(server.grpc, 2)
    capacity = closed_loop(server.grpc, 4)
    rate = options.rate or options.load * capacity
    load, stop = Load(server.grpc, options.seed), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(load.run(rate, stop)))
    thread.start()
    time.sleep(2)
    begin = time.monotonic()
    time.sleep(options.seconds)
    repository = model_operator.Repository(server.grpc, folder, options.model)
    before_swaps, swaps = time.monotonic(), []
    for _ in range(options.swaps):
        repository.put_version(repository.version + 1)
        start = time.monotonic()
        code, message = repository.load(MODEL)
        swaps.append((start, time.monotonic()))
        if code != "OK":
            raise RuntimeError(f"the model could not be loaded: {code} {message}")
        repository.remove_version(repository.version)
        repository.version += 1
        time.sleep(0.5)
    after_swaps = time.monotonic()
    time.sleep(options.seconds)
    stop.set()
    thread.join()

    def during(due):
        return any(start <= due <= end for start, end in swaps)

    samples = [sample for sample in load.samples if sample[0] >= begin]
    parts = {
        "before": [s for s in samples if s[0] < before_swaps],
        "during": [s for s in samples if before_swaps <= s[0] < after_swaps and during(s[0])],
        "between": [s for s in samples if before_swaps <= s[0] < after_swaps and not during(s[0])],
        "after": [s for s in samples if s[0] >= after_swaps],
    }
    print(f"capacity {capacity:.0f} photos/s, load {rate:.0f} photos/s, {len(swaps)} swaps of "
          f"{1000 * sum(end - start for start, end in swaps) / len(swaps):.0f} ms on average")
    print("| requests | count | failed | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- | --- |")
    for name, part in parts.items():
        times = [seconds for _, seconds, code in part if code == "OK"]
        print(f"| {name} | {len(part)} | {sum(code != 'OK' for _, _, code in part)} | {percentile(times, .5):.1f} "
              f"| {percentile(times, .99):.1f} | {percentile(times, 1):.1f} |")
    failed = sum(code != "OK" for _, _, code in samples)
    ratio = (percentile([s[1] for s in parts["during"]], .99) / percentile([s[1] for s in parts["before"]], .99))
    print(f"failed {failed}, p99 during / before {ratio:.2f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
