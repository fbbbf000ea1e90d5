#!/usr/bin/env python3
"""The page at / of the HTTP port, in a real headless Chromium on the real server.

Run with the folder of the built programs in DLA_BIN. With --picture FILE.png it draws the picture of the README instead,
under some load; with Debian's fonts-inter, whose type the page takes where there is it.
"""

import hashlib
import json
import pathlib
import re
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from serving import PHOTOS, ROOT, Server  # noqa: E402

try:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys
    from browser import CHROMIUM, DRIVER, STRANGER, Browser
    missing = None if CHROMIUM and DRIVER else "Debian's chromium and chromium-driver"
except ImportError as error:
    missing = error
if missing:
    print(f"skipped: {missing}; script/test installs what is needed")
    sys.exit(77)

TOKEN = "a-token-of-the-test"
TULIPS = next(photo for photo in PHOTOS if photo.name.startswith("tulips"))

# The contrast that WCAG asks of small text, of each of these against what is behind it.
CONTRASTS = """
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
      for (let e = element; e; e = e.parentElement) {
        const color = channels(getComputedStyle(e).backgroundColor);
        if (color.length === 3 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    return arguments[0].map((selector) => {
      const element = document.querySelector(selector);
      const [a, b] = [luminance(channels(getComputedStyle(element).color)), luminance(behind(element))];
      return [selector, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });"""
TEXTS = ["h1", "h2", ".lead", "#choose", "#use-camera", "#theme", "#model", ".picker label", "#model-facts", ".top", ".file",
         ".label", ".value", ".legend span", "#tally", "#clear", "#live-state", ".tile dt", ".tile dd", "#version",
         "[data-state=failed] .state", ".again"]


def api(server, photo):
    request = urllib.request.Request(f"http://{server.http}/v1/models/:classify", photo.read_bytes(),
                                     {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.text_file = pathlib.Path(cls.folder.name, "notes.txt")
        cls.text_file.write_text("Water the tulips.\n")
        cls.server = Server("dla-server")
        cls.addClassCleanup(cls.server.clean_up)
        cls.url = f"http://{cls.server.http}/"
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.quit)

    def setUp(self):
        self.browser.requested_urls()
        self.browser.complaints()

    def open(self, *arguments, **options):
        self.browser.open(self.url, *arguments, **options)
        self.browser.wait(lambda: self.browser.text("#model"), "list of models")

    def serve(self, *flags):
        server = Server("dla-server", *flags)
        self.addCleanup(server.clean_up)
        return server

    def test_shows_labels_and_bars_as_wide_as_the_probabilities(self):
        self.open()
        self.browser.choose(TULIPS)
        [card] = self.browser.settled(1)
        expected = api(self.server, TULIPS)["classes"]
        self.assertEqual(card["top"], "tulips")
        self.assertEqual(card["labels"], [each["label"] for each in expected])
        self.assertEqual(card["values"], [f"{each['probability'] * 100:.1f} %" for each in expected])
        self.assertEqual(len(card["bars"]), 5)
        for bar, each in zip(card["bars"], expected):
            self.assertAlmostEqual(bar, each["probability"], delta=0.01)
        self.assertRegex(card["legend"], r"decode [\d.]+ ms.*queue [\d.]+ ms.*inference [\d.]+ ms.*batch of 1")
        self.browser.wait(lambda: "tulips, " + card["values"][0] in self.browser.text("#said"), "word for screen readers")

    def test_shows_several_photos_in_their_order(self):
        self.open()
        self.browser.choose(*PHOTOS)
        cards = self.browser.settled(len(PHOTOS))
        self.assertEqual([card["top"] for card in cards], [photo.name.split("_")[0] for photo in PHOTOS])
        self.assertEqual(self.browser.text("#tally"), "8 of 8")
        self.browser.find("#clear").click()
        self.assertEqual(self.browser.all(".card"), [])

    def test_takes_photos_by_drop_and_paste(self):
        self.open()
        self.browser.hand_over("drop", TULIPS, PHOTOS[0])
        self.assertEqual([card["top"] for card in self.browser.settled(2)], ["tulips", "daisy"])
        self.browser.hand_over("paste", PHOTOS[1])
        self.assertEqual(self.browser.settled(3)[0]["top"], "dandelion")
        self.browser.hand_over("drop")
        self.assertIn("no file", self.browser.text("#notice"))

    def test_shows_the_error_of_the_server_beside_the_photo_that_has_it(self):
        self.open()
        self.browser.choose(self.text_file, TULIPS)
        bad, good = self.browser.settled(2)
        self.assertEqual((bad["state"], good["state"], bad["again"]), ("failed", "done", True))
        with self.assertRaises(urllib.error.HTTPError) as error:
            api(self.server, self.text_file)
        self.assertEqual(bad["note"], json.load(error.exception)["detail"])
        error.exception.close()
        self.assertIn("got text", bad["note"])
        self.assertEqual(self.browser.text("#tally"), "1 of 2, 1 failed")

    def test_comes_back_when_the_server_asks_for_it_up_to_twice(self):
        self.open()
        self.browser.run("""
            const real = window.fetch;
            window.sent = 0;
            window.refusals = 2;
            window.fetch = (url, options) => {
              if (options?.method !== 'POST') return real(url, options);
              ++window.sent;
              return window.refusals-- > 0
                  ? Promise.resolve(new Response('{"detail": "the queue is full", "retry_after_ms": 20}',
                                                 {status: 429, headers: {'Retry-After': '1'}}))
                  : real(url, options);
            };""")
        self.browser.choose(TULIPS)
        self.assertEqual(self.browser.settled(1)[0]["top"], "tulips")
        self.assertEqual(self.browser.run("return window.sent"), 3)
        self.browser.run("window.sent = 0; window.refusals = 3")
        self.browser.choose(PHOTOS[0])
        card = self.browser.settled(2)[0]
        self.assertEqual((card["state"], card["note"]), ("failed", "the queue is full"))
        self.assertEqual(self.browser.run("return window.sent"), 3)
        self.browser.find(".again").click()
        self.assertEqual(self.browser.settled(2)[0]["top"], "daisy")

    def test_works_with_the_keyboard_alone(self):
        self.open()
        self.browser.cdp("Page.setInterceptFileChooserDialog", enabled=True)
        self.browser.run("window.opened = 0; document.getElementById('files').addEventListener('click', () => ++window.opened)")
        for _ in range(10):
            ActionChains(self.browser.driver).send_keys(Keys.TAB).perform()
            if self.browser.run("return document.activeElement.id") == "choose":
                break
        style = self.browser.run("const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]")
        self.assertEqual(style, ["solid", "3px"])
        ActionChains(self.browser.driver).send_keys(Keys.ENTER).perform()
        self.assertEqual(self.browser.run("return window.opened"), 1)
        self.browser.cdp("Page.setInterceptFileChooserDialog", enabled=False)

    def test_names_every_control_for_screen_readers(self):
        self.open()
        self.browser.choose(self.text_file, TULIPS)
        self.browser.settled(2)
        self.browser.wait(lambda: self.browser.find("#live").is_displayed(), "live panel")
        roles = {"button", "combobox", "textbox", "link", "image", "img", "list", "complementary"}
        named = {}
        for node in self.browser.cdp("Accessibility.getFullAXTree")["nodes"]:
            role = node.get("role", {}).get("value")
            if role in roles and not node["ignored"]:
                named.setdefault(role, []).append(node.get("name", {}).get("value", ""))
        self.assertIn("Choose photos", named["button"])
        self.assertEqual(named["combobox"], ["Model"])
        self.assertEqual(named["complementary"], ["This server, live"])
        self.assertIn(TULIPS.name, named["image"] if "image" in named else named["img"])
        lists = named.pop("list")
        self.assertIn("Results", lists)
        for role, names in named.items():
            self.assertNotIn("", names, role)

    def test_text_stands_out_in_light_and_dark(self):
        for theme, is_paper in ("light", lambda c: min(c) > 200), ("dark", lambda c: max(c) < 60):
            self.open(theme=theme)
            self.browser.choose(self.text_file, TULIPS)
            self.browser.settled(2)
            self.browser.wait(lambda: self.browser.find("#live").is_displayed(), "live panel")
            paper = self.browser.run("return getComputedStyle(document.body).backgroundColor")
            self.assertTrue(is_paper([int(c) for c in re.findall(r"\d+", paper)]), paper)
            for selector, contrast in self.browser.run(CONTRASTS, TEXTS):
                self.assertGreaterEqual(contrast, 4.5, f"{selector} in {theme}")

    def test_the_visitor_may_change_the_theme_for_good(self):
        self.open(theme="dark")
        dark = self.browser.run("return getComputedStyle(document.body).backgroundColor")
        self.browser.find("#theme").click()
        light = self.browser.run("return getComputedStyle(document.body).backgroundColor")
        self.assertNotEqual(dark, light)
        self.browser.driver.refresh()
        self.assertEqual(self.browser.run("return getComputedStyle(document.body).backgroundColor"), light)
        self.browser.run("localStorage.clear()")

    def test_a_narrow_screen_has_nothing_to_scroll_sideways(self):
        for width in 320, 600, 900:
            self.open(width=width, height=640)
            self.browser.choose(self.text_file, TULIPS)
            self.browser.settled(2)
            self.browser.wait(lambda: self.browser.find("#live").is_displayed(), "live panel")
            self.assertEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
            outside = self.browser.run("""
                return [...document.querySelectorAll('body *')].filter((e) =>
                    e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML)""")
            self.assertEqual(outside, [])

    def test_the_live_panel_draws_what_the_server_does(self):
        self.open()
        self.browser.wait(lambda: self.browser.text("#live-queue").startswith("Queue0 of 512"), "depth of the queue")
        self.browser.choose(*PHOTOS)
        self.browser.settled(len(PHOTOS))

        def rate():
            found = re.match(r"Requests([\d.]+) /s", self.browser.text("#live-rate"))
            return found and float(found.group(1))
        self.browser.wait(rate, "rate above 0")
        self.assertRegex(self.browser.text("#live-latency"), r"p50 [\d.]+ m?s.*p99 [\d.]+ m?s")
        self.assertRegex(self.browser.text("#live-batch"), r"[1-8]\.\d on average")
        self.assertGreater(self.browser.run("return document.querySelectorAll('#live-batch rect.bar:not(.none)').length"), 0)
        self.assertRegex(self.browser.run("return document.querySelector('#live-rate path').getAttribute('d')"), r"^M\d")

    def test_the_live_panel_counts_as_prometheus_does(self):
        self.open()
        got = self.browser.driver.execute_async_script("""
            const done = arguments[0];
            import('/page/metrics.js').then((m) => {
              const text = (counts) => counts.map(([model, le, n]) =>
                  `dla_request_seconds_bucket{model="${model}",le="${le}"} ${n}`).join('\\n');
              const one = m.snapshot('# TYPE x\\n' + text([['a', 0.1, 0], ['a', 0.2, 0], ['a', '+Inf', 0]]), 0);
              const two = m.snapshot(text([['a', 0.1, 10], ['a', 0.2, 20], ['a', '+Inf', 20], ['b,}', 0.2, 20],
                  ['b,}', '+Inf', 21]]) + '\\ndla_requests_total{code="OK",model="a"} 3e1', 0);
              const counts = m.between(one.latency, two.latency);
              done([counts.map((c) => c.count), m.quantile(counts, 0.5), m.quantile(counts, 0.999), two.requests,
                    String(m.quantile(m.between(one.latency, one.latency), 0.5))]);
            });""")
        # 10 up to 0.1 s, 30 more up to 0.2 s, 1 beyond: the 20.5th of 41 is at 0.1 + 0.1 * 10.5 / 30.
        self.assertEqual(got[0], [10, 30, 1])
        self.assertAlmostEqual(got[1], 0.135)
        self.assertEqual(got[2:], [0.2, 30, "NaN"])

    def test_asks_nobody_but_its_server_and_keeps_to_its_policy(self):
        self.open()
        self.browser.choose(*PHOTOS[:2])
        self.browser.settled(2)
        self.browser.wait(lambda: "/s" in self.browser.text("#live-rate"), "rate")
        urls = self.browser.requested_urls()
        self.assertIn(self.url + "metrics", urls)
        self.assertEqual([url for url in urls if not url.startswith((self.url, f"blob:{self.url}", "data:"))], [])
        self.assertEqual(self.browser.complaints(), [])
        # And the policy would have told.
        self.browser.run("fetch('http://127.0.0.2:1/').catch(() => 0); document.body.setAttribute('style', 'color: red')")
        told = self.browser.wait(self.browser.complaints, "complaint")
        self.assertIn("Content Security Policy", " ".join(told))

    def test_takes_a_photo_with_the_camera(self):
        self.open()
        self.browser.find("#use-camera").click()
        self.browser.wait(lambda: self.browser.find("#shoot").is_enabled(), "picture of the camera")
        self.browser.find("#shoot").click()
        [card] = self.browser.settled(1)
        self.assertEqual(card["state"], "done")
        self.assertTrue(card["file"].startswith("camera 1.jpg"))
        self.assertFalse(self.browser.find("#camera").is_displayed())
        self.assertIsNone(self.browser.run("return document.getElementById('viewfinder').srcObject"))

    def test_says_where_the_browser_lends_no_camera(self):
        port = self.server.http.rsplit(":", 1)[1]
        self.browser.open(f"http://{STRANGER}:{port}/")
        self.browser.find("#use-camera").click()
        self.assertIn("HTTPS or from localhost", self.browser.text("#camera-note"))
        self.browser.find("#close-camera").click()
        self.browser.choose(TULIPS)
        self.assertEqual(self.browser.settled(1)[0]["top"], "tulips")

    def test_serves_several_models_and_refuses_photos_over_its_limit(self):
        folder = ROOT / "model/zoo/flowers5"
        server = self.serve("--model", f"one={folder}", "--model", f"two={folder}", "--max-message-bytes", "100000")
        self.browser.open(f"http://{server.http}/")
        names = self.browser.wait(
            lambda: self.browser.run("return [...document.getElementById('model').options].map((o) => o.value)"), "models")
        self.assertEqual(names, ["one", "two"])
        self.assertIn("5 classes, reads 224 × 224 pixels", self.browser.text("#model-facts"))
        self.browser.find("#model option[value=two]").click()
        small = min(PHOTOS, key=lambda photo: photo.stat().st_size)
        large = max(PHOTOS, key=lambda photo: photo.stat().st_size)
        self.browser.choose(small, large)
        good, bad = self.browser.settled(2)
        self.assertIn("two v1", good["legend"])
        self.assertIn(f"the body has {large.stat().st_size} bytes; at most 100000 are taken", bad["note"])

    def test_asks_for_a_token_where_the_server_does(self):
        tokens = pathlib.Path(self.folder.name, "tokens")
        tokens.write_text(f"visitor infer {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
        server = self.serve("--token-file", str(tokens))
        self.browser.open(f"http://{server.http}/")
        form = self.browser.find("#token-form")
        self.browser.wait(form.is_displayed, "field for a token")
        self.assertFalse(self.browser.find("#live").is_displayed())
        self.browser.choose(TULIPS)
        self.browser.wait(lambda: self.browser.text(".card .state") == "Waits for a token", "photo that waits")
        self.browser.find("#token").send_keys("wrong", Keys.ENTER)
        self.browser.wait(lambda: "does not know this token" in self.browser.text("#token-note"), "refusal")
        self.browser.find("#token").send_keys(TOKEN, Keys.ENTER)
        self.browser.wait(lambda: self.browser.text(".card .top") == "tulips", "answer")
        self.browser.wait(self.browser.find("#live").is_displayed, "live panel")
        self.assertFalse(form.is_displayed())
        kept = self.browser.run("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href]) +"
                                "document.documentElement.outerHTML + document.getElementById('token').value")
        self.assertFalse(TOKEN in kept, "the page keeps the token")

    def test_can_be_switched_off(self):
        server = self.serve("--page", "false")
        with self.assertRaises(urllib.error.HTTPError) as error:
            server.get(server.http, "/")
        self.assertEqual(error.exception.code, 404)
        self.assertEqual(error.exception.headers["Content-Type"], "application/problem+json")
        error.exception.close()


def draw(path):
    """The page in use: a few photos, after a minute of load that comes and goes."""
    from PIL import Image
    server = Server("dla-server", "--max-batch", "4", "--max-queue-delay-us", "3000")
    browser = Browser()
    try:
        browser.open(f"http://{server.http}/", width=1280, height=1000)
        end = time.monotonic() + 75

        def load(callers):
            while (left := end - time.monotonic()) > 0:
                if callers < 2 or 20 < left < 55:
                    api(server, PHOTOS[callers % len(PHOTOS)])
                time.sleep(0.1 + 0.03 * callers)
        threads = [threading.Thread(target=load, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        time.sleep(70)
        browser.choose(*(photo for photo in PHOTOS if photo.name.startswith(("dandelion_17", "roses_17", "sunflowers_92"))))
        browser.settled(3)
        time.sleep(3)
        browser.picture(path, browser.run("return document.querySelector('footer').getBoundingClientRect().top"))
        Image.open(path).quantize(256).save(path, optimize=True)
        for thread in threads:
            thread.join()
    finally:
        browser.quit()
        server.clean_up()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--picture":
        draw(sys.argv[2])
    else:
        unittest.main()
