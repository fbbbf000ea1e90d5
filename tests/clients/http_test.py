#!/usr/bin/env python3
"""curl and Triton's own HTTP client against a real server, whose gRPC port says what is right."""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
    import tritonclient.grpc as triton_grpc
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException
except (ImportError, RuntimeError) as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from serving import BIN, PHOTOS, Server  # noqa: E402

MODEL = "flowers5"


class HttpTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("dla-server")
        cls.url = f"http://{cls.server.http}"
        cls.client = triton.InferenceServerClient(cls.server.http)
        cls.grpc = triton_grpc.InferenceServerClient(cls.server.grpc)
        cls.photos = [path.read_bytes() for path in PHOTOS]

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.grpc.close()
        code = cls.server.stop()
        if code != 0:
            raise AssertionError(f"the server ended with {code}")

    def curl(self, *arguments, stdin=None):
        """Status, content type and body."""
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code} %{content_type}", *arguments],
            input=stdin, capture_output=True, check=False)
        self.assertIn(done.returncode, (0, 55, 56), done.stderr)  # 55, 56: it was still sending
        body, _, last = done.stdout.rpartition(b"\n")
        status, _, kind = last.decode().partition(" ")
        return int(status), kind, body

    def problem(self, status, *arguments, stdin=None):
        got, kind, body = self.curl(*arguments, stdin=stdin)
        self.assertEqual((got, kind), (status, "application/problem+json"), body)
        problem = json.loads(body)
        self.assertEqual(problem["status"], status)
        return problem

    def classify_url(self, query=""):
        return f"{self.url}/v1/models/{MODEL}:classify{query}"

    def image(self, photos, module=triton, **options):
        tensor = module.InferInput("image", [len(photos)], "BYTES")
        tensor.set_data_from_numpy(np.array(photos, dtype=np.object_), **options)
        return tensor

    def test_curl_and_dla_client_get_the_same_classes(self):
        answer = subprocess.run(
            [BIN / "dla-client", "classify", "--server", self.server.grpc, "--format", "csv",
             "--top-k", "1", *PHOTOS], capture_output=True, text=True, check=True)
        expected = {pathlib.Path(row["file"]).name: row for row in csv.DictReader(
            answer.stdout.splitlines())}
        self.assertEqual(len(expected), len(PHOTOS))
        for path in PHOTOS:
            status, kind, body = self.curl("-H", "Content-Type: image/jpeg", "--data-binary",
                                           f"@{path}", self.classify_url("?top_k=1"))
            self.assertEqual((status, kind), (200, "application/json"), body)
            best = json.loads(body)["classes"][0]
            self.assertEqual(best["label"], expected[path.name]["label"])
            self.assertAlmostEqual(best["probability"],
                                   float(expected[path.name]["probability"]), delta=1e-3)

    def test_a_form_of_all_photos_is_answered_in_their_order(self):
        files = [argument for path in PHOTOS for argument in ("-F", f"photo=@{path}")]
        status, _, body = self.curl(*files, self.classify_url())
        self.assertEqual(status, 200, body)
        results = json.loads(body)["results"]
        self.assertEqual([result["name"] for result in results], [path.name for path in PHOTOS])
        for result in results:
            self.assertIn(result["classes"][0]["label"], result["name"])

    def test_bad_requests_are_problems(self):
        text = ("-H", "Content-Type: image/jpeg", "--data-binary", "@-")
        self.assertIn("got text",
                      self.problem(400, *text, self.classify_url(), stdin=b"no photo")["detail"])
        self.assertIn("form-urlencoded", self.problem(
            415, "--data-binary", "@-", self.classify_url(), stdin=self.photos[0])["detail"])
        self.assertIn("flowers5", self.problem(
            404, *text, f"{self.url}/v1/models/cats:classify", stdin=self.photos[0])["detail"])
        broken = self.problem(400, "-d", '{"inputs": [', f"{self.url}/v2/models/{MODEL}/infer")
        self.assertIn("no JSON", broken["detail"])
        self.assertEqual(broken["error"], broken["detail"])

    def test_an_upload_of_5_gb_is_refused_before_it_is_sent(self):
        with tempfile.NamedTemporaryFile() as sparse:
            sparse.truncate(5_000_000_000)
            problem = self.problem(413, "-H", "Content-Type: image/jpeg", "-T", sparse.name, "-X",
                                   "POST", self.classify_url())
        self.assertIn("5000000000", problem["detail"])

    def test_triton_asks_after_health_and_models(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready(MODEL))
        self.assertTrue(self.client.is_model_ready(MODEL, "1"))
        self.assertFalse(self.client.is_model_ready("cats"))
        self.assertEqual(self.client.get_server_metadata()["name"], "dla-serve")
        over_grpc = self.grpc.get_model_metadata(MODEL, as_json=True)
        over_http = self.client.get_model_metadata(MODEL)
        self.assertEqual(over_http["versions"], over_grpc["versions"])
        for side in ("inputs", "outputs"):
            self.assertEqual(
                [(tensor["name"], tensor["datatype"], tensor["shape"])
                 for tensor in over_http[side]],
                [(tensor["name"], tensor["datatype"], [int(size) for size in tensor["shape"]])
                 for tensor in over_grpc[side]])
        self.assertEqual(self.client.get_model_config(MODEL)["max_batch_size"], 0)
        stats = self.client.get_inference_statistics(MODEL)["model_stats"]
        self.assertEqual([each["name"] for each in stats], [MODEL])
        self.assertEqual(self.client.get_model_repository_index()[0]["state"], "READY")

    def test_triton_gets_over_http_what_it_gets_over_grpc(self):
        names = ("probabilities", "logits", "embedding", "labels", "indices")
        expected = self.grpc.infer(
            MODEL, [self.image(self.photos, triton_grpc)],
            outputs=[triton_grpc.InferRequestedOutput(name) for name in names])
        for binary in (True, False):
            got = self.client.infer(
                MODEL, [self.image(self.photos)], request_id="7",
                outputs=[triton.InferRequestedOutput(name, binary_data=binary) for name in names])
            self.assertEqual(got.get_response()["id"], "7")
            for name in names:
                ours, theirs = got.as_numpy(name), expected.as_numpy(name)
                self.assertEqual(ours.shape, theirs.shape)
                if name == "labels":
                    as_bytes = [text if binary else text.encode() for text in ours.ravel()]
                    self.assertEqual(as_bytes, list(theirs.ravel()))
                else:
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)

    def test_triton_sends_pixels_in_binary_and_normalised_photos_as_json(self):
        grey = np.full((1, 300, 200, 3), 127, np.uint8)
        normalised = np.zeros((1, 3, 224, 224), np.float32)
        for name, array, kind, binary in (("pixels", grey, "UINT8", True),
                                          ("input", normalised, "FP32", False)):
            answers = []
            for module, client, options in ((triton, self.client, {"binary_data": binary}),
                                            (triton_grpc, self.grpc, {})):
                tensor = module.InferInput(name, array.shape, kind)
                tensor.set_data_from_numpy(array, **options)
                answers.append(client.infer(MODEL, [tensor]).as_numpy("probabilities"))
            np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-4)

    def test_triton_sees_errors(self):
        wrong_shape = self.image(self.photos[:1])
        wrong_shape.set_shape([2])
        for model, tensor, words in (
                ("cats", self.image(self.photos[:1]), "no model is named"),
                (MODEL, self.image([b"no photo"]), r"image\[0\]"),
                (MODEL, wrong_shape, "ends before element 1 of 2")):
            with self.assertRaisesRegex(InferenceServerException, words):
                self.client.infer(model, [tensor])
        with self.assertRaisesRegex(InferenceServerException, "--model-control explicit"):
            self.client.unload_model(MODEL)

    def test_metrics_count_requests_over_http(self):
        before = self.client.get_inference_statistics(MODEL)["model_stats"][0]
        self.client.infer(MODEL, [self.image(self.photos[:2])])
        after = self.client.get_inference_statistics(MODEL)["model_stats"][0]
        success = [int(stats["inference_stats"]["success"]["count"]) for stats in (before, after)]
        self.assertEqual(success[1], success[0] + 1)


if __name__ == "__main__":
    unittest.main()
