from __future__ import annotations

import array
import dataclasses
from typing import TYPE_CHECKING, Any

from dla_serve.errors import DlaError

if TYPE_CHECKING:
    from dla.v1 import classifier_pb2 as pb


@dataclasses.dataclass(frozen=True)
class Class:
    index: int  # 0 .. num_classes - 1
    label: str  # empty if the model has none
    id: str  # such as the WordNet id; empty if the model has none
    probability: float  # softmax over all classes of the model


@dataclasses.dataclass(frozen=True)
class Timing:
    """Where the time of one photo went inside the server, in seconds."""

    decode: float
    queue: float
    inference: float
    batch_size: int  # of the forward pass that the photo was part of


@dataclasses.dataclass(frozen=True)
class Classification:
    model: str
    model_version: str
    classes: tuple[Class, ...]  # falling probability
    # float32; None if it was not asked for. numpy.asarray() takes it without a copy.
    embedding: array.array[float] | None
    timing: Timing

    @classmethod
    def of(cls, answer: pb.ClassifyResponse) -> Classification:
        timing = answer.timing
        return cls(
            model=answer.model,
            model_version=answer.model_version,
            classes=tuple(Class(c.index, c.label, c.id, c.probability) for c in answer.classes),
            embedding=array.array("f", answer.embedding) if answer.embedding else None,
            timing=Timing(_seconds(timing.decode), _seconds(timing.queue), _seconds(timing.inference),
                          timing.batch_size))


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


@dataclasses.dataclass(frozen=True)
class Result:
    """Of one photo of many: a classification or an error, never both."""

    index: int  # which of the photos, from 0
    photo: Any  # as it was given
    classification: Classification | None = None
    error: DlaError | OSError | None = None  # OSError: the file could not be read


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    version: str
    architecture: str  # timm's name, such as "dla34"
    num_classes: int
    embedding_size: int
    parameters: int
    input_height: int
    input_width: int
    precision: str
    device: str
    max_batch_size: int
    replicas: int
    labels: tuple[str, ...]  # by class index; only from Client.model(); empty if the model has none

    @classmethod
    def of(cls, model: pb.Model) -> Model:
        values = {field.name: getattr(model, field.name) for field in dataclasses.fields(cls)}
        return cls(**values | {"labels": tuple(model.labels)})
