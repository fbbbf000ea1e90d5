#!/usr/bin/env python3
"""Makes tests/golden/preprocess: encoded photos and what timm and Pillow make of them.

    pip install timm==1.0.31 pillow==13.0.0 torchvision && tests/golden/make_preprocess_golden.py

inputs/*      photos in every format that is accepted, made from those in tests/data/photos_parity
expected/*    what timm's eval transform puts out, as lossless WebP
cases.tsv     one line per case: input, its pixels as Pillow decodes them (size and CRC-32),
              the transform, and the expected file
"""

import csv
import io
import pathlib
import struct
import zlib

import numpy as np
import PIL
import timm
import timm.data
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).resolve().parent
PHOTOS = HERE.parent / "data" / "photos_parity"
OUT = HERE / "preprocess"
SMALL_PHOTO = "9558627290_353a14ba0b_m.jpg"
LARGE_PHOTO = "2361075034_cf730b8682.jpg"
SIZE = (97, 75)  # odd on purpose


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, color_type, rows, extra=b"", interlaced=False):
    """A PNG that Pillow cannot write; rows are bytes without their filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data)
            + chunk(b"IEND", b""))


def rows_of(array, depth):
    return [row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in array]


def interlaced_png(array, depth, color_type):
    rows = []
    for y, x, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
                         (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = array[y::dy, x::dx]
        if part.shape[1]:
            rows += rows_of(part, depth)
    return png(array.shape[1], array.shape[0], depth, color_type, rows, interlaced=True)


def ycck_jpeg(photo, black):
    """Pillow writes CMYK only: give it inverted YCbCr as ink and rename it in the Adobe marker."""
    ink = [Image.eval(channel, lambda v: 255 - v) for channel in photo.convert("YCbCr").split()]
    data = bytearray(encode(Image.merge("CMYK", [*ink, black]), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def small_inputs():
    photo = Image.open(PHOTOS / SMALL_PHOTO).convert("RGB").resize(SIZE)
    grey = photo.convert("L")
    alpha = Image.fromarray(np.tile(np.arange(SIZE[0], dtype=np.uint8) * 2, (SIZE[1], 1)))
    rgba, grey_alpha = photo.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    rgb8 = np.array(photo)
    # The low byte runs against the high one, so rounding differs from cutting it off.
    rgb16 = rgb8.astype(np.uint16) << 8 | (255 - rgb8)
    palette = photo.quantize(100)
    cmyk = photo.convert("CMYK")

    yield "baseline.jpg", encode(photo, "JPEG")
    yield "progressive.jpg", encode(photo, "JPEG", progressive=True)
    yield "chroma_444.jpg", encode(photo, "JPEG", subsampling=0)
    yield "chroma_422.jpg", encode(photo, "JPEG", subsampling=1, optimize=True)
    yield "quality_10.jpg", encode(photo, "JPEG", quality=10)
    yield "restart_markers.jpg", encode(photo, "JPEG", restart_marker_rows=1)
    yield "stored_as_rgb.jpg", encode(photo, "JPEG", keep_rgb=True)
    yield "grey.jpg", encode(grey, "JPEG")
    yield "cmyk.jpg", encode(cmyk, "JPEG")
    yield "cmyk_progressive.jpg", encode(cmyk, "JPEG", progressive=True)
    yield "ycck.jpg", ycck_jpeg(photo, Image.eval(grey, lambda v: v // 3))

    yield "rgb.png", encode(photo, "PNG", optimize=True)
    yield "rgb_transparent_color.png", encode(photo, "PNG", transparency=(1, 2, 3), optimize=True)
    yield "rgba.png", encode(rgba, "PNG", optimize=True)
    yield "grey.png", encode(grey, "PNG", optimize=True)
    yield "grey_transparent_level.png", encode(grey, "PNG", transparency=7, optimize=True)
    yield "grey_alpha.png", encode(grey_alpha, "PNG", optimize=True)
    yield "bilevel.png", encode(photo.convert("1"), "PNG")
    for bits in (2, 4):
        levels = np.array(grey) >> (8 - bits)
        packed = np.zeros((SIZE[1], -(-SIZE[0] * bits // 8)), np.uint8)
        for x in range(SIZE[0]):
            packed[:, x * bits // 8] |= levels[:, x] << (8 - bits - x * bits % 8)
        yield f"grey_{bits}bit.png", png(*SIZE, bits, 0, rows_of(packed, 8))
    yield "palette.png", encode(palette, "PNG")
    yield "palette_2bit.png", encode(photo.quantize(3), "PNG", bits=2)
    yield "palette_4bit.png", encode(photo.quantize(13), "PNG", bits=4)
    yield "palette_transparency.png", encode(palette, "PNG", transparency=bytes(range(100)))
    yield "palette_too_short.png", png(4, 1, 8, 3, [bytes([0, 1, 2, 200])],
                                       chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])))
    yield "rgb_16bit.png", png(*SIZE, 16, 2, rows_of(rgb16, 16))
    yield "rgba_16bit.png", png(*SIZE, 16, 6, rows_of(np.dstack([rgb16, rgb16[..., :1]]), 16))
    yield "grey_16bit.png", png(*SIZE, 16, 0, rows_of(rgb16[..., 0] >> 5, 16))
    yield "grey_alpha_16bit.png", png(*SIZE, 16, 4, rows_of(rgb16[..., :2], 16))
    yield "interlaced.png", interlaced_png(rgb8, 8, 2)
    yield "interlaced_grey_16bit.png", interlaced_png(rgb16[..., 0] >> 6, 16, 0)
    yield "interlaced_2x3.png", interlaced_png(rgb8[:3, :2], 8, 2)
    yield "gamma_and_background.png", png(
        *SIZE, 8, 2, rows_of(rgb8, 8), chunk(b"gAMA", struct.pack(">I", 100000))
        + chunk(b"sBIT", bytes([5, 5, 5])) + chunk(b"bKGD", struct.pack(">3H", 1, 2, 3)))

    yield "lossy.webp", encode(photo, "WEBP", quality=70)
    yield "lossless.webp", encode(photo, "WEBP", lossless=True)
    yield "lossy_alpha.webp", encode(rgba, "WEBP", quality=60)
    yield "lossless_alpha.webp", encode(rgba, "WEBP", lossless=True, exact=True)

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        exif[0x0112] = orientation
        yield f"orientation_{orientation}.jpg", encode(photo, "JPEG", exif=exif)
        if orientation == 6:
            yield "orientation_6.png", encode(photo, "PNG", exif=exif, optimize=True)
            yield "orientation_6.webp", encode(photo, "WEBP", exif=exif)


def shapes():
    """Photos whose shape is the point."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 3, 3), dtype=np.uint8)
    yield "1x1.png", encode(Image.fromarray(noise[:1, :1]), "PNG")
    yield "1x1000.png", encode(Image.fromarray(np.tile(noise[:500, :1], (2, 1, 1))), "PNG")
    yield "3x700.png", encode(Image.fromarray(noise), "PNG")
    yield "700x3.png", encode(Image.fromarray(noise.transpose(1, 0, 2)), "PNG")
    yield "2x3.png", encode(Image.fromarray(noise[:3, :2]), "PNG")
    photo = Image.open(PHOTOS / LARGE_PHOTO).convert("RGB")
    yield "100x256.webp", encode(photo.resize((100, 256)), "WEBP", quality=50)
    yield "120x555.webp", encode(photo.resize((120, 555)), "WEBP", quality=50)
    yield "12_megapixels.jpg", encode(photo.resize((4000, 3000), Image.Resampling.LANCZOS), "JPEG")


class Cases:
    def __init__(self):
        self.lines = []

    def add(self, name, path, height, width, crop_pct=0.875, interpolation="bilinear",
            crop_mode="center", exif=False):
        photo = Image.open(path)
        photo = (ImageOps.exif_transpose(photo) if exif else photo).convert("RGB")
        transform = timm.data.create_transform(
            (3, height, width), is_training=False, crop_pct=crop_pct, interpolation=interpolation,
            crop_mode=crop_mode, normalize=False)
        pixels = transform(photo).permute(1, 2, 0).numpy()
        expected = OUT / "expected" / f"{name}.webp"
        expected.write_bytes(encode(Image.fromarray(pixels), "WEBP", lossless=True, exact=True,
                                    quality=100, method=6))
        self.lines.append((name, path.relative_to(HERE.parent), *photo.size,
                           f"{zlib.crc32(photo.tobytes()):08x}", height, width, crop_pct,
                           interpolation, crop_mode, int(exif)))


def main():
    for folder in (OUT / "inputs", OUT / "expected"):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
    cases = Cases()

    for index, path in enumerate(sorted(PHOTOS.glob("*.jpg"))):
        width, height = Image.open(path).size
        cases.add(f"photo_{index}_{width}x{height}", path, 224, 224)
    small, large = PHOTOS / SMALL_PHOTO, PHOTOS / LARGE_PHOTO
    for label, photo in (("portrait", small), ("landscape", large)):
        cases.add(f"{label}_192x160", photo, 192, 160)
        cases.add(f"{label}_160x192_bicubic", photo, 160, 192, interpolation="bicubic")
        cases.add(f"{label}_96_bicubic", photo, 96, 96, interpolation="bicubic")
        cases.add(f"{label}_96_nearest", photo, 96, 96, interpolation="nearest")
        cases.add(f"{label}_96x128_squash", photo, 96, 128, crop_mode="squash")
        cases.add(f"{label}_96_border", photo, 96, 96, crop_mode="border")
        cases.add(f"{label}_96x64_border_bicubic", photo, 96, 64, crop_pct=1.0,
                  crop_mode="border", interpolation="bicubic")
    cases.add("288_crop_095", small, 288, 288, crop_pct=0.95)
    cases.add("288_crop_100", small, 288, 288, crop_pct=1.0)

    for name, data in small_inputs():
        path = OUT / "inputs" / name
        path.write_bytes(data)
        cases.add(name.replace(".", "_"), path, 64, 64, exif=name.startswith("orientation"))
    cases.add("orientation_6_not_applied", OUT / "inputs" / "orientation_6.jpg", 64, 64)
    for name, data in shapes():
        path = OUT / "inputs" / name
        path.write_bytes(data)
        cases.add(name.replace(".", "_"), path, *((224, 224) if "12_mega" in name else (64, 64)))
    for mode in ("squash", "border"):
        cases.add(f"100x256_{mode}", OUT / "inputs" / "100x256.webp", 64, 64, crop_mode=mode)

    # Not a case: refused.
    photo = Image.open(small).convert("RGB").resize(SIZE)
    (OUT / "inputs" / "animated.webp").write_bytes(
        encode(photo, "WEBP", save_all=True, append_images=[ImageOps.mirror(photo)]))

    with open(OUT / "cases.tsv", "w") as file:
        print(f"# timm {timm.__version__}, Pillow {PIL.__version__}", file=file)
        print("#" + "\t".join(("name", "input", "decoded_width", "decoded_height", "decoded_crc32",
                               "height", "width", "crop_pct", "interpolation", "crop_mode",
                               "exif")), file=file)
        for line in cases.lines:
            print(*line, sep="\t", file=file)

    with open(PHOTOS / "ATTRIBUTION.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] in (SMALL_PHOTO, LARGE_PHOTO)]
    with open(OUT / "ATTRIBUTION.csv", "w") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"changes": "made into inputs/ and expected/: resized, converted"})


if __name__ == "__main__":
    main()
