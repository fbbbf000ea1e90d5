#!/usr/bin/env python3
"""Classifies many photos with one or several dla-servers, as a Ray Data job:

    bulk_classify.py photos/ --output labels/ --server gpu1:8001 --server gpu2:8001
    bulk_classify.py images.parquet --image-column image.bytes --key-column id --output labels/ --embedding

Writes one row for each photo into Parquet files of --part-rows rows:

    path           string         path as found below the given folder, or the key column's value
    model, model_version  string  who answered; null where nobody did
    labels, ids    list<string>   --top-k classes of falling probability; "" where the model has none
    indices        list<int32>
    probabilities  list<float>
    embedding      list<float>    with --embedding, else null
    error_code, error  string     null, or why there is no answer: a gRPC code, or UNREADABLE

To resume after the job was killed, or to add photos, give the same command again: what has a row is skipped.

Every input is in the output once. A part's name is a hash of its keys; it is written beside, and then
renamed. So a part that Ray runs again, because its worker died, replaces itself or is found done. Ray
Data's own reading and writing is not used: its blocks are cut anew in each run, and its writer names
files anew in each try.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import fcntl
import hashlib
import json
import math
import os
import pathlib
import sys
import threading
import time
import uuid

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import dla_serve
import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from dla_serve.retry import is_refusal

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
STRINGS, FLOATS = pa.list_(pa.string()), pa.list_(pa.float32())
SCHEMA = pa.schema([
    ("path", pa.string()), ("model", pa.string()), ("model_version", pa.string()), ("labels", STRINGS),
    ("ids", STRINGS), ("indices", pa.list_(pa.int32())), ("probabilities", FLOATS), ("embedding", FLOATS),
    ("error_code", pa.string()), ("error", pa.string())])

# Errors of one photo, which become its row. All others say that no photo can be classified now.
Code = grpc.StatusCode
OF_A_PHOTO = (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.OUT_OF_RANGE)


class JobError(Exception):
    """Ends the job with one line."""


# The plan: which photos there are, and which of them each part holds.


def find_photos(folder):
    """Paths of the photos below a folder, or of the one that is given, sorted."""
    if os.path.isfile(folder):
        return [folder]
    if not os.path.isdir(folder):
        raise JobError(f"{folder} is no folder and no file")
    found = [os.path.join(where, name) for where, _, names in os.walk(folder)
             for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def find_tables(path):
    files = sorted(map(str, pathlib.Path(path).rglob("*.parquet"))) if os.path.isdir(path) else [path]
    if not files:
        raise JobError(f"{path} holds no .parquet file")
    return files


def key_of(path):
    """A path as Arrow takes it: bytes that are no UTF-8 are written \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def groups_of(options):
    """Yields (source, [(key, what to read), ...]). Parts are cut within groups: all files, or one row
    group of a table, whose file is the source."""
    if not options.image_column:
        paths = dict.fromkeys(path for where in options.inputs for path in find_photos(where))
        yield None, [(key_of(path), path) for path in paths]
        return
    for file in (file for where in options.inputs for file in find_tables(where)):
        try:
            table = pq.ParquetFile(file)
            column, *fields = options.image_column.split(".")
            kind = table.schema_arrow.field(column).type
            for field in fields:
                kind = kind.field(field).type
            if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
                raise JobError(f"{file}: column {options.image_column} holds {kind}, not binary")
            first = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if options.key_column:
                    column = table.read_row_group(group, columns=[options.key_column])
                    keys = [str(key) for key in column_of(column, options.key_column).to_pylist()]
                else:
                    keys = [f"{key_of(file)}:{first + row}" for row in range(rows)]
                yield [file, group], list(zip(keys, range(rows)))
                first += rows
        except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
            raise JobError(f"{file} cannot be read: {error}") from error


def column_of(table, name):
    """A column, or with dots a field of one that is a struct."""
    first, *fields = name.split(".")
    column = table.column(first)
    for field in fields:
        column = pa.compute.struct_field(column, field)
    return column


def plan(options, done):
    """(parts of the photos that are not done, the keys of all)"""
    parts, keys = [], set()
    for source, items in groups_of(options):
        for key, _ in items:
            if key in keys:
                raise JobError(f"two photos have the key {key!r}; --key-column must name a column without doubles")
            keys.add(key)
        items = [item for item in items if item[0] not in done]
        for first in range(0, len(items), options.part_rows):
            some = items[first:first + options.part_rows]
            digest = hashlib.sha256(json.dumps([key for key, _ in some]).encode()).hexdigest()
            parts.append({"name": f"part-{digest[:24]}.parquet", "source": source, "items": some})
    return parts, keys


# The output folder.


class Output:
    """Owns the folder while the process lives."""

    def __init__(self, options):
        self.folder = pathlib.Path(options.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.folder / ".lock", "wb")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(f"another job is writing to {self.folder}") from None
        settings = {name: getattr(options, name) for name in
                    ("model", "top_k", "embedding", "normalize", "image_column", "key_column")}
        path = self.folder / ".job.json"
        if path.exists():
            before = json.loads(path.read_text())["settings"]
            for name, value in settings.items():
                if before.get(name) != value:
                    raise JobError(f"{self.folder} was written with {name}={before.get(name)!r}, not {value!r}; "
                                   "use another folder for --output")
        # Workers of a job that was killed find another id, and write nothing more.
        self.job = uuid.uuid4().hex
        replace(path, lambda beside: beside.write_text(json.dumps({"job": self.job, "settings": settings})))
        for left in self.folder.glob(".*.tmp"):
            left.unlink()

    def files(self):
        return sorted(self.folder.glob("part-*.parquet"))

    def forget_errors(self):
        for file in self.files():
            if errors_of(file):
                file.unlink()

    def keys(self):
        keys = set()
        for file in self.files():
            for key in pq.read_table(file, columns=["path"]).column("path").to_pylist():
                if key in keys:
                    raise JobError(f"{file} has a second row of {key!r}; remove the file and start the job again")
                keys.add(key)
        return keys


def replace(path, write):
    """`write` makes a file beside `path`, which then takes its place at once."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write(beside)
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def errors_of(file):
    column = pq.read_table(file, columns=["error_code"]).column("error_code")
    return len(column) - column.null_count


# The workers.


class Servers:
    """Calls the server that has the fewest photos of ours, and leaves alone for a while those that refuse."""

    class Server:
        def __init__(self, address, options):
            self.client = dla_serve.Client(address, retry=None, **credentials(options))
            self.busy = self.failures = 0
            self.rests_until = 0.0

    def __init__(self, options, limit):
        self.timeout, self.try_timeout, self.limit = options.timeout, options.try_timeout, limit
        self.policy = dla_serve.RetryPolicy()
        self.servers = [self.Server(address, options) for address in options.server]
        self.changed = threading.Condition()

    def classify(self, photo, **what):
        """Raises DlaError: of the photo, or after its time the last reason why it was not taken."""
        end = time.monotonic() + self.timeout
        error = dla_serve.DlaError(Code.DEADLINE_EXCEEDED, f"no server was free for {self.timeout:g} s")
        while (server := self.take(end)) is not None:
            rest = 0.0
            try:
                left = min(end - time.monotonic(), self.try_timeout)
                answer = server.client.classify(photo, bulk=True, timeout=max(left, 0.001), **what)
                server.failures = 0
                return answer
            except dla_serve.DlaError as failure:
                error = failure
                silent = error.code is Code.DEADLINE_EXCEEDED
                if not silent and not is_refusal(error):
                    raise
                server.failures += 1
                asked = dla_serve.DlaError(Code.UNAVAILABLE, "") if silent else error
                rest = self.policy.delay(asked, server.failures, math.inf)
            finally:
                with self.changed:
                    server.busy -= 1
                    server.rests_until = max(server.rests_until, time.monotonic() + rest)
                    self.changed.notify_all()
        raise error

    def take(self, end):
        """A server with room, once one does not rest; None where that would be after `end`."""
        with self.changed:
            while (now := time.monotonic()) < end:
                free = [s for s in self.servers if s.busy < self.limit]
                rested = [s for s in free if s.rests_until <= now]
                if rested:
                    server = min(rested, key=lambda s: s.busy)
                    server.busy += 1
                    return server
                wake = min((s.rests_until for s in free), default=end)
                if wake >= end and free:
                    return None
                self.changed.wait(min(wake, end) - now)
        return None


def credentials(options):
    token = pathlib.Path(options.token_file).read_text().split("\n")[0].strip() if options.token_file else None
    return {"tls": options.tls, "tls_ca": options.tls_ca, "tls_cert": options.tls_cert,
            "tls_key": options.tls_key, "token": token}


class Worker:
    """Classifies and writes one part at a time. Runs in a process of its own, on any node."""

    def __init__(self, options, job):
        self.options, self.job = options, job
        # Of all that may be in flight, this worker's share at each server.
        limit = max(1, options.in_flight // (options.workers * len(options.server)))
        self.threads = limit * len(options.server)
        self.servers = Servers(options, limit)
        self.what = {name: getattr(options, name) for name in ("model", "top_k", "embedding", "normalize")}

    def __call__(self, batch):
        part = json.loads(batch["part"][0])
        file = pathlib.Path(self.options.output, part["name"])
        if not file.exists():  # from a try whose worker died before it could tell
            rows = self.classify(part)
            columns = {name: [row.get(name) for row in rows] for name in SCHEMA.names}
            table = pa.table(columns, schema=SCHEMA)
            if json.loads((file.parent / ".job.json").read_text())["job"] != self.job:
                raise JobError("a newer job writes to this folder")
            replace(file, lambda beside: pq.write_table(table, beside, compression="zstd"))
        return {"rows": [len(part["items"])], "errors": [errors_of(file)]}

    def classify(self, part):
        rows, waiting = [], collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(self.threads)
        try:
            for key, photo in self.photos(part):
                waiting.append(pool.submit(self.row, key, photo))
                if len(waiting) >= 2 * self.threads:
                    rows.append(waiting.popleft().result())
            rows += [future.result() for future in waiting]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return rows

    def photos(self, part):
        """Yields (key, path or bytes or None)."""
        if part["source"] is None:
            yield from part["items"]
            return
        file, group = part["source"]
        name, wanted, first = self.options.image_column, iter(part["items"]), 0
        item = next(wanted, None)
        for batch in pq.ParquetFile(file).iter_batches(64, row_groups=[group], columns=[name]):
            images = column_of(batch, name)
            while item is not None and item[1] < first + len(images):
                yield item[0], images[item[1] - first].as_py()
                item = next(wanted, None)
            if item is None:
                return
            first += len(images)

    def row(self, key, photo):
        try:
            answer = self.servers.classify(self.read(photo), **self.what)
        except (OSError, ValueError) as error:
            return {"path": key, "error_code": "UNREADABLE", "error": str(error)}
        except dla_serve.DlaError as error:
            if error.code not in OF_A_PHOTO or is_refusal(error):
                raise JobError(f"{key} could not be classified: {error}") from None
            return {"path": key, "error_code": error.code.name, "error": error.message}
        return {
            "path": key, "model": answer.model, "model_version": answer.model_version,
            "labels": [c.label for c in answer.classes], "ids": [c.id for c in answer.classes],
            "indices": [c.index for c in answer.classes],
            "probabilities": [c.probability for c in answer.classes],
            "embedding": None if answer.embedding is None else np.asarray(answer.embedding)}

    def read(self, photo):
        if photo is None:
            raise ValueError("the image column is null")
        if isinstance(photo, str):
            size = os.path.getsize(photo)
            if size > self.options.max_file_bytes:
                raise ValueError(f"{size} bytes are more than --max-file-bytes {self.options.max_file_bytes}")
            return pathlib.Path(photo).read_bytes()
        return photo


# The job.


def ask_servers(options):
    """Ends the job early where every photo would fail."""
    errors = []
    for address in options.server:
        with dla_serve.Client(address, timeout=10, **credentials(options)) as client:
            try:
                model = client.model(options.model)
            except dla_serve.DlaError as error:
                errors.append(f"{address}: {error}")
                if not is_refusal(error) and error.code is not Code.DEADLINE_EXCEEDED:
                    raise JobError(errors[-1]) from None
                continue
            if options.top_k > model.num_classes:
                raise JobError(f"--top-k is {options.top_k}; {model.name} has {model.num_classes} classes")
    if len(errors) == len(options.server):
        raise JobError("; ".join(errors))
    for error in errors:
        say(f"goes on without {error}")


def run_parts(options, parts, job):
    import logging

    import ray

    rows = [{"part": json.dumps(part)} for part in parts]
    address = options.ray_address or os.environ.get("RAY_ADDRESS")
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address:
        ray.init(address, **quiet)
    else:
        # The parts are all that goes through the store.
        store = max(100 << 20, 4 * sum(len(row["part"]) for row in rows))
        cpus = max(1, math.ceil(options.workers * options.worker_cpus))
        ray.init(num_cpus=cpus, object_store_memory=store, include_dashboard=False, **quiet)
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    outcome = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker, fn_constructor_args=(options, job), batch_size=1, num_cpus=options.worker_cpus,
        max_restarts=-1, max_task_retries=-1,  # for workers that die; what they raise ends the job
        compute=ray.data.ActorPoolStrategy(size=min(options.workers, len(parts))))
    progress = Progress(sum(len(part["items"]) for part in parts))
    for part in outcome.iter_rows():
        progress.add(int(part["rows"]), int(part["errors"]))
    progress.tell()


class Progress:
    def __init__(self, total):
        self.total, self.done, self.errors = total, 0, 0
        self.start = self.told = time.monotonic()

    def add(self, rows, errors):
        self.done += rows
        self.errors += errors
        if time.monotonic() - self.told >= 5:
            self.tell()

    def tell(self):
        self.told = time.monotonic()
        speed = self.done / max(self.told - self.start, 1e-9)
        left = (self.total - self.done) / speed if speed else 0
        say(f"{self.done:,} of {self.total:,} photos, {speed:,.0f}/s, {self.errors:,} errors"
            + (f", {left / 60:,.0f} min left" if left >= 60 else ""))


def say(text):
    print(text, file=sys.stderr, flush=True)


def at_least(minimum, kind):
    def parse(text):
        value = kind(text)
        if not minimum <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not at least {minimum}")
        return value
    return parse


def parse_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="+", help="folders of photos, or with --image-column Parquet files and folders of them")
    add("--output", required=True, help="folder for the Parquet files, which all nodes see, as they see the inputs")
    add("--image-column", help="column of encoded photos; NAME.FIELD for a field of a struct")
    add("--key-column", help="column that tells photos apart; without it FILE:ROW")
    add("--server", action="append", help="HOST:PORT, repeatable: photos go where there is room (localhost:8001)")
    add("--model", default="", help="empty: the server's first")
    add("--top-k", type=at_least(0, int), default=5)
    add("--embedding", action="store_true")
    add("--normalize", action="store_true", help="embeddings of length 1")
    add("--workers", type=at_least(1, int), default=2, help="processes that read, send and write (%(default)s)")
    add("--worker-cpus", type=at_least(0, float), default=0.5, help="that Ray sets aside for each (%(default)s)")
    add("--in-flight", type=at_least(1, int), default=64, help="most photos of all workers at all servers; "
        "at least one of each worker at each server (%(default)s)")
    add("--part-rows", type=at_least(1, int), default=512, help="rows of a file; what is done again after a kill (%(default)s)")
    add("--timeout", type=at_least(0.001, float), default=600, help="seconds for one photo, all tries included; "
        "then the job ends, to be resumed (%(default)s)")
    add("--try-timeout", type=at_least(0.001, float), default=60, help="seconds of silence before another try (%(default)s)")
    add("--max-file-bytes", type=at_least(1, int), default=32 << 20, help="larger photos are not sent (%(default)s)")
    add("--retry-errors", action="store_true", help="classify photos again that are in a file with errors")
    add("--ray-address", help="of a cluster, else $RAY_ADDRESS, else Ray is started on this machine")
    add("--tls", action="store_true")
    for flag in ("--tls-ca", "--tls-cert", "--tls-key", "--token-file"):
        add(flag, metavar="FILE")
    options = parser.parse_args(arguments)
    options.server = options.server or ["localhost:8001"]
    options.output = os.path.abspath(options.output)
    if options.key_column and not options.image_column:
        parser.error("--key-column belongs to --image-column")
    return options


def main(arguments=None):
    options = parse_options(arguments)
    try:
        output = Output(options)
        if options.retry_errors:
            output.forget_errors()
        done = output.keys()
        parts, keys = plan(options, done)
        say(f"{len(keys):,} photos, {len(keys & done):,} of them done before")
        if parts:
            ask_servers(options)
            run_parts(options, parts, output.job)
        if missing := keys - output.keys():
            raise JobError(f"{len(missing):,} photos have no row, {min(missing)!r} among them; start the job again")
    except (JobError, OSError, ValueError) as error:
        say(f"bulk_classify: {error}")
        return 1
    except KeyboardInterrupt:
        say("bulk_classify: stopped; the same command goes on from here")
        return 130
    except Exception as error:  # what Ray made of a worker's
        cause = next((line for line in reversed(str(error).splitlines()) if "JobError: " in line), None)
        say(f"bulk_classify: {cause.split('JobError: ', 1)[1] if cause else error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
