"""TorchServe handler that runs OpenVINO."""

import sys


class Handler:
    def initialize(self, context):
        settings = context.model_yaml_config["handler"]
        sys.path.insert(0, settings["peers"])
        from photo_model import PhotoModel

        self.model = PhotoModel(
            settings["folder"], settings["threads"], settings["precision"], settings["reduced_scale"]
        )

    def handle(self, data, context):
        photos = [bytes(row.get("data") or row.get("body")) for row in data]
        return [
            [{"index": i, "label": label, "probability": p} for p, i, label in answer]
            for answer in self.model.classify(photos)
        ]
