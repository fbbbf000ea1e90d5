#!/usr/bin/env python3
"""Writes tests/golden/network/expected.safetensors: what timm answers, for all 12 DLA variants.

For each VARIANT:
  VARIANT.logits      [2, classes]   float32, of the two photos
  VARIANT.embedding   [2, features]  float32, the pooled features before the classifier
  VARIANT.parameters  scalar int64

Weights and photos come from a formula that tests/support/formula_model.cc computes, too, so they are
not stored. Needs torch, timm and safetensors. Run once; the result is committed. With --sensitivity it
writes nothing, but prints by how much the answer changes when one layer is left out, at the least.
"""

import argparse
import math
import pathlib

import numpy as np
import timm
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent / "network" / "expected.safetensors"
SIZE = 224
CLASSES = {"dla34": 1000}  # the others have 37, to keep the file small
VARIANTS = [
    "dla34", "dla46_c", "dla46x_c", "dla60", "dla60x", "dla60x_c",
    "dla60_res2net", "dla60_res2next", "dla102", "dla102x", "dla102x2", "dla169",
]  # fmt: skip


def random_bits(name, count):
    """Element i of splitmix64, seeded with the FNV-1a hash of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def weight(name, shape):
    """Uniform between two bounds by what kind of tensor it is."""
    uniform = (random_bits(name, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / 2**24
    if len(shape) == 4:
        # Variance 1 / fan-in: half of what would keep the scale through a ReLU, since the residuals
        # and roots add scale. So no layer drowns in what comes after it.
        bound = math.sqrt(3.0 / (shape[1] * shape[2] * shape[3]))
        low, high = -bound, bound
    elif name.endswith("running_var") or name.endswith("weight"):
        low, high = 0.5, 1.5
    else:
        low, high = -0.05, 0.05  # more, and they outweigh what the photo says
    return torch.from_numpy((low + (high - low) * uniform).astype(np.float32).reshape(shape))


def photo(name, height, width):
    """Squares of 112 pixels of one colour each, with noise on top: height x width x 3, uint8."""
    rows, columns = -(-height // 112), -(-width // 112)
    squares = (random_bits(name + ".squares", rows * columns * 3) >> np.uint64(56)).astype(int)
    squares = squares.reshape(rows, columns, 3).repeat(112, 0).repeat(112, 1)[:height, :width]
    noise = (random_bits(name + ".noise", height * width * 3) >> np.uint64(56)).astype(int)
    return ((3 * squares + noise.reshape(height, width, 3)) // 4).astype(np.uint8)


def load(variant):
    model = timm.create_model(variant, num_classes=CLASSES.get(variant, 37)).eval()
    state = {
        name: torch.tensor(0) if name.endswith("num_batches_tracked") else weight(name, tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def photos(model):
    mean = torch.tensor(model.pretrained_cfg["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(model.pretrained_cfg["std"]).view(1, 3, 1, 1)
    pixels = np.stack([photo(name, SIZE, SIZE) for name in ("photo0", "photo1")])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std


def run(model, x):
    features = model.forward_features(x)
    return model.forward_head(features), model.forward_head(features, pre_logits=True)


def distance(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def print_sensitivity(variant):
    model = load(variant)
    x = photos(model)
    logits, embedding = run(model, x)
    changes = []
    for name, parameter in model.named_parameters():
        saved = parameter.clone()
        parameter.zero_()
        changed_logits, changed_embedding = run(model, x)
        parameter.copy_(saved)
        changes.append((min(distance(changed_logits, logits), distance(changed_embedding, embedding)), name))
    changes = [c for c in changes if c[1] != "fc.weight" and c[1] != "fc.bias"]
    print(f"{variant:15} least change {min(changes)[0]:.1e} by {min(changes)[1]}", flush=True)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sensitivity", action="store_true")
    sensitivity = parser.parse_args().sensitivity
    expected = {}
    for variant in VARIANTS:
        if sensitivity:
            print_sensitivity(variant)
            continue
        model = load(variant)
        x = photos(model)
        logits, embedding = run(model, x)
        exact_logits, exact_embedding = run(model.double(), x.double())
        print(
            f"{variant:15} float32 against float64: logits {distance(logits, exact_logits):.1e}, "
            f"embedding {distance(embedding, exact_embedding):.1e}; the photos differ by "
            f"{distance(logits[0], logits[1]):.2f}, {distance(embedding[0], embedding[1]):.2f}; "
            f"largest logit {logits.abs().max():.1e}",
            flush=True,
        )
        expected[f"{variant}.logits"] = logits.contiguous()
        expected[f"{variant}.embedding"] = embedding.contiguous()
        expected[f"{variant}.parameters"] = torch.tensor(sum(p.numel() for p in model.parameters()))
    if not sensitivity:
        OUT.parent.mkdir(exist_ok=True)
        save_file(expected, OUT)


if __name__ == "__main__":
    main()
