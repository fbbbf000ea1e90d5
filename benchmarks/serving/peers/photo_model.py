"""What every peer runs: JPEG bytes to classes, with simplejpeg, Pillow and OpenVINO.

Made to be as fast as a peer can honestly be: only the crop is resized, OpenVINO takes uint8 and
normalises itself, and batches have fixed sizes, which is faster than one size left open.
"""

import io
import json
import pathlib

import numpy as np
import openvino
import simplejpeg
from PIL import Image

BATCH_SIZES = (8, 4, 2, 1)
TOP_K = 5


class PhotoModel:
    """A folder that make_model.py wrote, ready to run on `threads` threads."""

    def __init__(self, folder, threads, precision="bf16", reduced_scale=False, max_batch=8):
        folder = pathlib.Path(folder)
        self.spec = json.loads((folder / "spec.json").read_text())
        self.labels = self.spec["labels"]
        self.filter = getattr(Image.Resampling, self.spec["interpolation"].upper())
        self.reduced_scale = reduced_scale
        size = self.spec["size"]
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            # Several processes share the cores; pinned, they would all choose the first ones.
            "ENABLE_CPU_PINNING": False,
        }
        self.requests = {}
        for count in BATCH_SIZES:
            if count > max_batch:
                continue
            model = core.read_model(folder / "model.xml")
            model.reshape([count, size, size, 3])
            request = core.compile_model(model, "CPU", settings).create_infer_request()
            pixels = np.zeros([count, size, size, 3], np.uint8)
            request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
            request.infer()
            self.requests[count] = (request, pixels)

    def read(self, jpeg):
        """timm's eval transform without the normalisation: size x size x 3 bytes."""
        short, size = self.spec["resize"], self.spec["size"]
        least = 2 * short if self.reduced_scale else 0
        if simplejpeg.is_jpeg(jpeg):
            image = Image.fromarray(
                simplejpeg.decode_jpeg(jpeg, "RGB", min_height=least, min_width=least)
            )
        else:
            image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        width, height = image.size
        if width <= height:
            new_width, new_height = short, int(short * height / width)
        else:
            new_width, new_height = int(short * width / height), short
        left, top = round((new_width - size) / 2), round((new_height - size) / 2)
        scale_x, scale_y = width / new_width, height / new_height
        box = (left * scale_x, top * scale_y, (left + size) * scale_x, (top + size) * scale_y)
        return np.asarray(image.resize((size, size), self.filter, box))

    def classify(self, jpegs):
        """For each photo TOP_K of (probability, index, label), falling."""
        answers = []
        while len(answers) < len(jpegs):
            left = len(jpegs) - len(answers)
            count = next(c for c in BATCH_SIZES if c <= left and c in self.requests)
            request, pixels = self.requests[count]
            for i in range(count):
                pixels[i] = self.read(jpegs[len(answers) + i])
            request.infer()
            answers += self.top(request.get_output_tensor().data)
        return answers

    def top(self, logits):
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        sums = e.sum(axis=1)
        best = np.argpartition(e, -TOP_K, axis=1)[:, -TOP_K:]
        answers = []
        for row, total, some in zip(e, sums, best):
            order = some[np.argsort(row[some])[::-1]]
            answers.append([(float(row[i] / total), int(i), self.labels[i]) for i in order])
        return answers
