"""Makes the model folders that every engine loads, and what timm answers for a few photos.

  models.py FOLDER VARIANT...     makes FOLDER/VARIANT where it is missing

Weights are random but seeded; scales, biases and running statistics of the norms are such that
activations and rounding errors stay about as small as in trained networks. FOLDER/VARIANT holds
config.json and model.safetensors as timm saves them, photos.bin (raw RGB, one behind the other) and
logits.npy (float32).
"""

import pathlib
import shutil
import sys

import numpy as np
import timm
import torch

CLASSES = 1000
SIZE = 224
PHOTOS = 4
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class FromPixels(torch.nn.Module):
    """The network as a service needs it: n x height x width x 3 bytes in, float32 logits out."""

    def __init__(self, network, dtype=torch.float32):
        super().__init__()
        self.network = network.to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(STD).view(1, 3, 1, 1) * 255))

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2).to(torch.float32)
        x = ((x - self.mean) * self.scale).to(self.dtype)
        return self.network(x).to(torch.float32)


def load(folder):
    """The network of a folder, in evaluation mode."""
    from safetensors.torch import load_file

    folder = pathlib.Path(folder)
    network = timm.create_model(folder.name, num_classes=CLASSES)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def photos(count):
    """Smooth random pictures: noise at several scales, as photos have."""
    generator = torch.Generator().manual_seed(7)
    picture = torch.zeros(count, 3, SIZE, SIZE)
    for cells in (4, 16, 64, 224):
        noise = torch.randn(count, 3, cells, cells, generator=generator)
        picture += torch.nn.functional.interpolate(noise, SIZE, mode="bilinear") * 40
    return (picture + 118).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def make(folder):
    torch.manual_seed(1)
    network = timm.create_model(folder.name, num_classes=CLASSES)
    pixels = photos(PHOTOS)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.3, 0.7)
            norm.bias.normal_(0.3, 0.3)
        network.train()
        FromPixels(network)(pixels)
        network.eval()
        logits = FromPixels(network)(pixels)
    new = folder.with_name(folder.name + ".new")  # a folder that exists is complete
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    pixels.numpy().tofile(new / "photos.bin")
    np.save(new / "logits.npy", logits.numpy())
    network.to(memory_format=torch.contiguous_format)
    timm.models.save_for_hf(network, new, safe_serialization=True)
    new.rename(folder)


def main():
    root = pathlib.Path(sys.argv[1])
    for variant in sys.argv[2:]:
        if not (root / variant).exists():
            print(f"making {root / variant}", flush=True)
            make(root / variant)


if __name__ == "__main__":
    main()
