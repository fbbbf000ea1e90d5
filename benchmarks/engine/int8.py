"""Makes the int8 networks that compare.py measures, ours and OpenVINO's, on the same photos.

  int8.py ROOT PHOTOS ENGINE[,ENGINE] VARIANT...    from the folders that models.py made in ROOT

ROOT/photos-KEY holds the photos: calibration/ and held_out/ for dla-quantize, calibration.npy for NNCF
and photos.bin (the held-out ones, raw RGB), cropped by timm's transform, which dla-quantize's equals.
KEY names the selection. ROOT/VARIANT/int8-KEY holds dla-serve/ (as dla-quantize writes it), openvino.xml,
photos.bin and logits.npy (float32 in timm). Only what is missing is made; dla-serve/ also where
dla-quantize is newer.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
QUANTIZE = ROOT / "build/release/bin/dla-quantize"
OURS = "dla-serve"
CALIBRATE = 200
HELD_OUT = 8


def some(items, count):
    """`count` of them, at even distances."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def choose(folder):
    """(calibration, held out): the photos of a folder and those below it, HELD_OUT or a quarter for the latter."""
    found = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    found = some(found, CALIBRATE + HELD_OUT)
    if len(found) < 4:
        raise SystemExit(f"{folder} has {len(found)} photos; int8 wants at least 4, better {CALIBRATE + HELD_OUT}")
    held_out = some(found, min(HELD_OUT, len(found) // 4))
    return [path for path in found if path not in held_out], held_out


def key_of(photos):
    names = "\n".join(f"{path.name} {path.stat().st_size}" for part in choose(photos) for path in part)
    return hashlib.sha256(names.encode()).hexdigest()[:8]


def folder_of(root, variant, photos):
    return pathlib.Path(root) / variant / f"int8-{key_of(photos)}"


def complete(folder, fill):
    """A folder that exists is complete."""
    if folder.exists():
        return
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    fill(new)
    new.rename(folder)


def pixels_of(paths):
    from PIL import Image
    from torchvision import transforms

    import models

    crop = transforms.Compose([
        transforms.Resize(models.SIZE * 8 // 7, transforms.InterpolationMode.BILINEAR),
        transforms.CenterCrop(models.SIZE)])
    return np.stack([np.asarray(crop(Image.open(path).convert("RGB"))) for path in paths])


def make_photos(folder, photos):
    calibration, held_out = choose(photos)
    for name, paths in (("calibration", calibration), ("held_out", held_out)):
        (folder / name).mkdir()
        for i, path in enumerate(paths):
            shutil.copyfile(path, folder / name / f"{i:03}{path.suffix.lower()}")
    np.save(folder / "calibration.npy", pixels_of(calibration))
    pixels_of(held_out).tofile(folder / "photos.bin")


def make_expected(folder, photos, network):
    import torch

    import models

    shutil.copyfile(photos / "photos.bin", folder / "photos.bin")
    pixels = np.fromfile(folder / "photos.bin", np.uint8).reshape(-1, models.SIZE, models.SIZE, 3)
    with torch.no_grad():
        logits = models.FromPixels(models.load(network))(torch.from_numpy(pixels))
    np.save(folder / "logits.npy", logits.numpy())


def make_ours(folder, photos, network):
    """Written whatever dla-quantize's report says, for random weights have no classes to agree about."""
    out = folder / OURS
    if out.exists() and out.stat().st_mtime > QUANTIZE.stat().st_mtime:
        return
    print(f"making {out}", flush=True)
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(
        [QUANTIZE, network, "--images", photos / "calibration", "--held-out", photos / "held_out", "--out", out,
         "--force"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dla-quantize: {done.stderr}")
    (folder / "dla-quantize.log").write_text(done.stdout)


def make_openvino(folder, photos, network):
    """NNCF's defaults, which quantise all convolutions, also the one that reads pixels."""
    path = folder / "openvino.xml"
    if path.exists():
        return
    print(f"making {path}", flush=True)
    import peer

    peer.keep_quiet()
    import nncf
    import openvino

    model = peer.OpenVino.convert(network)
    pixels = np.load(photos / "calibration.npy")
    quantized = nncf.quantize(model, nncf.Dataset([each[None] for each in pixels]), subset_size=len(pixels))
    openvino.save_model(quantized, folder / "new.xml", compress_to_fp16=False)
    (folder / "new.bin").rename(folder / "openvino.bin")
    (folder / "new.xml").rename(path)


def main():
    root, photos, engines = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3].split(",")
    chosen = root / f"photos-{key_of(photos)}"
    complete(chosen, lambda new: make_photos(new, photos))
    for variant in sys.argv[4:]:
        folder = folder_of(root, variant, photos)
        complete(folder, lambda new: make_expected(new, chosen, root / variant))
        for engine, make in ((OURS, make_ours), ("openvino", make_openvino)):
            if engine in engines:
                make(folder, chosen, root / variant)


if __name__ == "__main__":
    main()
