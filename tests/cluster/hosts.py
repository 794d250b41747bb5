"""Several hosts on this machine, for one test: network namespaces with names, addresses and /dev/shm of their own, joined
by a bridge in another namespace. Nothing of it is seen on the machine's own network. Needs root and iproute2; ends with the test."""
import os
import shlex
import shutil
import subprocess
import time

NEEDED = ("ip", "tc", "nsenter", "unshare", "mpirun")
INIT = """set -e
hostname {name}; mount --bind {folder}/hosts /etc/hosts; mount -t tmpfs tmpfs /dev/shm
ip link set lo up; touch {folder}/{name}.up; exec sleep infinity
"""


def missing():
    """Why no hosts can be made here, or None."""
    absent = [program for program in NEEDED if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed (deploy/ci/install-deps.sh iproute2)"
    if os.geteuid() != 0:
        return "not root"
    try_it = subprocess.run(["unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True,
                            check=False)
    return try_it.stderr.strip() or None


class Hosts:
    """h1, h2, ... at 10.77.0.1, 10.77.0.2, ..."""

    def __init__(self, folder, count):
        self.folder, self.names = folder, [f"h{i}" for i in range(1, count + 1)]
        self.processes, self.pids = [], {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        with open(os.path.join(self.folder, "hosts"), "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n")
            file.writelines(f"{self.address(name)} {name}\n" for name in self.names)
        switch = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.processes.append(switch)
        self.switch = str(switch.pid)
        self._wait(lambda: os.readlink(f"/proc/{switch.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        self._on_switch("link", "add", "bridge", "type", "bridge")
        self._on_switch("link", "set", "bridge", "up")
        for name in self.names:
            self._add(name)

    def _add(self, name):
        shell = subprocess.Popen(["unshare", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc",
                                  "bash", "-c", INIT.format(name=name, folder=self.folder)])
        self.processes.append(shell)
        self._wait(lambda: os.path.exists(os.path.join(self.folder, name + ".up")) or shell.poll() is not None)
        with open(f"/proc/{shell.pid}/task/{shell.pid}/children", encoding="utf-8") as file:
            pid = self.pids[name] = file.read().split()[0]
        with open(os.path.join(self.folder, name + ".pid"), "w", encoding="utf-8") as file:
            file.write(pid)
        self._on_switch("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self._on_switch("link", "set", name, "master", "bridge", "up")
        self.run(name, "ip", "address", "add", self.address(name) + "/24", "dev", "eth0")
        self.run(name, "ip", "link", "set", "eth0", "up")

    def _on_switch(self, *arguments):
        subprocess.run(["nsenter", "-t", self.switch, "--net", "ip", *arguments], check=True)

    @staticmethod
    def _wait(true):
        end = time.monotonic() + 10
        while not true():
            assert time.monotonic() < end, "a namespace did not come up"
            time.sleep(0.01)

    def address(self, name):
        return f"10.77.0.{self.names.index(name) + 1}"

    def inside(self, name, *command):
        """The command line that runs this on a host, as a process of this machine: it gets the signals, and the caller ends it."""
        return ["nsenter", "-t", self.pids[name], "--net", "--uts", "--ipc", "--mount", f"--wdns={os.getcwd()}", "--", *command]

    def run(self, name, *command):
        return subprocess.run(self.inside(name, *command), check=True, capture_output=True, text=True, timeout=60)

    def launching(self, name, *command):
        """A command as on host `name`, whose mpirun comes to the others by "ssh". It sees this machine's processes. Ends by itself
        after two minutes, since mpirun does not notice a host that is cut off."""
        agent = os.path.join(self.folder, "rsh")
        if not os.path.exists(agent):
            with open(agent, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n"
                           "while [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1\nshift\n"
                           f"exec nsenter -t \"$(cat {shlex.quote(self.folder)}/$host.pid)\" --net --uts --ipc --pid --mount"
                           " -- /bin/sh -c \"$*\"\n")
            os.chmod(agent, 0o755)
        return ["timeout", "-k", "3", "120", "nsenter", "-t", self.pids[name], "--net", "--uts", "--", "env", "OMPI_ALLOW_RUN_AS_ROOT=1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", f"OMPI_MCA_plm_rsh_agent={agent}", *command]

    def mpirun(self, name, slots, *commands):
        """mpirun as on host `name`; slots: {"h2": 2, ...}; commands: "-np", N, PROGRAM ..."""
        settings = {"oob_tcp_if_include": "eth0", "btl_tcp_if_include": "eth0", "btl": "tcp,self,vader", "mpi_yield_when_idle": "1"}
        return self.launching(name, "mpirun", "--host", ",".join(f"{host}:{n}" for host, n in slots.items()),
                              *(word for key, value in settings.items() for word in ("--mca", key, value)), *commands)

    def cut(self, name):
        """The cable of a host."""
        self._on_switch("link", "set", name, "down")

    def heal(self, name):
        self._on_switch("link", "set", name, "up")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()  # and with its first process a host's others
            process.wait()
