#!/usr/bin/env python3
"""Makes one model twice from the same weights: timm's folder for dla-server, OpenVINO IR for the peers.

    make_model.py VARIANT OUT [--photos FOLDER]

OUT/timm/{config.json,model.safetensors}, OUT/openvino/{model.xml,model.bin,spec.json},
OUT/torchscript/model.pt for TorchServe's stock handler. The weights are random, with statistics and a
classifier fitted to the photos, so that the answers differ from photo to photo and can be compared.
"""

import argparse
import json
import math
import pathlib

import openvino
import timm
import torch
from openvino.preprocess import PrePostProcessor
from PIL import Image

LABELS = pathlib.Path(__file__).resolve().parents[3] / "model" / "labels" / "imagenet1k.tsv"


def make_network(variant, photos):
    torch.manual_seed(0)
    network = timm.create_model(variant, num_classes=1000)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    images = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos])
    with torch.no_grad():
        # Statistics of these photos, so that the scale survives from layer to layer.
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
                # Hardly any ReLU cuts off: otherwise random layers are chaotic, and a pixel that is
                # rounded differently gives another class.
                module.bias.fill_(2)
        network.train()
        network.forward_features(images)
        network.eval()
        features = network.forward_head(network.forward_features(images), pre_logits=True).flatten(1)
        weight = torch.randn(1000, features.shape[1]) / features.std(0).clamp(min=1e-3)
        logits = features @ weight.T
        weight *= 2.5 / logits.std(0, keepdim=True).T
        head = network.fc
        head.weight.copy_(weight.reshape(head.weight.shape))
        head.bias.copy_(-weight @ features.mean(0))
    return network


def save_openvino(network, folder):
    folder.mkdir(parents=True, exist_ok=True)
    config = network.pretrained_cfg
    size = config["input_size"][-1]
    model = openvino.convert_model(network, example_input=torch.zeros(1, 3, size, size))
    model.reshape([-1, 3, size, size])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(
        [255 * m for m in config["mean"]]
    ).scale([255 * s for s in config["std"]])
    openvino.save_model(steps.build(), folder / "model.xml", compress_to_fp16=False)
    spec = {
        "size": size,
        "resize": math.floor(size / config["crop_pct"]),
        "interpolation": config["interpolation"],
        "labels": [line.split("\t")[1] for line in LABELS.read_text().splitlines() if line[:1] != "#"],
    }
    assert config["crop_mode"] == "center" and len(spec["labels"]) == 1000
    (folder / "spec.json").write_text(json.dumps(spec))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variant")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--photos", type=pathlib.Path, required=True)
    args = parser.parse_args()
    network = make_network(args.variant, sorted(args.photos.glob("*.jpg"))[:32])
    (args.out / "timm").mkdir(parents=True, exist_ok=True)
    timm.models.save_for_hf(network, args.out / "timm", safe_serialization=True)
    save_openvino(network, args.out / "openvino")
    size = network.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(network, torch.zeros(1, 3, size, size)))
    (args.out / "torchscript").mkdir(exist_ok=True)
    traced.save(args.out / "torchscript" / "model.pt")


if __name__ == "__main__":
    main()
