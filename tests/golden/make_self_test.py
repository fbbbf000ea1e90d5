#!/usr/bin/env python3
"""Writes a model's self-test: MODEL/selftest with photos and what timm sees on them, in float32.

    make_self_test.py MODEL PHOTO... [--comment TEXT]

The embedded model's: make_self_test.py model/zoo/flowers5 tests/data/photos/sunflowers_9558627290.jpg, with the
photo's licence as comment. Needs timm, torch, torchvision, pillow.
"""
import argparse
import json
import shutil
from pathlib import Path

import timm
import torch
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--comment", help="is kept with each photo, its licence for example")
    options = parser.parse_args()
    model = timm.create_model(f"local-dir:{options.model}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(model.pretrained_cfg), is_training=False)
    folder = options.model / "selftest"
    folder.mkdir(exist_ok=True)
    photos = []
    for path in options.photos:
        with torch.inference_mode():
            features = model.forward_features(transform(Image.open(path).convert("RGB"))[None])
            embedding = model.forward_head(features, pre_logits=True)[0]
            top1 = int(model.forward_head(features)[0].argmax())
        photos.append({"file": path.name, "top1": top1,
                       "embedding": [float(f"{value:.6g}") for value in embedding.tolist()],
                       "tolerance": 0.02})
        if options.comment:
            photos[-1]["comment"] = options.comment
        if path.resolve() != (folder / path.name).resolve():
            shutil.copyfile(path, folder / path.name)
    (folder / "selftest.json").write_text(json.dumps({"photos": photos}) + "\n")


if __name__ == "__main__":
    main()
