"""How each server is started: the settings with which it was fastest on two cores."""

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

from peers import processes

PEERS = pathlib.Path(__file__).resolve().parent

# With glibc's defaults every activation is mapped, faulted in and unmapped again; Python peers lose
# a large part of their speed by that.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
}


@dataclasses.dataclass
class Setting:
    """What is the same for all servers of a run."""

    bin: pathlib.Path  # of dla-server and the load generator
    work: pathlib.Path  # virtual environments, models, logs
    python: pathlib.Path  # of the virtual environment with LitServe and TorchServe
    triton_python: pathlib.Path  # of the one with Triton
    precision: str  # "bf16" or "fp32"
    cores: int
    dla_flags: list
    dla_latency_flags: list

    @property
    def openvino_precision(self):
        return {"bf16": "bf16", "fp32": "f32"}[self.precision]


@dataclasses.dataclass
class Server:
    process: subprocess.Popen
    target: list  # flags of the load generator
    log: pathlib.Path


class ServerFailed(Exception):
    pass


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def dla_server(setting, model, work, flags, folder="timm", precision=None):
    grpc, http, metrics = free_ports(3)
    command = [
        setting.bin / "dla-server",
        *("--model", f"{model.name}={model / folder}", "--precision", precision or setting.precision),
        *("--grpc-address", f"127.0.0.1:{grpc}", "--http-address", f"127.0.0.1:{http}"),
        *("--metrics-address", f"127.0.0.1:{metrics}", *flags),
    ]
    process = processes.start(command, work / "log")
    target = ["--dla", f"127.0.0.1:{grpc}", "--model", model.name]
    return Server(process, target, work / "log"), f"http://127.0.0.1:{http}/healthz"


TRITON_CONFIG = """
backend: "python"
max_batch_size: 8
input [{{ name: "IMAGE", data_type: TYPE_STRING, dims: [1] }}]
output [{{ name: "TOP", data_type: TYPE_STRING, dims: [5] }}]
instance_group [{{ kind: KIND_CPU, count: {instances} }}]
dynamic_batching {{}}
parameters [
  {{ key: "folder", value: {{ string_value: "{folder}" }} }},
  {{ key: "threads", value: {{ string_value: "{threads}" }} }},
  {{ key: "precision", value: {{ string_value: "{precision}" }} }},
  {{ key: "reduced_scale", value: {{ string_value: "{reduced_scale}" }} }}
]
"""


def python_facts(python):
    """The folder of libpython, site-packages and "3.11" of a virtual environment's Python."""
    code = (
        "import json, sys, sysconfig as s;"
        "print(json.dumps([s.get_config_var('LIBDIR'), s.get_path('purelib'),"
        "'%d.%d' % sys.version_info[:2]]))"
    )
    return json.loads(subprocess.check_output([python, "-c", code]))


def triton(setting, model, work, instances, threads, reduced_scale=False, folder="openvino"):
    libraries, packages, version = python_facts(setting.triton_python)
    wheel = pathlib.Path(packages) / "pytriton" / "tritonserver"
    # The wheel keeps the backend and the stub that runs Python apart; Triton wants them together.
    backend = setting.work / "triton_backends" / "python"
    if not (backend / "triton_python_backend_stub").exists():
        shutil.copytree(wheel / "backends" / "python", backend, dirs_exist_ok=True)
        shutil.copy(wheel / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    for file in ("libtriton_python.so", "triton_python_backend_stub"):
        (backend / file).chmod(0o755)
    repository = work / "repository" / model.name
    (repository / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(PEERS / "triton_model.py", repository / "1" / "model.py")
    (repository / "1" / "python_paths.py").write_text(f"PATHS = {[packages, str(PEERS)]!r}\n")
    (repository / "config.pbtxt").write_text(
        TRITON_CONFIG.format(
            instances=instances,
            threads=threads,
            folder=model / folder,
            precision=setting.openvino_precision,
            reduced_scale=int(reduced_scale),
        )
    )
    env = {
        **KEEP_MEMORY,
        "LD_LIBRARY_PATH": f"{libraries}:{packages}/nvidia_pytriton.libs",
    }
    stub = backend / "triton_python_backend_stub"
    loaded = subprocess.run(["ldd", stub], env={**os.environ, **env}, capture_output=True, text=True)
    if "not found" in loaded.stdout:
        raise ServerFailed(f"Triton needs libpython{version}.so; install libpython{version}")
    grpc, http, metrics = free_ports(3)
    command = [
        wheel / "bin" / "tritonserver",
        *("--model-repository", work / "repository", "--backend-directory", backend.parent),
        *("--grpc-address", "127.0.0.1", "--grpc-port", grpc),
        *("--http-address", "127.0.0.1", "--http-port", http),
        *("--metrics-address", "127.0.0.1", "--metrics-port", metrics),
    ]
    process = processes.start(command, work / "log", env)
    target = ["--kserve", f"127.0.0.1:{grpc}", "--model", model.name]
    return Server(process, target, work / "log"), f"http://127.0.0.1:{http}/v2/health/ready"


def litserve(setting, model, work, reduced_scale=False):
    (port,) = free_ports(1)
    command = [
        *(setting.python, PEERS / "litserve_app.py", "--folder", model / "openvino"),
        *("--port", port, "--workers", setting.cores, "--threads", 1),
        *("--precision", setting.openvino_precision),
        *(["--reduced-scale"] if reduced_scale else []),
    ]
    process = processes.start(command, work / "log", KEEP_MEMORY, cwd=work)
    target = ["--http", f"http://127.0.0.1:{port}/predict"]
    return Server(process, target, work / "log"), f"http://127.0.0.1:{port}/health"


def torchserve(setting, model, work, handler, threads, reduced_scale=False):
    if shutil.which("java") is None:
        raise ServerFailed("TorchServe needs java; install openjdk-17-jre-headless")
    # An unpacked model archive.
    archive = work / "store" / model.name
    (archive / "MAR-INF").mkdir(parents=True, exist_ok=True)
    shutil.copy(PEERS / f"{handler}.py", archive / "handler.py")
    manifest = {
        "createdOn": "01/01/2024 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": model.name,
            "handler": "handler.py",
            "modelVersion": "1.0",
            "configFile": "model-config.yaml",
        },
        "archiverVersion": "0.12.0",
    }
    if handler == "torchserve_stock":
        shutil.copy(model / "torchscript" / "model.pt", archive / "model.pt")
        manifest["model"]["serializedFile"] = "model.pt"
    (archive / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    config = {
        "minWorkers": setting.cores,
        "maxWorkers": setting.cores,
        "batchSize": 4,
        "maxBatchDelay": 2,
        "responseTimeout": 120,
        "handler": {
            "peers": str(PEERS),
            "folder": str(model / "openvino"),
            "threads": threads,
            "precision": setting.openvino_precision,
            "reduced_scale": reduced_scale,
        },
    }
    (archive / "model-config.yaml").write_text(json.dumps(config))  # JSON is YAML
    inference, management, metrics = free_ports(3)
    (work / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\n"
        f"metrics_address=http://127.0.0.1:{metrics}\n"
        "max_request_size=33554432\nmax_response_size=33554432\njob_queue_size=1000\n"
        "disable_system_metrics=true\n"
    )
    (work / "tmp").mkdir(exist_ok=True)
    venv_bin = setting.python.parent
    env = {
        **KEEP_MEMORY,
        "PATH": f"{venv_bin}:{os.environ['PATH']}",
        # Its PID file would be shared with any other TorchServe of this machine.
        **{name: str(work / "tmp") for name in ("TMPDIR", "TEMP")},
        "LOG_LOCATION": str(work / "logs"),
        "METRICS_LOCATION": str(work / "logs"),
    }
    command = [
        *(venv_bin / "torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth"),
        *("--model-store", work / "store", "--models", f"{model.name}={model.name}"),
        *("--ts-config", work / "config.properties"),
    ]
    process = processes.start(command, work / "log", env, cwd=work)
    target = ["--http", f"http://127.0.0.1:{inference}/predictions/{model.name}"]
    return Server(process, target, work / "log"), f"http://127.0.0.1:{management}/models/{model.name}"


def _torchserve(handler, threads, **more):
    return lambda s, m, w: torchserve(s, m, w, handler, threads, **more)


# Name: how it is started. "-int8": quantised, by dla-quantize or by NNCF. "-latency": set up for one
# request at a time. "-reduced": decodes large JPEGs at a reduced scale, as dla-server does; timm's
# transform does not, nor do the others.
SERVERS = {
    "dla-server": lambda s, m, w: dla_server(s, m, w, s.dla_flags),
    "dla-server-int8": lambda s, m, w: dla_server(s, m, w, s.dla_flags, "int8", "int8"),
    "dla-server-latency": lambda s, m, w: dla_server(s, m, w, s.dla_latency_flags),
    "triton": lambda s, m, w: triton(s, m, w, instances=s.cores, threads=2),
    "triton-int8": lambda s, m, w: triton(s, m, w, s.cores, 2, folder="openvino-int8"),
    "triton-latency": lambda s, m, w: triton(s, m, w, instances=1, threads=s.cores),
    "triton-reduced": lambda s, m, w: triton(s, m, w, s.cores, 2, reduced_scale=True),
    "litserve": litserve,
    "torchserve": _torchserve("torchserve_openvino", 2),
    "torchserve-stock": _torchserve("torchserve_stock", 1),
}


def is_ready(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body = answer.read()
    except (urllib.error.URLError, OSError):
        return False
    if "/models/" not in url:
        return True
    workers = json.loads(body)[0]["workers"]
    return bool(workers) and all(worker["status"] == "READY" for worker in workers)


def start(name, setting, model, timeout_s=120):
    """Starts the server and waits until it takes requests. ServerFailed tells why it does not."""
    work = setting.work / "run" / f"{name}-{model.name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    server, url = SERVERS[name](setting, model, work)
    deadline = time.monotonic() + timeout_s
    try:
        while not is_ready(url):
            if server.process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(server.log.read_text(errors="replace").splitlines()[-15:])
                raise ServerFailed(f"{name} does not get ready:\n{tail}")
            time.sleep(0.1)
    except BaseException:
        processes.stop(server.process)
        raise
    return server
