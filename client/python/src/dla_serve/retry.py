from __future__ import annotations

import dataclasses
import random

import grpc

from dla_serve.errors import DlaError


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """When a refused photo is worth another try. Delays are seconds."""

    first_delay: float = 0.1  # where the server names none; doubles
    max_delay: float = 5.0  # where the server names no longer one
    jitter: float = 0.25  # adds up to this share, so that clients do not come back all at once

    def delay(self, error: DlaError, attempt: int, time_left: float) -> float | None:
        """How long to wait after try number `attempt` (1, 2, ...) failed with `error`; None if another
        try would not help, or would come after `time_left`."""
        if not is_refusal(error):
            return None
        named = error.retry_delay or 0.0
        grown = min(self.max_delay, (named or self.first_delay) * 2 ** min(attempt - 1, 20))
        delay = max(grown, named) * (1 + self.jitter * random.random())
        return delay if delay < time_left else None


def is_refusal(error: DlaError) -> bool:
    """Whether a server did not take the photo up, but may do so later. RESOURCE_EXHAUSTED without a
    delay says that the photo itself is too large; CANCELLED, that the server ended before it answered."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_delay is not None
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
