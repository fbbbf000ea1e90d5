#!/usr/bin/env python3
"""Keeps the steps of an int8 folder's model.safetensors, from which the embedded model's int8 weights are made again.

    keep_steps.py INT8_FOLDER OUT.safetensors

Needs safetensors, NumPy.
"""
import argparse
from pathlib import Path

from safetensors.numpy import load_file, save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    tensors = load_file(options.folder / "model.safetensors")
    floats = [name for name in tensors if name.endswith(".running_mean")]
    if floats != ["base_layer.1.running_mean"]:
        raise SystemExit(f"more than the first convolution is float: {floats}")
    save_file({name: tensor for name, tensor in tensors.items() if name.endswith(".step")}, options.out)


if __name__ == "__main__":
    main()
