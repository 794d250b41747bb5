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


def examined(hosts, code, last=(WORKER,)):
    """The report of `fulger doctor` on h1 about a rank on each of the other hosts; on h5 by another command where that is said."""
    out = os.path.join(hosts.folder, "report.json")
    with Process(hosts.inside("h1", "sh", "-c", f'"$@" >{out}', "doctor", FULGER, "doctor", "--json", "--wait-for-workers", "--model", MODEL,
                              "--ranks", "4", "--read-seconds", "0.3", "--measure-seconds", "4", "--control", "0.0.0.0:8001",
                              "--listen", "127.0.0.1:8000")) as process:
        process.wait_line("waiting for 4 workers to dial", 30)
        begin = time.monotonic()
        with Process(hosts.mpirun("h1", {"h2": 1, "h3": 1, "h4": 1, "h5": 1}, "-np", "3", WORKER, "--coordinator", CONTROL, ":", "-np", "1",
                                  *last, "--coordinator", CONTROL)):
            assert process.wait_exit(60) == code, process.lines
        assert time.monotonic() - begin < 60
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def named(report, check):
    """Where this check was not OK, and what was found."""
    return [(node["name"], finding["found"]) for node in report["nodes"] for finding in node["findings"]
            if finding["check"] == check and finding["level"] != "OK"]


# One command on h1, which is none of the hosts that it examines.
def case_the_doctor_starts_the_ranks_itself():
    with five_hosts() as hosts:
        run = subprocess.run(hosts.launching("h1", FULGER, "doctor", "--json", "--hosts", "h2,h3:2", "--model", MODEL, "--read-seconds", "0.3",
                                             "--measure-seconds", "2", "--listen", "127.0.0.1:8000"),
                             capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, (run.stdout, run.stderr)
        report = json.loads(run.stdout)
        assert {node["name"]: node["ranks"] for node in report["nodes"]} == {"h2": [0], "h3": [1, 2]}, report["nodes"]
        assert len(report["between_nodes"]["ways"]) == 2 and len(report["within_nodes"]["ways"]) == 2, report


def cable(hosts, host, mbit):
    """What the host sends goes at that rate: far below what a busy machine still does, so that only the cables differ."""
    hosts.run(host, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", f"{mbit}mbit", "burst", f"{max(32, mbit)}kb",
              "latency", "200ms")


# h3's cable carries 40 Mbit/s of what it sends, the others' 400: it is named, and nobody else.
def case_the_doctor_names_a_slow_host():
    with five_hosts() as hosts:
        for host, mbit in {"h2": 400, "h3": 40, "h4": 400, "h5": 400}.items():
            cable(hosts, host, mbit)
        report = examined(hosts, 0)
        found = named(report, "bandwidth")
        assert [name for name, _ in found] == ["h3"], found
        rate = float(re.match(r"h3 sends ([0-9.]+) MB/s at best, whichever the other node", found[0][1]).group(1))
        assert 2 < rate < 10, found  # 5 MB/s, and what the bucket holds at first
        ways = {(way["from"], way["to"]): way for way in report["between_nodes"]["ways"]}
        assert len(ways) == 12 and all(way["outlier"] == (a == "h3") for (a, _), way in ways.items()), ways
        assert [node["name"] for node in report["nodes"]] == ["h2", "h3", "h4", "h5"]


# Only what h2 sends to h4 is slow: both are well with others, and the way between them is named.
def case_the_doctor_names_a_slow_pair():
    with five_hosts() as hosts:
        for host in ("h3", "h4", "h5"):
            cable(hosts, host, 400)
        for rule in (["qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"],
                     ["class", "add", "dev", "eth0", "parent", "1:", "classid", "1:1", "htb", "rate", "400mbit", "burst", "400kb"],
                     ["class", "add", "dev", "eth0", "parent", "1:", "classid", "1:2", "htb", "rate", "40mbit", "burst", "32kb"],
                     ["filter", "add", "dev", "eth0", "parent", "1:", "protocol", "ip", "u32", "match", "ip", "dst", hosts.address("h4") + "/32",
                      "flowid", "1:2"]):
            hosts.run("h2", "tc", *rule)
        report = examined(hosts, 0)
        found = named(report, "bandwidth")
        assert len(found) == 1 and found[0][0] == "h2" and found[0][1].startswith("h2 -> h4: "), found


# Every read of h5 takes 0.6 s longer; and its clock is five minutes behind.
def case_the_doctor_names_a_slow_file_system_and_a_clock():
    with five_hosts() as hosts:
        shims = []
        for name in ("failing_pread", "shifted_clock"):
            source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e", name + ".c")
            shims.append(os.path.join(hosts.folder, name + ".so"))
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shims[-1], source, "-ldl"], check=True)
        report = examined(hosts, 1, ["env", "LD_PRELOAD=" + ":".join(shims), "FULGER_TEST_READ_MS=600", "FULGER_TEST_CLOCK_SHIFT=-300", WORKER])
        found = named(report, "read rate")
        assert [name for name, _ in found] == ["h5"] and "the median node reads" in found[0][1], found
        found = named(report, "clock")
        assert [name for name, _ in found] == ["h5"] and "s behind the coordinator's" in found[0][1], found


def case_the_doctor_names_hosts_that_do_not_hear_each_other():
    with five_hosts() as hosts:
        for host, other in (("h3", "h4"), ("h4", "h3")):
            hosts.run(host, "ip", "neighbour", "replace", hosts.address(other), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud",
                      "permanent")
        report = examined(hosts, 1)
        found = named(report, "reach")
        assert sorted(name for name, _ in found) == ["h3", "h4"], found
        assert all("cannot reach rank" in text and "no answer" in text for _, text in found), found
        assert any("hosts do not reach each other" in finding["found"] for finding in report["general"]), report["general"]


if __name__ == "__main__":
    if reason := missing():
        print(f"SKIPPED: no hosts as network namespaces: {reason}")
        sys.exit(77)
    run_cases(globals(), sys.argv[4:])
