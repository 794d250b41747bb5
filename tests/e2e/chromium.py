"""Headless Chromium, driven over its DevTools pipe. Standard library only.

    with Chromium() as browser:
        page = browser.open(url, width=1280, height=800)
        page.wait("document.querySelector('h1')")
"""
import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

from fulger_process import end

WAIT_SECONDS = 30


def find():
    """The browser's path, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="fulger-page-", ignore_cleanup_errors=True)
        command_read, self.commands = os.pipe()
        self.answers, answer_write = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4, each message ended by a zero byte.
        shell = f'exec 3<&{command_read} 4>&{answer_write}; exec "$@"'
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                 "--force-color-profile=srgb", "--hide-scrollbars", f"--user-data-dir={self.folder.name}"]
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", find(), *flags, "about:blank"],
                                        pass_fds=(command_read, answer_write), stderr=subprocess.DEVNULL)
        os.close(command_read)
        os.close(answer_write)
        self.changed = threading.Condition()
        self.results, self.listeners, self.last_id, self.ended = {}, [], 0, False
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        os.close(self.commands)
        self.folder.cleanup()

    def _read(self):
        rest = b""
        while chunk := os.read(self.answers, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for raw in messages:
                message = json.loads(raw)
                with self.changed:
                    if "id" in message:
                        self.results[message["id"]] = message
                    for listener in self.listeners if "method" in message else ():
                        listener(message)
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def call(self, method, session=None, **params):
        with self.changed:
            self.last_id += 1
            number = self.last_id
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.commands, data):]
        with self.changed:
            self.changed.wait_for(lambda: number in self.results or self.ended, WAIT_SECONDS)
            answer = self.results.pop(number, None)
        assert answer is not None, f"{method}: the browser did not answer"
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, url, width=1280, height=800, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        page.size(width, height)
        page.dark(dark)
        page.go(url)
        return page


class Page:
    """One tab. `problems`: what its console complained of, uncaught errors and violations of its policy."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target, self.problems = browser, session, target, []
        browser.listeners.append(self._on_event)
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def _on_event(self, message):
        if message.get("sessionId") != self.session:
            return
        params = message["params"]
        if message["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['source']}: {params['entry']['text']} {params['entry'].get('url', '')}")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def go(self, url):
        self.call("Page.navigate", url=url)

    def reload(self):
        # A mark that the new document does not have tells the two apart.
        self.js("window.beforeReload = true")
        self.call("Page.reload")
        self.wait("!window.beforeReload && document.readyState === 'complete'")

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)

    def dark(self, on):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
                           userGesture=True)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression, seconds=WAIT_SECONDS):
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(f"(() => {{ try {{ const v = {expression}; return v instanceof Node ? true : v }} "
                            "catch { return null } })()")
            if value:
                return value
            assert time.monotonic() < end, f"never true in {seconds} s: {expression}\n{self.text()}\n{self.problems}"
            time.sleep(0.02)

    def text(self, selector="body"):
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def press(self, key, code=None, text=None, modifiers=0, number=0):
        common = {"key": key, "code": code or key, "modifiers": modifiers, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        """Into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector):
        x, y = self.wait(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
                         "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect(); "
                         "return r.width > 0 && [r.x + r.width / 2, r.y + r.height / 2]; })()")
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def choose_files(self, selector, paths):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=paths)

    def roles(self):
        """[(role, name)] of the accessibility tree, without what is ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "").strip()) for n in nodes if not n.get("ignored")]

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
