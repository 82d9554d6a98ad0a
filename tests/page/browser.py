"""Chromium, driven by its DevTools protocol over a pipe: messages are JSON with a NUL behind each."""

import base64
import json
import os
import queue
import subprocess
import threading
import time

PATIENCE = 120  # seconds; nothing waits for so long when all is well


class Browser:
    def __init__(self, profile):
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()
        # The browser reads at 3 and writes at 4; these may be taken, so they are moved out of the way first.
        command = f'exec 13<&{to_read} 14>&{to_write}; exec "$@" 3<&13 4>&14 13<&- 14>&-'
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", os.environ["CHROMIUM"], "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-background-networking", "--no-first-run", "--no-proxy-server", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", "--user-data-dir=" + profile],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.last, self.answers, self.listeners = 0, {}, {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        buffer = b""
        while chunk := os.read(self.from_browser, 1 << 16):
            *messages, buffer = (buffer + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.answers.pop(message["id"]).put(message)
                elif listener := self.listeners.get(message.get("sessionId")):
                    listener(message["method"], message["params"])

    def call(self, method, session=None, **params):
        self.last += 1
        number, answer = self.last, queue.Queue()
        self.answers[number] = answer
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to_browser, data):]
        message = answer.get(timeout=PATIENCE)
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        return message["result"]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.to_browser)


class Tab:
    """One page, with all that it asked for, said, and was refused by its own policy."""

    def __init__(self, browser, width=1280, height=900, dark=False):
        self.browser = browser
        # Cookies, storage and connections of its own.
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        self.target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        self.requests, self.said, self.open, self.most_open = [], [], set(), 0
        browser.listeners[self.session] = self.hear
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def hear(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append((params["request"]["method"], params["request"]["url"], params["request"]["headers"]))
            if "/api/v1/" in params["request"]["url"]:
                self.open.add(params["requestId"])
                self.most_open = max(self.most_open, len(self.open))
        elif method in ("Network.loadingFinished", "Network.loadingFailed"):
            self.open.discard(params["requestId"])
        elif method == "Log.entryAdded":
            self.said.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(f"{params['type']}: {params['args']}")
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.said.append(json.dumps(params["issue"]))

    def go(self, url):
        self.evaluate("window.isLeft = true")
        self.call("Page.navigate", url=url)
        self.until("!window.isLeft && document.readyState === 'complete'", url + " is loaded")

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, expression, what=None):
        """Waits until `expression` is true of the page; then its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise AssertionError(f"never: {what or expression}\n{self.text('body')}\n{self.said}")
            time.sleep(0.1)
        return value

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def until_text(self, selector, text):
        return self.until(f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(text)})",
                          f"{selector} says {text!r}")

    def click(self, selector):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector, text):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press_enter(self):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")

    def shot(self, name):
        """A picture of the whole page, if somebody wants to look."""
        folder = os.environ.get("SHOTS")
        if folder:
            picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            with open(os.path.join(folder, name + ".png"), "wb") as file:
                file.write(base64.b64decode(picture))

    def close(self):
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)
