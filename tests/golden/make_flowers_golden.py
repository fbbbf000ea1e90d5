#!/usr/bin/env python3
"""Asks timm what the embedded model sees on the photos in tests/data/photos, in float32.

Writes flowers5.csv beside this script: file, then the probability of each class. Run it again when the
model in model/zoo/flowers5 changes. Needs timm, torch, torchvision, pillow.
"""
import json
from pathlib import Path

import timm
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = ROOT / "model/zoo/flowers5"


def main():
    model = timm.create_model(f"local-dir:{MODEL}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(model.pretrained_cfg), is_training=False)
    labels = json.loads((MODEL / "config.json").read_text())["label_names"]
    lines = [",".join(["file", *labels])]
    for photo in sorted((ROOT / "tests/data/photos").glob("*.jpg")):
        with torch.inference_mode():
            logits = model(transform(Image.open(photo).convert("RGB"))[None])
        probabilities = logits.double().softmax(-1)[0].tolist()
        lines.append(",".join([photo.name, *(f"{p:.7f}" for p in probabilities)]))
    (HERE / "flowers5.csv").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
