#!/usr/bin/env python3
"""fetch_weights.py --from-original on files made like the authors' older .pth files."""

import collections
import io
import json
import os
import pathlib
import pickle
import sys
import tempfile
import unittest
from unittest import mock

from fetch_test_case import FetchTest, fetch_weights, sha256
from hub_server import File

import original_weights  # fetch_test_case has put it on the path

try:
    import safetensors.torch
    import timm
    import torch

    MISSING = None
except ImportError as error:
    MISSING = f"needs Python's torch, timm and safetensors: {error}"


def unused_projects(model):
    """The project layers that the original files hold and no network runs, by name."""
    unused = {}
    for name, tree in model.named_modules():
        if type(tree).__name__ != "DlaTree" or tree.root is not None:
            continue
        first, last = tree.tree1, tree.tree2
        while hasattr(first, "tree1"):
            first, last = first.tree1, last.tree2
        final = last.conv3 if hasattr(last, "conv3") else last.conv2
        channels = (first.conv1.in_channels, final.out_channels)
        if channels[0] == channels[1]:
            continue
        layer = torch.nn.Sequential(
            torch.nn.Conv2d(*channels, 1, bias=False), torch.nn.BatchNorm2d(channels[1])
        )
        unused.update({f"{name}.project.{key}": t for key, t in layer.state_dict().items()})
    return unused


class WithoutTorchTest(FetchTest):
    def test_says_how_to_install_what_is_missing(self):
        with mock.patch.dict(sys.modules, {"torch": None, "safetensors.torch": None}):
            self.assertEqual(self.fetch("--from-original"), 1)
        self.assertIn("python3 -m pip install torch safetensors", self.errors)
        self.assertEqual(self.server.requests, [])


@unittest.skipIf(MISSING, MISSING)
class OriginalTest(FetchTest):
    def publish(self, body, variant="dla46_c"):
        name = f"{variant}-{sha256(body)[:8]}"
        changed = fetch_weights.VARIANTS[variant]._replace(original=name)
        patch = mock.patch.dict(fetch_weights.VARIANTS, {variant: changed})
        patch.start()
        self.addCleanup(patch.stop)
        self.server.files[f"/{name}.pth"] = File(body)

    def make_original(self, model):
        """The model in the format of torch 0.4: not zipped, and BatchNorm did not count."""
        torch.manual_seed(1)
        state = collections.OrderedDict()
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith(("running_mean", "running_var")):
                tensor.uniform_(0.5, 1.5)
            state[name] = tensor
        projects = unused_projects(model)
        self.assertEqual({name.split(".")[0] for name in projects}, {"level4"})
        state.update({k: v for k, v in projects.items() if not k.endswith("num_batches_tracked")})
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=False)
        return file.getvalue()

    def test_converts_what_timm_then_loads(self):
        model = timm.create_model("dla46_c").eval()
        self.publish(self.make_original(model))
        self.assertEqual(self.fetch("--from-original"), 0, self.errors)
        self.assertEqual(
            sorted(path.name for path in self.out.iterdir()), ["config.json", "model.safetensors"]
        )
        self.assertEqual((self.out / "model.safetensors").stat().st_mode & 0o444, 0o444)

        state = safetensors.torch.load_file(self.out / "model.safetensors")
        self.assertEqual(set(state), set(model.state_dict()))
        loaded = timm.create_model("dla46_c").eval()
        loaded.load_state_dict(state, strict=True)
        photo = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            self.assertTrue(torch.equal(loaded(photo), model(photo)))

        # timm itself takes the folder.
        with torch.no_grad():
            folder = timm.create_model(f"local-dir:{self.out}", pretrained=True).eval()
            self.assertTrue(torch.equal(folder(photo), model(photo)))
        self.assertEqual(folder.pretrained_cfg["interpolation"], "bilinear")

        del self.server.requests[:]
        self.assertEqual(self.fetch("--from-original"), 0, self.errors)
        self.assertEqual(self.server.requests, [])

    def test_writes_the_config_that_timm_has(self):
        for name, variant in fetch_weights.VARIANTS.items():
            path = pathlib.Path(tempfile.mkdtemp(dir=self.out.parents[1])) / "config.json"
            original_weights.write_config(path, name, variant.num_features, variant.license)
            expected = path.with_name("expected.json")
            with torch.device("meta"):
                timm.models._hub.save_config_for_hf(timm.create_model(name), expected)
            expected = json.loads(expected.read_text())
            del expected["model_args"]  # older versions of timm do not write them
            self.assertEqual(json.loads(path.read_text()), expected)

    def test_keeps_what_every_variant_needs_and_nothing_else(self):
        for name, variant in fetch_weights.VARIANTS.items():
            with self.subTest(name), torch.device("meta"):
                model = timm.create_model(name)
                state = dict(model.state_dict())
                needed = set(state)
                projects = unused_projects(model)
                self.assertTrue(projects)
                renamed = original_weights.rename({**state, **projects})
                self.assertEqual(set(renamed), needed)
                wrapped = {f"module.{key}": t for key, t in {**state, **projects}.items()}
                self.assertEqual(set(original_weights.rename(wrapped)), needed)
                found = original_weights.count_parameters(renamed) / 1e6
                self.assertAlmostEqual(found, variant.parameters_m, delta=0.005)
                self.assertEqual(model.num_features, variant.num_features)

    def test_refuses_a_wrong_digest(self):
        path = f"/{fetch_weights.VARIANTS['dla46_c'].original}.pth"
        self.server.files[path] = File(b"something else")
        self.assert_failed_in_one_line(
            self.fetch("--from-original"), f"SHA-256 is {sha256(b'something else')}", "2bfd52c3"
        )
        self.assert_folder_holds()

    def test_refuses_the_weights_of_another_variant(self):
        file = io.BytesIO()
        torch.save(timm.create_model("dla46x_c").state_dict(), file)
        self.publish(file.getvalue())
        self.assert_failed_in_one_line(
            self.fetch("--from-original"), "1.07 million parameters where 1.30 should be"
        )
        self.assertFalse((self.out / "model.safetensors").exists())

    def test_never_runs_what_a_pickle_holds(self):
        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(marker),)

        marker = self.out.parents[1] / "attacked"
        for body in (pickle.dumps(Attack()), pickle.dumps([1, 2]), b"\x80", b"PK\x03\x04"):
            self.publish(body)
            self.assertEqual(self.fetch("--from-original"), 1)
            self.assertIn("fetch_weights: ", self.errors)
            self.assertNotIn("Traceback", self.errors)
            self.assertFalse(marker.exists())
            self.assertFalse((self.out / "model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
