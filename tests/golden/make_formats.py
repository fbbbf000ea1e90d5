#!/usr/bin/env python3
"""Writes tests/golden/formats: small files as the Python libraries write them.

tiny.safetensors    every dtype that is read, a scalar, an empty tensor; by safetensors
dla34.json          config.json of the published head, by timm.models.save_config_for_hf
finetuned.json      the same of a head with three classes that have labels
top_k.txt           logits; then for each the class and probability in falling order, by torch

Needs torch, timm and safetensors. Run once; the results are committed.
"""

import pathlib

import timm
import torch
from safetensors.torch import save_file
from timm.models import _hub

OUT = pathlib.Path(__file__).resolve().parent / "formats"


def main():
    OUT.mkdir(exist_ok=True)
    save_file(
        {
            "layer.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
            "layer.half": torch.tensor([1.0, -2.0, 0.5], dtype=torch.float16),
            "layer.bfloat": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
            "layer.num_batches_tracked": torch.tensor(7),
            "layer.empty": torch.zeros(0, 4),
        },
        OUT / "tiny.safetensors",
        metadata={"format": "pt"},
    )

    _hub.save_config_for_hf(timm.create_model("dla34"), OUT / "dla34.json")
    _hub.save_config_for_hf(
        timm.create_model("dla46_c", num_classes=3),
        OUT / "finetuned.json",
        model_config={
            "label_names": ["bellis", "rosa", "tulipa"],
            "label_descriptions": {"bellis": "daisy", "rosa": "rose", "tulipa": "tulip"},
        },
        data_config={
            "input_size": (3, 160, 192),
            "crop_pct": 0.95,
            "interpolation": "bicubic",
            "crop_mode": "squash",
            "mean": (0.5, 0.4, 0.3),
            "std": (0.25, 0.2, 0.125),
        },
    )

    logits = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 4
    probabilities, classes = logits.softmax(0).topk(40)
    with open(OUT / "top_k.txt", "w", encoding="ascii") as file:
        file.write(" ".join(f"{x:.9g}" for x in logits.tolist()) + "\n")
        for index, probability in zip(classes.tolist(), probabilities.tolist()):
            file.write(f"{index} {probability:.9g}\n")


if __name__ == "__main__":
    main()
