"""A headless Chromium, and what tests ask of a page in it."""

import base64
import json
import os
import pathlib
import shutil
import time

from selenium import webdriver

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")

# A host that is this machine, but that the browser does not take for it.
STRANGER = "photos.test"


class Browser:
    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                         f"--host-resolver-rules=MAP {STRANGER} 127.0.0.1"):
            options.add_argument(argument)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def quit(self):
        self.driver.quit()

    def cdp(self, method, **parameters):
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def open(self, url, width=1280, height=900, theme="light"):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=False)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.driver.get(url)

    def wait(self, condition, what, seconds=30):
        """The first value of condition() that is true."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"in {seconds} s there was no {what}")
            time.sleep(0.05)
        return value

    def choose(self, *paths):
        self.find("#files").send_keys("\n".join(str(path) for path in paths))

    def settled(self, count):
        """The cards, once there are so many and all are answered."""
        def look():
            cards = self.run("""
                return [...document.querySelectorAll('.card')].map((card) => ({
                  state: card.dataset.state,
                  top: card.querySelector('.top').textContent,
                  file: card.querySelector('.file').textContent,
                  note: card.querySelector('.state').textContent,
                  legend: card.querySelector('.legend').textContent,
                  again: !card.querySelector('.again').hidden,
                  labels: [...card.querySelectorAll('.label')].map((e) => e.textContent),
                  values: [...card.querySelectorAll('.value')].map((e) => e.textContent),
                  bars: [...card.querySelectorAll('.track')].map((e) =>
                      e.firstChild.getBoundingClientRect().width / e.getBoundingClientRect().width),
                }))""")
            return cards if len(cards) == count and all(c["state"] != "busy" for c in cards) else None
        return self.wait(look, f"answer to all of {count} photos")

    def hand_over(self, event, *paths):
        """Fires "drop" or "paste" with files, as the browser does."""
        files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
        self.run("""
            const data = new DataTransfer();
            for (const [name, text] of arguments[1]) {
              data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
            }
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(arguments[0] === 'drop'
                ? new DragEvent('drop', {...options, dataTransfer: data})
                : new ClipboardEvent('paste', {...options, clipboardData: data}));""", event, files)

    def requested_urls(self):
        """Of all requests since the last call."""
        urls = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls

    def complaints(self):
        """What the browser logged since the last call, but for answers of 4xx, which are expected."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if "Failed to load resource: the server responded" not in entry["message"]]

    def picture(self, path, height):
        shot = self.cdp("Page.captureScreenshot", captureBeyondViewport=True,
                        clip={"x": 0, "y": 0, "width": self.run("return innerWidth"), "height": height, "scale": 1})
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))
