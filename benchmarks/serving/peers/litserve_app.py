"""LitServe: the photo is the body of POST /predict."""

import argparse
from typing import Annotated

import litserve
from fastapi import Depends, Request
from photo_model import PhotoModel


async def read_body(request: Request) -> bytes:
    return await request.body()


class Classifier(litserve.LitAPI):
    def __init__(self, args, **kwargs):
        super().__init__(**kwargs)
        self.args = args

    def setup(self, device):
        args = self.args
        self.model = PhotoModel(args.folder, args.threads, args.precision, args.reduced_scale)

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]):
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, photos):
        return self.model.classify(photos)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return [{"index": i, "label": label, "probability": p} for p, i, label in output]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--reduced-scale", action="store_true")
    args = parser.parse_args()
    # A timeout of 0 makes LitServe poll its queue without a pause.
    api = Classifier(args, max_batch_size=8, batch_timeout=0.002)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=args.workers, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=args.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
