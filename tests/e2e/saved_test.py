#!/usr/bin/env python3
"""Requests that run when their server has to stop go on in the next one, and nothing of the answer is lost, repeated or different.

    saved_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import os
import resource
import sys
import tempfile
import threading
import time

from batches import upload, wait_batch
from e2e_test import picture
from fulger_process import Server, run_cases, text_of

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
FOUR_RANKS = ("--tp", "2", "--pp", "2")


def chat(text="Hello", **more):
    return {"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 600, "temperature": 0, "ignore_eos": True, **more}


def batch_lines():
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
              "required": ["a", "b"], "additionalProperties": False}
    image = [{"type": "image_url", "image_url": {"url": picture()}}, {"type": "text", "text": "What is in this picture?"}]
    bodies = [chat(logprobs=True, top_logprobs=3), chat("Tell me more.", temperature=1, seed=7, frequency_penalty=0.5),
              chat("As JSON.", ignore_eos=False, temperature=1, seed=3, logprobs=True,
                   response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
              {**chat(logprobs=True), "messages": [{"role": "user", "content": image}]}, chat("Two", n=2, seed=5, temperature=1)]
    return [{"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions", "body": body} for i, body in enumerate(bodies)]


def start_batch(server):
    file = upload(server, "\n".join(json.dumps(line) for line in batch_lines()))
    return server.ok("/v1/batches", {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"})["id"]


def answers(server, batch):
    done = wait_batch(server, batch, lambda shown: shown["status"] == "completed")
    assert done["request_counts"]["completed"] == done["request_counts"]["total"], done
    lines = server.call("GET", f"/v1/files/{done['output_file_id']}/content")[1].decode().splitlines()
    bodies = {}
    for line in map(json.loads, lines):
        assert line["custom_id"] not in bodies, "an answer came twice"
        bodies[line["custom_id"]] = {key: line["response"]["body"][key] for key in ("choices", "usage")}
    return bodies


def wait_tokens(server, count, seconds=60):
    end = time.monotonic() + seconds
    while server.metric("fulger_generation_tokens_total") < count:
        assert time.monotonic() < end, server.metric("fulger_generation_tokens_total")
        time.sleep(0.005)


def case_a_batch_goes_on_bit_for_bit():
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--batch-concurrency", "1", "--drain-timeout", "0")
        with Server(FULGER, MODEL, "--jobs-db", os.path.join(folder, "whole.db"), *flags) as server:
            server.wait_ready()
            expected = answers(server, start_batch(server))
        state = os.path.join(folder, "state")
        flags += ("--jobs-db", os.path.join(folder, "jobs.db"), "--state-dir", state)
        batch, saved = None, 0
        for _ in range(5):
            with Server(FULGER, MODEL, *flags) as server:
                server.wait_ready()
                batch = batch or start_batch(server)
                wait_tokens(server, 333)
                assert server.stop() == 0
                saved += len([line for line in server.lines if "saved 1 requests, 1 of them with their states" in line])
        assert saved >= 3, saved
        with Server(FULGER, MODEL, *flags) as server:
            server.wait_ready()
            found = answers(server, batch)
            for key, body in expected.items():
                assert found[key] == body, (key, found[key], body)
            assert server.stop() == 0
        assert os.listdir(state) == [], "what was read is removed"


def ask_until_it_stops(server, body):
    """Streams until the server ends; the text so far, and the error."""
    text, error = [], []

    def read():
        for event in server.stream(body):
            if event != "[DONE]" and "error" in event:
                error.append(event["error"])
            elif event != "[DONE]":
                text.extend(choice["delta"].get("content") or "" for choice in event["choices"])
    reader = threading.Thread(target=read)
    reader.start()
    wait_tokens(server, 40)
    assert server.stop() == 0
    reader.join(20)
    assert len(error) == 1 and "was saved" in error[0]["message"], error
    return "".join(text)


def go_on(folder, body, stop_flags, next_flags, pattern, damage=None):
    """The text so far, and the whole one of the next server, which says `pattern`."""
    flags = ("--state-dir", folder, "--drain-timeout", "0", "--max-sequences", "4", "--anchors", "4")
    with Server(FULGER, MODEL, *flags, *stop_flags) as server:
        server.wait_ready()
        if damage == "disk":
            for pid in server.ranks():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        begun = ask_until_it_stops(server, body)
        if damage == "disk":
            server.wait_line(r"rank \d .*File too large")
    if damage == "byte":
        [saved] = os.listdir(folder)
        path = os.path.join(folder, saved, "replica-0-rank-0.state")
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    with Server(FULGER, MODEL, *flags, *next_flags) as server:
        server.wait_ready()
        whole = text_of(server.stream(body))
        server.wait_line(pattern, 1)
        assert server.stop() == 0
    assert len(begun) > 10 and whole.startswith(begun), (begun, whole)
    assert os.listdir(folder) == [], os.listdir(folder)
    return whole


def case_a_request_that_is_sent_again_goes_on():
    body = chat(max_tokens=1500)
    with tempfile.TemporaryDirectory() as folder:
        with Server(FULGER, MODEL, "--max-sequences", "4", "--anchors", "4") as server:
            server.wait_ready()
            expected = text_of(server.stream(body))
        found = {"four ranks": go_on(folder, body, FOUR_RANKS, FOUR_RANKS, r"goes on behind \d+ saved tokens$"),
                 "another layout": go_on(folder, body, FOUR_RANKS, (), "computed again from the tokens"),
                 "a damaged file": go_on(folder, body, (), (), "its saved state cannot be used.* damaged", damage="byte"),
                 "a full disk": go_on(folder, body, (), (), "saved tokens, computed again", damage="disk")}
        for case, text in found.items():
            assert text == expected, (case, text, expected)


def case_a_draw_without_a_seed_goes_on():
    with tempfile.TemporaryDirectory() as folder:
        go_on(folder, chat(temperature=1, max_tokens=1500), (), (), r"goes on behind \d+ saved tokens$")


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
