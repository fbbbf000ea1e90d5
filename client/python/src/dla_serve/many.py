"""Many photos on one ClassifyStream, each with its own deadline, tries and error."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from dla.v1 import classifier_pb2 as pb

from dla_serve.errors import DlaError
from dla_serve.results import Classification, Result
from dla_serve.retry import RetryPolicy, is_refusal

_FOR_NOBODY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED,
               grpc.StatusCode.UNIMPLEMENTED)


@dataclasses.dataclass
class _Open:
    """A photo without a result."""

    photo: Any
    request: pb.ClassifyRequest
    end: float  # of its time
    attempt: int = 0
    due: float | None = 0.0  # when to send it; None while it is on the stream


class PhotoStream:
    """All but reading the stream happens on the thread that takes the results."""

    def __init__(self, open_call: Callable[[Iterator[Any]], Any],
                 ask_alone: Callable[[pb.ClassifyRequest, float], pb.ClassifyResponse],
                 make_request: Callable[[Any], pb.ClassifyRequest], retry: RetryPolicy | None,
                 timeout: float, window: int):
        self._open_call = open_call
        self._ask_alone = ask_alone
        self._make_request = make_request
        self._retry = retry
        self._timeout = timeout
        self._window = window
        self._open: dict[int, _Open] = {}
        self._done: dict[int, Result] = {}
        self._call: Any = None
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # (which call, an answer, or None at its end, with the error that ended it)
        self._events: queue.SimpleQueue[tuple[Any, Any, DlaError | None]] = queue.SimpleQueue()

    def run(self, photos: Iterable[Any], ordered: bool) -> Iterator[Result]:
        source = enumerate(photos)
        more = True
        turn = 0  # of the next result, where they are ordered
        try:
            while more or self._open or self._done:
                # Results that wait for an earlier one hold room, too.
                room = len(self._open) < self._window and len(self._done) < 3 * self._window
                if more and room:
                    try:
                        self._start(*next(source))
                    except StopIteration:
                        more = False
                self._send_due()
                self._take_events(wait=not (more and room))
                self._expire()
                if ordered:
                    while turn in self._done:
                        yield self._done.pop(turn)
                        turn += 1
                else:
                    while self._done:
                        yield self._done.popitem()[1]
        finally:
            self._hang_up()

    def _start(self, index: int, photo: Any) -> None:
        try:
            request = self._make_request(photo)
        except OSError as error:
            self._done[index] = Result(index, photo, error=error)
            return
        self._open[index] = _Open(photo, request, time.monotonic() + self._timeout)

    def _send_due(self) -> None:
        now = time.monotonic()
        for index, photo in self._open.items():
            if photo.due is None or photo.due > now:
                continue
            if self._call is None:
                self._dial()
            photo.attempt += 1
            photo.due = None
            self._outbox.put(pb.ClassifyStreamRequest(id=index, request=photo.request))

    def _dial(self) -> None:
        outbox = self._outbox = queue.SimpleQueue()
        call = self._call = self._open_call(iter(outbox.get, None))
        events = self._events

        def read() -> None:
            error = DlaError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
            try:
                for answer in call:
                    events.put((call, answer, None))
            except grpc.RpcError as failure:
                error = DlaError.of_call(failure)
            events.put((call, None, error))

        threading.Thread(target=read, name="dla-serve-stream", daemon=True).start()

    def _hang_up(self) -> None:
        if self._call is not None:
            self._outbox.put(None)
            self._call.cancel()
            self._call = None

    def _take_events(self, wait: bool) -> None:
        if not self._open:
            return
        next_time = min(photo.end if photo.due is None else min(photo.due, photo.end)
                        for photo in self._open.values())
        patience = max(0.0, next_time - time.monotonic()) if wait else 0.0
        try:
            event = self._events.get(timeout=patience) if patience else self._events.get_nowait()
            while True:
                self._take(*event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass

    def _take(self, call: Any, answer: Any, error: DlaError | None) -> None:
        if call is not self._call:
            return  # one that was given up
        if error is not None:
            self._outbox.put(None)  # lets gRPC's thread that sends go
            self._call = None
            self._stream_ended(error)
        elif answer.id in self._open:
            self._settle(answer.id, answer.result)

    def _settle(self, index: int, outcome: pb.ClassifyResult) -> None:
        if outcome.HasField("response"):
            self._finish(index, Classification.of(outcome.response))
        else:
            self._refused(index, DlaError.of_status(outcome.error))

    def _refused(self, index: int, error: DlaError) -> None:
        photo = self._open[index]
        now = time.monotonic()
        delay = self._retry.delay(error, photo.attempt, photo.end - now) if self._retry else None
        if delay is None:
            self._finish(index, error)
        else:
            photo.due = now + delay

    def _stream_ended(self, error: DlaError) -> None:
        if error.code in _FOR_NOBODY:
            raise error
        sent = [index for index, photo in self._open.items() if photo.due is None]
        for index in sent:
            if is_refusal(error):
                self._refused(index, error)
                continue
            # One of them ended the stream, by its size for instance. Asked alone, only that one fails.
            photo = self._open[index]
            left = photo.end - time.monotonic()
            if left <= 0:
                continue  # _expire tells
            try:
                self._finish(index, Classification.of(self._ask_alone(photo.request, left)))
            except DlaError as own:
                self._finish(index, own)

    def _expire(self) -> None:
        now = time.monotonic()
        for index in [index for index, photo in self._open.items() if photo.end <= now]:
            self._finish(index, DlaError(grpc.StatusCode.DEADLINE_EXCEEDED,
                                         f"no answer within {self._timeout:g} s"))

    def _finish(self, index: int, outcome: Classification | DlaError) -> None:
        photo = self._open.pop(index).photo
        self._done[index] = (Result(index, photo, error=outcome) if isinstance(outcome, DlaError)
                             else Result(index, photo, outcome))
