#!/usr/bin/env python3
"""Makes the seeds of the fuzzing harnesses, tests/fuzz/seeds/HARNESS/*: small files of every kind
that is accepted. Photos are tests/data/photos made tiny. Run where Pillow and protoc are installed:
  tests/fuzz/make_seeds.py
"""
import io
import json
import pathlib
import struct
import subprocess

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests/fuzz/seeds"


def write(harness, name, data):
    folder = SEEDS / harness
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def encoded(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def photos():
    photo = Image.open(ROOT / "tests/data/photos/roses_1793211631.jpg").convert("RGB").resize((20, 15))
    grey = photo.convert("L")
    rgba = photo.copy()
    rgba.putalpha(grey)
    palette = photo.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation
    exif[0x010F] = "Canon"  # Make, which names the format of the maker note
    exif.get_ifd(0x8769)[0x927C] = b"\x01\x00\x01\x00\x03\x00\x02\x00\x00\x00abcd\x00\x00\x00\x00"

    def jpeg(name, image, **options):
        write("image_fuzz", name + ".jpg", encoded(image, format="JPEG", quality=50, **options))

    jpeg("baseline", photo)
    jpeg("progressive", photo, progressive=True)
    jpeg("grey", grey)
    jpeg("cmyk", photo.convert("CMYK"))
    jpeg("chroma_444", photo, subsampling=0)
    jpeg("chroma_422", photo, subsampling=1)
    jpeg("exif", photo, exif=exif)
    jpeg("exif_progressive_icc", photo, exif=exif, progressive=True, icc_profile=b"profile" * 9)
    jpeg("restart_markers", photo, restart_marker_blocks=1)
    jpeg("comment", photo, comment=b"a comment")
    jpeg("tiny", photo.resize((1, 1)))

    def png(name, image, **options):
        write("image_fuzz", name + ".png", encoded(image, format="PNG", **options))

    png("rgb", photo)
    png("rgba", rgba)
    png("grey", grey)
    png("grey_alpha", rgba.convert("LA"))
    png("grey_16bit", Image.frombytes("I;16", (9, 7), bytes(range(126))))
    png("bilevel", photo.convert("1"))
    png("palette", palette)
    png("palette_transparency", palette, transparency=3)
    png("palette_2bit", photo.quantize(4), bits=2)
    png("exif_icc", photo, exif=exif, icc_profile=b"profile" * 9)
    png("tiny", photo.resize((1, 1)))
    interlaced = ROOT / "tests/golden/preprocess/inputs/interlaced_2x3.png"
    write("image_fuzz", "interlaced.png", interlaced.read_bytes())

    def webp(name, image, **options):
        write("image_fuzz", name + ".webp", encoded(image, format="WEBP", **options))

    webp("lossy", photo, quality=30)
    webp("lossy_alpha_exif", rgba, quality=30, exif=exif)
    webp("lossless", photo.resize((10, 8)), lossless=True)
    webp("lossless_palette", palette.convert("RGB").resize((10, 8)), lossless=True)
    webp("lossless_icc", rgba.resize((5, 4)), lossless=True, icc_profile=b"profile" * 9)
    webp("animation", photo.resize((4, 4)), save_all=True, append_images=[grey.resize((4, 4))])
    write("image_fuzz", "other.gif", encoded(photo.resize((4, 4)), format="GIF"))
    write("image_fuzz", "other.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")


def safetensors(tensors, data, metadata=None):
    header = {"__metadata__": metadata} if metadata else {}
    header.update(tensors)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def weights():
    def tensor(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    write("safetensors_fuzz", "two.safetensors",
          safetensors({"a": tensor("F32", [2, 2], 0, 16), "b": tensor("BF16", [3], 16, 22)},
                      bytes(22), {"format": "pt"}))
    write("safetensors_fuzz", "scalar.safetensors",
          safetensors({"num_batches_tracked": tensor("I64", [], 0, 8)}, bytes(8)))
    write("safetensors_fuzz", "empty_tensor.safetensors",
          safetensors({"none": tensor("F16", [0, 5], 0, 0)}, b""))
    write("safetensors_fuzz", "no_tensors.safetensors", safetensors({}, b""))
    write("safetensors_fuzz", "int8_steps.safetensors",
          (ROOT / "model/zoo/flowers5/int8_steps.safetensors").read_bytes())
    write("safetensors_fuzz", "tiny.safetensors",
          (ROOT / "tests/golden/formats/tiny.safetensors").read_bytes())


def configs():
    flowers = json.loads((ROOT / "model/zoo/flowers5/config.json").read_text())
    write("model_config_fuzz", "flowers5.json", json.dumps(flowers))
    for name in ("dla34", "finetuned"):
        write("model_config_fuzz", name + ".json",
              (ROOT / f"tests/golden/formats/{name}.json").read_bytes())
    write("model_config_fuzz", "least.json", '{"architecture": "dla34", "num_classes": 2}')
    write("model_config_fuzz", "labels_by_index.json", json.dumps(
        {"architecture": "dla46_c", "num_classes": 3, "label_names": {"0": "a", "2": "c"},
         "label_descriptions": {"a": "an a", "c": "a c"},
         "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1],
                            "crop_pct": 0.9, "crop_mode": "border", "interpolation": "nearest"}}))
    write("model_config_fuzz", "older.json", json.dumps(
        {"architecture": "dla34", "num_classes": 1000, "num_features": 512, "global_pool": "avg",
         "model_args": {}, "input_size": [3, 224, 224], "interpolation": "bilinear"}))

    write("yaml_config_fuzz", "models.yaml", """\
grpc-address: 127.0.0.1:0
max-batch: 8
models:
  flowers: /models/flowers
  dla34: {path: /models/dla34, replicas: 2, precision: bf16, device: "cuda:0"}
""")
    write("yaml_config_fuzz", "settings.yaml", """\
# all kinds of values
decode-threads: 4
exif-orientation: false
cache-config: local,size=1000
replicas: auto
log-level: debug
model-control: explicit
load-model: [a, b]
version-label:
  - a:stable=1
  - "b:canary=2"
""")
    write("yaml_config_fuzz", "anchors.yaml",
          "models: &m\n  a: &d {path: x, threads: 1}\n  b: *d\n  c:\n    <<: *d\n    threads: 2\n")
    write("yaml_config_fuzz", "flow.yaml", "{max-pixels: 1000, models: {a: b}}\n")
    write("yaml_config_fuzz", "text.yaml", "device: >-\n  cpu\nlog-level: |\n  info\n--- \nx: 1\n")
    write("yaml_config_fuzz", "empty.yaml", "")


def message(type_name, file, text):
    return subprocess.run(
        ["protoc", "-I", ROOT / "proto", f"--encode={type_name}", ROOT / "proto" / file],
        input=text.encode(), stdout=subprocess.PIPE, check=True).stdout


def requests():
    def classify(name, kind, text):
        data = message(f"dla.v1.{kind}", "dla/v1/classifier.proto", text)
        which = 0 if kind == "ClassifyRequest" else 1
        write("classify_request_fuzz", name, bytes([which]) + data)

    classify("least", "ClassifyRequest", 'image: "x"')
    classify("all", "ClassifyRequest",
             'model: "flowers" image: "photo" top_k: 3 include_embedding: true '
             'normalize_embedding: true')
    classify("too_many", "ClassifyRequest", 'model: "flowers" top_k: 4000000000')
    classify("unknown_model", "ClassifyRequest", 'model: "no\\nsuch\\001 model"')
    classify("batch", "ClassifyBatchRequest", 'model: "flowers" images: "a" images: "b" top_k: 1')

    def infer(name, text):
        write("infer_request_fuzz", name,
              message("inference.ModelInferRequest", "inference/grpc_service.proto", text))

    infer("image_raw", 'model_name: "m" inputs {name: "image" datatype: "BYTES" shape: 2} '
          'raw_input_contents: "\\001\\000\\000\\000a\\002\\000\\000\\000bc"')
    infer("image_typed", 'inputs {name: "image" datatype: "BYTES" shape: 1 shape: 1 '
          'contents {bytes_contents: "photo"}} outputs {name: "labels"}')
    infer("pixels_raw", 'inputs {name: "pixels" datatype: "UINT8" shape: [1, 1, 2, 3]} '
          'raw_input_contents: "abcdef"')
    infer("pixels_typed", 'inputs {name: "pixels" datatype: "UINT8" shape: [1, 1, 1, 3] '
          'contents {uint_contents: [1, 2, 255]}}')
    infer("input_raw", 'inputs {name: "input" datatype: "FP32" shape: [1, 3, 2, 2]} '
          'raw_input_contents: "' + "abcd" * 12 + '"')
    infer("input_typed", 'inputs {name: "input" datatype: "FP32" shape: [1, 3, 2, 2] '
          'contents {fp32_contents: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}}')
    infer("outputs", 'id: "1" parameters {key: "top_k" value {int64_param: 3}} '
          'parameters {key: "timeout" value {int64_param: 1000}} '
          'inputs {name: "image" datatype: "BYTES" shape: 1} raw_input_contents: "\\000\\000\\000\\000" '
          'outputs {name: "probabilities" parameters {key: "classification" value {int64_param: 2}}} '
          'outputs {name: "logits"} outputs {name: "embedding"} outputs {name: "indices"}')
    infer("shared_memory", 'inputs {name: "image" datatype: "BYTES" shape: 1 '
          'parameters {key: "shared_memory_region" value {string_param: "r"}} '
          'parameters {key: "shared_memory_byte_size" value {int64_param: 9}} '
          'parameters {key: "shared_memory_offset" value {int64_param: 1}}}')

    def infer_json(name, request, binary=b""):
        text = json.dumps(request, separators=(",", ":")).encode()
        body = text + binary
        share = next(i for i in range(256) if len(body) * (i + 1) // 256 == len(text))
        write("infer_json_fuzz", name, bytes([share]) + body)

    infer_json("base64", {
        "id": "1",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["cGhvdG8="]}],
        "outputs": [{"name": "labels", "parameters": {"binary_data": False}}],
        "parameters": {"top_k": 2, "binary_data_output": True}})
    infer_json("binary", {
        "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2, 3],
                    "parameters": {"binary_data_size": 12}}]}, b"0123456789ab")
    infer_json("floats", {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, 2, 2],
                    "data": [[[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 1e1], [-1.5, 12]]]]}]})


photos()
weights()
configs()
requests()
