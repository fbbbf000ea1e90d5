#!/usr/bin/env python3
"""Fetches a published DLA network into a model folder that dla-server serves.

  fetch_weights.py dla34                  from timm's folder on the Hugging Face hub
  fetch_weights.py dla34 --from-original  the authors' older .pth file, converted
  fetch_weights.py --list                 what there is

Run it again after an interruption: it goes on where it stopped, and keeps what is complete.
Exit status: 0 when the folder is complete, 1 when it is not, 2 for a wrong command, 130 for Ctrl-C.
"""

import argparse
import json
import pathlib
import struct
import sys
import typing
import urllib.parse

import download
import original_weights
from download import log

HUB_URL = "https://huggingface.co"
ORIGINAL_URL = "http://dl.yf.io/dla/models/imagenet"

MAX_WEIGHTS = 1 << 30  # bytes
MAX_HEADER = 100_000_000  # of a safetensors file
MAX_CONFIG = 1 << 24


class Variant(typing.NamedTuple):
    parameters_m: float  # millions
    top1: float  # ImageNet-1k, 224 pixels, per cent
    num_features: int
    original: str  # NAME-DIGEST: the file is NAME-DIGEST.pth, DIGEST begins its SHA-256
    license: str = "bsd-3-clause"


# Source: timm's results for ImageNet-1k and the URLs of its older releases.
VARIANTS = {
    "dla34": Variant(15.74, 74.62, 512, "dla34-ba72cf86"),
    "dla46_c": Variant(1.30, 64.87, 256, "dla46_c-2bfd52c3"),
    "dla46x_c": Variant(1.07, 65.98, 256, "dla46x_c-d761bae7"),
    "dla60": Variant(22.04, 77.04, 1024, "dla60-24839fc4"),
    "dla60x": Variant(17.35, 78.25, 1024, "dla60x-d15cacda"),
    "dla60x_c": Variant(1.32, 67.91, 256, "dla60x_c-b870c45c"),
    "dla60_res2net": Variant(20.85, 78.46, 1024, "res2net_dla60_4s-d88db7f9", "unknown"),
    "dla60_res2next": Variant(17.03, 78.44, 1024, "res2next_dla60_4s-d327927b", "unknown"),
    "dla102": Variant(33.27, 78.03, 1024, "dla102-d94d9790"),
    "dla102x": Variant(26.31, 78.51, 1024, "dla102x-ad62be81"),
    "dla102x2": Variant(41.28, 79.44, 1024, "dla102x2-262837b6"),
    "dla169": Variant(53.39, 78.69, 1024, "dla169-0914e092"),
}


def check_weights(path):
    """ValueError unless the file is a safetensors file of the length that its header gives."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        (header_size,) = struct.unpack("<Q", start) if len(start) == 8 else (size,)
        if header_size > min(size - 8, MAX_HEADER):
            raise ValueError("not a safetensors file, or cut short")
        header = json.loads(file.read(header_size))
    try:
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        described = 8 + header_size + max(ends, default=0)
    except (AttributeError, TypeError, KeyError, IndexError):
        raise ValueError("not a safetensors file") from None
    if described != size:
        raise ValueError(f"has {size} bytes, but its header describes {described}")


def check_config(path, architecture):
    """ValueError unless the file is the config.json of that architecture."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["architecture"]
    except (TypeError, KeyError):
        raise ValueError("names no architecture") from None
    if found != architecture:
        raise ValueError(f"is for {found}, not for {architecture}")


def is_kept(path, check, force):
    """Whether the file is there already. DownloadError if something else lies in its place."""
    if force or not path.exists():
        return False
    try:
        check(path)
    except ValueError as error:
        raise download.DownloadError(
            f"{path}: {error}; give another --out, or --force to replace it"
        ) from error
    log(f"{path.name}: kept, it is complete (--force fetches it again)")
    return True


def fetch_from_hub(name, out, args, options):
    revision = urllib.parse.quote(args.revision, safe="")
    base = f"{args.hub_url.rstrip('/')}/timm/{name}.in1k/resolve/{revision}"
    # config.json comes last, so a folder that has it is complete.
    files = [
        ("model.safetensors", MAX_WEIGHTS, check_weights),
        ("config.json", MAX_CONFIG, lambda path: check_config(path, name)),
    ]
    wanted = [file for file in files if not is_kept(out / file[0], file[2], args.force)]
    for file, limit, check in wanted:
        digest = download.download(
            f"{base}/{file}", out / file, limit, options, digest_in_etag=True, check=check
        )
        report(out / file, digest)


def fetch_original(name, out, args, options):
    variant = VARIANTS[name]
    weights, config = out / "model.safetensors", out / "config.json"
    has_weights = is_kept(weights, check_weights, args.force)
    has_config = is_kept(config, lambda path: check_config(path, name), args.force)
    if not has_weights:
        original_weights.require_libraries()
        source = out / f"{variant.original}.pth"
        prefix = variant.original.rpartition("-")[2]
        if not (source.exists() and download.sha256_of(source).startswith(prefix)):
            url = f"{args.original_url.rstrip('/')}/{source.name}"
            digest = download.download(url, source, MAX_WEIGHTS, options, sha256_prefix=prefix)
            report(source, digest)
        original_weights.convert(source, weights, variant.parameters_m)
        source.unlink()
        report(weights, download.sha256_of(weights))
    if not has_config:
        original_weights.write_config(config, name, variant.num_features, variant.license)


def report(path, digest):
    log(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {digest}")


def print_variants():
    print(f"{'variant':<15} {'params M':>8} {'top-1 %':>8}  original file")
    for name, variant in VARIANTS.items():
        print(
            f"{name:<15} {variant.parameters_m:8.2f} {variant.top1:8.2f}  {variant.original}.pth"
        )


def number(of, least):
    """An argument type: a finite number of that type, not less than `least`."""

    def parse(text):
        try:
            value = of(text)
        except ValueError:
            value = None
        if value is None or not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} up")
        return value

    return parse


def web_address(text):
    if urllib.parse.urlsplit(text).scheme not in ("http", "https"):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with https:// or http://")
    return text


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("variant", nargs="?", metavar="VARIANT", help="see --list")
    add("--out", type=pathlib.Path, metavar="DIR", help="the model folder (models/VARIANT)")
    add("--list", action="store_true", help="list the variants and stop")
    add("--from-original", action="store_true", help="fetch the older .pth file and convert it")
    add("--force", action="store_true", help="replace what is there")
    add("--revision", default="main", metavar="REV", help="of the hub's folder (%(default)s)")
    url_help = "base address (%(default)s)"
    add("--hub-url", type=web_address, default=HUB_URL, metavar="URL", help=url_help)
    add("--original-url", type=web_address, default=ORIGINAL_URL, metavar="URL", help=url_help)
    timeout_help = "seconds without a byte (%(default)s)"
    retries_help = "attempts in a row that bring nothing new (%(default)s)"
    delay_help = "seconds before the first of them, doubled each time (%(default)s)"
    add("--timeout", type=number(float, 0.1), default=30, metavar="S", help=timeout_help)
    add("--retries", type=number(int, 0), default=4, metavar="N", help=retries_help)
    add("--retry-delay", type=number(float, 0), default=1, metavar="S", help=delay_help)
    args = parser.parse_args(argv)
    if not args.list and args.variant not in VARIANTS:
        named = f"there is no variant {args.variant!r}" if args.variant else "name a variant"
        parser.error(f"{named}; --list shows all: {', '.join(VARIANTS)}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    if args.list:
        print_variants()
        return 0
    out = args.out or pathlib.Path("models") / args.variant
    options = download.Options(args.timeout, args.retries, args.retry_delay)
    try:
        (fetch_original if args.from_original else fetch_from_hub)(args.variant, out, args, options)
    except (download.DownloadError, original_weights.ConversionError, OSError) as error:
        log(f"fetch_weights: {error}")
        return 1
    except KeyboardInterrupt:
        log("fetch_weights: interrupted; the same command goes on from here")
        return 130
    print(f"{out} is complete. To serve it: dla-server --model {args.variant}={out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
