"""Clients below gRPC: bytes on bare sockets. None of them is answered, none may disturb the others."""

import contextlib
import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0, b"")


def header(name, value):  # HPACK: a literal without indexing, not compressed
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers_frame(path=b"/dla.v1.Classifier/Classify"):
    return frame(1, 4, 1, b"".join(header(*pair) for pair in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"))))


# What is sent at once, then byte by byte.
GRPC_DRIPS = {
    "nothing after the preface": (PREFACE, b""),
    "nothing after SETTINGS": (PREFACE + SETTINGS, b""),
    "half a HEADERS frame": (PREFACE + SETTINGS + headers_frame()[:20], b""),
    "a DATA frame byte by byte": (
        PREFACE + SETTINGS + headers_frame(),
        frame(0, 0, 1, b"\x00" + struct.pack(">I", 100_000) + bytes(16_000))),
    "the preface byte by byte": (b"", PREFACE + SETTINGS),
}
HTTP_DRIPS = {
    "no request": (b"", b""),
    "a header byte by byte": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 10_000),
    "a body that never comes": (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", b""),
}

GARBAGE = [
    bytes(200), b"\xff" * 200, b"\x1b[31m\x1b]0;owned\x07\r\n" * 10,
    b"GET / HTTP/1.1\r\nHost: \x1b[31mred\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # the begin of a TLS handshake
    PREFACE + b"\xff" * 100, PREFACE + SETTINGS + frame(1, 4, 1, b"\xff" * 50),
    PREFACE + SETTINGS + frame(0, 0, 7, bytes(100)),  # data of a stream that nobody opened
    PREFACE + SETTINGS + frame(9, 0, 1, bytes(100)) * 50,  # CONTINUATION of nothing
    PREFACE + SETTINGS + frame(4, 0, 0, struct.pack(">HI", 4, 0xffffffff)),  # a window too large
    PREFACE + SETTINGS + frame(6, 0, 0, bytes(8)) * 500,  # a flood of PING
    PREFACE + SETTINGS + headers_frame(b"/\x1b[31m/\r\n") + frame(3, 0, 1, struct.pack(">I", 8)),
]


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=5)


def slow_loris(run):
    """Up to 12 connections to the gRPC port and 4 to each HTTP port, each sending next to nothing."""
    doors = ([(run.job.grpc, GRPC_DRIPS)] * 3
             + [(address, HTTP_DRIPS) for address in (run.job.http, run.job.metrics)])
    places = [door for door in doors for _ in range(4)]
    held = {}
    while run.going():
        for place, (address, drips) in enumerate(places):
            if place not in held:
                at_once, rest = run.random.choice(list(drips.values()))
                with contextlib.suppress(OSError):
                    connection = connect(address)
                    connection.sendall(at_once)
                    held[place] = [connection, rest, time.time() + run.random.uniform(1, 15)]
                    run.did("slow connections")
            else:
                connection, rest, end = held[place]
                try:
                    if rest:
                        connection.send(rest[:1])
                        held[place][1] = rest[1:]
                    readable = select.select([connection], [], [], 0)[0]
                    gone = time.time() > end or (readable and not connection.recv(65536))
                except OSError:
                    gone = True
                if gone:
                    held.pop(place)[0].close()
        run.pause(0.4)
    for connection, _, _ in held.values():
        connection.close()


def garbage(run):
    while run.going():
        address = run.random.choice((run.job.grpc, run.job.grpc, run.job.http, run.job.metrics))
        data = run.random.choice(GARBAGE)
        if run.random.random() < 0.3:
            data = run.random.randbytes(run.random.randint(1, 5000))
        with contextlib.suppress(OSError), connect(address) as connection:
            connection.settimeout(0.2)
            connection.sendall(data)
            with contextlib.suppress(TimeoutError):
                while connection.recv(65536):
                    pass
        run.did("garbage sent")
        run.pause(0.1)


def storm(run):
    """Many connections at once, closed or reset before anything is said."""
    while run.going():
        address = run.random.choice((run.job.grpc, run.job.grpc, run.job.http, run.job.metrics))
        connections = []
        for _ in range(run.random.randint(10, 60)):
            with contextlib.suppress(OSError):
                connections.append(connect(address))
        for connection in connections:
            if run.random.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        run.did("connections opened and closed", len(connections))
        run.pause(2)
