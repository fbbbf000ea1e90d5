"""The kinds of clients of the soak. Each is a function of a Run that works until run.going() ends.

A request whose answer the client saw is counted under the code that it saw, which the server must have
counted, too. A request that the client gave up may be counted by the server under any code or not at
all: it is "given up".
"""

import collections
import functools
import os
import pathlib
import queue
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, message_factory
from tritonclient.grpc import service_pb2, service_pb2_grpc

LOST_AFTER = 60  # seconds without an answer
CODES = {code.value[0]: code.name for code in grpc.StatusCode}

# What may happen to any good photo: answered; refused at the door; hit by a fault.
GOOD = {"OK", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"}


class Tally:
    """What one client saw. Merged over processes as plain data."""

    def __init__(self):
        self.answers = collections.Counter()  # (kind, model, method, code)
        self.uncoded = collections.Counter()  # (model, method): refused without a code in the answer
        self.given_up = collections.Counter()  # (model, method)
        self.actions = collections.Counter()  # what was done that is no request
        self.problems = []
        self.lock = threading.Lock()

    def add(self, other):
        for mine, theirs in zip(self.counters(), other.counters()):
            mine.update(theirs)
        self.problems += other.problems

    def counters(self):
        return self.answers, self.uncoded, self.given_up, self.actions

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state):
        vars(self).update(state, lock=threading.Lock())


class Run:
    """One client of one kind: its server, its end, its dice and what it saw."""

    def __init__(self, job, kind, model, number, tally):
        self.job, self.kind, self.model, self.tally = job, kind, model, tally
        self.random = random.Random(f"{job.seed}/{kind}/{model}/{number}")
        self.left = job.requests
        self.channel_options = [("grpc.use_local_subchannel_pool", 1),
                                ("grpc.enable_retries", 0),
                                ("grpc.max_send_message_length", -1),
                                ("grpc.max_receive_message_length", -1)]

    def going(self):
        self.left -= 1
        return self.left >= 0 and time.time() < self.job.end

    def pause(self, most):
        time.sleep(self.random.uniform(0, most))

    def channel(self, address=None):
        return grpc.insecure_channel(address or self.job.grpc, options=self.channel_options)

    def saw(self, method, code, allowed, model=None):
        model = self.model if model is None else model
        if code == "NOT_FOUND":  # then the server has no model to charge it to
            model = ""
        with self.tally.lock:
            self.tally.answers[self.kind, model, method, code] += 1
            if code not in allowed:
                self.problem(f"{method} of {model!r} was answered {code}")

    def gave_up(self, method, count=1):
        with self.tally.lock:
            self.tally.given_up[self.model, method] += count

    def did(self, action, count=1):
        with self.tally.lock:
            self.tally.actions[action] += count

    def problem(self, text):
        self.tally.problems.append(f"{self.kind}: {text}")

    def photo(self):
        number = self.random.randrange(len(self.job.photos))
        return number, self.job.photos[number]

    def check(self, number, index):
        if index != self.job.classes[number]:
            self.problem(f"photo {number} is class {index}, not {self.job.classes[number]}")

    def allowed(self, codes=frozenset()):
        # Only models that come and go are not found.
        return GOOD | codes | ({"NOT_FOUND"} if self.model == "guest" else set())


@functools.cache
def messages():
    """{name: class} of dla.v1; by protoc, which building needs anyway. Reflection would do, too, but it
    runs on another part of gRPC, which is not built with a sanitizer."""
    proto = pathlib.Path(__file__).resolve().parent.parent.parent / "proto"
    files = subprocess.run(
        ["protoc", "--include_imports", "--descriptor_set_out=/dev/stdout", f"-I{proto}",
         "dla/v1/classifier.proto"], check=True, stdout=subprocess.PIPE).stdout
    classes = message_factory.GetMessages(descriptor_pb2.FileDescriptorSet.FromString(files).file)
    return {name.rpartition(".")[2]: kind for name, kind in classes.items() if name.startswith("dla.v1.")}


class Classifier:
    """dla.v1.Classifier on a channel."""

    def __init__(self, channel):
        self.messages = messages()
        for method, kind in (("Classify", channel.unary_unary), ("ClassifyBatch", channel.unary_unary),
                             ("ClassifyStream", channel.stream_stream)):
            setattr(self, method, kind(
                f"/dla.v1.Classifier/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=self.messages[f"{method}Response"].FromString))

    def request(self, method, **fields):
        return self.messages[f"{method}Request"](**fields)


def outcome(run, call):
    """(code, answer) of a future; LOST where it was never answered."""
    try:
        return "OK", call.result(timeout=LOST_AFTER)
    except grpc.FutureTimeoutError:
        call.cancel()
        run.problem(f"no answer within {LOST_AFTER} s")
        return "LOST", None
    except grpc.FutureCancelledError:
        return "CANCELLED", None
    except grpc.RpcError as error:
        return error.code().name, None


def infer_request(model, photos, request_id=""):
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="image", datatype="BYTES", shape=[len(photos)])
    request.outputs.add(name="indices")
    request.raw_input_contents.append(b"".join(struct.pack("<I", len(p)) + p for p in photos))
    return request


def top_classes(response, count):
    """The first class of each photo out of the output "indices"."""
    values = struct.unpack(f"<{len(response.raw_output_contents[0]) // 4}i",
                           response.raw_output_contents[0])
    return values[::len(values) // count]


# Good clients.

def classify(run):
    with run.channel() as channel:
        stub = Classifier(channel)
        while run.going():
            number, photo = run.photo()
            code, answer = outcome(run, stub.Classify.future(
                stub.request("Classify", model=run.model, image=photo, top_k=1,
                             include_embedding=run.random.random() < 0.2)))
            run.saw("Classify", code, run.allowed())
            if answer is not None:
                run.check(number, answer.classes[0].index)
            else:
                run.pause(0.02)


def classify_batch(run):
    with run.channel() as channel:
        stub = Classifier(channel)
        while run.going():
            picks = [run.photo() for _ in range(run.random.randint(1, 16))]
            bad = run.random.randrange(4 * len(picks))  # now and then one is no photo
            images = [b"no photo" if i == bad else photo for i, (_, photo) in enumerate(picks)]
            code, answer = outcome(run, stub.ClassifyBatch.future(
                stub.request("ClassifyBatch", model=run.model, images=images, top_k=1)))
            run.saw("ClassifyBatch", code, run.allowed())
            if answer is None:
                continue
            if len(answer.results) != len(picks):
                run.problem(f"{len(answer.results)} results for {len(picks)} photos")
            for i, ((number, _), result) in enumerate(zip(picks, answer.results)):
                single = CODES[result.error.code] if result.HasField("error") else "OK"
                run.did(f"photos of batches {single}")
                if single == "OK":
                    run.check(number, result.response.classes[0].index)
                if single not in (GOOD | {"INVALID_ARGUMENT"} if i == bad else GOOD) or \
                        (i == bad and single == "OK"):
                    run.problem(f"a photo of a batch was answered {single}")


class Feed:
    """Requests of a stream, at most `window` unanswered; counts what gRPC took from it."""

    def __init__(self, window):
        self.places = threading.Semaphore(window)
        self.closed = threading.Event()
        self.queue = queue.SimpleQueue()
        self.taken = 0

    def put(self, message):
        while not self.places.acquire(timeout=0.1):
            if self.closed.is_set():
                return
        self.queue.put(message)

    def end(self):
        self.queue.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        message = self.queue.get()
        if message is None:
            raise StopIteration
        self.taken += 1
        return message


def receive(call, feed, on_answer, ended):
    try:
        for answer in call:
            on_answer(answer)
            feed.places.release()
        ended.append("OK")
    except grpc.RpcError as error:
        ended.append(error.code().name)
    feed.closed.set()


def stream(run, method, open_call, make, read):
    """Streams of up to 300 photos. make(id, photo) is a message, read(answer) is (id, code, class)."""
    while run.going():
        feed, seen, photo_of, ended = Feed(run.random.choice((1, 8, 64))), collections.Counter(), {}, []

        def on_answer(answer):
            request_id, code, index = read(answer)
            seen[request_id] += 1
            if code is None:
                with run.tally.lock:
                    run.tally.uncoded[run.model, method] += 1
            else:
                run.saw(method, code, run.allowed())
            if code == "OK":
                run.check(photo_of[request_id], index)

        call = open_call(feed)
        receiver = threading.Thread(target=receive, args=(call, feed, on_answer, ended))
        receiver.start()
        for i in range(run.random.randint(1, 300)):
            if i > 0 and not run.going():
                break
            request_id = run.random.getrandbits(63)
            photo_of[request_id], photo = run.photo()
            feed.put(make(request_id, photo))
        feed.end()
        receiver.join(LOST_AFTER)
        if receiver.is_alive():
            call.cancel()
            receiver.join()
        unanswered = len(photo_of.keys() - seen.keys())
        twice = sum(count > 1 for count in seen.values())
        if unanswered or twice or seen.keys() - photo_of.keys() or ended != ["OK"]:
            run.problem(f"a {method} of {len(photo_of)} photos ended {ended} with {unanswered} unanswered, "
                        f"{twice} answered twice, {len(seen.keys() - photo_of.keys())} of unknown ids")


def classify_stream(run):
    with run.channel() as channel:
        stub = Classifier(channel)

        def read(answer):
            result = answer.result
            if result.HasField("error"):
                return answer.id, CODES[result.error.code], None
            return answer.id, "OK", result.response.classes[0].index

        stream(run, "ClassifyStream", lambda feed: stub.ClassifyStream(feed),
               lambda i, photo: stub.request(
                   "ClassifyStream", id=i,
                   request=stub.messages["ClassifyRequest"](model=run.model, image=photo, top_k=1)),
               read)


def model_infer(run):
    with run.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while run.going():
            picks = [run.photo() for _ in range(run.random.choice((1, 1, 1, 4)))]
            code, answer = outcome(run, stub.ModelInfer.future(
                infer_request(run.model, [photo for _, photo in picks])))
            run.saw("ModelInfer", code, run.allowed())
            if answer is None:
                run.pause(0.02)
                continue
            for (number, _), index in zip(picks, top_classes(answer, len(picks))):
                run.check(number, index)


def model_stream_infer(run):
    with run.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def read(answer):
            request_id = int(answer.infer_response.id)
            if answer.error_message:  # the protocol has no code here
                return request_id, None, None
            return request_id, "OK", top_classes(answer.infer_response, 1)[0]

        stream(run, "ModelStreamInfer", lambda feed: stub.ModelStreamInfer(feed),
               lambda i, photo: infer_request(run.model, [photo], str(i)), read)


def flood(run):
    """Keeps 200 requests in flight, far more than the queue holds; rests now and then, so that others get
    into the queue, too."""
    places = threading.Semaphore(200)
    with run.channel() as channel:
        stub = Classifier(channel)
        request = stub.request("Classify", model=run.model, image=run.photo()[1])

        def done(call):
            run.saw("Classify", call.code().name, run.allowed())
            places.release()

        rest = time.time() + 2
        while run.going():
            if time.time() > rest:
                run.pause(6)
                rest = time.time() + run.random.uniform(1, 4)
            if not places.acquire(timeout=LOST_AFTER):
                run.problem(f"no answer within {LOST_AFTER} s")
                break
            stub.Classify.future(request).add_done_callback(done)
            run.pause(0.005)
        for _ in range(200):
            if not places.acquire(timeout=LOST_AFTER):
                run.problem("a request of the flood was never answered")
                break


# Clients that send what cannot be answered.

def bad_requests(run):
    # UNAVAILABLE while no replica of the model works; whether that was so is judged at the end, by the log.
    job = run.job
    truncated = job.photos[0][:len(job.photos[0]) // 2]
    cases = [({"image": truncated}, "INVALID_ARGUMENT"), ({"image": b"plain text"}, "INVALID_ARGUMENT"),
             ({"image": b""}, "INVALID_ARGUMENT"), ({"image": bytes(1000)}, "INVALID_ARGUMENT"),
             ({"image": b"\xff\xd8\xff\x1b[31mred\n\r"}, "INVALID_ARGUMENT"),
             ({"image": job.photos[0], "top_k": 100000}, "INVALID_ARGUMENT"),
             ({"image": job.photos[0], "model": "no\x1b[31m\nsuch"}, "NOT_FOUND"),
             ({"image": job.declares_too_much}, "INVALID_ARGUMENT")]
    with run.channel() as channel:
        stub = Classifier(channel)
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while run.going():
            fields, expected = run.random.choice(cases)
            # One whose model or top_k is wrong has no model yet when it is refused.
            known = expected == "INVALID_ARGUMENT" and "top_k" not in fields
            fields = {"model": run.model} | fields
            if run.random.random() < 0.7 or not known:
                code, _ = outcome(run, stub.Classify.future(stub.request("Classify", **fields)))
                run.saw("Classify", code, {expected, "RESOURCE_EXHAUSTED", "UNAVAILABLE"},
                        model=run.model if known else "")
            else:
                code, _ = outcome(run, kserve.ModelInfer.future(
                    infer_request(run.model, [job.photos[0], fields["image"]])))
                run.saw("ModelInfer", code, {expected, "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"})
            run.pause(0.05)


def beyond_grpc(run):
    """Refused by gRPC itself, so the services count nothing."""
    with run.channel() as channel:
        stub = Classifier(channel)
        raw = channel.unary_unary("/dla.v1.Classifier/Classify")
        unknown = channel.unary_unary("/dla.v1.Classifier/Nothing")
        large = stub.request("Classify", model=run.model, image=bytes(run.job.max_message_bytes + 1))
        while run.going():
            call, name, expected = run.random.choice((
                (lambda: stub.Classify.future(large), "too large", {"RESOURCE_EXHAUSTED"}),
                (lambda: raw.future(b"\xff" * 100), "not protobuf", {"INTERNAL", "UNIMPLEMENTED"}),
                (lambda: unknown.future(b""), "unknown method", {"UNIMPLEMENTED"})))
            code, _ = outcome(run, call())
            run.did(f"{name}: {code}")
            if code not in expected:
                run.problem(f"a message that is {name} was answered {code}")
            run.pause(0.2)


def huge_photos(run):
    with run.channel() as channel:
        stub = Classifier(channel)
        while run.going():
            image = run.random.choice(run.job.huge)
            code, _ = outcome(run, stub.Classify.future(
                stub.request("Classify", model=run.model, image=image)))
            run.saw("Classify", code, run.allowed({"INVALID_ARGUMENT"}))
            run.pause(run.job.huge_pause)


# Clients that do not wait for their answers.

def impatient(run):
    """Deadlines from none left to barely enough, and calls that are cancelled at any time."""
    with run.channel() as channel:
        stub = Classifier(channel)
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while run.going():
            _, photo = run.photo()
            method, call, request = run.random.choice((
                ("Classify", stub.Classify, stub.request("Classify", model=run.model, image=photo)),
                ("ClassifyBatch", stub.ClassifyBatch,
                 stub.request("ClassifyBatch", model=run.model, images=[photo] * 8)),
                ("ModelInfer", kserve.ModelInfer, infer_request(run.model, [photo] * 4))))
            if run.random.random() < 0.5:
                future = call.future(request, timeout=run.random.choice((0.001, 0.005, 0.02, 0.1)))
            else:
                future = call.future(request)
                run.pause(0.03)
                future.cancel()
            code, _ = outcome(run, future)
            if code in ("DEADLINE_EXCEEDED", "CANCELLED"):
                run.gave_up(method)
            else:
                run.saw(method, code, run.allowed())


class Relay:
    """Passes one connection's bytes on, until it resets both ends."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.target = (host, int(port))
        self.ends = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.target)
        except OSError:
            return
        self.ends = [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def cut(self):
        self.listener.close()
        for end in self.ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the pump, without a FIN
            except OSError:
                pass
            end.close()


def disconnecting(run):
    """Streams whose channel is closed, or whose connection is reset, while photos are in flight."""
    Classifier(run.channel())
    while run.going():
        relay = Relay(run.job.grpc) if run.random.random() < 0.5 else None
        channel = run.channel(relay and relay.address)
        stub = Classifier(channel)
        infer = run.random.random() < 0.5
        method = "ModelStreamInfer" if infer else "ClassifyStream"
        feed, ended, received = Feed(256), [], []

        def on_answer(answer, infer=infer, method=method):
            received.append(1)
            error = answer.error_message if infer else answer.result.HasField("error")
            if infer and error:
                with run.tally.lock:
                    run.tally.uncoded[run.model, method] += 1
            else:
                run.saw(method, CODES[answer.result.error.code] if error else "OK", run.allowed())

        if infer:
            call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(feed)
        else:
            call = stub.ClassifyStream(feed)
        receiver = threading.Thread(target=receive, args=(call, feed, on_answer, ended))
        receiver.start()
        for i in range(run.random.randint(1, 60)):
            _, photo = run.photo()
            feed.put(infer_request(run.model, [photo], str(i)) if infer else stub.request(
                "ClassifyStream", id=i,
                request=stub.messages["ClassifyRequest"](model=run.model, image=photo)))
        run.pause(0.1)
        if relay is not None:
            relay.cut()
        channel.close()
        feed.end()
        receiver.join()
        run.did("streams cut off by " + ("a reset" if relay else "closing"))
        run.gave_up(method, feed.taken - len(received))


def killed(run):
    """A process of its own with a stream, which is killed. It writes a byte for each photo to be sent."""
    while run.going():
        victim = subprocess.Popen([sys.executable, pathlib.Path(__file__), run.job.grpc, run.model,
                                   *map(str, run.job.photo_paths)], stdout=subprocess.PIPE)
        os.read(victim.stdout.fileno(), 1)  # it has begun
        run.pause(0.5)
        victim.send_signal(signal.SIGKILL)
        run.gave_up("ClassifyStream", 1 + len(victim.stdout.read()))
        victim.stdout.close()
        victim.wait()
        run.did("streams cut off by kill -9")
        run.pause(4)


def be_killed(address, model, *paths):
    photos = [pathlib.Path(path).read_bytes() for path in paths]
    with grpc.insecure_channel(address) as channel:
        stub = Classifier(channel)

        def messages():
            for i in range(1_000_000):
                os.write(1, b".")
                yield stub.request("ClassifyStream", id=i, request=stub.messages["ClassifyRequest"](
                    model=model, image=photos[i % len(photos)]))

        for _ in stub.ClassifyStream(messages()):
            pass


if __name__ == "__main__":
    be_killed(*sys.argv[1:])
