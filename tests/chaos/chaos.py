#!/usr/bin/env python3
"""Tries to break a server: good, bad, huge, impatient, slow and hostile clients over both protocols,
while models are loaded, swapped and unloaded and forward passes fail. Then checks that every promise was
kept; exits 1 if one was not.

    tests/chaos/chaos.py --minutes 10
    DLA_BIN=build/asan/bin tests/chaos/chaos.py --seconds 20 --sanitized

docs/reliability.md tells what is promised and how it is checked.
"""

import argparse
import collections
import io
import multiprocessing
import os
import pathlib
import random
import re
import statistics
import struct
import sys
import tempfile
import threading
import time
import types
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
try:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from PIL import Image

    import clients
    import hostile
    import model_operator
    from serving import PHOTOS, ROOT, Server
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

MODEL_FOLDER = ROOT / "model/zoo/flowers5"
EXACT, ROUGH, GUEST = model_operator.SWAPPED, model_operator.UNTOUCHED, model_operator.GUEST
MAX_MESSAGE_BYTES = 4 << 20
PROGRAM = "dla-chaos-server"
OWN_THREADS = PROGRAM[:15]  # as the kernel cuts it
BAD_LOG = re.compile(rb"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer|terminate called")

# Each inner list is one process. Nobody gives up a request to EXACT, so the server's counts of it must
# be equal to what its clients saw.
CAST = [
    [(clients.classify, EXACT), (clients.classify, EXACT), (clients.classify_batch, EXACT),
     (clients.classify, GUEST)],
    [(clients.model_infer, EXACT), (clients.model_infer, GUEST), (clients.model_stream_infer, EXACT)],
    [(clients.classify_stream, EXACT), (clients.classify_stream, ROUGH), (clients.model_stream_infer, ROUGH)],
    [(clients.bad_requests, EXACT), (clients.bad_requests, ROUGH), (clients.beyond_grpc, EXACT),
     (clients.huge_photos, EXACT)],
    [(clients.impatient, ROUGH), (clients.impatient, ROUGH), (clients.disconnecting, ROUGH),
     (clients.disconnecting, ROUGH), (clients.killed, ROUGH)],
    [(clients.flood, ROUGH), (model_operator.operate, EXACT)],
    [(hostile.slow_loris, EXACT), (hostile.garbage, EXACT), (hostile.storm, EXACT)],
]


def png_that_declares(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def huge_photos(megapixels):
    """A PNG and a JPEG, small in bytes."""
    side = int((megapixels * 1e6) ** 0.5)
    photos = []
    for form, options in (("PNG", {"compress_level": 1}), ("JPEG", {"quality": 20})):
        file = io.BytesIO()
        Image.new("RGB", (side, side), (200, 30, 90)).save(file, form, **options)
        photos.append(file.getvalue())
    return photos


def perform(job, cast, results, begin):
    """One process of clients; waits for `begin`, since starting takes a busy machine seconds."""
    clients.messages()
    results.put("ready")
    begin.wait()
    job.end = time.time() + job.seconds
    tally = clients.Tally()
    jobs = []
    for number, (act, model) in enumerate(cast):
        run = clients.Run(job, act.__name__, model, number, tally)

        def body(act=act, run=run):
            try:
                act(run)
            except BaseException as error:  # a client that fails must not pass unnoticed
                run.problem(f"failed with {type(error).__name__}: {error}")

        jobs.append(threading.Thread(target=body, daemon=True))
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join(max(0, job.end - time.time()) + 3 * clients.LOST_AFTER)
        if thread.is_alive():
            tally.problems.append(f"{[act.__name__ for act, _ in cast]}: a client never ended")
    results.put(tally)
    results.close()
    results.join_thread()
    os._exit(0)


def play(job, cast, seconds, watch=lambda: time.sleep(0.2)):
    """Runs the processes until all have ended; what all of them saw."""
    job.seconds = seconds
    context = multiprocessing.get_context("spawn")
    results, begin = context.Queue(), context.Event()
    processes = [context.Process(target=perform, args=(job, part, results, begin)) for part in cast]
    for process in processes:
        process.start()
    for _ in processes:
        results.get(timeout=120)
    begin.set()
    end = time.time() + seconds
    total, missing = clients.Tally(), len(processes)
    while missing:
        watch()
        while not results.empty():
            total.add(results.get())
            missing -= 1
        if time.time() > end + 4 * clients.LOST_AFTER:
            total.problems.append(f"{missing} processes of clients never ended")
            break
    for process in processes:
        process.join(5)
        process.kill()
    return total


class Watcher:
    """Looks at the server while it is under load."""

    def __init__(self, server):
        self.server = server
        self.vitals, self.health, self.http = [], collections.Counter(), collections.Counter()
        self.slowest = {"gRPC": 0, "HTTP": 0}
        self.channel = grpc.insecure_channel(server.grpc)
        self.stub = health_pb2_grpc.HealthStub(self.channel)

    def look(self):
        time.sleep(0.5)
        if self.server.process.poll() is not None:
            self.health["the process has ended"] += 1
            return
        self.vitals.append(self.server.vitals())
        start = time.monotonic()
        try:
            answer = self.stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
            self.health[health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)] += 1
        except grpc.RpcError as error:
            self.health[error.code().name] += 1
        between = time.monotonic()
        try:
            self.http[self.server.get(self.server.http, "/healthz", timeout=10).strip()] += 1
        except OSError as error:
            self.http[type(error).__name__] += 1
        for door, took in (("gRPC", between - start), ("HTTP", time.monotonic() - between)):
            self.slowest[door] = max(self.slowest[door], took)


class Verdict:
    def __init__(self):
        self.failed = 0

    def check(self, good, what, figure):
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {figure}", flush=True)


def compare_counts(verdict, before, after, tally):
    """dla_requests_total against the clients' own counts."""
    server = after - before
    seen = collections.Counter()
    for (_, model, method, code), count in tally.answers.items():
        seen[model, method, code] += count
    wrong, exact, bounded = [], 0, 0
    for model, method in sorted({key[:2] for key in server | seen | tally.given_up | tally.uncoded}):
        free = tally.given_up[model, method] + tally.uncoded[model, method]
        codes = {key[2] for key in server | seen if key[:2] == (model, method)}
        for code in codes:
            here, there = seen[model, method, code], server[model, method, code]
            if not here <= there <= here + free:
                wrong.append(f"{model}/{method}/{code}: clients {here}, server {there}, unknown {free}")
        least = sum(seen[model, method, code] for code in codes) + tally.uncoded[model, method]
        total = sum(server[model, method, code] for code in codes)
        if not least <= total <= least + tally.given_up[model, method]:
            wrong.append(f"{model}/{method}: clients {least} and {free} given up, server {total}")
        if tally.given_up[model, method]:
            bounded += total
        else:
            exact += total
    verdict.check(not wrong, "dla_requests_total is what the clients saw",
                  "; ".join(wrong) or f"{exact} equal, {bounded} within what was given up")
    return server


def settle(server, files, threads, seconds):
    """Waits for what follows the last answer: connections that close, models that are destroyed."""
    end = time.monotonic() + seconds
    while True:
        try:
            gauges = (server.gauge("dla_in_flight"), server.gauge("dla_queue_depth"),
                      server.gauge("dla_replicas_busy"))
        except OSError:
            gauges = ("no answer",)
        vitals = server.vitals()
        own = server.thread_names()[OWN_THREADS]
        done = gauges == (0, 0, 0) and vitals.files <= files and own <= threads
        if done or time.monotonic() > end:
            return gauges, vitals
        time.sleep(0.3)


def check_threads(verdict, start, end):
    """Threads without a name of their own are the server's; gRPC names its own, whose pools grow to
    their bounds and stay."""
    most = 16 + 4 * os.cpu_count()
    own, libraries = end.pop(OWN_THREADS, 0), sum(end.values())
    verdict.check(own <= start[OWN_THREADS] and libraries <= most, "threads are back",
                  f"{start[OWN_THREADS]}, then {own}; gRPC's {sum(start.values()) - start[OWN_THREADS]}, then "
                  f"{libraries} of at most {most}")


def check_memory(verdict, vitals, options):
    """Medians of the first and the last fifth after a third of the time."""
    sizes = [v.rss_bytes / 1e6 for v in vitals][len(vitals) // 3:]
    fifth = len(sizes) // 5
    if fifth < 2:
        print("     memory: too few samples")
        return
    first, last = statistics.median(sizes[:fifth]), statistics.median(sizes[-fifth:])
    growth = last / first - 1
    text = f"{first:.0f} MB, then {last:.0f} MB: {growth:+.1%}; at most {max(sizes):.0f} MB"
    # A sanitizer keeps freed memory; a minute is too short for all peaks to have been seen.
    if options.sanitized or options.seconds < 120:
        print(f"     memory (not judged in a run like this): {text}")
    else:
        verdict.check(growth <= 0.05, "memory grows by at most 5 % after warm-up", text)


def photos_hit(log):
    """Photos in forward passes that failed, out of the server's last words."""
    found = re.search(rb"faults (.*)", log)
    if not found:
        return None, ""
    text = found.group(1).decode()
    hits = {name: int(count) for name, count in re.findall(r"(\w+)=\d+/(\d+)", text)}
    return sum(count for name, count in hits.items() if name != "none"), text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    time_options = parser.add_mutually_exclusive_group()
    time_options.add_argument("--seconds", type=float, default=30)
    time_options.add_argument("--minutes", type=float)
    parser.add_argument("--requests", type=int, default=1_000_000, help="the most that each client sends")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--faults", default="error=0.01,throw=0.01,short=0.01,oom=0.02,hang=0.002,hang-ms=3000",
                        help="see tests/chaos/faulty_model.h; empty: none (default: %(default)s)")
    parser.add_argument("--megapixels", type=float, help="of the huge photos; default 90, sanitized 12")
    parser.add_argument("--sanitized", action="store_true", help="the server is built with a sanitizer")
    parser.add_argument("--show", action="store_true", help="print every count")
    options = parser.parse_args()
    if options.minutes:
        options.seconds = options.minutes * 60
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)

    work = tempfile.TemporaryDirectory(prefix="dla-chaos-")
    repository = pathlib.Path(work.name, "models")
    model_operator.make_repository(repository, MODEL_FOLDER)
    server = Server(
        PROGRAM, "--model-repository", repository, "--model-control", "explicit",
        "--load-model", EXACT, "--load-model", ROUGH, "--load-model", GUEST,
        "--max-message-bytes", str(MAX_MESSAGE_BYTES), "--queue-capacity", "128", "--max-batch", "8",
        "--replicas", "2", "--threads", "1", "--batch-timeout-ms", "2000",
        before=("--faults", f"seed={options.seed},{options.faults}"))
    try:
        return soak(options, server, repository)
    finally:
        server.clean_up()
        work.cleanup()


def thumbnails(folder):
    """ThreadSanitizer takes seconds for a large message that passes through a gRPC built without it."""
    folder.mkdir()
    for path in PHOTOS:
        with Image.open(path) as photo:
            photo.resize((48, 32)).save(folder / path.name, "JPEG", quality=50)
    return sorted(folder.iterdir())


def soak(options, server, repository):
    verdict = Verdict()
    paths = thumbnails(repository.parent / "photos") if options.sanitized else PHOTOS
    photos = [path.read_bytes() for path in paths]
    job = types.SimpleNamespace(
        seed=options.seed, requests=options.requests, grpc=server.grpc, http=server.http,
        metrics=server.metrics, server_pid=server.pid, repository=repository, version=1,
        model_folder=MODEL_FOLDER, photos=photos, photo_paths=paths, max_message_bytes=MAX_MESSAGE_BYTES,
        declares_too_much=png_that_declares(20_000, 20_000),
        huge=huge_photos(options.megapixels or (12 if options.sanitized else 90)),
        huge_pause=4, classes=quiet_answers(server, photos))

    # All calls once without trouble, so that what the server starts on demand is running.
    prologue = play(job, CAST[:3], 3)
    _, start = settle(server, 0, 0, 4)
    threads = server.thread_names()
    before = server.requests()

    watcher = Watcher(server)
    tally = play(job, CAST, options.seconds, watcher.look)
    watcher.channel.close()

    gauges, end = settle(server, start.files, threads[OWN_THREADS], 30)
    verdict.check(server.process.poll() is None, "the server runs", f"pid {server.pid}")
    tally.problems = prologue.problems + tally.problems
    verdict.check(not tally.problems, "every request had exactly one answer, a right one",
                  f"{sum(tally.answers.values()) + sum(tally.uncoded.values())} answers"
                  + "".join(f"\n       {text}" for text in tally.problems[:20])
                  + (f"\n       and {len(tally.problems) - 20} more" if len(tally.problems) > 20 else ""))
    counted = compare_counts(verdict, before, server.requests(), tally)
    verdict.check(gauges == (0, 0, 0), "nothing is in flight, queued or running",
                  f"dla_in_flight, dla_queue_depth, dla_replicas_busy are {gauges}")
    verdict.check(end.files <= start.files, "file descriptors are back", f"{start.files}, then {end.files}")
    check_threads(verdict, threads, server.thread_names())
    check_memory(verdict, watcher.vitals, options)
    verdict.check(set(watcher.health) == {"SERVING"}, "gRPC health while under load",
                  f"{dict(watcher.health)}, in at most {watcher.slowest['gRPC']:.1f} s")
    verdict.check(set(watcher.http) == {"ready"}, "HTTP health while under load",
                  f"{dict(watcher.http)}, in at most {watcher.slowest['HTTP']:.1f} s")
    verdict.check(quiet_answers(server, photos) == job.classes, "it answers as before", "all photos")
    code = server.terminate()
    verdict.check(code == 0, "SIGTERM ends it", f"exit code {code}")

    log = server.log()
    hit, faults = photos_hit(log)
    internal, unavailable = (sum(count for (_, _, code), count in counted.items() if code == wanted)
                             for wanted in ("INTERNAL", "UNAVAILABLE"))
    # While no replica of a model works, all its photos are refused.
    lost = internal + (0 if b"is not healthy" in log else unavailable)
    verdict.check(hit is not None and lost <= hit, "only what a fault hit failed",
                  f"{internal} INTERNAL, {unavailable} UNAVAILABLE; passes/photos: {faults}")
    reports = BAD_LOG.findall(log)
    verdict.check(not reports, "no report of a sanitizer", len(reports))
    raw = re.findall(rb"[^\n]*[\x00-\x08\x0b-\x1f\x7f][^\n]*", log)
    verdict.check(not raw, "nothing unescaped in the log", raw[:3] or f"{log.count(10)} lines")

    show(options, tally, counted)
    if verdict.failed:
        kept = pathlib.Path(tempfile.mkstemp(prefix="dla-chaos-", suffix=".log")[1])
        kept.write_bytes(log)
        print(f"{verdict.failed} checks failed with seed {options.seed}; the server's log: {kept}")
    return 1 if verdict.failed else 0


def quiet_answers(server, photos):
    """The class of each photo, asked one by one; a fault of the test may need another try."""
    classes = []
    with grpc.insecure_channel(server.grpc) as channel:
        stub = clients.Classifier(channel)
        for photo in photos:
            for _ in range(20):
                try:
                    answer = stub.Classify(stub.request("Classify", model=ROUGH, image=photo, top_k=1),
                                           timeout=60)
                    break
                except grpc.RpcError as error:
                    failure = error
            else:
                raise failure
            classes.append(answer.classes[0].index)
    return classes


def show(options, tally, counted):
    codes = collections.Counter()
    for (_, _, code), count in counted.items():
        codes[code] += count
    print("     answers by code:", ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    print("     given up:", sum(tally.given_up.values()), "| and",
          ", ".join(f"{count} {action}" for action, count in sorted(tally.actions.items())))
    if options.show:
        for key, count in sorted(tally.answers.items()):
            print("      ", *key, count)


if __name__ == "__main__":
    sys.exit(main())
