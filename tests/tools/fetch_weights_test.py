#!/usr/bin/env python3
"""fetch_weights.py against a server on the loopback that mimics the sites it fetches from."""

import contextlib
import fcntl
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import unittest
import urllib.request
from unittest import mock

from fetch_test_case import TOOLS, FetchTest, fetch_weights, sha256
from hub_server import File

import download  # fetch_test_case has put it on the path

WEIGHTS = "/timm/dla46_c.in1k/resolve/main/model.safetensors"
CONFIG = "/timm/dla46_c.in1k/resolve/main/config.json"
STORE = "/store/blob"


def make_weights(seed, elements=100_000):
    header = {"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}
    header = json.dumps(header).encode().ljust(92)  # 400,100 bytes in all by default
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(4 * elements)


class HubTest(FetchTest):
    def setUp(self):
        super().setUp()
        self.weights = make_weights(1)
        self.config = json.dumps({"architecture": "dla46_c", "num_classes": 1000}).encode()
        self.publish(self.weights)
        # A small file comes from the hub itself; its ETag is not a SHA-256.
        self.server.files[CONFIG] = File(self.config, {"ETag": f'"{"c" * 40}"'})

    def publish(self, weights, digest=None):
        """As the hub does: a redirect that names the SHA-256, to a store with tags of its own."""
        self.server.files[WEIGHTS] = File(
            b"",
            {"X-Linked-Etag": f'"{digest or sha256(weights)}"', "X-Linked-Size": str(len(weights))},
            redirect=STORE,
        )
        self.server.files[STORE] = File(weights, {"ETag": f'"{sha256(b"store" + weights)}"'})

    def assert_complete(self, weights=None):
        self.assert_folder_holds(
            model__safetensors=self.weights if weights is None else weights,
            config__json=self.config,
        )

    def test_fetches_the_folder(self):
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()
        self.assertIn(sha256(self.weights), self.errors)
        self.assertEqual([path for path, _ in self.server.requests], [WEIGHTS, STORE, CONFIG])
        self.assertEqual((self.out / "model.safetensors").stat().st_mode & 0o444, 0o444)

    def test_takes_the_digest_from_the_etag_of_a_hub_that_does_not_redirect(self):
        tag = {"ETag": f'"{sha256(self.weights)}"'}
        self.server.files[WEIGHTS] = File(self.weights, tag)
        self.assertEqual(self.fetch(), 0, self.errors)
        self.server.files[WEIGHTS] = File(make_weights(2), tag)
        self.assert_failed_in_one_line(self.fetch("--force"), "SHA-256 is", sha256(self.weights))
        self.assert_complete()

    def test_quotes_the_revision(self):
        for path in (WEIGHTS, CONFIG):
            name = path.replace("/main/", "/refs%2Fpr%2F1/")
            self.server.files[name] = self.server.files.pop(path)
        self.assertEqual(self.fetch("--revision", "refs/pr/1"), 0, self.errors)
        self.assert_complete()

    def test_keeps_what_is_complete(self):
        self.assertEqual(self.fetch(), 0, self.errors)
        del self.server.requests[:]
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assertEqual(self.server.requests, [])
        (self.out / "config.json").unlink()
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assertEqual([path for path, _ in self.server.requests], [CONFIG])
        self.assert_complete()

    def test_replaces_on_demand(self):
        self.assertEqual(self.fetch(), 0, self.errors)
        self.publish(make_weights(2))
        self.assertEqual(self.fetch("--force"), 0, self.errors)
        self.assert_complete(make_weights(2))

    def test_does_not_replace_another_model(self):
        self.assertEqual(self.fetch(), 0, self.errors)
        status = self.fetch(variant="dla34")
        self.assert_failed_in_one_line(status, "config.json: is for dla46_c, not for dla34")
        self.assert_complete()

    def test_does_not_take_half_a_file_for_a_whole_one(self):
        self.out.mkdir(parents=True)
        (self.out / "model.safetensors").write_bytes(self.weights[:-1])
        status = self.fetch()
        self.assert_failed_in_one_line(status, "model.safetensors: has 400099 bytes", "--force")
        self.assertEqual(self.fetch("--force"), 0, self.errors)
        self.assert_complete()

    def test_goes_on_after_a_cut_connection(self):
        self.server.files[STORE].troubles = [("cut", 150_000), ("cut", 100_000)]
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()
        ranges = self.server.ranges_asked(STORE)
        self.assertEqual(ranges, [None, "bytes=150000-", "bytes=250000-"])
        self.assertIn("cut after 150000 of 400100 bytes", self.errors)

    def test_goes_on_in_the_next_run(self):
        self.server.files[STORE].troubles = [("cut", 150_000)]
        self.assert_failed_in_one_line(self.fetch("--retries", "0"), WEIGHTS, "cut after 150000")
        self.assert_folder_holds(
            model__safetensors__part=self.weights[:150_000],
            model__safetensors__part__json=(
                self.out / "model.safetensors.part.json"
            ).read_bytes(),
        )
        self.assertEqual(self.fetch("--retries", "0"), 0, self.errors)
        self.assert_complete()
        self.assertEqual(self.server.ranges_asked(STORE), [None, "bytes=150000-"])

    def test_goes_on_with_an_etag_alone(self):
        tag = {"ETag": '"first"'}
        self.server.files[WEIGHTS] = File(self.weights, tag, troubles=[("cut", 150_000)])
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()
        last = [headers for path, headers in self.server.requests if path == WEIGHTS][-1]
        self.assertEqual((last["Range"], last["If-Range"]), ("bytes=150000-", '"first"'))

    def test_starts_over_where_nothing_tells_the_version(self):
        for tag in ({}, {"ETag": 'W/"weak"'}):
            self.server.files[WEIGHTS] = File(self.weights, tag, troubles=[("cut", 150_000)])
            del self.server.requests[:]
            self.assertEqual(self.fetch("--force"), 0, self.errors)
            self.assertEqual(self.server.ranges_asked(WEIGHTS), [None, None])
            self.assert_complete()

    def test_starts_over_on_a_server_without_ranges(self):
        self.server.files[STORE].ranges = False
        self.server.files[STORE].troubles = [("cut", 150_000)]
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()

    def test_starts_over_when_the_file_has_changed(self):
        for tag in ({}, {"ETag": '"first"'}):
            with self.subTest(tag=tag):
                if tag:
                    self.server.files[WEIGHTS] = File(self.weights, tag)
                else:
                    self.publish(self.weights)
                served = self.server.files[WEIGHTS if tag else STORE]
                served.troubles = [("cut", 150_000)]
                self.assertEqual(self.fetch("--force", "--retries", "0"), 1)
                changed = make_weights(2)
                if tag:
                    self.server.files[WEIGHTS] = File(changed, {"ETag": '"second"'})
                else:
                    self.publish(changed)
                self.assertEqual(self.fetch("--force"), 0, self.errors)
                # If-Range lets the server notice by itself; else the tool has to.
                self.assertEqual("has changed on the server" in self.errors, not tag)
                self.assert_complete(changed)

    def test_starts_over_when_the_server_cannot_go_on(self):
        for headers in ({"Content-Range": "bytes 7-9/10"}, {"Content-Range": "nonsense"}, {}):
            for status in (206, 416):
                self.server.files[STORE].troubles = [("cut", 150_000), ("status", status, headers)]
                self.assertEqual(self.fetch("--force"), 0, self.errors)
                self.assertIn("starting over", self.errors)
                self.assertEqual(self.server.ranges_asked(STORE)[-1], None)
                self.assert_complete()

    def test_starts_over_when_another_revision_is_asked_for(self):
        self.server.files[STORE].troubles = [("cut", 150_000)]
        self.assertEqual(self.fetch("--retries", "0"), 1)
        del self.server.requests[:]
        for path in (WEIGHTS, CONFIG):
            self.server.files[path.replace("/main/", "/v2/")] = self.server.files[path]
        self.assertEqual(self.fetch("--revision", "v2"), 0, self.errors)
        self.assertEqual(self.server.ranges_asked(STORE), [None])
        self.assert_complete()

    def test_throws_away_a_part_of_unknown_origin(self):
        self.out.mkdir(parents=True)
        (self.out / "model.safetensors.part").write_bytes(b"?" * 1000)
        (self.out / "model.safetensors.part.json").write_text("{nonsense")
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()

    def test_starts_over_when_the_part_was_spoilt(self):
        self.server.files[STORE].troubles = [("cut", 150_000)]
        self.assertEqual(self.fetch("--retries", "0"), 1)
        part = self.out / "model.safetensors.part"
        part.write_bytes(b"\0" * 150_000)
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()

    def test_finishes_a_part_that_is_whole(self):
        self.server.files[STORE].troubles = [("cut", 150_000)]
        self.assertEqual(self.fetch("--retries", "0"), 1)
        (self.out / "model.safetensors.part").write_bytes(self.weights)
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assertEqual(self.server.ranges_asked(STORE)[-1], f"bytes={len(self.weights) - 1}-")
        self.assert_complete()

    def test_refuses_a_wrong_digest(self):
        self.publish(self.weights, digest="0" * 64)
        self.assert_failed_in_one_line(self.fetch(), WEIGHTS, "SHA-256 is", "announced 0000")
        self.assert_folder_holds()

    def test_refuses_a_wrong_length(self):
        self.server.files[STORE].body = self.weights + b"more"
        self.assert_failed_in_one_line(self.fetch("--retries", "1"), "longer than 400100 bytes")
        self.assert_folder_holds()
        self.server.files[STORE].body = self.weights[:-5]
        self.assert_failed_in_one_line(
            self.fetch("--retries", "1"), "cut after 400095 of 400100 bytes"
        )
        self.assertFalse((self.out / "model.safetensors").exists())

    def test_refuses_a_length_that_never_comes(self):
        announced = len(self.weights) + 5
        self.server.files[WEIGHTS] = File(self.weights, announced=announced)
        self.assert_failed_in_one_line(
            self.fetch("--retries", "1"), "cut after 400100 of 400105 bytes"
        )
        self.assertFalse((self.out / "model.safetensors").exists())

    def test_refuses_a_file_that_is_too_long_before_fetching_it(self):
        self.server.files[CONFIG].announced = 1 << 25
        status = self.fetch()
        self.assert_failed_in_one_line(status, CONFIG, "33554432 bytes; the limit is 16777216")
        self.assert_folder_holds(model__safetensors=self.weights)

    def test_refuses_what_is_not_the_model(self):
        page = b"<html>Please log in</html>"
        self.server.files[WEIGHTS] = File(page)
        self.assert_failed_in_one_line(self.fetch(), WEIGHTS, "not a safetensors file")
        self.publish(self.weights)
        for body, reason in ((page, "Expecting value"), (b"[]", "names no architecture"),
                             (b'{"architecture":"dla60"}', "is for dla60, not for dla46_c")):
            self.server.files[CONFIG] = File(body)
            self.assert_failed_in_one_line(self.fetch(), CONFIG, reason)
            self.assert_folder_holds(model__safetensors=self.weights)

    def test_names_what_is_not_there(self):
        self.assert_failed_in_one_line(self.fetch("--revision", "v9"), "/v9/", "404 Not Found")
        self.assertEqual(len(self.server.requests), 1)
        self.assert_folder_holds()

    def test_tries_again_when_the_server_is_busy(self):
        busy = [("status", 503, {}), ("status", 429, {"Retry-After": "7"})]
        self.server.files[WEIGHTS].troubles = busy
        self.server.files[STORE].troubles = [("cut", 0)]
        with mock.patch("time.sleep") as sleep:
            self.assertEqual(self.fetch("--retry-delay", "2"), 0, self.errors)
        self.assertEqual([call.args[0] for call in sleep.call_args_list], [2, 7, 8])
        self.assert_complete()

    def test_gives_up_after_the_last_attempt(self):
        self.server.files[WEIGHTS].troubles = [("status", 503, {})] * 9
        self.assert_failed_in_one_line(self.fetch("--retries", "2"), WEIGHTS, "503")
        self.assertEqual(len(self.server.requests), 3)

    def test_names_a_server_that_does_not_answer(self):
        status = self.fetch("--hub-url", "http://127.0.0.1:9", "--retries", "1")
        self.assert_failed_in_one_line(status, "http://127.0.0.1:9/timm", "refused")

    def test_gives_up_on_a_server_that_stalls(self):
        stall = ("stall", 150_000, threading.Event())
        self.server.files[STORE].troubles = [stall]
        status = self.fetch("--timeout", "0.2", "--retries", "0")
        self.assert_failed_in_one_line(status, "timed out")

    def test_goes_through_the_proxy_of_the_environment(self):
        with mock.patch.dict(os.environ, {"http_proxy": self.server.url}):
            self.server.files[WEIGHTS] = File(self.weights)
            status = self.fetch("--hub-url", "http://hub.invalid")
        self.assertEqual(status, 0, self.errors)
        self.assertEqual(self.server.requests[0][1]["Host"], "hub.invalid")
        self.assert_complete()

    def test_does_not_follow_redirects_off_the_web(self):
        self.server.files[WEIGHTS] = File(b"")
        self.server.files[WEIGHTS].troubles = [("status", 302, {"Location": "ftp://127.0.0.1/x"})]
        self.assert_failed_in_one_line(self.fetch(), "refused to be redirected to ftp://")

    def test_does_not_follow_redirects_from_https_to_http(self):
        request = urllib.request.Request("https://hub.invalid/x")
        with self.assertRaisesRegex(download.DownloadError, "redirected to http://hub.invalid/y"):
            download._Redirects().redirect_request(
                request, None, 302, "Found", {}, "http://hub.invalid/y"
            )

    def test_leaves_a_running_download_alone(self):
        self.out.mkdir(parents=True)
        with open(self.out / "model.safetensors.part", "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assert_failed_in_one_line(self.fetch(), "another download is writing it")

    def test_is_interrupted_without_half_a_file(self):
        stalled = threading.Event()
        self.server.files[STORE].troubles = [("stall", 150_000, stalled)]
        command = [sys.executable, str(TOOLS / "fetch_weights.py"), "dla46_c", "--out"]
        command += [str(self.out), "--hub-url", self.server.url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        self.assertTrue(stalled.wait(60))
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 130)
        self.assertEqual(errors, "fetch_weights: interrupted; the same command goes on from here\n")
        self.assertFalse((self.out / "model.safetensors").exists())
        self.assertEqual(self.fetch(), 0, self.errors)
        self.assert_complete()


class CommandLineTest(unittest.TestCase):
    def run_main(self, *argv):
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                status = fetch_weights.main(list(argv))
            except SystemExit as error:
                status = error.code
        return status, stdout.getvalue(), stderr.getvalue()

    def test_lists_the_variants(self):
        status, table, _ = self.run_main("--list")
        self.assertEqual(status, 0)
        self.assertEqual(len(table.splitlines()), 13)
        self.assertRegex(table, r"dla102x2 +41\.28 +79\.44  dla102x2-262837b6\.pth")

    def test_explains_a_wrong_command(self):
        for argv, reason in (
            ([], "name a variant"),
            (["resnet50"], "there is no variant 'resnet50'; --list shows all: dla34,"),
            (["dla34", "--hub-url", "ftp://x"], "does not begin with https:// or http://"),
            (["dla34", "--timeout", "0"], "'0' is not a number from 0.1 up"),
        ):
            status, _, errors = self.run_main(*argv)
            self.assertEqual(status, 2)
            self.assertIn(reason, errors)


if __name__ == "__main__":
    unittest.main()
