#!/usr/bin/env python3
"""A replica over several hosts (network namespaces, hosts.py): the same tokens as on one, and what is said when hosts do not
reach each other while it starts. The coordinator is on h1, stage 0 on h2, stage 1 over h3 and h4, the vision tower on h5.

    hosts_test.py BUILD_DIR CHECKPOINT PICTURE CASE...
"""
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from fulger_process import end, run_cases  # noqa: E402
from hosts import Hosts, missing  # noqa: E402

BUILD, MODEL, PICTURE = (os.path.abspath(p) for p in sys.argv[1:4])
FULGER, WORKER = (os.path.join(BUILD, "bin", name) for name in ("fulger", "fulger-worker"))
PLACES = {"h2": 2, "h3": 1, "h4": 1, "h5": 1}  # ranks 0 and 1, 2, 3, 4
FLAGS = ["--weight-dtype", "f32", "--max-context", "2048", "--threads", "1", "--model-name", "demo"]
CONTROL = "h1:8001"


class Process:
    """A command on the hosts; its output is kept in `lines`."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip())
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)  # the end
            self.changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        end(self.process, 10)
        if kind is not None:
            print(f"-- {self.process.args}", *self.lines[-40:], sep="\n")

    def wait_line(self, pattern, seconds):
        finish = time.monotonic() + seconds
        with self.changed:
            while True:
                for line in self.lines:
                    if line is not None and re.search(pattern, line):
                        return line
                assert None not in self.lines, f"it ended without a line like {pattern!r}"
                left = finish - time.monotonic()
                assert left > 0, f"not in {seconds} s: a line like {pattern!r}"
                self.changed.wait(left)

    def wait_exit(self, seconds):
        return self.process.wait(seconds)


@contextlib.contextmanager
def five_hosts():
    with tempfile.TemporaryDirectory(prefix="fulger-hosts-") as folder, Hosts(folder, 5) as hosts:
        yield hosts


def coordinator(hosts, *flags, listen="0.0.0.0:8001"):
    return Process(hosts.inside("h1", FULGER, "serve", "--model", MODEL, "--tp", "2", "--pp", "2", "--vision-ranks", "1", *FLAGS,
                                "--wait-for-workers", "--control", listen, "--listen", "127.0.0.1:8000", *flags))


def workers(hosts, *flags, last=(WORKER,)):
    """All five; the fifth by another command where that is said."""
    tail = ["--coordinator", CONTROL, "--threads", "1", *flags]
    return Process(hosts.mpirun("h1", PLACES, "-np", "4", WORKER, *tail, ":", "-np", "1", *last, *tail))


def chat(hosts, content):
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": content}], "max_tokens": 24, "temperature": 0,
                       "ignore_eos": True, "logprobs": True})
    path = os.path.join(hosts.folder, "request.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(body)
    answer = json.loads(hosts.run("h1", "curl", "--silent", "--show-error", "--max-time", "60", "-H", "Content-Type: application/json",
                                  "--data", "@" + path, "http://127.0.0.1:8000/v1/chat/completions").stdout)
    assert answer.get("choices"), answer
    return [token["bytes"] for token in answer["choices"][0]["logprobs"]["content"]]


def questions():
    with open(PICTURE, "rb") as file:
        picture = "data:image/jpeg;base64," + base64.b64encode(file.read()).decode()
    return ["The quick brown fox", [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "What is on it?"}]]


def case_a_picture_over_five_hosts():
    with five_hosts() as hosts:
        with Process(hosts.inside("h1", FULGER, "serve", "--model", MODEL, *FLAGS, "--listen", "127.0.0.1:8000",
                                  "--worker-binary", WORKER)) as alone:
            alone.wait_line(r"ready: http", 60)
            expected = [chat(hosts, question) for question in questions()]
        assert all(len(tokens) == 24 for tokens in expected)
        assert any(len({tuple(t) for t in tokens}) >= 4 for tokens in expected), "too uniform to tell layouts apart"
        with coordinator(hosts, "--launch-timeout", "60") as server, workers(hosts) as ranks:
            server.wait_line(r"ready: http", 60)
            for rank, host in enumerate(["h2", "h2", "h3", "h4", "h5"]):
                server.wait_line(rf"rank {rank} \(host {host}, pid \d+\) joined", 1)
            found = [chat(hosts, question) for question in questions()]
            assert found == expected, (found, expected)
            server.process.terminate()
            assert server.wait_exit(30) == 0
            assert ranks.wait_exit(30) == 0


def case_a_wrong_address_is_named():
    with five_hosts() as hosts:
        worker = [WORKER, "--threads", "1", "--rank", "3", "--join-timeout", "4", "--coordinator"]
        for coordinator_address, why in (("10.77.0.99:8001", r"no way to host 10\.77\.0\.99|no answer from host 10\.77\.0\.99"),
                                         ("h5:8001", r"host h5 is there, but nothing listens on its port 8001"),
                                         ("hx:8001", r"the name hx is not known on this host")):
            with Process(hosts.inside("h4", *worker, coordinator_address)) as process:
                line = process.wait_line(r"error .*rendezvous: ", 30)
                assert re.search(rf"rank 3 on host h4 cannot join the coordinator at {coordinator_address} within 4 s: ", line), line
                assert re.search(why, line) and "--control 0.0.0.0:PORT" in line, line
                assert process.wait_exit(10) == 1


# mpirun starts nothing before it has heard of all hosts, and says little; the coordinator knows that nobody came.
def case_a_cable_cut_before_the_launch():
    with five_hosts() as hosts:
        hosts.cut("h4")
        with coordinator(hosts, "--launch-timeout", "8") as server, workers(hosts):
            line = server.wait_line(r"error .* ended: launch: ", 30)
            assert "0 of 5 ranks have joined; missing: 0, 1, 2, 3, 4" in line and "the launcher's output" in line, line
            assert server.wait_exit(20) == 1


def case_a_cable_cut_at_the_rendezvous():
    with five_hosts() as hosts:
        go = os.path.join(hosts.folder, "go")
        late = ("sh", "-c", f'until [ -e {go} ]; do sleep 0.1; done; exec {WORKER} "$@"', "late")
        with coordinator(hosts, "--launch-timeout", "60", "--join-timeout", "12") as server, workers(hosts, last=late):
            server.wait_line(r"; 4 of 5 ranks have joined; missing: 4$|4 of 5 ranks have joined; missing: 4", 60)
            hosts.cut("h4")
            left = server.wait_line(r"warn.* left before all ranks had joined", 20)
            assert re.search(r"rank 3 \(host h4, pid \d+\) left .* missing: 3 \(left, was on host h4\), 4\. .*ping it", left), left
            with open(go, "w", encoding="utf-8"):
                pass
            line = server.wait_line(r"error .* ended: rendezvous: ", 30)
            assert re.search(r"after \d+ s .*missing: 3 \(left, was on host h4\)", line) and "open the control port" in line, line
            assert server.wait_exit(20) == 1


# Every host reaches the coordinator, and two do not reach each other: MPI alone would wait for ever.
def case_two_hosts_that_do_not_hear_each_other():
    with five_hosts() as hosts:
        for host, other in (("h3", "h4"), ("h4", "h3")):
            hosts.run(host, "ip", "neighbour", "replace", hosts.address(other), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud",
                      "permanent")  # frames to nobody, as a firewall drops them
        with coordinator(hosts, "--launch-timeout", "60") as server, workers(hosts):
            line = server.wait_line(r"error .* ended: ", 60)
            assert re.search(r"rank ([23]) \(host h[34], pid \d+\) failed during communicators: rank \1 at 10\.77\.0\.[34] cannot reach rank "
                             r"[23] at 10\.77\.0\.[34]: no answer .*a firewall", line), line
            assert server.wait_exit(20) == 1


if __name__ == "__main__":
    if reason := missing():
        print(f"SKIPPED: no hosts as network namespaces: {reason}")
        sys.exit(77)
    run_cases(globals(), sys.argv[4:])
