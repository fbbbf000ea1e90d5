from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, Union

import grpc
from dla.v1 import classifier_pb2 as pb
from dla.v1 import classifier_pb2_grpc

from dla_serve.errors import DlaError
from dla_serve.many import PhotoStream
from dla_serve.results import Classification, Model, Result
from dla_serve.retry import RetryPolicy

# The encoded bytes of a JPEG, PNG or WebP, or the path of such a file.
Photo = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]"]

_MAX_ANSWER_BYTES = 64 << 20


class Client:
    """Calls one server. Threads may share it.

    address   host:port, or any other target of gRPC
    tls       for a server with a public certificate; any of the files implies it
    tls_ca    PEM file: whose certificates are trusted, instead of the system's
    tls_cert, tls_key  PEM files: this caller's own, for mutual TLS
    token     bearer token
    timeout   seconds for one photo or question, all tries included, where a call names no other
    retry     None: never ask twice
    """

    def __init__(self, address: str = "localhost:8001", *, tls: bool = False,
                 tls_ca: str | os.PathLike[str] | None = None,
                 tls_cert: str | os.PathLike[str] | None = None,
                 tls_key: str | os.PathLike[str] | None = None,
                 token: str | None = None, timeout: float = 60.0,
                 retry: RetryPolicy | None = RetryPolicy()):
        if (tls_cert is None) != (tls_key is None):
            raise ValueError("tls_cert and tls_key are given together or not at all")
        self._timeout = _checked(timeout)
        self._retry = retry
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        options = [
            ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
            # gRPC's own steps go up to two minutes: too long for a server that is restarted.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if address.startswith(("localhost:", "127.", "[::1]:", "unix:")):
            options.append(("grpc.enable_http_proxy", 0))
        if tls or tls_ca or tls_cert:
            credentials = grpc.ssl_channel_credentials(*map(_read, (tls_ca, tls_key, tls_cert)))
            self._channel = grpc.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stub = classifier_pb2_grpc.ClassifierStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def classify(self, photo: Photo, *, model: str = "", top_k: int = 0, embedding: bool = False,
                 normalize: bool = False, bulk: bool = False,
                 timeout: float | None = None) -> Classification:
        """Classifies one photo.

        model      empty: the only or first one
        top_k      how many classes; 0: 5, or all where there are fewer
        embedding  also return the pooled features before the classifier; normalize: of length 1
        bulk       nobody waits for it: comes after interactive photos

        Raises DlaError, or OSError for a file that cannot be read.
        """
        request = _request(model, top_k, embedding, normalize, bulk)
        request.image = _bytes_of(photo)
        return Classification.of(self._call(self._stub.Classify, request, timeout))

    def classify_many(self, photos: Iterable[Photo], *, model: str = "", top_k: int = 0,
                      embedding: bool = False, normalize: bool = False, bulk: bool = False,
                      timeout: float | None = None, window: int = 32,
                      ordered: bool = True) -> Iterator[Result]:
        """Classifies photos, at most `window` at a time, and yields a result for each: in their order, or
        as they are ready. `photos` is read as results are taken, and may be endless. `timeout` is for
        each photo from the moment it is read.

        A photo that fails does not disturb the others. Raises DlaError only where the server lets this
        caller classify nothing: UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED.
        """
        if window < 1:
            raise ValueError(f"window is {window}; it is at least 1")
        template = _request(model, top_k, embedding, normalize, bulk)

        def make_request(photo: Photo) -> pb.ClassifyRequest:
            request = pb.ClassifyRequest()
            request.CopyFrom(template)
            request.image = _bytes_of(photo)
            return request

        stream = PhotoStream(
            open_call=lambda requests: self._stub.ClassifyStream(requests, metadata=self._metadata),
            ask_alone=lambda request, left: self._call(self._stub.Classify, request, left),
            make_request=make_request, retry=self._retry,
            timeout=self._timeout if timeout is None else _checked(timeout), window=window)
        return stream.run(photos, ordered)

    def models(self, timeout: float | None = None) -> list[Model]:
        """What is served. Raises DlaError."""
        answer = self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout)
        return [Model.of(model) for model in answer.models]

    def model(self, name: str = "", timeout: float | None = None) -> Model:
        """One model, with its labels; empty: the only or first one. Raises DlaError."""
        return Model.of(self._call(self._stub.GetModel, pb.GetModelRequest(name=name), timeout))

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        end = time.monotonic() + (self._timeout if timeout is None else _checked(timeout))
        for attempt in itertools.count(1):
            try:
                return method(request, timeout=max(0.0, end - time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as failure:
                error = DlaError.of_call(failure)
            left = end - time.monotonic()
            delay = self._retry.delay(error, attempt, left) if self._retry else None
            if delay is None:
                raise error
            time.sleep(delay)
        raise AssertionError("not reached")


def _checked(timeout: float) -> float:
    if not timeout > 0 or math.isinf(timeout):
        raise ValueError(f"timeout is {timeout}; it is a number of seconds above 0")
    return timeout


def _request(model: str, top_k: int, embedding: bool, normalize: bool,
             bulk: bool) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(
        model=model, top_k=top_k, include_embedding=embedding, normalize_embedding=normalize,
        priority=pb.PRIORITY_BULK if bulk else pb.PRIORITY_UNSPECIFIED)


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _bytes_of(photo: Photo) -> bytes:
    if isinstance(photo, (bytes, bytearray, memoryview)):
        return bytes(photo)
    with open(photo, "rb") as file:
        return file.read()
