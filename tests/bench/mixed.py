#!/usr/bin/env python3
"""Chats that decode while long prompts come in one after the other: what chunked prefill is for.

    mixed.py [--build build] [--seconds 15] [--threads 1] [--chats 4] [--prompt 1000] [--chunk 64] [--must 5]

Two servers, one after the other, on the same model (idle.py's of long steps) under the same load: one with steps of at most --chunk
tokens, one whose steps hold a whole prompt. Printed: the time between two tokens of a chat as its client sees it, and how
many long prompts got through. Fails where the 99th percentile without chunks is not --must times that with them.
"""
import argparse
import pathlib
import random
import sys
import threading
import time

from idle import TESTS, long_steps
from fulger_process import Server

MODEL = {"model": "demo", "temperature": 0, "ignore_eos": True}


def chat(server, number, stop, gaps):
    """One stream; the times between its tokens while `stop` is not set."""
    answer = server.open("/v1/completions", {**MODEL, "prompt": f"Chat {number}.", "max_tokens": 7000, "stream": True})
    last = None
    while not stop.is_set():
        line = answer.readline()
        if not line.startswith(b"data: {"):
            if not line:
                raise SystemExit("a chat ended early")
            continue
        now = time.monotonic()
        if last is not None:
            gaps.append(now - last)
        last = now
    answer.close()


def prompts(server, number, length, stop, done):
    """Long prompts in a closed loop, no two alike: none is cached."""
    draw = random.Random(number)
    while not stop.is_set():
        ids = [draw.randrange(3, 250) for _ in range(length)]
        server.ok("/v1/completions", {**MODEL, "prompt": ids, "max_tokens": 1})
        done.append(time.monotonic())


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def measure(options, model, step_tokens):
    fulger = str(options.build / "bin" / "fulger")
    with Server(fulger, str(model), "--threads", options.threads, "--anchors", "0", step_tokens=step_tokens) as server:
        server.wait_ready()
        stop, gaps, done = threading.Event(), [[] for _ in range(options.chats)], []
        loads = [threading.Thread(target=chat, args=(server, i, stop, gaps[i])) for i in range(options.chats)]
        loads.append(threading.Thread(target=prompts, args=(server, step_tokens, options.prompt, stop, done)))
        for load in loads:
            load.start()
        stop.wait(options.seconds)
        stop.set()
        for load in loads:
            load.join()
        times = [gap for chat_gaps in gaps for gap in chat_gaps]
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        print(f"steps of at most {step_tokens:5} tokens: {1e3 * p50:8.1f} ms p50, {1e3 * p99:8.1f} ms p99 between tokens "
              f"({len(times)} of {options.chats} chats), {len(done)} prompts of {options.prompt} tokens", flush=True)
        if len(done) < 2:
            sys.exit("fewer than two prompts got through: give it more --seconds")
        return p99


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=TESTS.parent / "build")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--chats", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--must", type=float, default=5)
    options = parser.parse_args()
    model = long_steps(options.build, options.build / "golden_checkpoints" / "demo")
    chunked = measure(options, model, options.chunk)
    whole = measure(options, model, options.prompt + 64)
    print(f"p99 {whole / chunked:.1f} times shorter with chunks")
    if whole < options.must * chunked:
        sys.exit(f"must be {options.must} times")


if __name__ == "__main__":
    main()
