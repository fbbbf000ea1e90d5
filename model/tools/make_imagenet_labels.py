#!/usr/bin/env python3
"""Writes model/labels/imagenet1k.tsv: the 1000 classes of ImageNet-1k in the order of their index.

One line a class: WordNet id, tab, names. Source: the tables inside timm (timm/data/_info).
Needs timm. Run once; the result is committed.
"""

import pathlib

from timm.data import ImageNetInfo


def main():
    info = ImageNetInfo("imagenet-1k")
    lines = [
        f"{wnid}\t{names}\n"
        for wnid, names in zip(info.label_names(), info.label_descriptions())
    ]
    assert len(lines) == 1000 and lines[258].startswith("n02111889\tSamoyed")
    target = pathlib.Path(__file__).resolve().parent.parent / "labels" / "imagenet1k.tsv"
    target.write_text("".join(lines), encoding="utf-8")
    print(f"{target}: {len(lines)} classes")


if __name__ == "__main__":
    main()
