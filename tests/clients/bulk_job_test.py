#!/usr/bin/env python3
"""deploy/ray/bulk_classify.py on a local Ray with two workers, against a real server; workers and the job
are killed while they work.

Run with the folder of the built programs in DLA_BIN.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Without workers that are started before anybody needs them.
os.environ["RAY_enable_worker_prestart"] = "0"

try:
    import grpc
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray
    from google.protobuf import any_pb2, duration_pb2
    from google.rpc import error_details_pb2, status_pb2

    import python_client_test as package
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
sys.path.insert(0, str(ROOT / "deploy/ray"))
from serving import BIN, PHOTOS, Server  # noqa: E402

JOB = ROOT / "deploy/ray/bulk_classify.py"
WAIT = 240  # seconds for what takes a few


def setUpModule():
    global server, folder, bulk_classify, dla_serve
    home = tempfile.TemporaryDirectory(prefix="dla-ray-", ignore_cleanup_errors=True)
    unittest.addModuleCleanup(home.cleanup)
    folder = pathlib.Path(home.name)
    package.install(folder)
    # Ray's workers import it, too.
    os.environ["PYTHONPATH"] = str(folder / "site")
    import bulk_classify
    import dla_serve

    server = Server("dla-server")
    unittest.addModuleCleanup(server.clean_up)
    ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, logging_level="ERROR",
             log_to_driver=False, _temp_dir=str(folder / "ray"))
    unittest.addModuleCleanup(ray.shutdown)


class Gate:
    """A server that passes calls on to the real one. It refuses each tenth photo once, and holds all photos
    after the first `until` back until it is opened."""

    def __init__(self, until=10**9):
        self.until = until
        self.reached, self.opened = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.sent = collections.Counter()  # by the request's bytes
        self.refused = set()
        self.calls = 0
        self.channel = grpc.insecure_channel(server.grpc)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
        self.server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.opened.set()
        self.server.stop(None).wait()
        self.channel.close()

    def service(self, details):  # of grpc.GenericRpcHandler
        def handle(request, context):
            if details.method.endswith("/Classify"):
                self.hold(hashlib.sha256(request).digest(), context)
            try:
                return self.channel.unary_unary(details.method)(request, timeout=60)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(handle)

    def hold(self, photo, context):
        with self.lock:
            self.calls += 1
            refuse = self.calls % 10 == 0 and photo not in self.refused
            if refuse:
                self.refused.add(photo)
            else:
                self.sent[photo] += 1
            hold = sum(self.sent.values()) > self.until
        if refuse:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=10**7)))
            status = status_pb2.Status(code=8, message="the queue is full", details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)
        if hold:
            self.reached.set()
            self.opened.wait(WAIT)


def processes_of(title):
    """Those below this one whose command line begins so."""
    parents, found = {}, []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if (entry / "cmdline").read_bytes().startswith(title.encode()):
                found.append(int(entry.name))
        except OSError:
            pass  # it ended meanwhile

    def is_ours(pid):
        while pid not in (0, os.getpid()):
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in found if is_ours(pid)]


def variant(photo, number):
    """The same pixels in a file of its own."""
    note = f"number {number}".encode()
    return photo[:2] + b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note + photo[2:]


class Job(unittest.TestCase):
    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-B", JOB, *arguments, "--output", self.output,
             "--ray-address", ray.get_runtime_context().gcs_address],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, job, code=0):
        text = job.communicate(timeout=WAIT)[0]
        self.assertEqual(job.returncode, code, text)
        return text

    def await_gate(self, gate, job):
        end = time.monotonic() + WAIT
        while not gate.reached.wait(0.1):
            if job.poll() is not None or time.monotonic() > end:
                job.kill()
                self.fail(f"the gate was never reached: {job.communicate()[0]}")

    def setUp(self):
        self.output = folder / self.id().split(".")[-1]

    def tearDown(self):
        self.assertIsNone(server.process.poll(), server.log())

    def rows(self):
        """As any reader of Parquet finds them in the folder."""
        return pq.read_table(self.output).to_pylist()


class RayTest(Job):
    @classmethod
    def setUpClass(cls):
        cls.photos = folder / "photos"
        content = [path.read_bytes() for path in PHOTOS]
        for i in range(200):
            file = cls.photos / f"shelf {i % 3}" / f"{i:03}.{'jpg' if i % 2 else 'JPEG'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(variant(content[i % len(content)], i))
        answers = package.run(BIN / "dla-client", "classify", "--server", server.grpc, "--format", "json", cls.photos)
        cls.expected = {answer["file"]: answer for answer in map(json.loads, answers.splitlines())}
        assert len(cls.expected) == 200
        cls.broken = {str(cls.photos / name): code for name, code in
                      (("text.jpg", "INVALID_ARGUMENT"), ("empty.png", "INVALID_ARGUMENT"), ("gone.webp", "UNREADABLE"))}
        (cls.photos / "text.jpg").write_text("no photo")
        (cls.photos / "empty.png").write_bytes(b"")
        (cls.photos / "gone.webp").symlink_to("nowhere")
        (cls.photos / "notes.txt").write_text("not looked at")

    def start_on(self, gate):
        return self.start(self.photos, "--server", gate.address, "--server", server.grpc,
                          "--part-rows", "8", "--in-flight", "16")

    def check_rows(self):
        rows = self.rows()
        paths = [row["path"] for row in rows]
        self.assertEqual(sorted(paths), sorted([*self.expected, *self.broken]))
        for row in rows:
            if row["path"] in self.broken:
                self.assertEqual(row["error_code"], self.broken[row["path"]])
                self.assertTrue(row["error"])
                self.assertIsNone(row["labels"])
                continue
            answer = self.expected[row["path"]]
            self.assertIsNone(row["error"])
            self.assertEqual((row["model"], row["model_version"]), (answer["model"], answer["model_version"]))
            self.assertEqual(row["labels"], [c["label"] for c in answer["classes"]])
            self.assertEqual(row["indices"], [c["index"] for c in answer["classes"]])
            np.testing.assert_allclose(row["probabilities"], [c["probability"] for c in answer["classes"]], atol=1e-3)
            self.assertIsNone(row["embedding"])

    def parts(self):
        return set(self.output.glob("part-*.parquet"))

    def test_killed_worker_loses_and_doubles_nothing(self):
        with Gate(until=50) as gate:
            job = self.start_on(gate)
            self.await_gate(gate, job)
            self.assertTrue(0 < len(self.parts()) < 26, self.parts())
            workers = processes_of("ray::MapWorker")
            self.assertEqual(len(workers), 2)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            gate.opened.set()
            text = self.finish(job)
            self.assertIn("203 of 203 photos", text)
            self.assertIn("3 errors", text)
            # The kills hit at least one at work: what it had sent was sent again.
            self.assertGreater(max(gate.sent.values()), 1)
            self.assertGreater(len(gate.refused), 0)
        self.check_rows()

    def test_killed_job_is_resumed(self):
        with Gate(until=50) as gate:
            job = self.start_on(gate)
            self.await_gate(gate, job)
            job.kill()
            job.communicate()
            end = time.monotonic() + WAIT
            while processes_of("ray::MapWorker") and time.monotonic() < end:
                time.sleep(0.05)
        before = {file: file.read_bytes() for file in self.parts()}
        done = sum(pq.read_metadata(file).num_rows for file in before)
        self.assertTrue(0 < done < 203, done)
        (self.output / ".part-0.parquet.left.tmp").write_bytes(b"half of a file")
        with Gate() as gate:
            text = self.finish(self.start_on(gate))
            self.assertIn(f"203 photos, {done} of them done before", text)
            self.assertIn(f"{203 - done} of {203 - done} photos", text)
            self.assertLessEqual(sum(gate.sent.values()), 203 - done)
        self.assertEqual({file: file.read_bytes() for file in before}, before)
        self.assertFalse(list(self.output.glob(".*.tmp")))
        self.check_rows()

    def test_job_whose_photos_nobody_takes_ends_with_one_line(self):
        with Gate(until=0) as gate:
            text = self.finish(self.start(PHOTOS[0], "--server", gate.address, "--timeout", "1"), code=1)
        last = text.splitlines()[-1]
        self.assertRegex(last, f"^bulk_classify: .*{PHOTOS[0].name} could not be classified: DEADLINE_EXCEEDED")
        self.assertEqual(self.parts(), set())


class EdgesTest(Job):
    """What needs no Ray."""

    def options(self, *arguments):
        return bulk_classify.parse_options([*map(str, arguments), "--output", str(self.output)])

    def open_output(self, options):
        output = bulk_classify.Output(options)
        self.addCleanup(output.lock.close)
        return output

    def run_here(self, *arguments):
        """All parts in this process; the options and the open output."""
        options = self.options(*arguments, "--server", server.grpc)
        output = self.open_output(options)
        parts, _ = bulk_classify.plan(options, output.keys())
        worker = bulk_classify.Worker(options, output.job)
        for part in parts:
            worker({"part": [json.dumps(part)]})
        return options, output

    def table(self, name, **columns):
        pq.write_table(pa.table(columns), folder / name)
        return folder / name

    def test_tables_are_read_by_column(self):
        images = [{"bytes": variant(PHOTOS[i % 8].read_bytes(), i), "path": None} for i in range(100)]
        images[7] = {"bytes": None, "path": None}
        table = pa.table({"id": range(100, 200), "image": images})
        pq.write_table(table, folder / "images.parquet", row_group_size=90)
        arguments = [folder / "images.parquet", "--image-column", "image.bytes", "--key-column", "id",
                     "--part-rows", "35", "--top-k", "2", "--embedding", "--normalize"]
        _, output = self.run_here(*arguments)
        self.assertEqual(len(output.files()), 4)  # of 35, 35, 20 and 10 rows
        rows = {row["path"]: row for row in self.rows()}
        self.assertEqual(sorted(rows), [str(i) for i in range(100, 200)])
        self.assertEqual(rows.pop("107")["error_code"], "UNREADABLE")
        for key, row in rows.items():
            self.assertEqual(row["labels"][0], PHOTOS[(int(key) - 100) % 8].name.split("_")[0])
            self.assertEqual(len(row["probabilities"]), 2)
            self.assertAlmostEqual(np.linalg.norm(row["embedding"]), 1, places=4)
        output.lock.close()
        # Nothing is left to do, and nothing is mixed.
        self.assertIn("100 of them done before", self.finish(self.start(*arguments)))
        self.assertIn("embedding=True", self.finish(self.start(*arguments[:-2]), code=1))

    def test_tables_without_keys_are_told_apart_by_row(self):
        table = self.table("rows.parquet", image=[PHOTOS[i].read_bytes() for i in range(3)])
        self.run_here(table, "--image-column", "image")
        self.assertEqual([row["path"] for row in self.rows()], [f"{table}:{i}" for i in range(3)])

    def test_part_that_is_run_again_is_one_file(self):
        # As when a worker dies after it wrote and before it told, and when Ray takes one for dead that is not.
        options, output = self.run_here(*PHOTOS)
        (file,) = output.files()
        before = file.stat().st_ino
        (part,), _ = bulk_classify.plan(options, set())
        again = bulk_classify.Worker(options, output.job)
        self.assertEqual(again({"part": [json.dumps(part)]}), {"rows": [8], "errors": [0]})
        self.assertEqual((output.files(), file.stat().st_ino), ([file], before))
        file.unlink()
        again({"part": [json.dumps(part)]})
        self.assertEqual(output.files(), [file])

    def test_two_photos_with_one_key_are_refused(self):
        table = self.table("doubles.parquet", id=["a", "b", "a"], image=[b"", b"", b""])
        job = self.start(table, "--image-column", "image", "--key-column", "id")
        self.assertIn("two photos have the key 'a'", self.finish(job, code=1))

    def test_what_is_not_there_is_named(self):
        table = self.table("plain.parquet", image=[b""])
        for arguments, words in (([folder / "nowhere"], "nowhere is no folder"),
                                 ([table, "--image-column", "picture"], "picture"),
                                 ([ROOT / "README.md", "--image-column", "image"], "README.md cannot be read"),
                                 ([PHOTOS[0], "--model", "nobody", "--server", server.grpc], "NOT_FOUND.*nobody"),
                                 ([PHOTOS[0], "--top-k", "6", "--server", server.grpc], "flowers5 has 5 classes")):
            text = self.finish(self.start(*arguments), code=1)
            shutil.rmtree(self.output)
            self.assertRegex(text, words)
            self.assertNotIn("Traceback", text)

    def test_folder_belongs_to_one_job(self):
        self.open_output(self.options(PHOTOS[0]))
        self.assertIn("another job is writing", self.finish(self.start(PHOTOS[0]), code=1))

    def test_worker_of_an_older_job_writes_nothing(self):
        options = self.options(PHOTOS[0], "--server", server.grpc)
        output = self.open_output(options)
        (part,), _ = bulk_classify.plan(options, set())
        with self.assertRaisesRegex(bulk_classify.JobError, "newer job"):
            bulk_classify.Worker(options, "another")({"part": [json.dumps(part)]})
        self.assertEqual(output.files(), [])

    def test_second_row_of_a_photo_is_found(self):
        options = self.options(PHOTOS[0], "--server", server.grpc)
        output = self.open_output(options)
        (part,), _ = bulk_classify.plan(options, set())
        worker = bulk_classify.Worker(options, output.job)
        for name in ("part-1.parquet", "part-2.parquet"):
            worker({"part": [json.dumps(part | {"name": name})]})
        output.lock.close()
        self.assertIn("part-2.parquet has a second row", self.finish(self.start(PHOTOS[0]), code=1))

    def test_photos_with_errors_are_classified_again_on_demand(self):
        options = self.options(PHOTOS[0], "--server", server.grpc)
        output = self.open_output(options)
        (part,), _ = bulk_classify.plan(options, set())
        worker = bulk_classify.Worker(options, output.job)
        self.assertEqual(worker({"part": [json.dumps(part)]})["errors"], [0])
        broken = {"name": "part-2.parquet", "source": None, "items": [["gone", "/gone.jpg"]]}
        self.assertEqual(worker({"part": [json.dumps(broken)]})["errors"], [1])
        self.assertEqual(output.keys(), {str(PHOTOS[0]), "gone"})
        output.forget_errors()
        self.assertEqual(output.keys(), {str(PHOTOS[0])})

    def test_names_that_are_no_text_have_rows(self):
        strange = folder / "strange"
        strange.mkdir()
        (pathlib.Path(os.fsdecode(os.fsencode(strange) + b"/\xff.jpg"))).write_bytes(PHOTOS[0].read_bytes())
        options = self.options(strange, "--server", server.grpc)
        output = self.open_output(options)
        (part,), keys = bulk_classify.plan(options, set())
        self.assertEqual(bulk_classify.Worker(options, output.job)({"part": [json.dumps(part)]})["errors"], [0])
        self.assertEqual(output.keys(), keys)
        self.assertTrue(next(iter(keys)).endswith("\\xff.jpg"))

    def test_photos_go_around_a_server_that_is_down(self):
        options = self.options(PHOTOS[0], "--server", "127.0.0.1:1", "--server", server.grpc)
        servers = bulk_classify.Servers(options, 2)
        for path in PHOTOS:
            self.assertEqual(servers.classify(path).classes[0].label, path.name.split("_")[0])
        down, up = servers.servers
        self.assertGreater(down.failures, 0)
        self.assertEqual((up.failures, down.busy, up.busy), (0, 0, 0))

    def test_job_ends_when_no_server_takes_its_photos(self):
        options = self.options(PHOTOS[0], "--server", "127.0.0.1:1", "--timeout", "0.5")
        output = self.open_output(options)
        (part,), _ = bulk_classify.plan(options, set())
        with self.assertRaisesRegex(bulk_classify.JobError, f"{PHOTOS[0].name} could not be classified: UNAVAILABLE"):
            bulk_classify.Worker(options, output.job)({"part": [json.dumps(part)]})
        self.assertEqual(output.files(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
