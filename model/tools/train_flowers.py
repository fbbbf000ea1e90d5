#!/usr/bin/env python3
"""Train the small embedded model: DLA-46-C from scratch on five kinds of flowers, on a CPU.

The data folder holds train/<class>/*.jpg and val/<class>/*.jpg; the classes, in alphabetical
order, become the labels 0, 1, 2, ... The length of the run is given either in minutes (the
learning rate and the image sizes then follow the clock, so the schedule completes on a slow
or busy machine too) or in epochs. The average of the weights over the last steps (EMA) is the
result; validation photos are only ever used to measure, never to choose.

What it writes below --out:
  config.json, model.safetensors   the model as timm saves it for the hub, weights in float16
The accuracy on val/ is printed for the float32 weights and for the saved ones.
With --checkpoint FILE the state of the run is kept there every few epochs, and a run that was
cut off goes on from it.

Example (two CPU cores, about three quarters of an hour):
  MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 \\
      python train_flowers.py --data flowers --out zoo/flowers5 --minutes 45 --threads 2
The two settings keep glibc from handing each large tensor back to the kernel; without them
page faults take about half of the time.

Needs torch, torchvision, timm, numpy, pillow, safetensors.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models._hub import save_for_hf
from timm.utils import ModelEmaV3
from torchvision.transforms import RandomResizedCrop

ARCHITECTURE = "dla46_c"
SHORT_SIDE = 256  # photos are kept in memory at this short side
# (share of the run that ends the stage, image size)
SIZES = ((0.50, 128), (0.72, 160), (0.90, 192), (1.00, 224))
WARM_UP = 0.05


def list_photos(folder, classes):
    """Paths and labels of all photos below folder, in a fixed order."""
    return [(path, label) for label, name in enumerate(classes)
            for path in sorted((folder / name).glob("*.jpg"))]


def decode(path):
    """A photo as a uint8 tensor (3, H, W), channels last in memory, short side SHORT_SIDE."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        scale = SHORT_SIDE / min(image.size)
        if scale != 1:
            size = [max(SHORT_SIDE, round(side * scale)) for side in image.size]
            image = image.resize(size, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def crop(photo, size, scale):
    """A random part of the photo, resized to size x size."""
    top, left, height, width = RandomResizedCrop.get_params(photo, scale, (3 / 4, 4 / 3))
    part = photo[None, :, top:top + height, left:left + width]
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)


def jitter(x, strength):
    """Random brightness, contrast and saturation, drawn per photo; x is within 0..1."""
    def factor():
        return 1 + strength * (2 * torch.rand(len(x), 1, 1, 1) - 1)

    def grey(y):
        return (y * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)

    x = (x * factor()).clamp_(0, 1)
    x = torch.lerp(grey(x).mean((2, 3), keepdim=True).expand_as(x), x, factor()).clamp_(0, 1)
    return torch.lerp(grey(x).expand_as(x), x, factor()).clamp_(0, 1)


def erase(x, probability):
    """Random erasing: noise in place of one rectangle of some of the photos, in place."""
    size = x.shape[-1]
    for image in x:
        if random.random() < probability:
            area = random.uniform(0.02, 0.3) * size * size
            ratio = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
            height = min(size, round(math.sqrt(area * ratio)))
            width = min(size, round(math.sqrt(area / ratio)))
            top, left = random.randint(0, size - height), random.randint(0, size - width)
            image[:, top:top + height, left:left + width] = torch.randn(3, height, width)


def make_batch(photos, labels, size, args, mean, std, num_classes):
    """Augmented images and soft targets."""
    x = torch.cat([crop(photo, size, (args.scale, 1.0)) for photo in photos])
    flipped = torch.rand(len(x), 1, 1, 1) < 0.5
    x = torch.where(flipped, x.flip(3), x).float().div_(255)
    x = jitter(x, args.jitter).sub_(mean).div_(std)
    erase(x, args.erasing)
    target = F.one_hot(labels, num_classes).float()
    target = target * (1 - args.smoothing) + args.smoothing / num_classes
    share = float(np.random.beta(args.mixup, args.mixup)) if args.mixup > 0 else 1.0
    x = torch.lerp(x.flip(0), x, share)
    target = torch.lerp(target.flip(0), target, share)
    return x.contiguous(memory_format=torch.channels_last), target


def make_optimizer(model, args):
    """AdamW; weight decay on matrices and kernels only, not on biases and norms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": args.weight_decay},
              {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr)


def learning_rate(progress, peak):
    """Linear warm-up, then a cosine to zero."""
    if progress < WARM_UP:
        return peak * max(progress / WARM_UP, 0.01)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def evaluate(model, photos, num_classes):
    """Confusion matrix [truth][prediction] of photos under timm's own evaluation transform, float32."""
    config = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**config, is_training=False)
    model.eval()
    confusion = np.zeros((num_classes, num_classes), dtype=int)
    with torch.inference_mode():
        for start in range(0, len(photos), 32):
            part = photos[start:start + 32]
            x = torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in part])
            for (_, label), prediction in zip(part, model(x).argmax(1).tolist()):
                confusion[label, prediction] += 1
    return confusion


def report(title, confusion, classes):
    """Print a confusion matrix with its accuracies."""
    accuracy = confusion.trace() / confusion.sum()
    print(f"{title}: accuracy {100 * accuracy:.2f} % ({confusion.trace()} of {confusion.sum()})")
    print(" " * 12 + "".join(f"{name[:10]:>11}" for name in classes) + "   accuracy")
    for name, row, right in zip(classes, confusion, confusion.diagonal()):
        print(f"{name[:12]:12}" + "".join(f"{n:11d}" for n in row) + f"{100 * right / row.sum():9.1f} %")


def save(model, out, classes):
    """Save the model in the hub's layout, floating-point tensors as float16."""
    half = timm.create_model(ARCHITECTURE, num_classes=len(classes))
    half.load_state_dict(model.state_dict())
    # the architecture's default configuration describes other weights: drop what is not of these
    half.pretrained_cfg = {k: v for k, v in half.pretrained_cfg.items()
                           if k not in ("url", "hf_hub_id", "license")}
    half.pretrained_cfg.update(num_classes=len(classes), tag=out.name)
    save_for_hf(half.half(), out, safe_serialization=True,
                model_config={"label_names": classes})


def load(out):
    """Load a saved folder the way a user of timm does; float32."""
    config = json.loads((out / "config.json").read_text())
    return timm.create_model(config["architecture"], num_classes=config["num_classes"],
                             pretrained_cfg_overlay=config["pretrained_cfg"],
                             checkpoint_path=str(out / "model.safetensors"))


def train(args, classes):
    """The whole run; returns the averaged model."""
    model = timm.create_model(ARCHITECTURE, num_classes=len(classes))
    mean = torch.tensor(model.pretrained_cfg["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(model.pretrained_cfg["std"]).view(1, 3, 1, 1)
    model = model.to(memory_format=torch.channels_last)
    ema = ModelEmaV3(model, decay=args.ema)
    optimizer = make_optimizer(model, args)

    val = list_photos(args.data / "val", classes)
    listed = list_photos(args.data / "train", classes)
    photos = [decode(path) for path, _ in listed]
    labels = torch.tensor([label for _, label in listed])
    steps = len(photos) // args.batch
    print(f"{len(photos)} photos to train on, {len(val)} to validate, {steps} steps per epoch", flush=True)

    epoch, step, spent = 0, 0, 0.0
    if args.checkpoint and args.checkpoint.exists():
        state = torch.load(args.checkpoint)
        model.load_state_dict(state["model"])
        ema.module.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, step, spent = state["epoch"], state["step"], state["spent"]
        print(f"going on after epoch {epoch}", flush=True)
    begin = time.monotonic() - spent

    def progress():
        if args.epochs:
            return step / (args.epochs * steps)
        return (time.monotonic() - begin) / (60 * args.minutes)

    while progress() < 1:
        model.train()
        order = torch.randperm(len(photos))
        total, count, started = 0.0, 0, time.monotonic()
        for i in range(steps):
            done = progress()
            if done >= 1:
                break
            size = next(size for end, size in SIZES if done < end)
            lr = learning_rate(done, args.lr)
            for group in optimizer.param_groups:
                group["lr"] = lr
            chosen = order[i * args.batch:(i + 1) * args.batch]
            x, target = make_batch([photos[j] for j in chosen], labels[chosen], size,
                                   args, mean, std, len(classes))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            # a young average follows the weights closely, a late one is slow
            ema.decay = min(args.ema, (1 + step) / (10 + step))
            ema.update(model)
            total, count = total + loss.item(), count + 1
        epoch += 1
        line = (f"epoch {epoch:3d}  done {min(progress(), 1):6.1%}  size {size}  lr {lr:.2e}  "
                f"loss {total / max(count, 1):.4f}  {time.monotonic() - started:5.1f} s")
        if epoch % args.check_every == 0 and progress() < 1:
            confusion = evaluate(ema.module, val, len(classes))
            line += f"  val {confusion.trace() / confusion.sum():.1%}"
            if args.checkpoint:
                torch.save({"model": model.state_dict(), "ema": ema.module.state_dict(),
                            "optimizer": optimizer.state_dict(), "epoch": epoch, "step": step,
                            "spent": time.monotonic() - begin}, args.checkpoint)
        print(line, flush=True)
    print(f"trained {epoch} epochs in {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    return ema.module


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="length of the run by the clock")
    length.add_argument("--epochs", type=int, help="length of the run in epochs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: torch's choice)")
    parser.add_argument("--checkpoint", type=Path, help="file for the state of the run")
    parser.add_argument("--check-every", type=int, default=10, help="epochs between validations")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the averaged weights")
    parser.add_argument("--scale", type=float, default=0.3, help="smallest share of a photo in a crop")
    parser.add_argument("--jitter", type=float, default=0.3)
    parser.add_argument("--erasing", type=float, default=0.2)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--smoothing", type=float, default=0.1)
    args = parser.parse_args()

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    classes = sorted(folder.name for folder in (args.data / "train").iterdir() if folder.is_dir())

    model = train(args, classes)
    val = list_photos(args.data / "val", classes)
    report("float32 weights", evaluate(model, val, len(classes)), classes)
    save(model, args.out, classes)
    report("saved float16 weights", evaluate(load(args.out), val, len(classes)), classes)


if __name__ == "__main__":
    main()
