from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"


class DlaError(Exception):
    """What a server answered instead of a classification, or that none could be reached.

    code         a grpc.StatusCode
    message      what was wrong, and the remedy
    retry_delay  seconds after which the server wants to be asked again; None if it named none
    """

    def __init__(self, code: grpc.StatusCode, message: str, retry_delay: float | None = None):
        super().__init__(code, message, retry_delay)
        self.code = code
        self.message = message
        self.retry_delay = retry_delay

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @classmethod
    def of_status(cls, status: status_pb2.Status) -> DlaError:
        code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        return cls(code, status.message, _retry_delay(status))

    @classmethod
    def of_call(cls, error: grpc.RpcError) -> DlaError:
        """Of what a call on a channel raised."""
        status = status_pb2.Status()
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS:
                try:
                    status.ParseFromString(value)
                except DecodeError:
                    status.Clear()
        return cls(error.code(), error.details() or "", _retry_delay(status))


def _retry_delay(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR):
            try:
                detail.Unpack(info)
            except DecodeError:
                continue
            return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None
