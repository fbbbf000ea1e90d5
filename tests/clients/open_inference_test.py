#!/usr/bin/env python3
"""Triton's own Python client, gRPC's health client and its reflection client against a real server.

Run with the folder of the built programs in DLA_BIN. What they say of the embedded model is compared
with dla.v1.Classifier's answer where there is one, else with each other.
"""

import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    import grpc
    import numpy as np
    import tritonclient.grpc as triton
    import tritonclient.grpc.aio as triton_aio
    from google.protobuf import descriptor_pool
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import \
        ProtoReflectionDescriptorDatabase
    from tritonclient.grpc import service_pb2, service_pb2_grpc
    from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory
except ImportError as missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from serving import BIN, PHOTOS, ROOT, Server  # noqa: E402

MODEL = "flowers5"

def image_input(photos):
    tensor = triton.InferInput("image", [len(photos)], "BYTES")
    tensor.set_data_from_numpy(np.array(photos, dtype=np.object_))
    return tensor


def outputs(*names):
    return [triton.InferRequestedOutput(name) for name in names]


class Case(unittest.TestCase):
    def refused(self, code, *words):
        """What the block raises has the code and all the words."""
        case = self

        class Refusal:
            def __enter__(self):
                return self

            def __exit__(self, kind, error, trace):
                case.assertIsNotNone(kind, "nothing was refused")
                case.assertIsInstance(error, InferenceServerException)
                case.assertEqual(error.status(), f"StatusCode.{code}", error)
                for word in words:
                    case.assertIn(word, error.message())
                return True

        return Refusal()


class OpenInferenceTest(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("dla-server")
        cls.client = triton.InferenceServerClient(cls.server.grpc)
        cls.photos = [path.read_bytes() for path in PHOTOS]
        cls.metadata = cls.client.get_model_metadata(MODEL)
        shape = {tensor.name: list(tensor.shape) for tensor in cls.metadata.inputs}["input"]
        cls.height, cls.width = shape[2:]

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        code = cls.server.stop()
        if code != 0:
            raise AssertionError(f"the server ended with {code}")

    def infer(self, photos, *names, **options):
        return self.client.infer(MODEL, [image_input(photos)], outputs=outputs(*names), **options)

    # What the server says of itself.

    def test_server_is_live_and_ready_and_names_itself(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        metadata = self.client.get_server_metadata()
        self.assertEqual(metadata.name, "dla-serve")
        self.assertIn("classification", metadata.extensions)
        self.assertIn("statistics", metadata.extensions)

    def test_model_is_ready_by_name_and_version(self):
        self.assertTrue(self.client.is_model_ready(MODEL))
        self.assertTrue(self.client.is_model_ready(MODEL, "1"))
        self.assertFalse(self.client.is_model_ready(MODEL, "2"))
        self.assertFalse(self.client.is_model_ready("nobody"))

    def test_metadata_and_config_describe_the_same_tensors(self):
        config = self.client.get_model_config(MODEL).config
        self.assertEqual([t.name for t in self.metadata.inputs], ["image", "pixels", "input"])
        self.assertEqual([t.datatype for t in self.metadata.inputs], ["BYTES", "UINT8", "FP32"])
        self.assertEqual([t.name for t in self.metadata.inputs], [t.name for t in config.input])
        self.assertEqual([list(t.shape) for t in self.metadata.outputs],
                         [list(t.dims) for t in config.output])
        self.assertEqual([t.name for t in self.metadata.outputs],
                         ["probabilities", "logits", "embedding", "labels", "indices"])
        self.assertEqual(list(self.metadata.versions), ["1"])
        self.assertGreater(config.instance_group[0].count, 0)

    def test_index_lists_the_model(self):
        models = self.client.get_model_repository_index().models
        self.assertEqual([(m.name, m.version, m.state) for m in models], [(MODEL, "1", "READY")])

    # Inference.

    def test_photos_are_classified(self):
        result = self.infer(self.photos, "probabilities", "labels", "indices", request_id="seven")
        n = len(self.photos)
        self.assertEqual(result.get_response().id, "seven")
        self.assertEqual(result.get_response().model_name, MODEL)
        self.assertEqual(result.get_response().model_version, "1")
        probabilities = result.as_numpy("probabilities")
        self.assertEqual(probabilities.shape, (n, 5))
        np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(n), rtol=1e-5)
        np.testing.assert_array_equal(result.as_numpy("indices")[:, 0], probabilities.argmax(axis=1))
        self.assertEqual(result.as_numpy("labels").shape, (n, 5))
        answer = subprocess.run(
            [BIN / "dla-client", "classify", "--server", self.server.grpc, "--format", "csv",
             "--top-k", "1", *PHOTOS], capture_output=True, text=True, check=True).stdout
        for path, labels in zip(PHOTOS, result.as_numpy("labels")):
            line = next(line for line in answer.splitlines() if path.name in line)
            self.assertIn(labels[0].decode(), line)

    def test_only_what_is_asked_for_comes(self):
        response = self.infer(self.photos[:1], "embedding").get_response()
        self.assertEqual([output.name for output in response.outputs], ["embedding"])
        self.assertEqual(len(response.raw_output_contents), 1)

    def test_all_outputs_come_where_none_is_named(self):
        result = self.client.infer(MODEL, [image_input(self.photos[:1])])
        self.assertEqual(len(result.get_response().outputs), 5)
        logits = result.as_numpy("logits")[0].astype(np.float64)
        softmax = np.exp(logits - logits.max())
        np.testing.assert_allclose(result.as_numpy("probabilities")[0], softmax / softmax.sum(),
                                   rtol=1e-5)

    def test_more_photos_than_a_batch_holds_come_back_in_order(self):
        photos = [self.photos[i % len(self.photos)] for i in range(100)]
        indices = self.infer(photos, "indices").as_numpy("indices")[:, 0]
        alone = [self.infer([photo], "indices").as_numpy("indices")[0, 0] for photo in self.photos]
        self.assertEqual(list(indices), [alone[i % len(alone)] for i in range(100)])

    def test_top_k_is_a_parameter_of_the_request(self):
        result = self.infer(self.photos[:2], "labels", "indices", parameters={"top_k": 2})
        self.assertEqual(result.as_numpy("indices").shape, (2, 2))
        self.assertEqual(result.as_numpy("labels").shape, (2, 2))

    def test_classification_strings_are_as_triton_writes_them(self):
        wanted = [triton.InferRequestedOutput("probabilities", class_count=3),
                  triton.InferRequestedOutput("labels")]
        result = self.client.infer(MODEL, [image_input(self.photos[:1])], outputs=wanted)
        rows = [row.decode().split(":") for row in result.as_numpy("probabilities")[0]]
        self.assertEqual(len(rows), 3)
        self.assertEqual([row[2] for row in rows],
                         [label.decode() for label in result.as_numpy("labels")[0][:3]])
        values = [float(row[0]) for row in rows]
        self.assertEqual(values, sorted(values, reverse=True))

    def test_pixels_of_any_size_are_resized_by_the_server(self):
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 256, (3, 40, 300, 3), dtype=np.uint8)
        tensor = triton.InferInput("pixels", pixels.shape, "UINT8")
        tensor.set_data_from_numpy(pixels)
        self.assertEqual(
            self.client.infer(MODEL, [tensor]).as_numpy("probabilities").shape, (3, 5))

    def test_normalized_input_answers_as_the_same_pixels_do(self):
        rng = np.random.default_rng(2)
        pixels = rng.integers(0, 256, (2, self.height, self.width, 3), dtype=np.uint8)
        by_pixels = triton.InferInput("pixels", pixels.shape, "UINT8")
        by_pixels.set_data_from_numpy(pixels)
        # flowers5 was trained with ImageNet's mean and deviation.
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        floats = (((pixels / 255) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
        by_floats = triton.InferInput("input", floats.shape, "FP32")
        by_floats.set_data_from_numpy(np.ascontiguousarray(floats))
        np.testing.assert_allclose(
            self.client.infer(MODEL, [by_floats]).as_numpy("probabilities"),
            self.client.infer(MODEL, [by_pixels]).as_numpy("probabilities"), atol=0.02)

    def test_typed_contents_are_answered_in_typed_contents(self):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(self.server.grpc))
        request = service_pb2.ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(self.photos[0])
        response = stub.ModelInfer(request)
        self.assertFalse(response.raw_output_contents)
        by_name = {output.name: output.contents for output in response.outputs}
        raw = self.client.infer(MODEL, [image_input(self.photos[:1])])
        np.testing.assert_array_equal(np.array(by_name["logits"].fp32_contents, dtype=np.float32),
                                      raw.as_numpy("logits")[0])
        self.assertEqual(by_name["labels"].bytes_contents[0], raw.as_numpy("labels")[0][0])
        self.assertEqual(by_name["indices"].int_contents[0], raw.as_numpy("indices")[0][0])

    def test_asynchronous_requests(self):
        answers = queue.Queue()
        for _ in range(20):
            self.client.async_infer(MODEL, [image_input(self.photos[:1])],
                                    callback=lambda result, error: answers.put((result, error)))
        for _ in range(20):
            result, error = answers.get(timeout=60)
            self.assertIsNone(error)
            self.assertEqual(result.as_numpy("probabilities").shape, (1, 5))

    def test_asyncio_client(self):
        import asyncio

        async def ask():
            async with triton_aio.InferenceServerClient(self.server.grpc) as client:
                self.assertTrue(await client.is_model_ready(MODEL))
                results = await asyncio.gather(*[client.infer(MODEL, [image_input([photo])])
                                                 for photo in self.photos])
                return [result.as_numpy("indices")[0, 0] for result in results]

        expected = self.infer(self.photos, "indices").as_numpy("indices")[:, 0]
        self.assertEqual(asyncio.run(ask()), list(expected))

    def test_stream_answers_every_request_by_its_id(self):
        answers = queue.Queue()
        client = triton.InferenceServerClient(self.server.grpc)
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for i in range(200):
            client.async_stream_infer(MODEL, [image_input([self.photos[i % len(self.photos)]])],
                                      request_id=str(i), outputs=outputs("indices"))
        client.async_stream_infer(MODEL, [image_input([b"no photo"])], request_id="bad")
        expected = self.infer(self.photos, "indices").as_numpy("indices")[:, 0]
        seen, errors = {}, []
        for _ in range(201):
            result, error = answers.get(timeout=60)
            if error is not None:
                errors.append(error)
                continue
            seen[int(result.get_response().id)] = result.as_numpy("indices")[0, 0]
        client.stop_stream()
        client.close()
        self.assertEqual(seen, {i: expected[i % len(expected)] for i in range(200)})
        self.assertEqual(len(errors), 1)
        self.assertIn("image[0]", errors[0].message())

    def test_statistics_count_what_was_asked(self):
        def read():
            return self.client.get_inference_statistics(MODEL, "1").model_stats[0]

        before = read()
        self.infer(self.photos[:3], "indices")
        with self.refused("INVALID_ARGUMENT"):
            self.infer([b"no photo"], "indices")
        after = read()
        self.assertEqual(after.inference_count - before.inference_count, 3)
        self.assertGreaterEqual(after.execution_count - before.execution_count, 1)
        stats = after.inference_stats
        self.assertEqual(stats.success.count - before.inference_stats.success.count, 1)
        self.assertEqual(stats.fail.count - before.inference_stats.fail.count, 1)
        for stage in (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output):
            self.assertGreater(stage.ns, 0)
        self.assertEqual(sum(batch.batch_size * batch.compute_infer.count
                             for batch in after.batch_stats), after.inference_count)
        self.assertEqual(len(self.client.get_inference_statistics().model_stats), 1)

    def test_timeout_is_a_parameter_of_the_request(self):
        with self.refused("DEADLINE_EXCEEDED"):
            self.infer(self.photos, "indices", timeout=1)
        self.infer(self.photos, "indices", timeout=60_000_000)

    # Bad input.

    def test_one_bad_photo_fails_its_request_and_is_named(self):
        with self.refused("INVALID_ARGUMENT", "image[1]"):
            self.infer([self.photos[0], b"text", self.photos[1]], "indices")

    def test_unknown_names(self):
        with self.refused("NOT_FOUND", "nobody", MODEL):
            self.client.infer("nobody", [image_input(self.photos[:1])])
        with self.refused("NOT_FOUND"):
            self.client.infer(MODEL, [image_input(self.photos[:1])], model_version="7")
        with self.refused("INVALID_ARGUMENT", "empty"):
            self.client.get_model_metadata("")
        with self.refused("INVALID_ARGUMENT", "scores"):
            self.infer(self.photos[:1], "scores")
        with self.refused("INVALID_ARGUMENT", "colour"):
            self.infer(self.photos[:1], "labels", parameters={"colour": 1})
        with self.refused("INVALID_ARGUMENT", "priority"):
            self.infer(self.photos[:1], "labels", priority=3)

    def raw(self, name="image", datatype="BYTES", shape=(1,), contents=(b"",), more=()):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        request = service_pb2.ModelInferRequest(model_name=MODEL)
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        for other in more:
            request.inputs.add(name=other, datatype="FP32", shape=[1])
        request.raw_input_contents.extend(contents)
        with self.assertRaises(grpc.RpcError) as refusal:
            stub.ModelInfer(request)
        return refusal.exception.code().name, refusal.exception.details()

    def test_broken_tensors_are_refused_by_name(self):
        self.channel = grpc.insecure_channel(self.server.grpc)
        size = [self.height, self.width]
        one = (1).to_bytes(4, "little")
        cases = {
            "datatype": dict(datatype="FP32"),
            "takes [n]": dict(shape=[1, 2, 3]),
            "1 to 256 photos": dict(shape=[2**40]),
            "shape [-1]": dict(shape=[-1]),
            "ends before element 0": dict(contents=[b"\1\0"]),
            "0 are left": dict(contents=[one]),
            "beyond its 1 elements": dict(contents=[one + b"aa"]),
            "takes [n, h, w, 3]": dict(name="pixels", datatype="UINT8", shape=[1, 2, 2, 4]),
            "photos of 1 to": dict(name="pixels", datatype="UINT8", shape=[1, 2**40, 2**40, 3]),
            "needs 12 bytes": dict(name="pixels", datatype="UINT8", shape=[1, 2, 2, 3],
                                   contents=[b"abc"]),
            "takes [n, 3,": dict(name="input", datatype="FP32", shape=[1, 3, 5, 5]),
            "it came with 4": dict(name="input", datatype="FP32", shape=[1, 3, *size],
                                   contents=[b"\0\0\0\0"]),
            "exactly one of": dict(more=["pixels"]),
            "entries for 1 input": dict(contents=[b"", b""]),
            "no input": dict(name="photo"),
            "1000001 entries": dict(more=["x"] * 1_000_000),
        }
        for words, request in cases.items():
            with self.subTest(words):
                code, message = self.raw(**request)
                self.assertEqual(code, "INVALID_ARGUMENT", message)
                self.assertIn(words, message)
        self.assertTrue(self.client.is_server_live())

    def test_shared_memory_is_off_unless_allowed(self):
        with self.refused("UNIMPLEMENTED", "--allow-shared-memory"):
            self.client.register_system_shared_memory("a", "/a", 64)
        tensor = triton.InferInput("image", [1], "BYTES")
        tensor.set_shared_memory("a", 64)
        with self.refused("INVALID_ARGUMENT", "--allow-shared-memory"):
            self.client.infer(MODEL, [tensor])

    def test_what_is_not_supported_says_so(self):
        with self.refused("UNIMPLEMENTED", "CUDA"):
            self.client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 64)
        with self.refused("UNIMPLEMENTED"):
            self.client.get_trace_settings()
        with self.refused("UNIMPLEMENTED", "--log-level"):
            self.client.update_log_settings({"log_verbose_level": 1})
        self.assertFalse(self.client.get_cuda_shared_memory_status().regions)

    # gRPC's own services.

    def test_health_of_the_server_and_of_each_model(self):
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(self.server.grpc))
        serving = health_pb2.HealthCheckResponse.SERVING
        for service in ("", MODEL):
            self.assertEqual(
                stub.Check(health_pb2.HealthCheckRequest(service=service)).status, serving)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            self.assertEqual(next(watch).status, serving)
            watch.cancel()
        with self.assertRaises(grpc.RpcError) as refusal:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        self.assertEqual(refusal.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_health_tells_watchers_when_the_server_drains(self):
        server = Server("dla-server")
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.grpc))
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
        self.assertEqual(server.process.wait(60), 0)
        server.clean_up()

    def test_reflection_lists_and_describes_every_service(self):
        database = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(self.server.grpc))
        services = set(database.get_services())
        self.assertLessEqual({"dla.v1.Classifier", "inference.GRPCInferenceService",
                              "grpc.health.v1.Health"}, services)
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("inference.GRPCInferenceService")
        self.assertEqual(len(service.methods), 20)


class SharedMemoryTest(Case):
    NAME = f"dla_serve_test_{os.getpid()}"

    def setUp(self):
        self.server = Server("dla-server", "--allow-shared-memory", "true")
        self.client = triton.InferenceServerClient(self.server.grpc)
        self.photo = PHOTOS[0].read_bytes()
        serialized = serialize_byte_tensor(np.array([self.photo], dtype=np.object_)).item()
        self.size = len(serialized)
        self.output_offset = self.size + 64
        self.region = shared_memory.create_shared_memory_region(
            self.NAME, "/" + self.NAME, self.output_offset + 1024)
        shared_memory.set_shared_memory_region(
            self.region, [np.frombuffer(serialized, dtype=np.uint8)])

    def tearDown(self):
        shared_memory.destroy_shared_memory_region(self.region)
        self.client.close()
        self.assertEqual(self.server.stop(), 0)

    def test_tensors_travel_through_shared_memory(self):
        self.client.register_system_shared_memory("photos", "/" + self.NAME,
                                                  self.output_offset + 1024)
        self.assertEqual(list(self.client.get_system_shared_memory_status().regions), ["photos"])
        tensor = triton.InferInput("image", [1], "BYTES")
        tensor.set_shared_memory("photos", self.size)
        wanted = triton.InferRequestedOutput("probabilities")
        wanted.set_shared_memory("photos", 1024, self.output_offset)
        result = self.client.infer(MODEL, [tensor], outputs=[wanted])
        self.assertEqual(list(result.get_response().raw_output_contents), [b""])
        actual = shared_memory.get_contents_as_numpy(self.region, np.float32, [1, 5],
                                                     self.output_offset)
        expected = self.client.infer(MODEL, [image_input([self.photo])])
        np.testing.assert_array_equal(actual, expected.as_numpy("probabilities"))
        self.client.unregister_system_shared_memory()
        with self.refused("NOT_FOUND", "photos"):
            self.client.infer(MODEL, [tensor])

    def test_what_lies_outside_the_region_is_refused(self):
        with self.refused("INVALID_ARGUMENT"):
            self.client.register_system_shared_memory("photos", "/" + self.NAME, 1 << 40)
        with self.refused("NOT_FOUND"):
            self.client.register_system_shared_memory("photos", "/nothing_here", 16)
        self.client.register_system_shared_memory("photos", "/" + self.NAME, 64)
        tensor = triton.InferInput("image", [1], "BYTES")
        for size, offset in ((65, 0), (1, 64), (1 << 62, 1 << 62)):
            tensor.set_shared_memory("photos", size, offset)
            with self.subTest(size=size, offset=offset), self.refused("INVALID_ARGUMENT"):
                self.client.infer(MODEL, [tensor])
        wanted = triton.InferRequestedOutput("logits")
        wanted.set_shared_memory("photos", 8)
        with self.refused("INVALID_ARGUMENT", "20 bytes"):
            self.client.infer(MODEL, [image_input([self.photo])], outputs=[wanted])


class ResponseCacheTest(Case):
    def test_an_equal_photo_is_answered_without_a_forward_pass(self):
        server = Server("dla-server", "--cache-config", "local,size=1000000")
        client = triton.InferenceServerClient(server.grpc)
        photo = image_input([PHOTOS[0].read_bytes()])
        first = client.infer(MODEL, [photo]).as_numpy("logits")
        second = client.infer(MODEL, [photo]).as_numpy("logits")
        np.testing.assert_array_equal(first, second)
        client.infer(MODEL, [photo], outputs=outputs("embedding"))  # other options, another answer
        stats = client.get_inference_statistics(MODEL).model_stats[0]
        self.assertEqual(stats.inference_count, 2)
        self.assertEqual(stats.inference_stats.cache_hit.count, 1)
        self.assertEqual(stats.inference_stats.cache_miss.count, 2)
        client.close()
        self.assertEqual(server.stop(), 0)


class ModelControlTest(Case):
    """Two copies of the embedded model's folder, as versions 1 and 2 of one model."""

    def setUp(self):
        self.repository = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.repository.name) / "flowers"
        for version in ("1", "2"):
            shutil.copytree(ROOT / "model/zoo/flowers5", self.folder / version)
        self.photo = image_input([PHOTOS[0].read_bytes()])
        self.server = None

    def start(self, *flags):
        self.server = Server("dla-server", "--model-repository", self.repository.name, *flags)
        self.client = triton.InferenceServerClient(self.server.grpc)
        self.health = health_pb2_grpc.HealthStub(grpc.insecure_channel(self.server.grpc))

    def tearDown(self):
        self.client.close()
        self.assertEqual(self.server.stop(), 0)
        self.repository.cleanup()

    def index(self):
        return {model.name: model for model in self.client.get_model_repository_index().models}

    def version(self, asked=""):
        return self.client.infer("flowers", [self.photo], model_version=asked,
                                 outputs=outputs("indices")).get_response().model_version

    def status(self):
        return self.health.Check(health_pb2.HealthCheckRequest(service="flowers")).status

    def test_models_are_loaded_and_unloaded_by_name(self):
        self.start("--model-control", "explicit")
        self.assertEqual(self.index()["flowers"].state, "UNAVAILABLE")
        self.assertFalse(self.client.is_model_ready("flowers"))
        self.client.load_model("flowers")
        self.assertTrue(self.client.is_model_ready("flowers"))
        self.assertEqual(self.status(), health_pb2.HealthCheckResponse.SERVING)
        self.assertEqual(self.version(), "2")
        self.client.unload_model("flowers")
        self.assertFalse(self.client.is_model_ready("flowers"))
        self.assertEqual(self.status(), health_pb2.HealthCheckResponse.NOT_SERVING)
        with self.refused("NOT_FOUND", "flowers"):
            self.version()
        with self.refused("NOT_FOUND", "weeds"):
            self.client.load_model("weeds")
        with self.refused("INVALID_ARGUMENT", "colour"):
            self.client.load_model("flowers", config='{"colour": "red"}')

    def test_labels_lead_to_versions_and_are_switched_while_serving(self):
        self.start("--model-control", "explicit")
        self.client.load_model("flowers",
                               config='{"version_labels": {"stable": 1, "canary": 2}}')
        self.assertEqual([self.version(asked) for asked in ("", "stable", "canary", "2")],
                         ["1", "1", "2", "2"])
        self.assertEqual(list(self.client.get_model_metadata("flowers").versions), ["1", "2"])
        self.client.load_model("flowers", config='{"version_labels": {"stable": 2}}')
        self.assertEqual(self.version(), "2")
        with self.refused("NOT_FOUND", "canary"):
            self.version("canary")

    def test_labels_are_read_again_on_sighup(self):
        config = pathlib.Path(self.repository.name) / ".serve.yaml"
        config.write_text("version-label: ['flowers:stable=1', 'flowers:canary=2']\n")
        self.start("--config", config)
        self.assertEqual([self.version(asked) for asked in ("", "canary")], ["1", "2"])
        config.write_text("version-label: ['flowers:stable=2']\n")
        self.server.process.send_signal(signal.SIGHUP)
        self.server.await_log("version labels are set")
        self.assertEqual(self.version(), "2")
        config.write_text("version-label: ['flowers:stable=9']\n")
        said = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        self.server.await_log("9", after=said)
        self.assertEqual(self.version(), "2")

    def test_a_reload_under_load_fails_no_request(self):
        self.start("--model-control", "explicit", "--load-model", "flowers")
        stop, answers, errors = threading.Event(), [], []

        def ask():
            with triton.InferenceServerClient(self.server.grpc) as client:
                while not stop.is_set():
                    try:
                        answers.append(client.infer("flowers", [self.photo]).get_response().id)
                    except InferenceServerException as error:
                        errors.append(error)

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        for _ in range(3):
            self.client.load_model("flowers")
        stop.set()
        for caller in callers:
            caller.join()
        self.assertEqual(errors, [])
        self.assertGreater(len(answers), 8)

    def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(self):
        self.start("--model-control", "explicit", "--load-model", "flowers")
        (self.folder / "3").mkdir()
        (self.folder / "3/config.json").write_text('{"architecture": "vgg"}')
        with self.assertRaises(InferenceServerException) as refusal:
            self.client.load_model("flowers")
        self.assertIn("flowers/3", refusal.exception.message())
        self.assertEqual(self.version(), "2")
        reasons = [model.reason for model in self.client.get_model_repository_index().models]
        self.assertTrue(any("flowers/3" in reason for reason in reasons), reasons)

    def test_control_is_refused_where_it_is_not_allowed(self):
        self.start()
        for change in (self.client.load_model, self.client.unload_model):
            with self.refused("FAILED_PRECONDITION", "--model-control"):
                change("flowers")

    def test_polling_finds_a_new_version_and_a_removed_model(self):
        shutil.rmtree(self.folder / "2")
        self.start("--model-control", "poll", "--repository-poll-seconds", "1")
        self.assertEqual(self.version(), "1")
        watch = self.health.Watch(health_pb2.HealthCheckRequest(service="flowers"))
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        self.folder.rename(self.folder.parent / ".flowers")
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
        shutil.copytree(ROOT / "model/zoo/flowers5", self.folder / "7")
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        self.assertEqual(self.version(), "7")
        watch.cancel()


if __name__ == "__main__":
    unittest.main(verbosity=2)
