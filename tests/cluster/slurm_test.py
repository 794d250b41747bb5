#!/usr/bin/env python3
"""The scripts of deploy/slurm, as they are shipped, under a real Slurm with two nodes.

    slurm_test.py BUILD_DIR CHECKPOINT SOURCE_DIR CASE...
"""
import json
import os
import re
import shutil
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from fulger_process import run_cases  # noqa: E402
from slurm import Slurm, free_port, missing  # noqa: E402

BUILD, MODEL, SOURCE = (os.path.abspath(p) for p in sys.argv[1:4])
DEPLOY = os.path.join(SOURCE, "deploy")
LAYOUT = "--tp 2 --pp 2 --ep 2 --max-context 2048 --max-sequences 4 --anchors 0"


class Cluster:
    """Slurm in a folder of its own, and the log of one job."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="fulger-slurm-")
        os.chmod(self.folder, 0o755)  # munged is another user
        self.log = os.path.join(self.folder, "job.log")
        self.slurm = Slurm(os.path.join(self.folder, "slurm")).__enter__()
        return self

    def __exit__(self, kind, *_):
        self.slurm.__exit__()
        if kind is not None:
            print(self.text()[-6000:])
        shutil.rmtree(self.folder, ignore_errors=True)

    def text(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def submit(self, script, **variables):
        self.port = free_port()
        return self.slurm.submit(os.path.join(DEPLOY, "slurm", script), self.log, FULGER_DEPLOY=DEPLOY, FULGER_MODEL=MODEL,
                                 FULGER_LAYOUT=LAYOUT, FULGER_BIN=os.path.join(BUILD, "bin"), FULGER_PORT=self.port,
                                 flags=["--nodes=2", "--ntasks-per-node=2"], **variables)

    def wait_ended(self, job):
        self.slurm.wait("the job's end", lambda: self.slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 90)
        return self.slurm.state(job)


def ask(port, tokens):
    body = {"model": os.path.basename(MODEL), "messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens,
            "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def serves_and_drains(launch):
    with Cluster() as cluster:
        job = cluster.submit("serve.sbatch", FULGER_LAUNCH=launch)
        cluster.slurm.wait("ready", lambda: "fulger job: ready at http://" in cluster.text()
                           or cluster.slurm.state(job) not in ("PENDING", "RUNNING"), 90)
        assert re.search(r"ready at http://\S+:%d \(job %s, 4 ranks on n\[1-2\]\)" % (cluster.port, job), cluster.text())
        with ask(cluster.port, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        assert "fulger job: told to end, draining" in cluster.text()
        assert "fulger job: drained" in cluster.text()


def case_srun_serves_and_drains():
    serves_and_drains("srun")


def case_mpirun_serves_and_drains():
    serves_and_drains("mpirun")


def case_a_batch_job_leaves_its_answers():
    with Cluster() as cluster:
        requests, answers = (os.path.join(cluster.folder, name) for name in ("in.jsonl", "out.jsonl"))
        shutil.copy(os.path.join(DEPLOY, "examples", "batch.jsonl"), requests)
        with open(requests, encoding="utf-8") as file:
            asked = [json.loads(line) for line in file]
        with open(requests, "w", encoding="utf-8") as file:
            for line in asked:
                line["body"]["model"] = os.path.basename(MODEL)
                file.write(json.dumps(line) + "\n")
        job = cluster.submit("batch.sbatch", FULGER_REQUESTS=requests, FULGER_ANSWERS=answers)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        with open(answers, encoding="utf-8") as file:
            found = [json.loads(line) for line in file]
        assert sorted(line["custom_id"] for line in found) == sorted(line["custom_id"] for line in asked)


def case_a_job_without_a_model_says_so():
    with Cluster() as cluster:
        job = cluster.slurm.submit(os.path.join(DEPLOY, "slurm", "serve.sbatch"), cluster.log, FULGER_DEPLOY=DEPLOY,
                                   FULGER_MODEL="/nowhere", FULGER_LAYOUT=LAYOUT)
        assert cluster.wait_ended(job) == "FAILED"
        assert "fulger job: /nowhere/config.json is not there, seen from " in cluster.text()


if __name__ == "__main__":
    if reason := missing():
        print(f"SKIPPED: no Slurm: {reason}")
        sys.exit(77)
    run_cases(globals(), sys.argv[4:])
