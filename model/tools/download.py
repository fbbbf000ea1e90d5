"""Downloads one file over HTTP: resumed, checked, and under its final name only when complete.

Needs Python's standard library alone. Proxies are taken from the environment (https_proxy, ...).
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CHUNK = 1 << 16
MAX_WAIT = 60  # seconds between two attempts, whatever the server asks for


class DownloadError(Exception):
    """Says in one line why the file cannot be had. Trying again at once would not help."""


class _Interrupted(Exception):
    """This attempt failed, another may succeed. wait: seconds that the server asks for."""

    def __init__(self, message, wait=0):
        super().__init__(message)
        self.wait = wait


@dataclasses.dataclass
class Options:
    timeout: float = 30  # seconds without a byte
    retries: int = 4  # attempts in a row that may fail without bringing a new byte
    retry_delay: float = 1  # seconds before the first new attempt, doubled each time


@dataclasses.dataclass
class _Version:
    """What tells one state of a remote file from another; None where the server does not say."""

    url: str
    etag: str = None  # strong validators only
    sha256: str = None
    size: int = None

    def is_followed_by(self, other):
        """Whether bytes of the other go on where these end."""
        name = "sha256" if self.sha256 and other.sha256 else "etag"
        tag = getattr(self, name)
        return tag is not None and tag == getattr(other, name) and self.size == other.size


def log(message):
    print(message, file=sys.stderr, flush=True)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def publish(part, target):
    """Gives a finished file its final name: whole or not at all, also after a power cut."""
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def download(url, target, limit, options, sha256_prefix="", digest_in_etag=False, check=None):
    """Downloads url to the Path target, replacing it; returns the SHA-256 in hex.

    limit          bytes that the file may have at most
    sha256_prefix  first hex digits that the digest must have
    digest_in_etag the server is laid out like the Hugging Face hub, whose ETag of a large file is
                   its SHA-256: check against that
    check          called with the path of the complete file; raises ValueError to refuse it

    What has arrived stays in target.part (and its version in target.part.json), so that the next
    call can go on from there. Raises DownloadError; OSError when the disk is full.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                raise FileNotFoundError  # was renamed a moment ago
        except OSError as error:
            raise DownloadError(f"{part}: another download is writing it") from error
        job = _Download(url, target, part, file, limit, options, sha256_prefix, digest_in_etag)
        try:
            return job.run(check)
        finally:
            if job.size() == 0:
                part.unlink(missing_ok=True)


class _Download:
    def __init__(self, url, target, part, file, limit, options, sha256_prefix, digest_in_etag):
        self.url, self.target, self.part, self.file = url, target, part, file
        self.limit = limit
        self.options = options
        self.sha256_prefix = sha256_prefix
        self.digest_in_etag = digest_in_etag
        self.note = target.with_name(target.name + ".part.json")
        self.resumed = False

    def run(self, check):
        most = self.size()
        failures = 0
        while True:
            try:
                self._attempt()
                return self._finish(check)
            except _Interrupted as error:
                failures = 1 if self.size() > most else failures + 1
                most = max(most, self.size())
                if failures > self.options.retries:
                    raise DownloadError(f"{self.url}: {error}") from error
                wait = self.options.retry_delay * 2 ** (failures - 1)
                wait = min(MAX_WAIT, max(wait, error.wait))
                log(f"{self.target.name}: {error}; trying again in {wait:g} s")
                time.sleep(wait)

    def size(self):
        return os.fstat(self.file.fileno()).st_size

    def _attempt(self):
        known = self._known_version()
        offset = self.size() if known else 0
        if known and known.size:  # complete already: ask for its last byte all the same
            offset = min(offset, known.size - 1)
        with contextlib.closing(self._open(offset, known)) as response:
            version = self._version(response)
            if version.size is not None and version.size > self.limit:
                raise DownloadError(f"{self.url}: {version.size} bytes; the limit is {self.limit}")
            if response.status != 206:
                offset = 0
            elif not known.is_followed_by(version):
                self._forget()
                raise _Interrupted("the file has changed on the server; starting over")
            self.resumed = self.resumed or offset > 0
            self.file.truncate(offset)
            self.note.write_text(json.dumps(dataclasses.asdict(version)), encoding="utf-8")
            self._receive(response, version.size)

    def _receive(self, response, size):
        got = self.size()
        progress = _Progress(self.target.name, got, size)
        try:
            while chunk := _read(response, got):
                got += len(chunk)
                if got > self.limit:
                    break
                self.file.write(chunk)
                progress.show(got)
        finally:
            progress.close()
            self.file.flush()
        if got > self.limit or (size is not None and got > size):
            self._forget()
            raise DownloadError(f"{self.url}: longer than {min(size or got, self.limit)} bytes")
        if size is not None and got < size:
            raise _Interrupted(f"the connection was cut after {got} of {size} bytes")

    def _finish(self, check):
        announced = json.loads(self.note.read_text(encoding="utf-8"))["sha256"]
        digest = sha256_of(self.part)
        try:
            if announced and digest != announced:
                raise ValueError(f"SHA-256 is {digest}, but the server announced {announced}")
            if not digest.startswith(self.sha256_prefix):
                raise ValueError(f"SHA-256 is {digest}, but must begin with {self.sha256_prefix}")
            if check:
                check(self.part)
        except ValueError as error:
            self._forget()
            if self.resumed:  # what lay there may have been spoilt
                self.resumed = False
                raise _Interrupted(f"{error}; starting over") from error
            raise DownloadError(f"{self.url}: {error}; nothing was kept") from error
        publish(self.part, self.target)
        self.note.unlink()
        return digest

    def _open(self, offset, known):
        headers = {"User-Agent": "dla-fetch-weights", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if not known.sha256:
                headers["If-Range"] = known.etag
        redirects = _Redirects()
        opener = urllib.request.build_opener(redirects)
        try:
            request = urllib.request.Request(self.url, headers=headers)
            response = opener.open(request, timeout=self.options.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            self._raise_for_status(error)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, (ssl.SSLCertVerificationError, http.client.InvalidURL)):
                raise DownloadError(f"{self.url}: {reason}") from error
            raise _Interrupted(_text(reason)) from error
        response.hops = redirects.hops
        if response.status == 206 and not _starts_at(response, offset):
            response.close()
            self._forget()
            raise _Interrupted("the server sent another range than asked for; starting over")
        return response

    def _raise_for_status(self, error):
        message = f"HTTP status {error.code} {error.reason}"
        if error.code == 416:
            self._forget()
            raise _Interrupted("the server cannot go on from here; starting over") from error
        if error.code in (408, 425, 429) or error.code >= 500:
            wait = error.headers.get("Retry-After", "")
            raise _Interrupted(message, int(wait) if wait.isdecimal() else 0) from error
        raise DownloadError(f"{self.url}: {message}") from error

    def _version(self, response):
        # The hub answers for a large file by redirecting to a store that has ETags of its own.
        answers = [*response.hops, response.headers]
        version = _Version(self.url)
        etag = response.headers.get("ETag", "")
        if etag.startswith('"'):  # a weak one (W/) does not promise the same bytes
            version.etag = etag
        if self.digest_in_etag:
            tags = [answer.get("X-Linked-Etag", "") for answer in answers]
            tags.append(answers[0].get("ETag", ""))
            digests = [tag.strip('"') for tag in tags if re.fullmatch('"?[0-9a-f]{64}"?', tag)]
            version.sha256 = digests[0] if digests else None
        sizes = [answer.get("X-Linked-Size", "") for answer in answers]
        if response.status == 206:
            sizes.append(response.headers["Content-Range"].rpartition("/")[2])
        else:
            sizes.append(response.headers.get("Content-Length", ""))
        sizes = [int(size) for size in sizes if size.isdecimal()]
        version.size = sizes[0] if sizes else None
        return version

    def _known_version(self):
        """Of what target.part holds; None where that cannot be gone on with."""
        try:
            version = _Version(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == self.url and (version.sha256 or version.etag) else None

    def _forget(self):
        self.file.truncate(0)
        self.note.unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the headers of the answers on the way."""

    def __init__(self):
        self.hops = []

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise DownloadError(f"{req.full_url}: refused to be redirected to {newurl}")
        self.hops.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Progress:
    """One line on a terminal; nothing elsewhere."""

    def __init__(self, name, start, size):
        self.name, self.start, self.size = name, start, size
        self.begun = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def show(self, got):
        now = time.monotonic()
        if not self.terminal or (now - self.shown < 0.1 and got != self.size):
            return
        self.shown = now
        text = f"{self.name}  {got / 1e6:.1f}"
        if self.size:
            text += f" of {self.size / 1e6:.1f} MB  {got * 100 // self.size} %"
            filled = got * 30 // self.size
            text += "  [" + "#" * filled + "." * (30 - filled) + "]"
        else:
            text += " MB"
        speed = (got - self.start) / max(now - self.begun, 1e-3)
        print(f"\r\x1b[K{text}  {speed / 1e6:.1f} MB/s", end="", file=sys.stderr, flush=True)

    def close(self):
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _read(response, got):
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"after {got} bytes: {_text(error)}") from error


def _starts_at(response, offset):
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return offset > 0 and found is not None and int(found[1]) == offset


def _text(error):
    return str(error) or type(error).__name__
