#!/usr/bin/env python3
"""Some minutes in the life of two servers behind Envoy, for the picture of the dashboard: a calm beginning, a rush, a flood
that is partly refused, a server that is killed and comes back, and photos that become blurred.

    tests/deploy/scene.py --seconds 150 --out docs/dashboard.png
"""

import argparse
import io
import pathlib
import random
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "chaos"), str(HERE.parent / "support")]

import grpc
from PIL import Image, ImageFilter

import clients
from proxy import Envoy, free_port
from serving import PHOTOS, ROOT, Server
from watcher import Prometheus


def blurred(photo):
    image = Image.open(io.BytesIO(photo)).convert("RGB").filter(ImageFilter.GaussianBlur(9))
    bytes_ = io.BytesIO()
    image.save(bytes_, "JPEG")
    return bytes_.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--out", default="dashboard.png")
    options = parser.parse_args()
    dice = random.Random(1)
    zoo = ROOT / "model/zoo/flowers5"
    ports = [(free_port(), free_port(), free_port()) for _ in range(2)]

    def start(chosen):
        return Server("dla-server", "--config", ROOT / "deploy/serve.yaml", "--model", f"flowers5={zoo}", "--model",
                      f"garden={zoo}", "--queue-capacity", "96", "--replicas", "1", "--threads", "1",
                      "--cache-config", "local,size=8388608", ports=chosen)

    servers = [start(chosen) for chosen in ports]
    envoy = Envoy([chosen[:2] for chosen in ports])
    prometheus = Prometheus([f"127.0.0.1:{chosen[2]}" for chosen in ports], [envoy.metrics])
    good = [path.read_bytes() for path in PHOTOS]
    soft = [blurred(photo) for photo in good]
    flying, lock = [0], threading.Lock()
    begin = time.monotonic()

    def phase():
        return (time.monotonic() - begin) / options.seconds

    def wanted(at):
        """Calls in flight."""
        steps = ((0.15, 3), (0.35, 10), (0.5, 24), (0.58, 100), (0.75, 16), (1.1, 8))
        return next(count for until, count in steps if at < until)

    def landed(_):
        with lock:
            flying[0] -= 1

    try:
        envoy.await_healthy(2)
        with grpc.insecure_channel(envoy.address) as channel:
            stub = clients.Classifier(channel)
            killed = False
            while (at := phase()) < 1:
                if at > 0.68 and not killed:
                    killed = True
                    servers[1].kill()

                    def revive():
                        time.sleep(options.seconds * 0.08)
                        servers[1].clean_up()
                        servers[1] = start(ports[1])
                    threading.Thread(target=revive).start()
                if flying[0] < wanted(at):
                    photos = soft if dice.random() < (at - 0.7) * 4 else good
                    # Bytes after the end of a JPEG make it another photo for the cache, which most are.
                    image = dice.choice(photos) + (dice.randbytes(8) if dice.random() < 0.9 else b"")
                    fields = {"image": image, "model": "garden" if dice.random() < 0.3 else "flowers5"}
                    luck = dice.random()
                    if luck < 0.03:
                        fields["image"] = image[:len(image) // 2]
                    elif luck < 0.04:
                        fields["model"] = "roses"
                    with lock:
                        flying[0] += 1
                    deadline = 0.15 if 0.04 < luck < 0.06 else 20
                    if 0.5 < at < 0.58:
                        call, request = stub.ClassifyBatch, stub.request(
                            "ClassifyBatch", images=[photo + dice.randbytes(8) for photo in photos * 2])
                    else:
                        call, request = stub.Classify, stub.request("Classify", **fields)
                    call.future(request, timeout=deadline).add_done_callback(landed)
                time.sleep(0.002 if at > 0.15 else 0.03)
            # Before the load's end shows.
            subprocess.run([sys.executable, ROOT / "deploy/grafana/picture.py", "--prometheus", f"http://{prometheus.address}",
                            "--seconds", str(options.seconds - 8), "--out", options.out], check=True)
    finally:
        prometheus.stop()
        envoy.stop()
        for server in servers:
            server.clean_up()


if __name__ == "__main__":
    main()
