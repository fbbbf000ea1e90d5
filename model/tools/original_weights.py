"""Turns the older .pth files of the DLA networks into what timm saves for the hub.

Needs torch and safetensors, at run time only.
"""

import json
import os

import download


class ConversionError(Exception):
    """Says in one line why a file cannot be converted."""


def require_libraries():
    try:
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ConversionError(
            f"the older .pth files need Python's torch and safetensors ({error}); "
            "install them: python3 -m pip install torch safetensors numpy"
        ) from error


def rename(state):
    """Tensors of an original file under the names of timm's, less those that no network uses.

    The original networks have a project layer in every tree, although only a tree of depth 1, which
    is one that has a root, ever runs it.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    roots = {name.partition(".root.")[0] for name in state if ".root." in name}
    renamed = {}
    for name, tensor in state.items():
        tree, is_project, _ = name.partition(".project.")
        if is_project and tree not in roots:
            continue
        if name == "fc.weight" and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]  # the classifier is a 1x1 convolution
        renamed[name] = tensor
    return renamed


def add_counters(state, torch):
    """Older versions of torch did not count the batches that a BatchNorm has seen."""
    for name in list(state):
        layer, is_norm, _ = name.partition(".running_var")
        if is_norm:
            state.setdefault(f"{layer}.num_batches_tracked", torch.tensor(0))


def count_parameters(state):
    buffers = (".running_mean", ".running_var", ".num_batches_tracked")
    return sum(tensor.numel() for name, tensor in state.items() if not name.endswith(buffers))


def convert(source, target, parameters_m):
    """Writes the weights in the .pth file source to target in the safetensors format.

    parameters_m: millions of parameters that the variant has, to two digits.
    """
    import safetensors.torch
    import torch

    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises all kinds on a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConversionError(f"{source}: cannot be read as weights: {reason}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise ConversionError(f"{source}: holds no table of tensors")

    state = rename(state)
    found = count_parameters(state) / 1e6
    if abs(found - parameters_m) > 0.005 or "fc.weight" not in state:
        raise ConversionError(
            f"{source}: these are not the variant's weights: {found:.2f} million parameters "
            f"where {parameters_m:.2f} should be"
        )
    add_counters(state, torch)
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    part = target.with_name(target.name + ".part")
    try:
        safetensors.torch.save_file(state, part, metadata={"format": "pt"})
        os.chmod(part, 0o666 & ~_umask())
        download.publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_config(target, architecture, num_features, license_name):
    """Writes the config.json that timm has for the published ImageNet-1k weights."""
    config = {
        "architecture": architecture,
        "num_classes": 1000,
        "num_features": num_features,
        "global_pool": "avg",
        "pretrained_cfg": {
            "tag": "in1k",
            "custom_load": False,
            "input_size": [3, 224, 224],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 1000,
            "pool_size": [7, 7],
            "first_conv": "base_layer.0",
            "classifier": "fc",
            "license": license_name,
        },
    }
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        download.publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def _umask():
    value = os.umask(0)
    os.umask(value)
    return value
