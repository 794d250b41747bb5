#!/usr/bin/env python3
"""What a server says of itself: metrics, one log line per request, the timeline of /debug/trace.

    observe_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import base64
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from fulger_process import Server, first_float, run_cases, wait_metric
from scratch_python import SKIPPED

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
FIVE_RANKS = ("--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1")
PICTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "image", "files", "rgb.png")
SLACK_US = 1.0  # of two times that were one before they were added up in floating point

# What dashboards made for vLLM look for.
VLLM = {
    "gauge": "num_requests_running num_requests_waiting kv_cache_usage_perc cache_config_info",
    "counter": "prompt_tokens_total generation_tokens_total request_success_total num_preemptions_total "
               "prefix_cache_queries_total prefix_cache_hits_total mm_cache_queries_total mm_cache_hits_total",
    "histogram": "time_to_first_token_seconds inter_token_latency_seconds request_time_per_output_token_seconds "
                 "e2e_request_latency_seconds request_queue_time_seconds request_inference_time_seconds "
                 "request_prefill_time_seconds request_decode_time_seconds request_prompt_tokens "
                 "request_generation_tokens request_params_max_tokens iteration_tokens_total",
}
SECONDS = "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"
TOKEN_SECONDS = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80"
UP_TO_THE_CONTEXT = "1 2 5 10 20 50 100 200 500 1000 2000 5000"
BUCKETS = {
    "time_to_first_token_seconds": "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560",
    "inter_token_latency_seconds": TOKEN_SECONDS, "request_time_per_output_token_seconds": TOKEN_SECONDS,
    **{f"{name}_seconds": SECONDS for name in ("e2e_request_latency", "request_queue_time", "request_inference_time",
                                               "request_prefill_time", "request_decode_time")},
    **{name: UP_TO_THE_CONTEXT for name in ("request_prompt_tokens", "request_generation_tokens", "request_params_max_tokens")},
    "iteration_tokens_total": "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384",
}
OWN = {
    "gauge": "requests_running requests_waiting kv_blocks kv_blocks_used state_slots state_slots_used anchors "
             "cache_config_info pictures_encoding pictures_kept feature_cache_bytes last_step_age_seconds rank_up "
             "rank_load_seconds replica_ready build_info",
    "counter": "steps_total rank_step_seconds_total rank_wait_seconds_total rank_collective_seconds_total "
               "rank_idle_seconds_total rank_collective_bytes_total rank_link_bytes_total rank_pictures_total "
               "rank_tiles_total rank_vision_passes_total rank_encode_seconds_total step_flops_total step_read_bytes_total expert_rows_total anchor_hits_total anchor_evictions_total pictures_total "
               "pictures_encoded_total replica_restarts_total requests_rejected_total requests_finished_total "
               "http_requests_total",
    "histogram": "step_seconds step_tokens request_queue_seconds request_latency_seconds",
}


def with_picture(**more):
    with open(PICTURE, "rb") as file:
        url = "data:image/png;base64," + base64.b64encode(file.read()).decode()
    return {"model": "demo", "temperature": 0, "max_tokens": 12, "ignore_eos": True, "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                     {"type": "text", "text": "What is this?"}]}], **more}


def load(server):
    """A little of everything that metrics count."""
    for _ in range(2):
        server.chat(with_picture())
    server.chat({"model": "demo", "max_tokens": 5, "ignore_eos": True, "messages": [{"role": "user", "content": "Hello."}]})
    assert server.post("/v1/chat/completions", {"model": "demo", "messages": 3})[0] == 400


def series(text, name):
    """Of a metric: labels to value."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
        if match:
            found[tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match[1] or "")))] = float(match[2])
    return found


def promtool(text):
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in (done.stderr + done.stdout).splitlines() if line]


def check_vllm_table(text):
    """Buckets, labels and values as existing dashboards expect them, after three requests that ended by length."""
    assert set(BUCKETS) == set(VLLM["histogram"].split())
    common = {("engine", "0"), ("model_name", "demo")}
    for name, bounds in BUCKETS.items():
        found = []
        for labels in series(text, f"vllm:{name}_bucket"):
            assert set(labels) - {pair for pair in labels if pair[0] == "le"} == common, labels
            found.append(float(dict(labels)["le"]))
        assert found == [*map(float, bounds.split()), float("inf")], (name, found)
        if name != "iteration_tokens_total":
            count = series(text, f"vllm:{name}_count")[tuple(sorted(common))]
            assert count == (12 + 12 + 5 - 3 if name == "inter_token_latency_seconds" else 3), (name, count)
    value = lambda name: series(text, f"vllm:{name}")[tuple(sorted(common))]
    for kind in ("gauge", "counter"):
        for name in VLLM[kind].split():
            for labels in series(text, f"vllm:{name}"):
                assert common <= set(labels), (name, labels)
    ended = {dict(labels)["finished_reason"]: count for labels, count in series(text, "vllm:request_success_total").items()}
    assert ended == {"stop": 0, "length": 3, "abort": 0, "error": 0}, ended
    assert (value("num_requests_running"), value("num_requests_waiting"), value("num_preemptions_total")) == (0, 0, 0)
    assert 0 <= value("kv_cache_usage_perc") <= 1
    assert value("generation_tokens_total") == 12 + 12 + 5
    assert value("prefix_cache_queries_total") == value("prompt_tokens_total") > value("prefix_cache_hits_total") == 0  # short prompts
    assert (value("mm_cache_queries_total"), value("mm_cache_hits_total")) == (2, 1)
    config = dict(next(iter(series(text, "vllm:cache_config_info"))))
    assert config["block_size"] == "16" and int(config["num_gpu_blocks"]) > 0, config


def case_metrics():
    with Server(FULGER, MODEL, *FIVE_RANKS, "--metrics-compat", "vllm") as server:
        server.wait_ready()
        load(server)
        # Every token of the three requests that ran went to so many experts, in every layer; probes as well. Ranks tell
        # of a step after it was answered.
        with open(os.path.join(MODEL, "config.json"), encoding="utf-8") as file:
            config = json.load(file)["text_config"]
        per_row = config["num_hidden_layers"] * config["num_experts_per_tok"]
        end = time.monotonic() + 20
        while True:
            text = server.get("/metrics")[1]
            rows = sum(series(text, "fulger_expert_rows_total").values()) / per_row
            run = sum(sum(series(text, f"fulger_{name}_tokens_total").values()) for name in ("prompt", "generation"))
            if rows == int(rows) and run - 40 <= rows <= run + 40:
                break
            assert time.monotonic() < end, (rows, run)
            time.sleep(0.02)
        for prefix, table in (("vllm:", VLLM), ("fulger_", OWN)):
            for kind, names in table.items():
                for name in names.split():
                    assert f"# TYPE {prefix}{name} {kind}\n" in text, (kind, prefix + name)
        for name in ("collective_bytes", "collective_seconds", "step_seconds"):
            values = series(text, f"fulger_rank_{name}_total")
            assert all(value > 0 for labels, value in values.items() if dict(labels)["rank"] != "4"), (name, values)
        assert series(text, "fulger_rank_link_bytes_total")[("rank", "4"), ("replica", "0")] > 0  # features
        assert series(text, "fulger_rank_pictures_total")[("rank", "4"), ("replica", "0")] == 1
        assert series(text, "fulger_rank_vision_passes_total")[("rank", "4"), ("replica", "0")] == 1
        assert series(text, "fulger_rank_tiles_total")[("rank", "4"), ("replica", "0")] > 1
        assert list(series(text, "fulger_pictures_known_total").values()) == [1], "the second time it was known"
        assert sum(series(text, "fulger_requests_rejected_total").values()) == 1
        check_vllm_table(text)
        queued = series(text, "vllm:request_queue_time_seconds_count")
        assert queued == {(("engine", "0"), ("model_name", "demo")): 3}, queued
        assert server.stop() == 0


def case_promtool():
    if shutil.which("promtool") is None:
        print("SKIPPED: no promtool on this machine (apt-get install prometheus; `make check` does)")
        sys.exit(SKIPPED)
    with Server(FULGER, MODEL, "--metrics-compat", "vllm") as server:
        server.wait_ready()
        load(server)
        text = server.get("/metrics")[1]
        own = "\n".join(line for line in text.splitlines() if "vllm:" not in line) + "\n"
        assert "fulger_step_seconds_bucket" in own
        assert promtool(own) == (0, []), promtool(own)
        # vLLM's own names break two of the rules, and nothing else.
        allowed = ("metric names should not contain ':'",
                   'vllm:iteration_tokens_total non-counter metrics should not have "_total" suffix')
        status, lines = promtool(text)
        assert status == 3 and all(line.endswith(allowed) for line in lines), lines
        assert server.stop() == 0


def log_line(server, request_id):
    """The line of a request, as a dictionary."""
    line = server.wait_line(rf" request id={request_id} ", 20)
    lines = [other for other in server.lines if f" request id={request_id} " in other]
    assert len(lines) == 1, lines
    fields = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
    return {key: json.loads(value) if value.startswith('"') else value for key, value in fields}


def case_log_lines():
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys")
        with open(keys, "w", encoding="utf-8") as file:
            file.write("alice secret-a\nbob secret-b max-requests=1\n")
        with Server(FULGER, MODEL, "--api-keys-file", keys) as server:
            server.wait_ready()

            def ask(name, body, key="secret-a", path="/v1/chat/completions"):
                server.key = key
                status, _, headers = server.call("POST", path, body, {"x-request-id": name})
                assert headers["x-request-id"] == name
                line = log_line(server, name)
                assert line["status"] == str(status) and line["route"] == path, line
                return line
            line = ask("whole", with_picture())
            assert line["client"] == "alice" and line["peer"].startswith("127.0.0.1"), line
            assert line["finish"] == "length" and line["completion"] == "12" and line["stream"] == "false", line
            assert int(line["image"]) > 0 and int(line["prompt"]) > int(line["image"]), line
            phases = [float(line[phase]) for phase in ("picture", "queue", "prefill", "decode")]
            assert all(phase > 0 for phase in phases), line
            assert sum(phases[1:]) <= float(line["total"]) + 0.001, line
            line = ask("streamed", {**with_picture(), "stream": True, "n": 2})
            assert line["stream"] == "true" and line["choices"] == "2" and line["finish"] == "length,length", line
            assert line["completion"] == "24" and int(line["prompt"]) < 200, line
            # Refused, each by another door.
            assert ask("no-key", with_picture(), key="wrong")["error"].startswith("expected an API key")
            assert "temperature" in ask("bad-field", with_picture(temperature=-1))["error"]
            assert ask("bad-model", with_picture(model="other"))["status"] == "404"
            assert ask("ids", {"model": "demo", "prompt": "x"}, path="/tokenize")["status"] == "200"
            status, _, headers = server.call("POST", "/v1/completions", "{")
            made = headers["x-request-id"]  # given by the server
            assert status == 400 and log_line(server, made)["status"] == "400"
            # One who leaves.
            server.key = "secret-b"
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps(
                {"model": "demo", "prompt": "x", "max_tokens": 4000, "ignore_eos": True}),
                server.headers({"x-request-id": "left"}))
            wait_metric(server, "fulger_requests_running", 1)
            line = ask("one-too-many", with_picture(), key="secret-b")
            assert line["status"] == "429" and line["client"] == "bob", line
            connection.close()
            line = log_line(server, "left")
            assert line["status"] == "499" and line["finish"] == "abort", line
            assert server.stop() == 0


def case_a_rank_s_error_names_the_request():
    with tempfile.TemporaryDirectory() as folder:
        broken = os.path.join(folder, "broken")
        shutil.copytree(MODEL, broken)
        with open(os.path.join(broken, "config.json"), encoding="utf-8") as file:
            width = json.load(file)["text_config"]["hidden_size"]
        with Server(FULGER, MODEL) as server:
            server.wait_ready()
            token = server.ok("/tokenize", {"model": "demo", "prompt": "~"})["tokens"][0]
            assert server.stop() == 0
        path = os.path.join(broken, "model.safetensors")
        begin = first_float(path, "language_model.model.embed_tokens.weight")
        with open(path, "r+b") as file:  # NaN in one bfloat16 of this token's row
            file.seek(begin + 2 * width * token)
            file.write(b"\xff\x7f")
        with Server(FULGER, broken, "--anchors", "8", "--anchor-interval", "128", step_tokens=64) as server:
            server.wait_ready()

            def ask(prompt, name):
                return server.call("POST", "/v1/completions", {"model": "demo", "prompt": prompt, "max_tokens": 4},
                                   {"x-request-id": name})[:2]
            status, answer = ask("fine ~ until here", "unlucky-7")
            assert status == 500 and "request unlucky-7: embedding: NaN" in answer["error"]["message"], answer
            server.wait_line(r"error \[rank 0\] step \d+: request unlucky-7: embedding: NaN", 20)
            line = log_line(server, "unlucky-7")
            assert line["status"] == "500" and line["finish"] == "error" and "unlucky-7" in line["error"], line
            assert ask("fine", "lucky")[0] == 200  # and the rank goes on
            # Nothing of it is cached, although the state behind the bad token was copied for an anchor: asked again,
            # the error is the same one, and not what comes of going on from there.
            anchors = server.metric("fulger_anchors")
            ids = [150 + i % 50 for i in range(400)]
            ids[100] = token
            for again in range(2):
                status, answer = ask(ids, f"cut-{again}")
                assert status == 500 and f"cut-{again}: embedding: NaN" in answer["error"]["message"], answer
            assert server.metric("fulger_anchors") == anchors
            assert server.stop() == 0


def check_nesting(events):
    """Spans of one thread lie within each other or apart, never across."""
    threads = collections.defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    for spans in threads.values():
        open_ends = []
        for span in sorted(spans, key=lambda s: (s["ts"], -s["dur"])):
            end = span["ts"] + span["dur"]
            while open_ends and open_ends[-1] <= span["ts"] + SLACK_US:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1] + SLACK_US, span
            open_ends.append(end)
    return threads


def check_steps(threads):
    plans = {s["args"]["step"]: s for s in threads[1, 1] if s["name"].startswith("plan ")}
    updates = {s["args"]["step"]: s for s in threads[1, 1] if s["name"].startswith("update ")}
    assert len(updates) > 10 and set(updates) - set(plans) <= set(range(min(plans))), (sorted(plans), sorted(updates))
    for rank in range(5):
        steps = [s for s in threads[2, rank] if s["name"].startswith("step ")]
        assert len(steps) > 10, (rank, len(steps))
        numbers = [s["args"]["step"] for s in sorted(steps, key=lambda s: s["ts"])]
        assert numbers == sorted(set(numbers)), (rank, numbers)
        for before, after in zip(steps, steps[1:]):
            assert before["ts"] + before["dur"] <= after["ts"] + SLACK_US, (before, after)
        for step in steps:
            plan = plans[step["args"]["step"]]
            assert step["ts"] >= plan["ts"], (step, plan)
            for key in ("decode_rows", "prefill_tokens", "sequences"):
                assert step["args"][key] == plan["args"][key], (step, plan)
            update = updates.get(step["args"]["step"])
            if update and rank == 2:  # index 0 of the last stage answers, when it is done
                assert step["ts"] + step["dur"] <= update["ts"] + SLACK_US, (step, update)
        inner = {s["name"] for s in threads[2, rank]}
        if rank < 4:
            layers = range(4) if rank < 2 else range(4, 8)
            assert {f"layer {layer}: experts" for layer in layers} <= inner, (rank, inner)
    assert "encode pictures" in {s["name"] for s in threads[2, 4]}


def check_requests(events):
    open_spans, seen = collections.defaultdict(list), collections.defaultdict(set)
    for event in sorted((e for e in events if e["ph"] in "be"), key=lambda e: e["ts"]):
        stack = open_spans[event["id"]]
        if event["ph"] == "b":
            stack.append(event)
            seen[stack[0]["name"]].add(event["name"])
        else:
            assert stack and stack.pop()["name"] == event["name"], event
    assert not any(open_spans.values())
    for name in ("request traced-0", "request traced-1"):
        assert seen[name] == {name, "queue", "prefill", "decode"}, seen


def gathered_while_two_requests_ran(server):
    for seconds in (1, 4, 16):  # as long as this machine needs
        answer = []
        gathering = threading.Thread(target=lambda s=seconds: answer.append(server.get(f"/debug/trace?seconds={s}")))
        gathering.start()
        server.wait_line(f"a timeline of steps is gathered for {seconds} s")
        assert server.get("/debug/trace?seconds=1")[0] == 429
        for i in range(2):
            status, _, _ = server.call("POST", "/v1/chat/completions", with_picture(), {"x-request-id": f"traced-{i}"})
            assert status == 200
        in_time = gathering.is_alive()
        gathering.join()
        assert answer[0][0] == 200
        if in_time:
            return json.loads(answer[0][1])
    raise AssertionError("two requests took more than 16 s")


def case_timeline():
    with Server(FULGER, MODEL, *FIVE_RANKS, "--api-key", "secret") as server:
        server.wait_ready()
        assert server.get("/debug/trace?seconds=1")[0] == 401
        server.key = "secret"
        for bad in ("seconds=0", "seconds=x", "seconds=1e9", "second=1", "seconds=1&x"):
            assert server.get("/debug/trace?" + bad)[0] == 400, bad
        trace = gathered_while_two_requests_ran(server)
        assert trace["otherData"]["layout"].startswith("pp 2 x tp 2"), trace["otherData"]
        events = trace["traceEvents"]
        names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
        assert names == {(1, 1): "engine", **{(2, rank): f"rank {rank}" for rank in range(5)}}, names
        check_steps(check_nesting(events))
        check_requests(events)
        arrows = collections.defaultdict(list)
        for event in events:
            if event["ph"] in "stf":
                arrows[event["id"]].append(event["ph"])
        # A plan for its five ranks and its update, but for the last ones, which were on their way.
        assert sum(sorted(a) == list("fs") + ["t"] * 5 for a in arrows.values()) > 10, arrows
        # Not asked for: nothing more. The next one begins anew.
        server.chat(with_picture())
        again = json.loads(server.get("/debug/trace?seconds=0.01")[1])
        assert not [e for e in again["traceEvents"] if e["ph"] == "b"], again
        assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
