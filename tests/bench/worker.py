"""Programs that do one repetition for each line of their input: ours and the peers', so that they take turns."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading


class Gone(Exception):
    """The program ended; its last words say why."""


class Worker:
    """A program that prints a line of JSON when it is ready and one for each line that it is sent."""

    def __init__(self, command, env=None, limit=None):
        """limit: seconds after which the program and its children are killed; whoever waits for it sees it Gone."""
        self._process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=env, start_new_session=limit is not None)
        # A session of its own, so that what it started (torch's compilers) goes with it.
        self._killer = threading.Timer(limit, os.killpg, (self._process.pid, signal.SIGKILL)) if limit else None
        if self._killer:
            self._killer.daemon = True
            self._killer.start()
        self.about = self._read()

    def _read(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        if self._killer:
            self._killer.cancel()
        raise Gone(f"{self._process.args[0]} ended with code {self._process.wait()}")

    def once(self, what=""):
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    @contextlib.contextmanager
    def paused(self):
        """Its threads stand still: idle ones of OpenMP would spin on the cores that another measures."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        if self._killer:
            self._killer.cancel()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def serve(about, handle):
    """The other side, for peers written in Python: `handle(words)` gives a dict."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(handle(line.split())), flush=True)
