#!/usr/bin/env python3
"""Makes photos as a camera takes them, 4000x3000: mosaics of smaller real photos.

    make_photos.py FOLDER OUT [--count 8]

Tiles of 500x500, each filled with one of FOLDER's photos; JPEG quality 90. Hardly anything is enlarged,
so that there is as much detail to decode as in a real photo.
"""

import argparse
import pathlib

from PIL import Image, ImageOps

WIDTH, HEIGHT, TILE = 4000, 3000, 500


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=8)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sources = sorted(args.folder.glob("*.jpg"))
    if not sources:
        parser.error(f"{args.folder} holds no .jpg")
    next_source = 0
    for number in range(args.count):
        photo = Image.new("RGB", (WIDTH, HEIGHT))
        for top in range(0, HEIGHT, TILE):
            for left in range(0, WIDTH, TILE):
                source = Image.open(sources[next_source % len(sources)]).convert("RGB")
                photo.paste(ImageOps.fit(source, (TILE, TILE), Image.Resampling.BICUBIC), (left, top))
                next_source += 1
        photo.save(args.out / f"photo_{number}.jpg", quality=90)


if __name__ == "__main__":
    main()
