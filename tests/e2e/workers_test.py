#!/usr/bin/env python3
"""Real workers that must not be let in, or that break while they start: each is named with what is wrong, and the
coordinator goes on waiting for better ones.

    workers_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from fulger_process import Server, first_float, mpirun, run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
WORKER = os.path.join(BUILD, "bin", "fulger-worker")
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "ignore_eos": True}


def waiting_server(*flags, model=MODEL):
    return Server(FULGER, model, "--control", "127.0.0.1:0", "--wait-for-workers", *flags)


def control_of(server):
    return re.search(r"workers to dial (\S+)", server.wait_line(r"workers to dial")).group(1)


def dials_of(server, count):
    """Where the workers of each replica dial, in the order of replicas."""
    end = time.monotonic() + 60
    while True:
        dials = [found.group(1) for found in map(re.compile(r"workers to dial (\S+)").search, list(server.lines)) if found]
        if len(dials) == count:
            return dials
        assert time.monotonic() < end, dials
        time.sleep(0.02)


def wait_ready_replicas(server, count):
    end = time.monotonic() + 60
    while True:
        text = server.get("/metrics")[1]
        ready = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("fulger_replica_ready{"))
        if ready == count:
            return
        assert time.monotonic() < end, (ready, count)
        time.sleep(0.02)


def worker(server, *flags, binary=WORKER, env=None):
    """A worker without a launcher."""
    return subprocess.Popen([binary, "--coordinator", control_of(server), "--threads", "1", *flags],
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})


def refused(process, *words):
    """The worker ends by itself and says why."""
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1, (process.returncode, log)
    for word in words:
        assert word in log, (word, log)


def serves(server):
    """A good worker is still welcome, and answers."""
    process = worker(server)
    server.wait_ready()
    assert server.chat(QUESTION)["usage"]["completion_tokens"] == 4
    assert server.stop() == 0
    assert process.wait(30) == 0


def copy_of(folder):
    copy = os.path.join(folder, "copy")
    shutil.copytree(MODEL, copy)
    return copy


def case_another_checkpoint():
    with tempfile.TemporaryDirectory() as folder, waiting_server() as server:
        other = copy_of(folder)
        with open(os.path.join(other, "config.json"), "a", encoding="utf-8") as config:
            config.write("\n")
        refused(worker(server, "--model", other), f"checkpoint {other} has fingerprint", "see different files")
        server.wait_line("rank 0 .* failed during device: checkpoint")
        serves(server)


def case_another_version():
    with tempfile.TemporaryDirectory() as folder, waiting_server() as server:
        older = os.path.join(folder, "fulger-worker")
        version = subprocess.run([WORKER, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        with open(WORKER, "rb") as binary, open(older, "wb") as out:
            code = binary.read()
            assert version.encode() + b"\0" in code
            out.write(code.replace(version.encode() + b"\0", b"0.0.9".rjust(len(version), b"0") + b"\0"))
        os.chmod(older, 0o755)
        refused(worker(server, binary=older), "is version", f"this coordinator is {version}", "from one build")
        serves(server)


def case_one_worker_too_many():
    with waiting_server() as server:
        first = worker(server)
        server.wait_ready()
        refused(worker(server), "is one too many")
        assert server.chat(QUESTION)["usage"]["completion_tokens"] == 4
        assert server.stop() == 0
        assert first.wait(30) == 0


def case_two_workers_claim_one_rank():
    with waiting_server("--tp", "2") as server:
        both = subprocess.run(mpirun(2, WORKER, "--coordinator", control_of(server), "--rank", "0"),
                              capture_output=True, text=True, timeout=60, check=False)
        assert both.returncode != 0, both
        server.wait_line(r"refused: worker on host .*, pid \d+ claims rank 0, which host .*, pid \d+ holds already")


def case_fewer_workers_than_the_plan():
    with waiting_server("--tp", "4") as server:
        few = subprocess.run(mpirun(2, WORKER, "--coordinator", control_of(server)), capture_output=True, text=True,
                             timeout=60, check=False)
        assert few.returncode != 0, few
        server.wait_line("its launcher started 2 ranks, the layout has 4")


def case_two_replicas_wait_for_their_workers():
    with waiting_server("--replicas", "2") as server:
        dials = dials_of(server, 2)
        workers = [subprocess.Popen([WORKER, "--coordinator", dial, "--threads", "1"], stderr=subprocess.DEVNULL)
                   for dial in dials]
        server.wait_ready()
        wait_ready_replicas(server, 2)
        assert server.chat(QUESTION)["usage"]["completion_tokens"] == 4
        # One dies: the other answers. Its successor is let in.
        workers[0].kill()
        workers[0].wait()
        wait_ready_replicas(server, 1)
        assert server.chat(QUESTION)["usage"]["completion_tokens"] == 4
        workers[0] = subprocess.Popen([WORKER, "--coordinator", dials[0], "--threads", "1"], stderr=subprocess.DEVNULL)
        wait_ready_replicas(server, 2)
        assert server.stop() == 0
        assert [worker.wait(30) for worker in workers] == [0, 0]


def case_a_disk_that_fails_while_loading():
    with tempfile.TemporaryDirectory() as folder, waiting_server() as server:
        shim = os.path.join(folder, "failing_pread.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "failing_pread.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        refused(worker(server, env={"LD_PRELOAD": shim, "FULGER_TEST_FAIL_AFTER": "1000000"}),
                "Input/output error", ".safetensors")
        server.wait_line("rank 0 .* failed during load: .*Input/output error")
        serves(server)


def case_weights_that_are_not_finite_are_never_ready():
    with tempfile.TemporaryDirectory() as folder:
        broken = copy_of(folder)
        path = os.path.join(broken, "model.safetensors")
        with open(path, "r+b") as file:
            file.seek(first_float(path, "language_model.model.layers.2.self_attn.out_proj.weight"))
            file.write(b"\xff\xff\xff\x7f")  # NaN as one float32, and as the second of two bfloat16
        with Server(FULGER, broken) as server:
            server.wait_line("the probe step 1 failed: .*layer 2 attention")
            status, answer = server.get("/health/ready")
            assert status == 503 and "layer 2 attention" in answer, (status, answer)
            assert server.post("/v1/chat/completions", QUESTION)[0] == 503
            assert server.get("/health/live")[0] == 200
            assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
