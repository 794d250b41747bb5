"""Real processes for the end-to-end tests: a server under test, and HTTP to it. Standard library only."""
import http.client
import json
import os
import re
import signal
import ssl
import struct
import subprocess
import threading
import time

START_SECONDS = 120


class Server:
    """`fulger serve` on a free port, or on `port`. Its log is kept in `lines`."""

    def __init__(self, fulger, model, *flags, port=0, step_tokens=512, env=None):
        command = [fulger, "serve", "--model", model, "--model-name", "demo", "--listen", f"127.0.0.1:{port}",
                   "--max-context", "8192", "--max-step-tokens", str(step_tokens), *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace",
                                        env={**os.environ, **(env or {})})
        self.lines, self.port = [], 0
        self.tls, self.key = None, None  # an ssl.SSLContext; an API key
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.rstrip())
                found = re.search(r"listening on https?://[^:]+:(\d+)", line)
                if found:
                    self.port = int(found.group(1))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            end(self.process, 30)
        if kind is not None:
            print("\n".join(self.lines[-60:]))

    def wait_line(self, pattern, seconds=START_SECONDS):
        """The first log line that matches, old or new."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for line in self.lines:
                    if re.search(pattern, line):
                        return line
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self.changed.wait(0.5)):
                    raise AssertionError(f"no log line like {pattern!r}")
                self.changed.wait(min(left, 1))

    def wait_ready(self, seconds=START_SECONDS):
        self.wait_line(r"listening on")
        self.wait_status(200, seconds)
        return self

    def wait_status(self, status, seconds=60):
        """Until /health/ready answers so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}")
            if self.get("/health/ready")[0] == status:
                return
            time.sleep(0.05)
        raise AssertionError(f"/health/ready did not become {status} in {seconds} s")

    def stop(self, seconds=60):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def connect(self, seconds=120):
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def trust(self, certificate):
        """From now on HTTPS, with this certificate as the authority."""
        self.tls = ssl.create_default_context(cafile=certificate)

    def headers(self, more=None):
        key = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return {"Content-Type": "application/json", **key, **(more or {})}

    def call(self, method, path, body=None, headers=None):
        """Status, answer (JSON where it is), headers."""
        connection = self.connect()
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, self.headers(headers))
            answer = connection.getresponse()
            text = answer.read()
            if (answer.getheader("Content-Type") or "").startswith("application/json"):
                text = json.loads(text)
            return answer.status, text, answer.headers
        finally:
            connection.close()

    def open(self, path, body, wait=True):
        """A request under way: its answer, once that has begun, or else its connection. close() leaves."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(body), self.headers())
        if not wait:
            return connection
        answer = connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        answer.connection = connection  # which lives as long
        closed = answer.close

        def close():
            closed()
            connection.close()
        answer.close = close
        return answer

    def get(self, path):
        status, text, _ = self.call("GET", path)
        return status, text if isinstance(text, str) else json.dumps(text) if isinstance(text, dict) else text.decode()

    def info(self):
        return json.loads(self.get("/v1/server_info")[1])

    def metric(self, name):
        for line in self.get("/metrics")[1].splitlines():
            if re.match(rf"{re.escape(name)}(\{{[^}}]*\}})? ", line):
                return float(line.split()[-1])
        raise AssertionError(f"no metric {name}")

    def post(self, path, body):
        status, answer, _ = self.call("POST", path, body)
        return status, answer

    def ok(self, path, body):
        status, answer = self.post(path, body)
        assert status == 200, (status, answer)
        return answer

    def chat(self, body):
        return self.ok("/v1/chat/completions", body)

    def stream(self, body):
        """Yields the parsed events of a streamed chat completion; the last item is "[DONE]"."""
        connection = self.connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, (answer.status, answer.read())
            assert answer.getheader("Content-Type").startswith("text/event-stream")
            for raw in answer:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("data: "):
                    yield line[6:] if line == "data: [DONE]" else json.loads(line[6:])
        finally:
            connection.close()

    def ranks(self):
        """pids of the worker ranks, by rank."""
        return [rank["pid"] for rank in self.info()["ranks"]]


def end(process, seconds=20):
    """SIGTERM, and SIGKILL where that does not help."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def text_of(events):
    """The text of a stream, which must be complete."""
    events = list(events)
    assert events[-1] == "[DONE]", events[-1]
    errors = [event for event in events[:-1] if "error" in event]
    assert not errors, errors
    return "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in event["choices"])


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def certificate(folder, days=1):
    """A self-signed one for 127.0.0.1: cert.pem and key.pem in `folder`."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", os.path.join(folder, "key.pem"), "-out", os.path.join(folder, "cert.pem"), "-days", str(days),
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)


def first_float(path, tensor):
    """The offset of a tensor's first byte in a safetensors file."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = file.read(size).decode()
    begin = re.search(re.escape(f'"{tensor}"') + r':\{[^}]*"data_offsets":\[(\d+)', header.replace(" ", ""))
    return 8 + size + int(begin.group(1))


def mpirun(ranks, *command):
    """Bound to no core and yielding, as several ranks on a small machine need."""
    return ["env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_mpi_yield_when_idle=1",
            "timeout", "-k", "3", "60", "mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *command]


def wait_metric(server, name, value, seconds=20):
    end = time.monotonic() + seconds
    while server.metric(name) != value:
        assert time.monotonic() < end, f"{name} is {server.metric(name)}, expected {value}"
        time.sleep(0.02)


def run_cases(names, chosen):
    """Runs the functions case_... of a test file, or those chosen by name without the prefix."""
    cases = {name[5:]: function for name, function in names.items() if name.startswith("case_")}
    for name in chosen or cases:
        begin = time.monotonic()
        cases[name]()
        print(f"{name}: ok, {time.monotonic() - begin:.1f} s", flush=True)
