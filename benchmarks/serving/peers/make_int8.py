#!/usr/bin/env python3
"""Quantises what make_model.py wrote for the peers: FOLDER/openvino to FOLDER/openvino-int8, by NNCF's defaults.

    make_int8.py FOLDER --photos CALIBRATION
"""

import argparse
import pathlib
import shutil
import sys

sys.modules["openvino_telemetry"] = None  # both would report their use over the network

import nncf
import openvino
from photo_model import PhotoModel

MOST_PHOTOS = 200  # as many as dla-quantize calibrates on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="folder, searched with all below")
    args = parser.parse_args()
    source, out = args.folder / "openvino", args.folder / "openvino-int8"
    found = sorted(args.photos.rglob("*.jpg"))
    chosen = found[:: -(-len(found) // MOST_PHOTOS)]
    reader = PhotoModel(source, threads=1, max_batch=1)
    photos = [reader.read(path.read_bytes())[None] for path in chosen]
    model = openvino.Core().read_model(source / "model.xml")
    quantized = nncf.quantize(model, nncf.Dataset(photos), subset_size=len(photos))
    out.mkdir(exist_ok=True)
    openvino.save_model(quantized, out / "model.xml", compress_to_fp16=False)
    shutil.copy(source / "spec.json", out)


if __name__ == "__main__":
    main()
