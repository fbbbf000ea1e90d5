"""Triton's python backend: decode, infer and rank inside the instance."""

import json
import sys

# Triton runs Python isolated from the environment, PYTHONPATH included. servers.py writes this module.
from python_paths import PATHS

sys.path[:0] = PATHS

import numpy as np
import triton_python_backend_utils as pb_utils
from photo_model import PhotoModel


class TritonPythonModel:
    def initialize(self, args):
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.model = PhotoModel(
            settings["folder"],
            int(settings["threads"]),
            settings["precision"],
            settings["reduced_scale"] == "1",
        )

    def execute(self, requests):
        photos = [pb_utils.get_input_tensor_by_name(r, "IMAGE").as_numpy().reshape(-1) for r in requests]
        answers = iter(self.model.classify([p for some in photos for p in some]))
        responses = []
        for some in photos:
            rows = [[f"{p:.6g}:{i}:{label}".encode() for p, i, label in next(answers)] for _ in some]
            tensor = pb_utils.Tensor("TOP", np.array(rows, dtype=np.object_))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
