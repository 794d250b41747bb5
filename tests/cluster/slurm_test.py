#!/usr/bin/env python3
"""The scripts of deploy/slurm, as they are shipped, under a real Slurm with two nodes.

    slurm_test.py BUILD_DIR CHECKPOINT SOURCE_DIR CASE...
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from fulger_process import run_cases  # noqa: E402
from job_requests import ask, free_ports, log_text, requests_for  # noqa: E402
from slurm import MPI_ON_ONE_HOST, Slurm, missing  # noqa: E402

BUILD, MODEL, SOURCE = (os.path.abspath(p) for p in sys.argv[1:4])
DEPLOY = os.path.join(SOURCE, "deploy")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
LAYOUT = "--tp 2 --pp 2 --ep 2 --max-context 2048 --max-sequences 4 --anchors 0"


class Cluster:
    """Slurm in a folder of its own, and the log of one job."""

    def __init__(self, nodes=2):
        self.nodes = nodes

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="fulger-slurm-")
        os.chmod(self.folder, 0o755)  # munged is another user
        self.log = os.path.join(self.folder, "job.log")
        self.slurm = Slurm(os.path.join(self.folder, "slurm"), self.nodes).__enter__()
        return self

    def __exit__(self, kind, *_):
        self.slurm.__exit__()
        if kind is not None:
            print(self.text()[-6000:])
        shutil.rmtree(self.folder, ignore_errors=True)

    def text(self):
        return log_text(self.log)

    def submit(self, script, flags=("--nodes=2", "--ntasks-per-node=2"), **variables):
        self.port = free_ports()
        return self.slurm.submit(os.path.join(DEPLOY, "slurm", script), self.log, flags=flags,
                                 **{"FULGER_DEPLOY": DEPLOY, "FULGER_MODEL": MODEL, "FULGER_LAYOUT": LAYOUT,
                                    "FULGER_BIN": os.path.join(BUILD, "bin"), "FULGER_PORT": self.port, **variables})

    def wait_text(self, job, text):
        """Until the log has it, or the job has ended."""
        self.slurm.wait(text, lambda: text in self.text() or self.slurm.state(job) in ENDED, 90)
        assert text in self.text(), text

    def wait_ended(self, job, seconds=90):
        self.slurm.wait("the job's end", lambda: self.slurm.state(job) in ENDED, seconds)
        return self.slurm.state(job)


def serves_and_drains(launch):
    with Cluster() as cluster:
        targets = os.path.join(cluster.folder, "targets")
        job = cluster.submit("serve.sbatch", FULGER_LAUNCH=launch, FULGER_TARGETS=targets, FULGER_LABELS="team=vision")
        cluster.wait_text(job, "fulger job: ready at http://")
        assert re.search(r"ready at http://\S+:%d \(job %s, 4 ranks on n\[1-2\]\)" % (cluster.port, job), cluster.text())
        assert "the job ends in " in cluster.text(), "the server knows the walltime"
        with open(os.path.join(targets, f"fulger-slurm-{job}.json"), encoding="utf-8") as file:
            [target] = json.load(file)
        assert target["targets"][0].endswith(f":{cluster.port}") and target["labels"]["team"] == "vision", target
        with ask(cluster.port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        assert "fulger job: told to end, draining" in cluster.text()
        assert "fulger job: drained" in cluster.text()
        assert os.listdir(targets) == []


def case_srun_serves_and_drains():
    serves_and_drains("srun")


def case_mpirun_serves_and_drains():
    serves_and_drains("mpirun")


def ask_until_the_end(port, tokens, texts):
    """Asks again and again, until an answer breaks off: its text so far goes into `texts`."""
    while True:
        text, error = "", None
        with ask(port, MODEL, tokens, stream=True) as answer:
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                error = event.get("error") or error
                text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
        if error:
            texts.append((text, error["message"]))
            return


# Slurm counts walltimes in minutes, and warns two of them before the end (--signal), or a little earlier. What runs then goes on
# in the next job.
def case_a_walltime_that_ends_and_the_next_job():
    tokens = 1500
    with Cluster() as cluster:
        state = os.path.join(cluster.folder, "state")
        variables = {"FULGER_DRAIN": "0", "FULGER_STATE": state}
        job = cluster.submit("serve.sbatch", flags=["--nodes=2", "--ntasks-per-node=2", "--time=3"], **variables)
        cluster.wait_text(job, "fulger job: ready at http://")
        left = int(re.search(r"the job ends in (\d+) s", cluster.text()).group(1))
        assert 120 < left <= 180, left
        texts = []
        client = threading.Thread(target=ask_until_the_end, args=(cluster.port, tokens, texts))
        client.start()
        assert cluster.wait_ended(job, 150) == "COMPLETED", cluster.slurm.state(job)
        client.join(20)
        [(begun, message)] = texts
        assert "was saved" in message, message
        assert "saved 1 requests, 1 of them with their states" in cluster.text()
        assert "fulger job: drained" in cluster.text()
        os.rename(cluster.log, cluster.log + ".first")
        job = cluster.submit("serve.sbatch", **variables)
        cluster.wait_text(job, "fulger job: ready at http://")
        whole = []
        for _ in range(2):  # the second one is computed anew
            with ask(cluster.port, MODEL, tokens) as answer:
                whole.append(json.load(answer)["choices"][0]["message"]["content"])
        assert re.search(r"goes on behind \d+ saved tokens$", cluster.text(), re.M), cluster.text()
        assert whole[0].startswith(begun) and whole[0] == whole[1], (begun, whole)
        assert os.listdir(state) == []
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)


def case_ranks_that_die_are_started_again():
    with Cluster() as cluster:
        job = cluster.submit("serve.sbatch")
        cluster.wait_text(job, "fulger job: ready at http://")
        with urllib.request.urlopen(f"http://127.0.0.1:{cluster.port}/v1/server_info", timeout=10) as info:
            os.kill(json.load(info)["ranks"][3]["pid"], signal.SIGKILL)
        cluster.wait_text(job, "starting them again (1)")
        cluster.slurm.wait("two epochs", lambda: cluster.text().count("is serving: ") == 2, 90)
        with ask(cluster.port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)


# Coordinator, stages and vision tower in components of their own: one MPI world over the last two.
def case_a_heterogeneous_job():
    with Cluster(nodes=3) as cluster:
        job = cluster.submit("serve.sbatch", flags=["--ntasks=1", ":", "--ntasks=2", ":", "--ntasks=1"],
                             FULGER_LAYOUT="--tp 2 --vision-ranks 1 --max-context 2048 --max-sequences 4 --anchors 0")
        cluster.wait_text(job, "fulger job: ready at http://")
        assert f"(job {job}, 3 ranks on " in cluster.text()
        with ask(cluster.port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)


def submit(cluster, *flags):
    """`fulger submit` where the cluster's folder is the present one."""
    return subprocess.run([os.path.join(BUILD, "bin", "fulger"), "submit", "--slurm", "--model", MODEL, "--cpu-ranks", "2", "--nodes", "2",
                           "--tp", "2", "--pp", "2", "--vision-ranks", "0", "--max-sequences", "4", "--anchors", "0", "--context", "2048",
                           "--reserve-gib", "0.01", "--deploy", DEPLOY, "--port", str(cluster.port), *flags],
                          cwd=cluster.folder, env={**cluster.slurm.environment, **MPI_ON_ONE_HOST}, capture_output=True, text=True, timeout=150,
                          check=False)


def case_submit_prints_the_endpoint():
    with Cluster() as cluster:
        cluster.port = free_ports()
        done = submit(cluster)
        assert done.returncode == 0, done.stderr
        found = re.fullmatch(r"http://\S+:(\d+)\n", done.stdout)
        assert found and int(found.group(1)) == cluster.port, done.stdout
        job = re.search(r"job (\d+), from ", done.stderr).group(1)
        with ask(cluster.port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        cluster.slurm.call("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)


def case_submit_tells_why_a_job_did_not_start():
    with Cluster() as cluster, socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        cluster.port = taken.getsockname()[1]
        done = submit(cluster)
        assert done.returncode == 1 and done.stdout == "", done.stdout
        assert re.search(r"job \d+ ended before it was ready; \S+\.log says:", done.stderr), done.stderr
        assert f"0.0.0.0:{cluster.port}" in done.stderr, done.stderr
        refused = submit(cluster, "--option=--partition=nowhere")
        assert refused.returncode == 1 and "invalid partition" in refused.stderr, refused.stderr


def report(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def case_a_benchmark_job_ends_with_its_report():
    with Cluster() as cluster:
        out = os.path.join(cluster.folder, "report")
        job = cluster.submit("bench.sbatch", FULGER_REPORT=out, FULGER_BENCH="--arrivals closed:2 --requests 4 --mix random:input=8,output=4")
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        assert "fulger job: the report of " in cluster.text()
        assert len(report(out + ".json")["requests"]) == 4
        assert os.path.getsize(out + ".html") > 0


# Without a layout: how many ranks there are it learns from srun.
def case_the_doctor_sees_every_rank():
    with Cluster() as cluster:
        out = os.path.join(cluster.folder, "report")
        job = cluster.submit("doctor.sbatch", FULGER_LAYOUT="", FULGER_REPORT=out, FULGER_DOCTOR="--read-seconds 0.5 --measure-seconds 2")
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        text = cluster.text()
        assert "all 4 ranks joined" in text and "started by slurm" in text and "\nverdict  " in text
        assert "within nodes: 12 ways of 12" in text  # Slurm's nodes are one host here
        assert os.path.getsize(out + ".html") > 0


def case_an_array_sweeps_layouts():
    with Cluster() as cluster:
        out, sweep = (os.path.join(cluster.folder, name) for name in ("report", "layouts.txt"))
        common = "--max-context 2048 --max-sequences 4 --anchors 0"
        with open(sweep, "w", encoding="utf-8") as file:
            file.write(f"--tp 2 --pp 2 {common}\n--tp 4 {common} | --arrivals closed:1 --requests 3 --mix random:input=8,output=4\n")
        job = cluster.submit("bench.sbatch", flags=["--nodes=2", "--ntasks-per-node=2", "--array=1-2%1"], FULGER_LAYOUT="",
                             FULGER_SWEEP=sweep, FULGER_REPORT=out,
                             FULGER_BENCH="--arrivals closed:2 --requests 4 --mix random:input=8,output=4")
        done = "fulger job: the report of"  # both tasks write into one log here
        cluster.slurm.wait("both reports", lambda: cluster.text().count(done) == 2 or
                           "FAILED" in cluster.slurm.call("scontrol", "show", "job", job), 150)
        for task, (requests, layout) in enumerate([(4, {"pp": 2, "tp": 2}), (3, {"pp": 1, "tp": 4})], 1):
            found = report(f"{out}-{task}.json")
            assert len(found["requests"]) == requests, (task, len(found["requests"]))
            used = found["setup"]["server_info"]["layout"]
            assert {key: used[key] for key in layout} == layout, (task, used)


def case_a_batch_job_leaves_its_answers():
    with Cluster() as cluster:
        requests, answers = (os.path.join(cluster.folder, name) for name in ("in.jsonl", "out.jsonl"))
        asked = requests_for(MODEL, os.path.join(DEPLOY, "examples", "batch.jsonl"), requests)
        job = cluster.submit("batch.sbatch", FULGER_REQUESTS=requests, FULGER_ANSWERS=answers)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        with open(answers, encoding="utf-8") as file:
            assert sorted(json.loads(line)["custom_id"] for line in file) == sorted(asked)


# What the end of a walltime does to the server (--end-time) is done to it by hand: amid the answers.
def case_a_batch_over_two_jobs():
    def generated():
        with urllib.request.urlopen(f"http://127.0.0.1:{cluster.port}/metrics", timeout=10) as metrics:
            return float(re.search(rb"^fulger_generation_tokens_total (\S+)", metrics.read(), re.M).group(1))

    with Cluster() as cluster:
        requests, answers = (os.path.join(cluster.folder, name) for name in ("in.jsonl", "out.jsonl"))
        body = {"model": os.path.basename(MODEL), "max_tokens": 1000, "temperature": 0, "ignore_eos": True}
        with open(requests, "w", encoding="utf-8") as file:
            for i in range(6):
                file.write(json.dumps({"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions",
                                       "body": {**body, "messages": [{"role": "user", "content": f"Number {i}"}]}}) + "\n")
        variables = {"FULGER_REQUESTS": requests, "FULGER_ANSWERS": answers, "FULGER_DRAIN": "0"}
        job = cluster.submit("batch.sbatch", **variables)
        cluster.wait_text(job, "is serving: ")
        cluster.slurm.wait("tokens", lambda: generated() > 300, 60)
        server = subprocess.run(["pgrep", "-f", f"fulger serve .*127.0.0.1:{cluster.port}"], capture_output=True, text=True, check=True)
        os.kill(int(server.stdout.split()[0]), signal.SIGTERM)
        assert cluster.wait_ended(job) == "FAILED", cluster.slurm.state(job)
        assert "fulger job: the job's time ended first: the next one with FULGER_ANSWERS=" in cluster.text()
        assert not os.path.exists(answers)
        os.rename(cluster.log, cluster.log + ".first")
        job = cluster.submit("batch.sbatch", **variables)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        assert re.search(r"goes on behind \d+ saved tokens$", cluster.text(), re.M), cluster.text()
        with open(answers, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        assert [line["custom_id"] for line in lines] == [f"c{i}" for i in range(6)]
        assert all(line["response"]["body"]["usage"]["completion_tokens"] == 1000 for line in lines)
        job = cluster.submit("batch.sbatch", **variables)
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)
        assert "is there already: nothing to do" in cluster.text()


def case_a_job_without_a_model_says_so():
    with Cluster() as cluster:
        job = cluster.slurm.submit(os.path.join(DEPLOY, "slurm", "serve.sbatch"), cluster.log, FULGER_DEPLOY=DEPLOY,
                                   FULGER_MODEL="/nowhere", FULGER_LAYOUT=LAYOUT)
        assert cluster.wait_ended(job) == "FAILED"
        assert "fulger job: /nowhere/config.json is not there, seen from " in cluster.text()


# A script's own environment names a rank and a number of tasks, though no srun started it.
def case_one_rank_in_a_batch_script():
    with Cluster() as cluster:
        script = os.path.join(cluster.folder, "generate.sh")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nexec {BUILD}/bin/fulger generate --model {MODEL} --prompt Hello --max-tokens 4\n")
        job = cluster.slurm.submit(script, cluster.log, flags=["--ntasks=4"])
        assert cluster.wait_ended(job) == "COMPLETED", cluster.slurm.state(job)


def case_srun_without_a_pmi_is_named():
    with Cluster() as cluster:
        job = cluster.submit("serve.sbatch", FULGER_MPI="none")
        assert cluster.wait_ended(job) == "FAILED"
        assert re.search(r"launch: rank \d on host \S+ of 4 was started by srun without a PMI .*srun --mpi=pmix", cluster.text())
        assert "fulger job: it did not become ready; the reason is above" in cluster.text()


if __name__ == "__main__":
    if reason := missing():
        print(f"SKIPPED: no Slurm: {reason}")
        sys.exit(77)
    run_cases(globals(), sys.argv[4:])
