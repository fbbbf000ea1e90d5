"""What an operator does to a server in use: loads, swaps, labels, unloads, mistakes, SIGHUP."""

import os
import shutil
import signal

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

SWAPPED, UNTOUCHED, GUEST = "flowers", "rough", "guest"


def make_repository(folder, model_folder):
    """The models' folders; `model_folder` is one as timm saves it."""
    for name in (f"{SWAPPED}/1", UNTOUCHED, f"{GUEST}/1", f"{GUEST}/2"):
        shutil.copytree(model_folder, folder / name)


class Repository:
    """Changes one server's models; every method returns (code, message)."""

    def __init__(self, address, folder, model_folder):
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.folder, self.model_folder = folder, model_folder
        self.version = 1

    def ask(self, call, request):
        try:
            call(request, timeout=120)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def load(self, name, config=""):
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        if config:
            request.parameters["config"].string_param = config
        return self.ask(self.stub.RepositoryModelLoad, request)

    def unload(self, name):
        return self.ask(self.stub.RepositoryModelUnload,
                        service_pb2.RepositoryModelUnloadRequest(model_name=name))

    def index(self):
        return self.ask(self.stub.RepositoryIndex, service_pb2.RepositoryIndexRequest())

    def put_version(self, version, damage=None):
        """A folder that appears at once, as a careful operator has it."""
        hidden = self.folder / SWAPPED / f".{version}"
        shutil.copytree(self.model_folder, hidden)
        if damage:
            damage(hidden)
        hidden.rename(self.folder / SWAPPED / str(version))

    def remove_version(self, version):
        shutil.rmtree(self.folder / SWAPPED / str(version))

    def swap(self):
        """A new version takes the place of the one that is served; the old folder goes."""
        self.put_version(self.version + 1)
        answer = self.load(SWAPPED)
        if answer[0] == "OK":
            self.remove_version(self.version)
            self.version += 1
        return answer

    def swap_in_place(self):
        """The weights are written anew and renamed over the old ones."""
        folder = self.folder / SWAPPED / str(self.version)
        shutil.copy(self.model_folder / "model.safetensors", folder / ".new")
        os.rename(folder / ".new", folder / "model.safetensors")
        return self.load(SWAPPED)

    def load_broken(self):
        """A version that cannot be loaded; the one before stays."""
        self.put_version(self.version + 1, lambda folder: os.truncate(folder / "model.safetensors", 100_000))
        answer = self.load(SWAPPED)
        self.remove_version(self.version + 1)
        return answer


def operate(run):
    repository = Repository(run.job.grpc, run.job.repository, run.job.model_folder)
    repository.version = run.job.version
    steps = [
        ("swaps", repository.swap, "OK"),
        ("swaps in place", repository.swap_in_place, "OK"),
        ("broken loads", repository.load_broken, "INVALID_ARGUMENT"),
        ("unloads", lambda: repository.unload(GUEST), "OK"),
        ("loads", lambda: repository.load(GUEST), "OK"),
        ("labels", lambda: repository.load(GUEST, '{"version_labels": {"stable": 1}}'), "OK"),
        ("loads of nothing", lambda: repository.load("no\x1b[31m\nsuch"), "NOT_FOUND"),
        ("indices", repository.index, "OK"),
        ("SIGHUPs", lambda: (os.kill(run.job.server_pid, signal.SIGHUP), ("OK", ""))[1], "OK"),
    ]
    while run.going():
        name, step, expected = run.random.choice(steps)
        code, message = step()
        run.did(name)
        if code != expected:
            run.problem(f"{name}: {code} {message!r}, not {expected}")
        run.pause(0.5)
    repository.load(GUEST, '{"version_labels": {}}')
    repository.channel.close()
