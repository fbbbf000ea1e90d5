#!/usr/bin/env python3
"""client/python, built and installed as users do, against a real server and one that refuses.

Run with the folder of the built programs in DLA_BIN.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

try:
    import grpc
    import hatchling  # noqa: F401  it builds the package
    import numpy as np
    from google.protobuf import any_pb2, duration_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_tools import protoc  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from serving import BIN, PHOTOS, Server  # noqa: E402

Code = grpc.StatusCode
WAYS = ("Classify", "ClassifyStream")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def install(folder):
    """Makes the sdist, the wheel out of that, where no repository is near, and unpacks the wheel."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    alone = ["--no-deps", "--no-index"]
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT / "client/python")
    (sdist,) = folder.glob("*.tar.gz")
    run(*pip, "wheel", *alone, "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", *alone, "--target", folder / "site", wheel, cwd=folder)
    sys.path.insert(0, str(folder / "site"))


def setUpModule():
    global dla_serve, pb, pb_grpc
    folder = tempfile.TemporaryDirectory(prefix="dla-python-")
    unittest.addModuleCleanup(folder.cleanup)
    install(pathlib.Path(folder.name))
    import dla_serve
    from dla.v1 import classifier_pb2 as pb
    from dla.v1 import classifier_pb2_grpc as pb_grpc
    assert dla_serve.__file__.startswith(folder.name), dla_serve.__file__


def refusal(code, message, delay=None):
    """google.rpc.Status"""
    status = status_pb2.Status(code=code.value[0], message=message)
    if delay is not None:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(
            retry_delay=duration_pb2.Duration(nanos=int(delay * 1e9))))
        status.details.append(detail)
    return status


class Refuser:
    """A server that fails as it is told. `script` gives a google.rpc.Status, or None for an answer, for a
    photo's bytes and how often it was sent before; `breaks` does so for the stream as a whole."""

    def __init__(self, script, breaks=lambda photo, before: None):
        self.script, self.breaks = script, breaks
        self.lock = threading.Lock()
        self.times = {}  # photo: when it was sent
        self.calls = []  # names of methods
        self.requests = []
        self.most_open = self.open = 0
        outer = self

        class Service(pb_grpc.ClassifierServicer):
            def Classify(self, request, context):
                outer.calls.append("Classify")
                before = outer.count(request)
                status = outer.breaks(request.image, before) or outer.script(request.image, before)
                if status is not None:
                    outer.end(context, status)
                return outer.answer(request)

            def ClassifyStream(self, requests, context):
                outer.calls.append("ClassifyStream")
                for message in requests:
                    before = outer.count(message.request)
                    if (status := outer.breaks(message.request.image, before)) is not None:
                        outer.end(context, status)
                    result = pb.ClassifyResult()
                    if (status := outer.script(message.request.image, before)) is not None:
                        result.error.CopyFrom(status)
                    else:
                        result.response.CopyFrom(outer.answer(message.request))
                    yield pb.ClassifyStreamResponse(id=message.id, result=result)

        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        pb_grpc.add_ClassifierServicer_to_server(Service(), self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.stop(None).wait()

    def count(self, request):
        with self.lock:
            self.requests.append(request)
            times = self.times.setdefault(request.image, [])
            times.append(time.monotonic())
            return len(times) - 1

    @staticmethod
    def end(context, status):
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(next(code for code in Code if code.value[0] == status.code), status.message)

    @staticmethod
    def answer(request):
        return pb.ClassifyResponse(model="fake", classes=[pb.Class(label=request.image.decode())])


def labels(results):
    return [r.classification.classes[0].label if r.error is None else r.error.code for r in results]


FULL = (Code.RESOURCE_EXHAUSTED, "the queue is full")


class RefusalTest(unittest.TestCase):
    def classify_by(self, way, client, photo=b"a", **options):
        """A Classification, or raises DlaError."""
        if way == "Classify":
            return client.classify(photo, **options)
        (result,) = client.classify_many([photo], **options)
        if result.error:
            raise result.error
        return result.classification

    def test_photo_is_sent_again_no_sooner_than_the_server_wants(self):
        for way in WAYS:
            script = lambda photo, before: refusal(*FULL, delay=0.3) if before == 0 else None
            with Refuser(script) as server, dla_serve.Client(server.address) as client:
                self.assertEqual(self.classify_by(way, client).classes[0].label, "a")
                first, second = server.times[b"a"]
                self.assertGreaterEqual(second - first, 0.3)

    def test_server_that_is_restarted_is_asked_again(self):
        for way in WAYS:
            breaks = lambda photo, before: refusal(Code.UNAVAILABLE, "going down") if before < 2 else None
            with Refuser(lambda *_: None, breaks) as server, dla_serve.Client(server.address) as client:
                self.assertEqual(self.classify_by(way, client).classes[0].label, "a")
                self.assertEqual(server.calls, [way] * 3)

    def test_delay_beyond_the_deadline_is_not_waited_for(self):
        for way in WAYS:
            with Refuser(lambda *_: refusal(*FULL, delay=0.9)) as server, \
                    dla_serve.Client(server.address) as client:
                start = time.monotonic()
                with self.assertRaises(dla_serve.DlaError) as refused:
                    self.classify_by(way, client, timeout=0.8)
                self.assertLess(time.monotonic() - start, 0.8)
                self.assertIs(refused.exception.code, Code.RESOURCE_EXHAUSTED)
                self.assertEqual(refused.exception.retry_delay, 0.9)
                self.assertEqual(len(server.times[b"a"]), 1)

    def test_what_asking_again_does_not_mend_is_not_asked_again(self):
        for code in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.INTERNAL):
            for way in WAYS:
                with Refuser(lambda *_: refusal(code, "words")) as server, \
                        dla_serve.Client(server.address) as client:
                    with self.assertRaises(dla_serve.DlaError) as refused:
                        self.classify_by(way, client)
                    self.assertEqual((refused.exception.code, refused.exception.message), (code, "words"))
                    self.assertEqual(len(server.times[b"a"]), 1)

    def test_nothing_is_asked_again_without_a_policy(self):
        for way in WAYS:
            with Refuser(lambda *_: refusal(*FULL, delay=0.01)) as server, \
                    dla_serve.Client(server.address, retry=None) as client:
                with self.assertRaises(dla_serve.DlaError):
                    self.classify_by(way, client)
                self.assertEqual(len(server.times[b"a"]), 1)

    def test_deadline_ends_the_wait_for_a_silent_server(self):
        for way in WAYS:
            release = threading.Event()
            with Refuser(lambda *_: release.wait(60) and None) as server, \
                    dla_serve.Client(server.address) as client:
                with self.assertRaises(dla_serve.DlaError) as late:
                    self.classify_by(way, client, timeout=0.2)
                self.assertIs(late.exception.code, Code.DEADLINE_EXCEEDED)
                release.set()
        with dla_serve.Client("127.0.0.1:1") as client, self.assertRaises(dla_serve.DlaError) as gone:
            client.classify(b"a", timeout=0.5)
        self.assertIs(gone.exception.code, Code.UNAVAILABLE)

    def test_many_come_in_order_although_some_are_refused_at_first(self):
        photos = [str(i).encode() for i in range(100)]
        script = lambda photo, before: \
            refusal(*FULL, delay=0.05) if int(photo) % 7 == 0 and before < 2 else None
        with Refuser(script) as server, dla_serve.Client(server.address) as client:
            results = list(client.classify_many(photos, window=8))
            self.assertEqual([r.index for r in results], list(range(100)))
            self.assertEqual(labels(results), [photo.decode() for photo in photos])
            self.assertEqual([r.photo for r in results], photos)
            results = list(client.classify_many(photos, window=8, ordered=False))
            self.assertEqual(sorted(r.index for r in results), list(range(100)))
            self.assertTrue(all(r.classification.classes[0].label == str(r.index) for r in results))

    def test_streams_that_break_lose_and_double_no_photo(self):
        photos = [str(i).encode() for i in range(60)]
        breaks = lambda photo, before: \
            refusal(Code.UNAVAILABLE, "going down") if int(photo) % 20 == 10 and before == 0 else None
        with Refuser(lambda *_: None, breaks) as server, dla_serve.Client(server.address) as client:
            results = list(client.classify_many(photos, window=8))
        self.assertEqual(labels(results), [photo.decode() for photo in photos])
        self.assertEqual(server.calls, ["ClassifyStream"] * 4)

    def test_photo_that_ends_the_stream_fails_alone(self):
        photos = [str(i).encode() for i in range(20)]
        breaks = lambda photo, before: \
            refusal(Code.RESOURCE_EXHAUSTED, "message too large") if photo == b"9" else None
        with Refuser(lambda *_: None, breaks) as server, dla_serve.Client(server.address) as client:
            found = labels(client.classify_many(photos, window=4))
        expected = [photo.decode() for photo in photos]
        expected[9] = Code.RESOURCE_EXHAUSTED
        self.assertEqual(found, expected)

    def test_caller_who_may_nothing_is_told_once(self):
        with Refuser(lambda *_: None, lambda *_: refusal(Code.UNAUTHENTICATED, "no token")) as server, \
                dla_serve.Client(server.address) as client:
            with self.assertRaises(dla_serve.DlaError) as refused:
                list(client.classify_many(b"x" for _ in range(1000)))
            self.assertIs(refused.exception.code, Code.UNAUTHENTICATED)

    def test_source_is_read_no_further_than_the_window(self):
        read = []

        def source():
            for i in range(10**9):
                read.append(i)
                yield str(i).encode()

        with Refuser(lambda *_: None) as server, dla_serve.Client(server.address) as client:
            results = client.classify_many(source(), window=5)
            for i in range(20):
                self.assertEqual(next(results).index, i)
                self.assertLessEqual(len(read), i + 1 + 4 * 5)
            results.close()

    def test_options_reach_the_server(self):
        for way in WAYS:
            with Refuser(lambda *_: None) as server, dla_serve.Client(server.address) as client:
                self.classify_by(way, client, model="m", top_k=3, embedding=True, normalize=True, bulk=True)
                self.classify_by(way, client, b"b")
                self.assertEqual(server.requests[0], pb.ClassifyRequest(
                    image=b"a", model="m", top_k=3, include_embedding=True, normalize_embedding=True,
                    priority=pb.PRIORITY_BULK))
                self.assertEqual(server.requests[1], pb.ClassifyRequest(image=b"b"))

    def test_nonsense_is_refused_on_this_side(self):
        with dla_serve.Client() as client:
            for options in ({"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}):
                with self.assertRaises(ValueError):
                    client.classify(b"a", **options)
            with self.assertRaises(ValueError):
                client.classify_many([], window=0)
        with self.assertRaises(ValueError):
            dla_serve.Client(tls_cert="cert.pem")


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("dla-server")
        cls.addClassCleanup(cls.server.clean_up)
        cls.client = dla_serve.Client(cls.server.grpc)
        cls.addClassCleanup(cls.client.close)

    def test_answers_are_those_of_dla_client(self):
        text = run(BIN / "dla-client", "classify", "--server", self.server.grpc, "--format", "json", *PHOTOS)
        theirs = [json.loads(line) for line in text.splitlines()]
        for ours in ([self.client.classify(path) for path in PHOTOS],
                     [r.classification for r in self.client.classify_many(map(str, PHOTOS), bulk=True)]):
            self.assertEqual(len(ours), len(theirs))
            for one, other in zip(ours, theirs):
                self.assertEqual((one.model, one.model_version), (other["model"], other["model_version"]))
                self.assertEqual([(c.index, c.label, c.id) for c in one.classes],
                                 [(c["index"], c["label"], c["id"]) for c in other["classes"]])
                np.testing.assert_allclose([c.probability for c in one.classes],
                                           [c["probability"] for c in other["classes"]], atol=1e-3)
                self.assertGreater(one.timing.inference, 0)
                self.assertGreater(one.timing.batch_size, 0)

    def test_embedding_is_an_array_without_a_copy(self):
        plain = self.client.classify(PHOTOS[0].read_bytes(), embedding=True).embedding
        unit = np.asarray(self.client.classify(PHOTOS[0], embedding=True, normalize=True).embedding)
        self.assertEqual((unit.dtype, unit.shape), (np.float32, (self.client.model().embedding_size,)))
        self.assertAlmostEqual(np.linalg.norm(unit), 1, places=5)
        np.testing.assert_allclose(np.asarray(plain) / np.linalg.norm(plain), unit, atol=1e-3)
        self.assertIsNone(self.client.classify(PHOTOS[0]).embedding)

    def test_models_are_described(self):
        (model,) = self.client.models()
        self.assertEqual((model.name, model.num_classes, model.labels), ("flowers5", 5, ()))
        self.assertEqual(self.client.model("flowers5").labels[0], "daisy")
        with self.assertRaises(dla_serve.DlaError) as unknown:
            self.client.model("nobody")
        self.assertIs(unknown.exception.code, Code.NOT_FOUND)

    def test_each_photo_of_many_fails_for_itself(self):
        too_large = bytes(40 << 20)  # --max-message-bytes is 32 MiB, and ends the stream
        photos = [PHOTOS[0], b"no photo", "/nowhere.jpg", PHOTOS[1], b"", too_large, PHOTOS[2]]
        results = list(self.client.classify_many(photos))
        for i in (0, 3, 6):
            self.assertIsNone(results[i].error)
        self.assertIs(results[1].error.code, Code.INVALID_ARGUMENT)
        self.assertIsInstance(results[2].error, FileNotFoundError)
        self.assertIs(results[4].error.code, Code.INVALID_ARGUMENT)
        self.assertIs(results[5].error.code, Code.RESOURCE_EXHAUSTED)

    def test_threads_share_a_client(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda path: self.client.classify(path).classes[0].label, PHOTOS * 8))
        self.assertEqual(found, [path.name.split("_")[0] for path in PHOTOS] * 8)


class CredentialsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="dla-tls-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "1",
            "-subj", "/CN=test CA", cwd=self.folder)
        for name in ("server", "caller"):
            run("openssl", "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", cwd=self.folder)
            (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-days", "1", "-extfile", "names", cwd=self.folder)

    def path(self, name):
        return str(self.folder / name)

    def start(self, *flags):
        server = Server("dla-server", "--tls-cert", self.path("server.pem"),
                        "--tls-key", self.path("server.key"), *flags)
        self.addCleanup(server.clean_up)
        return server

    def test_token_is_sent_over_tls(self):
        digest = run(BIN / "dla-server", "--hash-token", input="secret-of-the-shop-0123456789").strip()
        (self.folder / "tokens").write_text(f"shop infer {digest}\n")
        server = self.start("--token-file", self.path("tokens"))
        tls = {"tls_ca": self.path("ca.pem"), "timeout": 20}
        with dla_serve.Client(server.grpc, token="secret-of-the-shop-0123456789", **tls) as client:
            self.assertEqual(client.classify(PHOTOS[0]).model, "flowers5")
            (result,) = client.classify_many(PHOTOS[:1])
            self.assertIsNone(result.error)
            self.assertEqual(client.models()[0].name, "flowers5")
        with dla_serve.Client(server.grpc, **tls) as client:
            for call in (lambda: client.classify(PHOTOS[0]), lambda: list(client.classify_many(PHOTOS))):
                with self.assertRaises(dla_serve.DlaError) as refused:
                    call()
                self.assertIs(refused.exception.code, Code.UNAUTHENTICATED)

    def test_mutual_tls_shows_the_callers_certificate(self):
        server = self.start("--tls-client-ca", self.path("ca.pem"))
        with dla_serve.Client(server.grpc, tls_ca=self.path("ca.pem"), tls_cert=self.path("caller.pem"),
                              tls_key=self.path("caller.key")) as client:
            self.assertEqual(client.classify(PHOTOS[0]).model, "flowers5")
        for ways in ({"tls_ca": self.path("ca.pem")}, {}):
            with dla_serve.Client(server.grpc, timeout=1, **ways) as client, \
                    self.assertRaises(dla_serve.DlaError) as refused:
                client.classify(PHOTOS[0])
            self.assertIs(refused.exception.code, Code.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
