#!/usr/bin/env python3
"""The bodies of deploy/pbs under a stub of the scheduler: PBS's variables, a node file, and a qstat that says when the job ends.

    pbs_test.py BUILD_DIR CHECKPOINT SOURCE_DIR CASE...
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from fulger_process import run_cases  # noqa: E402
from job_requests import ask, free_ports, log_text, requests_for  # noqa: E402

BUILD, MODEL, SOURCE = (os.path.abspath(p) for p in sys.argv[1:4])
DEPLOY = os.path.join(SOURCE, "deploy")
LAYOUT = "--tp 2 --pp 2 --ep 2 --max-context 2048 --max-sequences 4 --anchors 0"
QSTAT = """#!/bin/sh
[ "$1" = -f ] && [ "$2" = "$PBS_JOBID" ] || exit 1
printf 'Job Id: %s\\n    Job_Name = fulger\\n    resources_used.walltime = 00:10:00\\n    Resource_List.walltime = 04:00:00\\n' "$2"
"""


class Job:
    """One script as PBS would run it: from another folder, with a copy of the script, in a process group of its own."""

    def __init__(self, script, ranks=4, **variables):
        self.folder = tempfile.mkdtemp(prefix="fulger-pbs-")
        self.port = free_ports()
        self.log = os.path.join(self.folder, "fulger-4711.log")
        programs, nodes = os.path.join(self.folder, "bin"), os.path.join(self.folder, "nodes")
        os.mkdir(programs)
        with open(os.path.join(programs, "qstat"), "w", encoding="utf-8") as file:
            file.write(QSTAT)
        os.chmod(file.name, 0o755)
        with open(nodes, "w", encoding="utf-8") as file:
            file.write("localhost\n" * ranks)
        copy = shutil.copy(os.path.join(DEPLOY, "pbs", script), os.path.join(self.folder, "4711.SC"))
        environment = {**os.environ, "PATH": programs + ":" + os.environ["PATH"], "PBS_JOBID": "4711.stub", "PBS_JOBNAME": "fulger",
                       "PBS_NODEFILE": nodes, "PBS_O_WORKDIR": self.folder, "OMP_NUM_THREADS": "1", "FULGER_DEPLOY": DEPLOY,
                       "FULGER_MODEL": MODEL, "FULGER_LAYOUT": LAYOUT, "FULGER_BIN": os.path.join(BUILD, "bin"),
                       "FULGER_PORT": str(self.port), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                       "OMPI_MCA_rmaps_base_oversubscribe": "1",
                       **{name: value.replace("FOLDER", self.folder) for name, value in variables.items()}}
        self.process = subprocess.Popen(["bash", copy], cwd="/", env=environment, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if kind is not None:
            print(self.text()[-6000:])
        shutil.rmtree(self.folder, ignore_errors=True)

    def text(self):
        return log_text(self.log)

    def path(self, name):
        return os.path.join(self.folder, name)

    def wait_text(self, text, seconds=90):
        end = time.monotonic() + seconds
        while text not in self.text():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}, without: {text}"
            assert time.monotonic() < end, f"not in {seconds} s: {text}"
            time.sleep(0.1)


def case_serves_and_drains():
    with Job("serve.pbs", FULGER_TARGETS="FOLDER/targets") as job:
        job.wait_text("fulger job: ready at http://")
        assert f":{job.port} (job 4711.stub, 4 ranks on localhost)" in job.text()
        # Of four hours, ten minutes were over when it asked.
        left = int(re.search(r"the job ends in (\d+) s", job.text()).group(1))
        assert 13800 - 60 < left <= 13800, left
        assert os.listdir(job.path("targets")) == ["fulger-pbs-4711.stub.json"]
        with ask(job.port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        job.process.send_signal(signal.SIGTERM)
        assert job.process.wait(60) == 0
        assert "fulger job: drained" in job.text()
        assert os.listdir(job.path("targets")) == []


def case_a_batch_leaves_its_answers():
    with tempfile.TemporaryDirectory() as folder:
        requests = os.path.join(folder, "in.jsonl")
        asked = requests_for(MODEL, os.path.join(DEPLOY, "examples", "batch.jsonl"), requests)
        with Job("batch.pbs", FULGER_REQUESTS=requests, FULGER_ANSWERS="out.jsonl") as job:
            assert job.process.wait(120) == 0
            with open(job.path("out.jsonl"), encoding="utf-8") as file:  # a path is one of where it was submitted
                assert sorted(json.loads(line)["custom_id"] for line in file) == sorted(asked)


def case_an_array_sweeps_layouts():
    with tempfile.TemporaryDirectory() as folder:
        sweep = os.path.join(folder, "layouts.txt")
        with open(sweep, "w", encoding="utf-8") as file:
            file.write(f"--tp 8\n--tp 2 --pp 2 --max-context 2048 --anchors 0 | --arrivals closed:1 --requests 3 --mix random:input=8,output=4\n")
        with Job("bench.pbs", FULGER_SWEEP=sweep, FULGER_REPORT="report", PBS_ARRAY_INDEX="2") as job:
            assert job.process.wait(120) == 0
            with open(job.path("report-2.json"), encoding="utf-8") as file:
                assert len(json.load(file)["requests"]) == 3


QSUB = """#!/bin/sh
[ "$1" = -V ] || exit 2
# Starts the script where it was submitted, as PBS does some time later, and prints the job's number.
PBS_JOBID=4711.stub PBS_NODEFILE=FOLDER/nodes PBS_O_WORKDIR=$PWD setsid bash "$2" >/dev/null 2>&1 &
echo $! >FOLDER/pid
echo 4711.stub
"""


# qstat says R while the script runs, and then that it does not know the job.
def case_submit_prints_the_endpoint():
    with tempfile.TemporaryDirectory(prefix="fulger-pbs-") as folder:
        programs, port = os.path.join(folder, "bin"), free_ports()
        os.mkdir(programs)
        running = 'kill -0 "$(cat FOLDER/pid)" 2>/dev/null || exit 35\nPBS_JOBID=$2\n'
        for name, text in (("qsub", QSUB), ("qstat", QSTAT.replace("\n", "\n" + running, 1) + "echo '    job_state = R'\n")):
            with open(os.path.join(programs, name), "w", encoding="utf-8") as file:
                file.write(text.replace("FOLDER", folder))
            os.chmod(file.name, 0o755)
        with open(os.path.join(folder, "nodes"), "w", encoding="utf-8") as file:
            file.write("localhost\n" * 4)
        environment = {**os.environ, "PATH": programs + ":" + os.environ["PATH"], "OMPI_MCA_rmaps_base_oversubscribe": "1",
                       "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        command = [os.path.join(BUILD, "bin", "fulger"), "submit", "--pbs", "--model", MODEL, "--cpu-ranks", "4", "--tp", "2", "--pp", "2",
                   "--vision-ranks", "0", "--max-sequences", "4", "--anchors", "0", "--context", "2048", "--reserve-gib", "0.01",
                   "--deploy", DEPLOY, "--port", str(port)]
        try:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(rf"http://\S+:{port}\n", done.stdout), done.stdout
            assert "job 4711.stub: R" in done.stderr, done.stderr
            with ask(port, MODEL, 8) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 8
        finally:
            with open(os.path.join(folder, "pid"), encoding="utf-8") as file:
                pid = int(file.read())
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 60
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
                time.sleep(0.05)
            with open(os.path.join(folder, "fulger-4711.log"), encoding="utf-8") as file:
                log = file.read()
        assert "fulger job: drained" in log, log[-3000:]


def case_the_doctor_sees_every_rank():
    with Job("doctor.pbs", FULGER_LAYOUT="--tp 2 --pp 2", FULGER_DOCTOR="--read-seconds 0.5 --measure-seconds 2", FULGER_REPORT="report") as job:
        assert job.process.wait(60) == 0
        assert "all 4 ranks joined" in job.text() and "\nverdict  " in job.text()
        assert "started by mpirun" in job.text() and "12 ways of 12" in job.text()
        with open(job.path("report.html"), encoding="utf-8") as file:
            assert file.read().count("<svg ") == 2


def case_outside_a_job_it_says_so():
    with Job("serve.pbs", PBS_JOBID="") as job:
        assert job.process.wait(10) == 2


if __name__ == "__main__":
    run_cases(globals(), sys.argv[4:])
