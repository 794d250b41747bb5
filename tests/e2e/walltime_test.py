#!/usr/bin/env python3
"""A server that knows when its job ends, drains before that by itself.

    walltime_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import os
import signal
import sys
import tempfile
import threading
import time

from fulger_process import Server, run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
DRAIN, TO_STOP_RANKS = 4, 15


def case_the_end_of_the_job_drains():
    end = int(time.time()) + DRAIN + TO_STOP_RANKS + 5
    with Server(FULGER, MODEL, "--drain-timeout", str(DRAIN), "--end-time", str(end)) as server:
        server.wait_line(r"the job ends in \d+ s; draining begins in \d+ s")
        server.wait_line("the job's time ends: stopping", 30)
        assert server.process.wait(30) == 0
        assert time.time() < end
        server.wait_line("stopped")


def case_a_warning_signal_drains():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.wait(60) == 0
        server.wait_line("SIGUSR1: stopping")


def case_what_runs_at_the_end_is_saved():
    def ask_until_it_breaks_off(server, errors):
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8000, "ignore_eos": True}
        while not errors:
            errors.extend(event["error"]["message"] for event in server.stream(body) if event != "[DONE]" and "error" in event)

    with tempfile.TemporaryDirectory() as folder:
        end = int(time.time()) + TO_STOP_RANKS + 20
        with Server(FULGER, MODEL, "--drain-timeout", "0", "--end-time", str(end), "--state-dir", folder) as server:
            server.wait_ready()
            errors = []
            client = threading.Thread(target=ask_until_it_breaks_off, args=(server, errors))
            client.start()
            server.wait_line("the job's time ends: stopping", 40)
            assert server.process.wait(30) == 0
            assert time.time() < end
            server.wait_line("saved 1 requests, 1 of them with their states")
            client.join(20)
            assert len(errors) == 1 and "was saved" in errors[0], errors
        assert len(os.listdir(folder)) == 1


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
