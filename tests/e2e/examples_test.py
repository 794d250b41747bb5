#!/usr/bin/env python3
"""The examples of deploy/examples, as they are, against real servers.

    examples_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import os
import re
import subprocess
import sys
import tempfile

from fulger_process import Server, run_cases
from scratch_python import environment

BUILD, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])
EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "examples")
FULGER = os.path.join(BUILD, "bin", "fulger")


def run(*command):
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, timeout=120, check=False)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == 0, (command, done.returncode, out[-2000:], err[-2000:])
    return out


class Asked:
    """A server, and what it answers to the examples' question (temperature 0, 32 tokens)."""

    def __init__(self, *flags):
        self.folder = tempfile.TemporaryDirectory()
        self.picture = os.path.join(self.folder.name, "picture.jpg")
        run(os.path.join(BUILD, "bin", "draw_picture"), self.picture)
        self.server = Server(FULGER, MODEL, *flags)

    def __enter__(self):
        self.server.__enter__()
        self.server.wait_ready()
        self.url = f"http://127.0.0.1:{self.server.port}"
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)
        self.folder.cleanup()

    def grpc(self):
        return self.server.wait_line(r"gRPC on 127\.0\.0\.1:\d+").rsplit(" ", 1)[1]


def case_curl():
    with Asked() as asked:
        out = run("./curl.sh", asked.url, asked.picture)
        whole, streamed = out.split("\n", 1)
        answer = json.loads(whole)
        events = [line[6:] for line in streamed.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]", events[-1]
        text = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in json.loads(e)["choices"])
        assert text == answer["choices"][0]["message"]["content"], (text, answer)
        assert answer["usage"]["prompt_tokens_details"]["image_tokens"] == 220, answer["usage"]


def case_batch():
    with tempfile.TemporaryDirectory() as folder, Asked("--jobs-db", os.path.join(folder, "jobs.db")) as asked:
        out = run("./batch.sh", asked.url, "batch.jsonl")
        lines = {line["custom_id"]: line for line in map(json.loads, out.splitlines())}
        assert sorted(lines) == [f"question-{i}" for i in (1, 2, 3, 4)], out
        with open(os.path.join(EXAMPLES, "batch.jsonl"), encoding="utf-8") as file:
            for request in map(json.loads, file):
                want = asked.server.chat(request["body"])["choices"][0]["message"]["content"]
                found = lines[request["custom_id"]]["response"]["body"]["choices"][0]["message"]["content"]
                assert found == want, (request, found, want)


def check_grpc(out):
    lines = out.rstrip().split("\n")
    assert lines[0].startswith("demo: ") and lines[-1].startswith("[") and lines[-1].endswith(" tokens]"), out
    prompt, answer = re.search(r"(\d+) \+ (\d+) tokens", lines[-1]).groups()
    assert int(prompt) > 220 and 0 < int(answer) <= 32, out


def case_grpc_cpp():
    with Asked("--grpc", "127.0.0.1:0") as asked:
        check_grpc(run(os.path.join(BUILD, "bin", "grpc_chat"), asked.grpc(), asked.picture))


def case_grpc_python():
    python = os.path.join(environment(BUILD, "grpcio-tools"), "python")
    with Asked("--grpc", "127.0.0.1:0") as asked:
        check_grpc(run(python, "grpc_chat.py", asked.grpc(), asked.picture))


def case_openai():
    python = os.path.join(environment(BUILD, "openai"), "python")
    with Asked() as asked:
        out = run(python, "openai_chat.py", asked.url, asked.picture)
        assert out.count(" tokens]") == 2, out


def case_langchain():
    python = os.path.join(environment(BUILD, "langchain-openai"), "python")
    with Asked() as asked:
        before = asked.server.metric("fulger_generation_tokens_total")
        assert run(python, "langchain_chat.py", asked.url, asked.picture, "demo")
        assert asked.server.metric("fulger_generation_tokens_total") > before


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
