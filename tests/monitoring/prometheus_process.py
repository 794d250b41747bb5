"""Real Prometheus and Alertmanager on free ports, and a receiver of alerts. Standard library only."""
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from fulger_process import end

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIGS = os.path.join(HERE, "..", "..", "monitoring", "prometheus")
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")


def missing():
    """Programs that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, look, seconds=60):
    """The first true answer of `look`; it may raise AssertionError or OSError until then."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = look()
            if last:
                return last
        except (AssertionError, OSError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}; last: {last}")


class _Daemon:
    """A program with an HTTP port, in a folder of its own."""
    command, ready = [], ""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(os.path.join(folder, type(self).__name__ + ".log"), "w+", encoding="utf-8")
        self.process = None

    def start(self, *command):
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, cwd=self.folder)
        return self

    def __enter__(self):
        until(f"{type(self).__name__} is ready", lambda: self.get("/-/ready"))
        return self

    def __exit__(self, kind, *_):
        end(self.process)
        if kind is not None:
            self.log.seek(0)
            print(f"{type(self).__name__}'s log:\n", self.log.read()[-3000:], sep="")
        self.log.close()

    def get(self, path, **query):
        assert self.process.poll() is None, f"{type(self).__name__} ended with {self.process.returncode}"
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{url}: {error.code} {error.read().decode()[:300]}") from error
        return json.loads(text) if text.startswith(("{", "[")) else text


def read_config(name):
    with open(os.path.join(CONFIGS, name), encoding="utf-8") as file:
        return file.read()


def replaced(text, *pairs):
    for old, new in pairs:
        assert old in text, f"the configuration has no {old!r} any more"
        text = text.replace(old, new)
    return text


def fast(text):
    """A configuration of ours with its intervals cut to a second."""
    return re.sub(r"(_interval: )\d+[smh]", r"\g<1>1s", text)


class Prometheus(_Daemon):
    """With a configuration in `folder`; its rules are those of the tree."""

    def __init__(self, folder, config):
        super().__init__(folder)
        shutil.copytree(os.path.join(CONFIGS, "rules"), os.path.join(folder, "rules"), dirs_exist_ok=True)
        path = os.path.join(folder, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        subprocess.run(["promtool", "check", "config", path], check=True, capture_output=True)
        self.start("prometheus", "--config.file", path, "--storage.tsdb.path", os.path.join(folder, "data"),
                   "--web.listen-address", f"127.0.0.1:{self.port}")

    def query(self, expression):
        """[(labels, value)], without what is no number."""
        data = self.get("/api/v1/query", query=expression)["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        values = [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]
        return [(labels, value) for labels, value in values if abs(value) < float("inf")]

    def targets(self):
        """{scrape url: labels} of those in use."""
        active = self.get("/api/v1/targets", state="active")["data"]["activeTargets"]
        return {target["scrapeUrl"]: target["labels"] for target in active}


class Alertmanager(_Daemon):
    """The example configuration, with its receiver at `url`."""

    def __init__(self, folder, url):
        super().__init__(folder)
        path = os.path.join(folder, "alertmanager.yml")
        config = replaced(read_config("alertmanager.yml"), ("http://localhost:9095/alerts", url),
                          ("group_wait: 30s", "group_wait: 0s"), ("group_interval: 5m", "group_interval: 1s"))
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        self.start("prometheus-alertmanager", "--config.file", path, "--storage.path", os.path.join(folder, "alerts"),
                   "--web.listen-address", f"127.0.0.1:{self.port}", "--cluster.listen-address", "")


class Receiver:
    """The webhook: keeps the alerts that it is sent."""

    def __init__(self):
        self.alerts, self.changed = [], threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with receiver.changed:
                    receiver.alerts += body["alerts"]
                    receiver.changed.notify_all()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def wait(self, seconds, status, **labels):
        """The first alert that came with this status and these labels."""
        def found():
            return next((alert for alert in self.alerts if alert["status"] == status
                         and labels.items() <= alert["labels"].items()), None)
        with self.changed:
            self.changed.wait_for(found, seconds)
            assert found(), f"no {status} alert {labels} came; there were {self.alerts}"
            return found()
