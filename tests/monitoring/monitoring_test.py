#!/usr/bin/env python3
"""Configuration, rules and dashboards against real Prometheus and Alertmanager, with a real server under a little load.

    monitoring_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import base64
import contextlib
import ctypes
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import workers_test  # noqa: E402
from fulger_process import Server, certificate, run_cases  # noqa: E402
from prometheus_process import (CONFIGS, Alertmanager, Prometheus, Receiver, fast, missing, read_config, replaced,  # noqa: E402
                                until)
from scratch_python import SKIPPED  # noqa: E402

BUILD, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])
FULGER = os.path.join(BUILD, "bin", "fulger")
MONITORING = os.path.join(HERE, "..", "..", "monitoring")
DASHBOARDS = os.path.join(MONITORING, "grafana")
TARGET = os.path.join(CONFIGS, "target.sh")
FIVE_RANKS = ("--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1")
STATIC = 'targets: ["localhost:8000"]'


def run(*command, env=None, status=0):
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == status, (command, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout + done.stderr


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def dashboards():
    names = sorted(name for name in os.listdir(DASHBOARDS) if name.endswith(".json"))
    assert names == ["cluster.json", "experts.json", "ranks.json", "serving.json", "vision.json"], names
    return [json.loads(read(DASHBOARDS, name)) for name in names]


def case_rules():
    run("promtool", "test", "rules", os.path.join(HERE, "rules_test.yml"))
    assert "FAILED" not in run("promtool", "check", "config", os.path.join(CONFIGS, "prometheus.yml"))
    run("promtool", "check", "rules", *(os.path.join(CONFIGS, "rules", name) for name in
                                        ("alerts.yml", "goals.yml", "recording.yml")))
    run("amtool", "check-config", os.path.join(CONFIGS, "alertmanager.yml"))
    # Every alert is tested where it fires and where it does not, and has its section in the runbook; nothing else is there.
    alerts = re.findall(r"- alert: (\w+)", read(CONFIGS, "rules", "alerts.yml"))
    assert len(alerts) == len(set(alerts)) > 15, alerts
    tests = read(HERE, "rules_test.yml")
    fires = set(re.findall(r"- alertname: (\w+)\n\s+eval_time: \S+\n\s+exp_alerts:", tests))
    silent = set(re.findall(r"\{alertname: (\w+), eval_time: \S+\}", tests))
    silent |= {"FulgerCertificateExpiring", "FulgerCertificateEnds"}  # for one of the servers beside the one where it fires
    assert fires == silent == set(alerts), fires ^ silent | fires ^ set(alerts)
    assert re.findall(r"^## (\w+)$", read(MONITORING, "runbook.md"), re.M) == alerts
    named = re.findall(r'runbook: "monitoring/runbook.md#(\w+)"', read(CONFIGS, "rules", "alerts.yml"))
    assert named == [alert.lower() for alert in alerts], named


def case_dashboard_files():
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, os.path.join(DASHBOARDS, "make_dashboards.py"), folder)
        for name in os.listdir(folder):
            assert read(folder, name) == read(DASHBOARDS, name), f"{name}: run monitoring/grafana/make_dashboards.py"
    uids = set()
    for board in dashboards():
        assert board["uid"] not in uids, board["uid"]
        uids.add(board["uid"])
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)), board["uid"]
        taken = set()
        for panel in board["panels"]:
            where = panel["gridPos"]
            assert where["x"] + where["w"] <= 24, panel["title"]
            cells = {(x, y) for x in range(where["x"], where["x"] + where["w"]) for y in range(where["y"], where["y"] + where["h"])}
            assert not cells & taken, f"{board['uid']}: {panel['title']} lies over another panel"
            taken |= cells
            assert panel["title"] and (panel["type"] == "row" or panel["description"] and panel["targets"]), panel


def jobs_config(folder, alerts_to="localhost:9093"):
    """The shipped configuration, quick, for the targets that jobs write into `folder`/targets."""
    return replaced(fast(read_config("prometheus.yml")), (STATIC, "targets: []"), ("localhost:9093", alerts_to),
                    ("    # tls_config:\n    #   ca_file: ca.pem", f"    tls_config:\n      ca_file: {folder}/cert.pem"))


def case_jobs_are_found():
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "say \"hello\"", "SLURM_CLUSTER_NAME": "big"}
    pbs = {"PBS_JOBID": "12.head", "PBS_JOBNAME": "fulger"}
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder)
        targets = os.path.join(folder, "targets")
        run(TARGET, "add", targets, "n1:8000", env=slurm)
        run(TARGET, "add", targets, "[fe80::1]:8000", "scheme=https", "team=vision", env=pbs)
        assert "not HOST:PORT" in run(TARGET, "add", targets, "n1", env=slurm, status=1)
        assert "not LABEL=VALUE" in run(TARGET, "add", targets, "n1:8000", "team", env=slurm, status=1)
        run(TARGET, "remember", targets, status=2)
        with Prometheus(folder, jobs_config(folder)) as prometheus:
            found = until("both jobs are targets", lambda: len(prometheus.targets()) == 2 and prometheus.targets(), 20)
            assert found["http://n1:8000/metrics"] == {"instance": "n1:8000", "job": "fulger-jobs", "scheduler": "slurm",
                                                       "job_id": "4711", "job_name": 'say "hello"', "cluster": "big"}, found
            labels = found["https://[fe80::1]:8000/metrics"]
            assert labels["scheduler"] == "pbs" and labels["job_id"] == "12.head" and labels["team"] == "vision", labels
            # A scheduler that cannot be asked, one that has both jobs, one that has neither.
            for name, body in (("squeue", "exit 1"), ("qstat", "exit 1")):
                write_program(folder, name, body)
            programs = {"PATH": folder + ":" + os.environ["PATH"]}
            assert run(TARGET, "prune", targets, env=programs) == ""
            write_program(folder, "squeue", "echo 4710; echo 4711")
            write_program(folder, "qstat", "echo 'Job id  Name'; echo '------  ----'; echo '12.he  fulger'")
            assert run(TARGET, "prune", targets, env=programs) == ""
            write_program(folder, "squeue", "echo 471; echo 47110")
            assert run(TARGET, "prune", targets, env=programs) == "removed fulger-slurm-4711.json\n"
            run(TARGET, "remove", targets, env=pbs)
            until("no job is a target", lambda: not prometheus.targets(), 20)
            assert os.listdir(targets) == []


def write_program(folder, name, body):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{body}\n")
    os.chmod(path, 0o755)


def case_pods_are_found():
    """The relabelling for Kubernetes, with its labels from a file: Debian's Prometheus has no client for Kubernetes."""
    def pod(address, name, port, phase="Running"):
        meta = {"namespace": "models", "pod_name": name, "pod_node_name": "n1", "pod_phase": phase,
                "pod_container_port_name": port}
        return {"targets": [address], "labels": {f"__meta_kubernetes_{key}": value for key, value in meta.items()}}
    with tempfile.TemporaryDirectory() as folder:
        text = fast(read_config("prometheus-kubernetes.yml"))
        discovery = re.search(r"    kubernetes_sd_configs:\n      - role: pod\n        selectors:\n.*\n.*\n", text)
        text = text.replace(discovery.group(), "    file_sd_configs: [{files: [pods.json], refresh_interval: 1s}]\n")
        text = re.sub(r"(?ms)^alerting:.*?^(?=scrape_configs:)", "", text)
        with open(os.path.join(folder, "pods.json"), "w", encoding="utf-8") as file:
            json.dump([pod("10.0.0.1:8000", "fulger-0", "http"), pod("10.0.0.1:9000", "fulger-0", "control"),
                       pod("10.0.0.2:8443", "fulger-1", "https"), pod("10.0.0.3:8000", "fulger-2", "http", "Failed")], file)
        with Prometheus(folder, text) as prometheus:
            found = until("the pods are targets", prometheus.targets, 20)
            common = {"job": "fulger-kubernetes", "namespace": "models", "node": "n1"}
            assert found == {
                "http://10.0.0.1:8000/metrics": {**common, "instance": "10.0.0.1:8000", "pod": "fulger-0"},
                "https://10.0.0.2:8443/metrics": {**common, "instance": "10.0.0.2:8443", "pod": "fulger-1"}}, found


def picture(number):
    """A PNG that no other number gives, as a data URL."""
    rows = b"".join(b"\0" + bytes((number * 7 + x * 3 + y * 5 + c * number) % 256 for x in range(40) for c in range(3))
                    for y in range(30))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0))
           + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(png).decode()


class Load:
    """A little of everything that metrics count, again and again until the end."""

    def __init__(self, server):
        self.server, self.rounds, self.failure, self.ending = server, 0, None, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join(120)

    def _run(self):
        try:
            while not self.ending.is_set():
                self._round()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001: the test's thread tells it
            self.failure = error

    def _round(self):
        server = self.server
        for url in (picture(self.rounds), picture(0)):
            server.chat({"model": "demo", "max_tokens": 6, "ignore_eos": True, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]}]})
        server.chat({"model": "demo", "max_tokens": 8, "messages": [
            {"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello to you. " * 20},
            {"role": "user", "content": f"Go on, {self.rounds}."}]})
        # One runs, two wait, the fourth is refused.
        long = {"model": "demo", "prompt": "x", "max_tokens": 60, "ignore_eos": True}
        streams = [server.open("/v1/completions", {**long, "max_tokens": 6000, "stream": True})]
        streams[0].readline()
        streams += [server.open("/v1/completions", long, wait=False) for _ in range(2)]
        until("two wait", lambda: server.metric("fulger_requests_waiting") == 2, 20)
        assert server.post("/v1/completions", long)[0] == 429
        for stream in streams:
            stream.close()
        until("nobody waits", lambda: server.metric("fulger_requests_waiting") == 0, 20)
        assert server.post("/v1/completions", {"model": "demo", "prompt": 3.5})[0] == 400


def concrete(query):
    """A panel's query, as Grafana sends it with everything chosen."""
    for name, value in (("$__rate_interval", "20s"), ("$job", ".*"), ("$instance", ".*")):
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def empty_panels(prometheus):
    """Queries without an answer that a panel could draw."""
    empty = []
    for board in dashboards():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                answer = prometheus.query(concrete(target["expr"]))
                if not answer:
                    empty.append((board["uid"], panel["title"], target["expr"]))
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    assert all(label in labels for labels, _ in answer), (board["uid"], panel["title"], label, answer)
    return empty


def check_rules(prometheus):
    groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["health"] == "ok", rule
    # What rules ask for is what the server has.
    known = set(prometheus.get("/api/v1/label/__name__/values")["data"])
    for name in ("alerts.yml", "recording.yml"):
        text = re.sub(r"#.*", "", read(CONFIGS, "rules", name))
        asked = set(re.findall(r"(?<![:\w])(?:\w+:)?fulger_\w+(?::\w+)?", re.sub(r"- record: \S+", "", text)))
        assert len(asked) > 10 and asked <= known, asked - known


def case_dashboards():
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder, days=7)
        with Server(FULGER, MODEL, *FIVE_RANKS, "--tls-certificate", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem",
                    "--api-key", "secret", "--max-sequences", "1", "--max-queued-requests", "2") as server:
            server.trust(f"{folder}/cert.pem")
            server.key = "secret"
            server.wait_ready()
            run(TARGET, "add", os.path.join(folder, "targets"), f"127.0.0.1:{server.port}", "scheme=https",
                env={"SLURM_JOB_ID": "4711"})
            with Prometheus(folder, jobs_config(folder)) as prometheus:
                check_under_load(prometheus, server)
                # A rank that dies is counted. (It is missing for less than a second: mostly no scrape sees that.)
                os.kill(server.ranks()[2], signal.SIGKILL)
                until("a restart is counted", lambda: prometheus.query("fulger_replica_restarts_total == 1"))
                until("all are back", lambda: prometheus.query("sum(fulger_rank_up) == 5 and on () fulger_replica_ready == 1"))
                assert prometheus.query("fulger_replica_start_failures_total == 0")
            assert server.stop() == 0


def check_under_load(prometheus, server):
    with Load(server) as load:
        def full():
            if load.failure is not None:
                raise RuntimeError("the load ended") from load.failure
            empty = empty_panels(prometheus)
            assert not empty, empty
            return True
        until("every panel shows something", full, 150)
        # And what is shown is true.
        def value(query):
            return prometheus.query(query)[0][1]
        assert value('sum(fulger_rank_up{job_id="4711"})') == 5
        assert value("min(fulger_rank_load_ratio)") == 1 and value("min(fulger_rank_load_bytes)") > 0
        assert value("instance:fulger_requests_refused:ratio5m") > 0.05
        assert value("instance:fulger_prefix_cache_hit_tokens:ratio5m") > 0.1
        assert 0 < value("sum(fulger_pictures_encoded_total) / sum(fulger_pictures_total)") < 0.9
        assert value("count(fulger_expert_rows_total)") == 8
        assert 1 <= value("max(replica:fulger_expert_rows:imbalance30m)") <= 8
        days = value("fulger_tls_certificate_expiry_timestamp_seconds - time()") / 86400
        assert 6.9 < days < 7, days
        firing = {labels["alertname"] for labels, _ in prometheus.query('ALERTS{alertstate="firing"}')}
        assert firing == {"FulgerCertificateExpiring"}, firing
        check_rules(prometheus)


def compute_thread(pid):
    """The thread that has computed most."""
    def ticks(thread):
        fields = read(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return int(max(os.listdir(f"/proc/{pid}/task"), key=ticks))


@contextlib.contextmanager
def frozen(thread):
    """Holds one thread of a process still; the others run. (SIGSTOP would stop all, and the rank would be gone at once.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def ptrace(request):
        if libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of thread {thread}: {os.strerror(ctypes.get_errno())}")
    ptrace(0x4206)  # PTRACE_SEIZE
    ptrace(0x4207)  # PTRACE_INTERRUPT
    wait_all = 0x40000000  # __WALL: threads as well
    assert os.WIFSTOPPED(os.waitpid(thread, wait_all)[1])
    try:
        yield
    finally:
        ptrace(17)  # PTRACE_DETACH


@contextlib.contextmanager
def watched(server):
    """Prometheus, Alertmanager and the receiver of alerts, for a server that a PBS job runs."""
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        run(TARGET, "add", os.path.join(folder, "targets"), f"127.0.0.1:{server.port}", env={"PBS_JOBID": "12.head"})
        with Alertmanager(folder, receiver.url) as alertmanager:
            config = replaced(jobs_config(folder, f"127.0.0.1:{alertmanager.port}"),
                              (f"    tls_config:\n      ca_file: {folder}/cert.pem", ""))
            with Prometheus(folder, config) as prometheus:
                until("the server is seen", lambda: prometheus.query("fulger_rank_up"))
                # A server that waits for its workers has alerts that wait as well.
                assert not (firing := prometheus.query('ALERTS{alertstate="firing"}')), firing
                yield prometheus, alertmanager, receiver


def case_a_rank_that_hangs_is_told():
    """The alert of the shipped rules names rank, job and host, and is taken back when the rank goes on."""
    ask = {"model": "demo", "prompt": "x", "max_tokens": 400, "ignore_eos": True}
    with Server(FULGER, MODEL, *FIVE_RANKS) as server:
        server.wait_ready()
        with watched(server) as (_, alertmanager, receiver):
            server.ok("/v1/completions", ask)
            victim = server.info()["ranks"][1]
            with frozen(compute_thread(victim["pid"])):
                under_way = server.open("/v1/completions", ask, wait=False)
                alert = receiver.wait(50, "firing", alertname="FulgerRankStuck", rank="1")
            expected = {"job": "fulger-jobs", "instance": f"127.0.0.1:{server.port}", "scheduler": "pbs", "job_id": "12.head",
                        "replica": "0", "severity": "critical"}
            assert expected.items() <= alert["labels"].items(), alert
            words = alert["annotations"]
            assert words["runbook"] == "monitoring/runbook.md#fulgerrankstuck", alert
            assert re.match(rf"rank 1 of replica 0 at \S+ has stood still for 2\d\.?\d*s while others wait; "
                            rf"it runs on {re.escape(victim['host'])}$", words["summary"]), alert
            shown = {a["labels"]["alertname"] for a in alertmanager.get("/api/v2/alerts")}
            assert shown == {"FulgerRankStuck"}, shown
            receiver.wait(30, "resolved", alertname="FulgerRankStuck", rank="1")
            answer = under_way.getresponse()
            assert answer.status == 200 and json.loads(answer.read())["usage"]["completion_tokens"] == 400
            under_way.close()
            assert server.info()["replicas"][0]["restarts"] == 0
        assert server.stop() == 0


def case_a_load_that_fails_is_told():
    with tempfile.TemporaryDirectory() as folder, workers_test.waiting_server() as server:
        server.wait_line("listening on")
        other = workers_test.copy_of(folder)
        with open(os.path.join(other, "config.json"), "a", encoding="utf-8") as config:
            config.write("\n")
        with watched(server) as (prometheus, _, receiver):
            # The worker sees other files than the coordinator does.
            workers_test.refused(workers_test.worker(server, "--model", other), "has fingerprint")
            alert = receiver.wait(30, "firing", alertname="FulgerLoadFailing", replica="0", job_id="12.head")
            assert alert["annotations"]["runbook"] == "monitoring/runbook.md#fulgerloadfailing", alert
            assert prometheus.query("fulger_replica_start_failures_total == 1")
            assert "has fingerprint" in server.info()["replicas"][0]["last_failure"]
        assert server.stop() == 0


if __name__ == "__main__":
    if missing():
        print("SKIPPED: this machine lacks", *missing(), "(apt-get install prometheus prometheus-alertmanager; `make check` does)")
        sys.exit(SKIPPED)
    run_cases(globals(), sys.argv[3:])
