"""A real Slurm on this machine, for one test: munged, slurmctld and a slurmd for each of the nodes n1, n2, ... Needs root and the
packages slurm-wlm and munge (`make check` installs them). Everything lies in one temporary folder and ends with the test."""
import os
import re
import shutil
import socket
import subprocess
import time

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "setpriv")

# Several nodes on one host: Open MPI must not meet itself in shared memory.
MPI_ON_ONE_HOST = {"OMPI_MCA_btl": "tcp,self", "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo",
                   "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def missing():
    """Why no Slurm can be started here, or None."""
    absent = [program for program in NEEDED if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed (deploy/ci/install-deps.sh slurm-wlm munge)"
    return None if os.geteuid() == 0 else "not root"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Slurm:
    def __init__(self, folder, nodes=2, tasks_per_node=4):
        self.folder, self.processes = folder, []
        self.names = [f"n{i}" for i in range(1, nodes + 1)]
        host = socket.gethostname()
        for name in ("ctld", *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in self.names)):
            os.makedirs(os.path.join(folder, name))
        ports = [free_port() for _ in range(nodes + 1)]
        lines = "".join(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={tasks_per_node} "
                        "RealMemory=1000 State=UNKNOWN\n" for name, port in zip(self.names, ports[1:]))
        self.conf = os.path.join(folder, "slurm.conf")
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"""ClusterName=fulger
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
MpiDefault=pmix
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{lines}PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
        with open(os.path.join(folder, "cgroup.conf"), "w", encoding="utf-8") as file:
            file.write("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        self.environment = {**os.environ, "SLURM_CONF": self.conf}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        munge = os.path.join(self.folder, "munge")
        os.makedirs(munge)
        os.chmod(self.folder, 0o755)
        key = os.path.join(munge, "key")
        with open(key, "wb") as file:
            file.write(os.urandom(1024))
        os.chmod(key, 0o400)
        for path in (munge, key):
            shutil.chown(path, "munge", "munge")
        self._run("setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups", "munged", "--foreground", "--key-file", key,
                  "--socket", f"{munge}/socket", "--pid-file", f"{munge}/pid", "--log-file", f"{munge}/log",
                  "--seed-file", f"{munge}/seed")
        self.wait("munged", lambda: os.path.exists(f"{munge}/socket"))
        self._run("slurmctld", "-D", "-f", self.conf)
        for node in self.names:
            self._run("slurmd", "-D", "-N", node, "-f", self.conf)
        self.wait("idle nodes", lambda: self.call("sinfo", "-h", "-N", "-o", "%t", check=False).split() == ["idle"] * len(self.names))

    def _run(self, *command):
        log = open(os.path.join(self.folder, f"{command[0]}-{len(self.processes)}.out"), "w", encoding="utf-8")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.environment))

    def __exit__(self, *_):
        self.call("scancel", "--user=root", check=False)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def call(self, *command, check=True):
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=30, check=False)
        except subprocess.TimeoutExpired:  # a daemon that has just started on a busy machine
            if check:
                raise
            return ""
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout

    def logs(self):
        """The ends of what the daemons said."""
        texts = []
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".out", ".log")):
                with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as file:
                    texts.append(f"{name}: {file.read()[-800:]}")
        return "\n".join(texts)

    def submit(self, script, log, **variables):
        """The job's number. Variables are exported to it; `flags` go to sbatch."""
        flags = variables.pop("flags", [])
        environment = {**self.environment, **{k: str(v) for k, v in variables.items()},
                       **MPI_ON_ONE_HOST}
        done = subprocess.run(["sbatch", "--parsable", "--export=ALL", f"--output={log}", *flags, script], capture_output=True,
                              text=True, env=environment, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job):
        found = re.search(r"JobState=(\w+)", self.call("scontrol", "show", "job", job))
        return found.group(1) if found else "?"

    def wait(self, what, true, seconds=60):
        end = time.monotonic() + seconds
        while not true():
            dead = [process.args for process in self.processes if process.poll() is not None]
            assert not dead, f"{what}: ended: {dead}; {self.logs()}"
            assert time.monotonic() < end, f"not in {seconds} s: {what}; {self.logs()}"
            time.sleep(0.1)
