"""TorchServe's own image handler with timm's transform; grey photos made RGB, or it fails the batch."""

import json

import timm
import torch
from ts.torch_handler.image_classifier import ImageClassifier


class Handler(ImageClassifier):
    def initialize(self, context):
        settings = context.model_yaml_config["handler"]
        torch.set_num_threads(settings["threads"])
        self.bf16 = settings["precision"] == "bf16"
        super().initialize(context)
        with open(settings["folder"] + "/spec.json") as file:
            spec = json.load(file)
        self.labels = spec["labels"]
        transform = timm.data.create_transform(
            input_size=spec["size"],
            crop_pct=spec["size"] / spec["resize"],
            interpolation=spec["interpolation"],
        )
        self.image_processing = lambda image: transform(image.convert("RGB"))

    def inference(self, data, *args, **kwargs):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model(data.contiguous(memory_format=torch.channels_last)).float()

    def postprocess(self, logits):
        probabilities, indices = logits.softmax(1).topk(5)
        return [
            [{"index": i, "label": self.labels[i], "probability": p} for p, i in zip(ps, indexes)]
            for ps, indexes in zip(probabilities.tolist(), indices.tolist())
        ]
