#!/usr/bin/env python3
"""`fulger doctor` with real ranks: a sound machine is called sound, and each thing that is broken on purpose is named.

    doctor_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

from fulger_process import end, mpirun, run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
WORKER = os.path.join(BUILD, "bin", "fulger-worker")
HERE = os.path.dirname(os.path.abspath(__file__))
LAYOUT = ["--tp", "2", "--vision-ranks", "1"]  # three ranks
SMALL = ["--max-context", "2048", "--max-sequences", "4", "--anchors", "2"]
QUICK = ["--read-seconds", "0.5", "--measure-seconds", "1.5", "--listen", "127.0.0.1:0"]


def doctor(*flags, code=0, env=None):
    """Its report, as JSON; it must end with this code, and in under a minute."""
    begin = time.monotonic()
    run = subprocess.run([FULGER, "doctor", "--json", *QUICK, *flags], capture_output=True, text=True, timeout=60, check=False,
                         env={**os.environ, **(env or {})})
    assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
    assert time.monotonic() - begin < 60
    return json.loads(run.stdout)


class Waiting:
    """`fulger doctor --wait-for-workers`; `control`: where they dial."""

    def __init__(self, *flags):
        self.process = subprocess.Popen([FULGER, "doctor", "--json", "--wait-for-workers", "--control", "127.0.0.1:0", *QUICK, *flags],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        self.control = re.search(r"to dial (\S+):", line).group(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def report(self, code):
        out, log = self.process.communicate(timeout=60)
        assert self.process.returncode == code, (self.process.returncode, out, log)
        return json.loads(out)


def findings(report, level):
    every = [("", finding) for finding in report["general"]]
    every += [(node["name"], finding) for node in report["nodes"] for finding in node["findings"]]
    return [(where, finding) for where, finding in every if finding["level"] == level]


def failures(report):
    return findings(report, "FAIL")


def only_failure(report):
    found = failures(report)
    assert len(found) == 1, found
    assert found[0][1]["cause"] and found[0][1]["cure"], found
    return found[0][1]


def copy_of(folder):
    copy = os.path.join(folder, "copy")
    shutil.copytree(MODEL, copy)
    return copy


def case_doctor_one_machine_without_arguments():
    report = doctor()
    assert report["ranks"] == 1 and report["transport"] == "single" and len(report["nodes"]) == 1
    node = report["nodes"][0]
    assert node["name"] == socket.gethostname()
    checks = {finding["check"] for finding in node["findings"]}
    assert {"start", "clock", "mpi", "cores", "processor", "memory", "limits", "/dev/shm", "temporary"} <= checks, checks
    assert not failures(report), failures(report)
    text = subprocess.run([FULGER, "doctor", *QUICK], capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.search(rf"node {re.escape(node['name'])}  (OK|WARN)", text) and "\nverdict  " in text, text
    assert text.isascii() and "\x1b" not in text


# Every way between three real ranks is measured, and all are as they should be.
def case_doctor_three_ranks_and_a_checkpoint():
    with tempfile.TemporaryDirectory() as folder:
        page = os.path.join(folder, "doctor.html")
        report = doctor("--model", MODEL, *LAYOUT, *SMALL, "--html", page)
        assert report["ranks"] == 3 and report["transport"] == "mpi", report
        assert not failures(report), failures(report)
        ways = report["within_nodes"]["ways"]
        ends = report["within_nodes"]["ends"]
        assert ends == ["rank 0", "rank 1", "rank 2"], ends
        assert sorted((way["from"], way["to"]) for way in ways) == sorted((a, b) for a in ends for b in ends if a != b), ways
        assert all(way["bytes_per_second"] > 1e6 and 0 < way["latency_seconds"] < 1 for way in ways), ways
        assert report["rounds_done"] == report["rounds"] == 3
        of_check = {finding["check"]: finding["found"] for _, finding in findings(report, "OK")}
        size = sum(os.path.getsize(os.path.join(MODEL, f)) for f in os.listdir(MODEL) if f.endswith(".safetensors"))
        assert "all there and of the right size" in of_check["checkpoint"], of_check
        assert "its ranks need" in of_check["memory"] and "layout pp 1" in of_check["model"], of_check
        assert f"{size / 2**20:.2f} MiB" in of_check["checkpoint"], (size, of_check)
        with open(page, encoding="utf-8") as file:
            html = file.read()
        maps = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
        assert len(maps) == 2, html
        for one in maps:
            assert len(xml.etree.ElementTree.fromstring(one).findall("rect")) == 6, one


# The ranks are started as those of a server are, and nobody says how many there are.
def case_doctor_ranks_that_mpirun_starts():
    with Waiting() as waiting:
        ranks = subprocess.Popen(mpirun(3, WORKER, "--coordinator", waiting.control), stderr=subprocess.PIPE, text=True)
        report = waiting.report(0)
        log = ranks.communicate(timeout=30)[1]
        assert ranks.returncode == 0, log  # MPI was ended in order
        assert report["ranks"] == 3 and len(report["within_nodes"]["ways"]) == 6, report
        assert "started by mpirun" in json.dumps(report)


def case_doctor_a_truncated_shard():
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of(folder)
        path = os.path.join(copy, "model.safetensors")
        os.truncate(path, os.path.getsize(path) - 1000)
        report = doctor("--model", copy, code=1)
        found = [finding for where, finding in failures(report) if where]
        assert len(found) == 1 and path in found[0]["found"] and "cut short" in found[0]["cause"], failures(report)


# A pipe stands for a file on a server that is gone: whoever opens it waits. The rest is examined, and it is named.
def case_doctor_a_checkpoint_that_hangs():
    with tempfile.TemporaryDirectory() as folder, Waiting("--ranks", "1") as waiting:
        copy = copy_of(folder)
        path = os.path.join(copy, "model.safetensors")
        os.remove(path)
        os.mkfifo(path)
        worker = subprocess.Popen([WORKER, "--coordinator", waiting.control, "--model", copy], stderr=subprocess.DEVNULL)
        # Without --model the coordinator asks for none: the worker's own is looked at.
        finding = only_failure(waiting.report(1))
        assert finding["check"] == "checkpoint" and f"opening {path}: no answer in" in finding["found"], finding
        worker.wait(30)


def case_doctor_a_checkpoint_that_cannot_be_read():
    with tempfile.TemporaryDirectory() as folder:
        shim = os.path.join(folder, "failing_pread.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, os.path.join(HERE, "failing_pread.c"), "-ldl"], check=True)
        with Waiting("--ranks", "1", "--model", MODEL) as waiting:
            worker = subprocess.Popen([WORKER, "--coordinator", waiting.control], stderr=subprocess.DEVNULL,
                                      env={**os.environ, "LD_PRELOAD": shim, "FULGER_TEST_FAIL_AFTER": "3000000"})
            report = waiting.report(1)
            worker.wait(30)
        found = failures(report)
        assert any("Input/output error" in finding["found"] and "model.safetensors" in finding["found"] for _, finding in found), found
        assert any("dmesg" in finding["cure"] for _, finding in found), found


def case_doctor_a_clock_that_is_off():
    with tempfile.TemporaryDirectory() as folder:
        shim = os.path.join(folder, "shifted_clock.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, os.path.join(HERE, "shifted_clock.c"), "-ldl"], check=True)
        with Waiting("--ranks", "1") as waiting:
            worker = subprocess.Popen([WORKER, "--coordinator", waiting.control], stderr=subprocess.DEVNULL,
                                      env={**os.environ, "LD_PRELOAD": shim, "FULGER_TEST_CLOCK_SHIFT": "-500"})
            finding = only_failure(waiting.report(1))
            assert worker.wait(30) == 0
        assert re.match(r"the clock is (499|500|501) s behind the coordinator's \(known to ", finding["found"]), finding
        assert "TLS" in finding["cause"] and "munge" in finding["cause"], finding


def case_doctor_ranks_that_are_missing():
    with Waiting("--launch-timeout", "2", "--ranks", "3") as waiting:
        few = subprocess.Popen([WORKER, "--coordinator", waiting.control, "--rank", "0"], stderr=subprocess.DEVNULL)
        report = waiting.report(1)  # one process alone is no MPI rank of three
        few.wait(30)
        assert any("sees an MPI world of size 1" in finding["found"] for _, finding in failures(report)), report
    with Waiting("--join-timeout", "3", "--ranks", "3") as waiting:
        env = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "1"}
        one = subprocess.Popen([WORKER, "--coordinator", waiting.control], stderr=subprocess.DEVNULL, env={**os.environ, **env})
        report = waiting.report(1)
        one.wait(30)
        assert any("missing: 0, 2" in finding["found"] and "control port" in finding["cause"] for _, finding in failures(report)), report
        assert len(report["nodes"]) == 1 and report["nodes"][0]["ranks"] == [1], report


def case_doctor_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        report = doctor("--wait-for-workers", "--control", f"127.0.0.1:{port}", code=1)
        found = " ".join(finding["found"] for _, finding in failures(report))
        assert f"--control 127.0.0.1:{port}: 127.0.0.1:{port} is taken by pid {os.getpid()} (" in found, found


def case_doctor_memory_that_does_not_suffice():
    report = doctor("--model", MODEL, "--cache-tokens", "400000000", code=1)
    assert any(finding["check"] in ("memory", "model") and "GiB" in finding["found"] for _, finding in failures(report)), failures(report)


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
