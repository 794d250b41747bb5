"""Programs that do one repetition for each line of their input: ours and the peers', so that they take turns."""
import json
import subprocess
import sys


class Gone(Exception):
    """The program ended; its last words say why."""


class Worker:
    """A program that prints a line of JSON when it is ready and one for each line that it is sent."""

    def __init__(self, command, env=None):
        self._process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=env)
        self.about = self._read()

    def _read(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise Gone(f"{self._process.args[0]} ended with code {self._process.wait()}")

    def once(self, what=""):
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def serve(about, handle):
    """The other side, for peers written in Python: `handle(words)` gives a dict."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(handle(line.split())), flush=True)
