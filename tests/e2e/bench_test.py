#!/usr/bin/env python3
"""fulger bench serve against our server and against ones that lie; fulger bench throughput.

    bench_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from fulger_process import Server, certificate, run_cases, wait_metric

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")


def bench(*arguments, seconds=100):
    return subprocess.run([FULGER, "bench", *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def serve(port, folder, *flags, name="a", scheme="http"):
    """The run and its JSON."""
    path = os.path.join(folder, name + ".json")
    done = bench("serve", "--url", f"{scheme}://127.0.0.1:{port}", "--json", path, "--html", path + ".html", "--quiet", *flags)
    if not os.path.exists(path):
        return done, None
    with open(path, encoding="utf-8") as file:
        return done, json.load(file)


def case_the_books_are_the_server_s():
    """What a run counts is what the server's metrics count, for each mix and arrival process."""
    runs = [
        ("--mix", "random:input=20,output=8", "--arrivals", "poisson:20", "--requests", "20"),
        ("--mix", "prefix:prefix=120,groups=2,input=10,output=5", "--arrivals", "closed:4", "--requests", "12"),
        ("--mix", "turns:turns=3,input=10,output=6", "--arrivals", "burst:3:0.2", "--requests", "6"),
        ("--mix", "pictures:width=120,height=80,input=5,output=4", "--arrivals", "constant:20", "--requests", "4"),
        ("--mix", "random:input=9,output=3", "--api", "completions", "--arrivals", "closed:2", "--duration", "0.3"),
    ]
    with tempfile.TemporaryDirectory() as folder, Server(FULGER, MODEL, "--anchors", "8") as server:
        server.wait_ready()
        recorded = os.path.join(folder, "recorded.jsonl")
        with open(recorded, "w", encoding="utf-8") as file:
            for i in range(3):
                file.write(json.dumps({"messages": [{"role": "user", "content": f"Question {i}?"}], "max_tokens": 3 + i,
                                       "ignore_eos": True}) + "\n")
        runs.append(("--mix", f"file:{recorded}", "--arrivals", "constant:30", "--requests", "7"))
        expected = {"prompt": 0, "generation": 0, "requests": 0}
        for flags in runs:
            done, result = serve(server.port, folder, *flags, "--goal", "ttft:60s,tpot:60s")
            assert done.returncode == 0, (flags, done.stdout, done.stderr)
            counts = result["counts"]
            assert counts["sent"] == counts["succeeded"] > 0, counts
            assert counts["token_events"] == counts["completion_tokens"] > 0, counts
            assert result["goodput"]["requests"] == counts["sent"], result["goodput"]
            assert len(result["setup"]["server_info"]["ranks"]) == 1, result["setup"]["server_info"]
            assert result["command"][1:3] == ["bench", "serve"], result["command"]
            expected["prompt"] += counts["prompt_tokens"]
            expected["generation"] += counts["completion_tokens"]
            expected["requests"] += counts["succeeded"]
            for metric in ("ttft", "e2e"):
                figures = result["metrics_ms"][metric]
                assert figures["requests"] == counts["sent"], figures
                assert 0 < figures["p50"]["value"] <= figures["p99"]["value"], figures
        wait_metric(server, "fulger_requests_running", 0)
        assert server.metric("fulger_generation_tokens_total") == expected["generation"], expected
        assert server.metric("fulger_prompt_tokens_total") == expected["prompt"], expected
        finished = sum(float(line.split()[-1]) for line in server.get("/metrics")[1].splitlines()
                       if line.startswith("fulger_requests_finished_total"))
        assert finished == expected["requests"], (finished, expected)
        # Sent again from the same seed: the same lengths, the same times.
        _, first = serve(server.port, folder, *runs[0], name="first")
        _, second = serve(server.port, folder, *runs[0], name="second")
        keys = ("session", "due", "prompt_tokens", "completion_tokens")
        assert [[r[k] for k in keys] for r in first["requests"]] == [[r[k] for k in keys] for r in second["requests"]]
        one, two = (os.path.join(folder, name + ".json") for name in ("first", "second"))
        done = bench("compare", one, two, "--tolerance", "100")
        assert done.returncode == 0 and "ttft p50" in done.stdout, done
        # Ten times slower is told.
        for request in second["requests"]:
            request["end"] += 10 * (request["end"] - request["sent"])
        with open(two, "w", encoding="utf-8") as file:
            json.dump(second, file)
        done = bench("compare", one, two)
        assert done.returncode == 3 and "REGRESSION" in done.stdout, done
    done = bench("serve", "--url", f"http://127.0.0.1:{server.port}", "--quiet")
    assert done.returncode == 1 and "connect" in done.stderr, done


def case_a_server_behind_tls():
    """Certificates are checked; what the server says of itself comes the same way. The other clients take https as well."""
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder)
        path = lambda name: os.path.join(folder, name)
        with open(path("key"), "w", encoding="utf-8") as file:
            file.write("sesame\n")
        with Server(FULGER, MODEL, "--tls-certificate", path("cert.pem"), "--tls-key", path("key.pem"),
                    "--api-key", "sesame") as server:
            server.trust(path("cert.pem"))
            server.wait_ready()
            flags = ("--requests", "6", "--arrivals", "closed:2", "--mix", "random:input=5,output=4", "--api-key-file", path("key"))
            done, result = serve(server.port, folder, *flags, "--ca-file", path("cert.pem"), scheme="https")
            assert done.returncode == 0, done
            assert result["counts"]["succeeded"] == 6 and result["setup"]["model"] == "demo", result["setup"]
            assert len(result["setup"]["server_info"]["ranks"]) == 1, result["setup"]
            done, result = serve(server.port, folder, *flags, name="untrusted", scheme="https")
            assert done.returncode == 1 and "certificate verify failed" in done.stderr and result is None, done
            done, result = serve(server.port, folder, *flags, name="plain")
            assert done.returncode == 1 and "no answer" in done.stderr and result is None, done
            chat = [FULGER, "chat", "--url", f"https://127.0.0.1:{server.port}/", "--api-key", "sesame", "--prompt", "Hi",
                    "--max-tokens", "4"]
            told = subprocess.run(chat, env={**os.environ, "SSL_CERT_FILE": path("cert.pem")}, capture_output=True, timeout=60,
                                  check=False)
            assert told.returncode == 0 and told.stdout, told


def case_a_run_that_is_interrupted_balances():
    """Ctrl-C: nothing new is sent, what is under way counts as cancelled, and the result is written."""
    with tempfile.TemporaryDirectory() as folder, Server(FULGER, MODEL) as server:
        server.wait_ready()
        path = os.path.join(folder, "cut.json")
        run = subprocess.Popen([FULGER, "bench", "serve", "--url", f"http://127.0.0.1:{server.port}", "--json", path, "--quiet",
                                "--arrivals", "closed:3", "--requests", "100000", "--mix", "random:input=4,output=60"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 60
        while server.metric("fulger_generation_tokens_total") < 600:
            assert run.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out, log = run.communicate(timeout=60)
        assert run.returncode == 0, (run.returncode, out, log)
        with open(path, encoding="utf-8") as file:
            counts = json.load(file)["counts"]
        assert counts["cancelled"] > 0 and counts["failed"] == 0 and counts["succeeded"] > 0, counts
        assert counts["sent"] == counts["succeeded"] + counts["cancelled"], counts
        wait_metric(server, "fulger_state_slots_used", 0)
        assert server.stop() == 0


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers as OpenAI's API does, but for what `fault` says."""
    fault = ""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200, {"object": "list", "data": [{"id": "liar"}]} if self.path == "/v1/models" else {})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.fault == "500s":
            self.answer(500, {"error": {"message": "broken"}})
            return
        count = body["max_tokens"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

        def event(choices, tokens):
            usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
            self.wfile.write(b"data: " + json.dumps({"choices": choices, "usage": usage}).encode() + b"\n\n")

        for token in range(1, count + 1):
            if self.fault == "no tokens" or (self.fault == "drops a token" and token == 2):
                continue
            if self.fault == "ends early" and token == 3:
                return
            event([{"index": 0, "delta": {"content": "x"}, "finish_reason": None}], token)
        event([{"index": 0, "delta": {}, "finish_reason": "length"}], 0 if self.fault == "no tokens" else count)
        event([], {"wrong usage": count + 1, "no tokens": 0}.get(self.fault, count))
        self.wfile.write(b"data: [DONE]\n\n")


def case_a_server_that_lies_is_told():
    faults = {
        "": None,
        "500s": "failures within 0% of what was sent: 4 of 4 failed; request 0: status 500",
        "drops a token": "running usage grows by one token per event: 4 requests do not; request 0: 1 tokens came in no event",
        "wrong usage": "usage = what was streamed: 4 requests do not; request 0: usage says 7 tokens, 6 events",
        "ends early": "the stream ended without [DONE]",
        "no tokens": "every success has tokens: 4 requests do not",
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for fault, line in faults.items():
                Liar.fault = fault
                done, result = serve(server.server_address[1], folder, "--requests", "4", "--mix", "random:input=3,output=6")
                assert done.returncode == (0 if line is None else 3), (fault, done)
                assert line is None or line in done.stderr, (fault, done.stderr)
                assert result["books"]["balance"] == (line is None), (fault, result["books"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def case_the_engine_without_a_server():
    """The figures of `bench throughput` are its counts by its times; what it cannot run it says."""
    requests, prompt, answer = 40, 24, 8
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "throughput.json")
        flags = ("--model", MODEL, "--max-context", "512", "--rounds", "2")
        for layout, ranks in ((), 1), (("--tp", "2"), 2):
            done = bench("throughput", *flags, *layout, "--requests", str(requests), "--input", str(prompt), "--output",
                         str(answer), "--json", path)
            assert done.returncode == 0 and "requests/s" in done.stdout, done
            assert "round 2 of 2: " in done.stderr and f"{requests} of {requests} requests done" in done.stderr, done.stderr
            with open(path, encoding="utf-8") as file:
                result = json.load(file)
            counts = {"requests": requests, "prompt_tokens": requests * prompt, "generated_tokens": requests * answer}
            assert len(result["rounds"]) == 2, result["rounds"]
            for index, one in enumerate(result["rounds"]):
                assert {key: one[key] for key in counts} == counts, one
                for key, count in (*counts.items(), ("tokens", requests * (prompt + answer))):
                    rate = result[f"{key}_per_second"]["rounds"][index]
                    assert abs(rate * one["seconds"] - count) < 1e-6 * count, (key, rate, one)
            assert result["command"][1:3] == ["bench", "throughput"] and result["seed"] == 1, result
            assert len(result["server_info"]["ranks"]) == ranks, result["server_info"]
        done = bench("throughput", *flags, "--input", "512", "--output", "8", "--quiet")
        assert done.returncode == 1 and "512 tokens" in done.stderr, done


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
