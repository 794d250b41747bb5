#!/usr/bin/env python3
"""End-to-end tests: real processes, mpirun, HTTP.

    e2e_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from fulger_process import Server, cpu_seconds, run_cases, text_of, wait_metric
from scratch_python import environment

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
FIVE_RANKS = ("--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1")


def picture():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "demo.jpg")
        subprocess.run([os.path.join(BUILD, "bin", "draw_picture"), path], check=True)
        with open(path, "rb") as file:
            return "data:image/jpeg;base64," + base64.b64encode(file.read()).decode()


def question(max_tokens=32, with_picture=True, **more):
    content = [{"type": "text", "text": "What is in this picture?"}]
    if with_picture:
        content.insert(0, {"type": "image_url", "image_url": {"url": picture()}})
    return {"model": "demo", "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens,
            "temperature": 0, "ignore_eos": True, **more}


def run(*arguments, seconds=120):
    return subprocess.run([FULGER, *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def check_answers(server, body):
    """Streaming and not, again and again: the same text. Returns it."""
    answer = server.chat(body)
    text = answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "length", answer
    assert answer["usage"]["completion_tokens"] == body["max_tokens"], answer["usage"]
    assert text_of(server.stream(body)) == text
    return text, answer["usage"]


def case_one_rank_and_five_ranks_say_the_same():
    body = question()
    with Server(FULGER, MODEL, "--grpc", "127.0.0.1:0") as server:
        server.wait_ready()
        one, usage = check_answers(server, body)
        assert usage["prompt_tokens_details"]["image_tokens"] == 220, usage
        line = server.wait_line(r"gRPC on 127\.0\.0\.1:\d+")
        with socket.create_connection(("127.0.0.1", int(line.rsplit(":", 1)[1])), timeout=5):
            pass
        info = server.info()
        assert info["transport"] == "single" and len(info["ranks"]) == 1, info
        assert server.stop() == 0
    with Server(FULGER, MODEL, *FIVE_RANKS, "--weight-dtype", "f32") as server:
        server.wait_ready()
        info = server.info()
        assert info["transport"] == "mpi" and len(info["ranks"]) == 5, info
        assert [rank["role"] for rank in info["ranks"]] == ["language"] * 4 + ["vision"]
        assert all(rank["phase"] == "ready" and rank["bytes_read"] > 0 for rank in info["ranks"]), info
        five, _ = check_answers(server, body)
        assert five == one, (one, five)
        assert server.stop() == 0


def case_a_killed_rank_is_named_and_the_request_goes_on():
    body = question(max_tokens=400)
    with Server(FULGER, MODEL, *FIVE_RANKS) as server:
        server.wait_ready()
        want = server.chat(body)["choices"][0]["message"]["content"]
        victim = server.ranks()[2]
        events, killed = [], False
        for event in server.stream(body):
            events.append(event)
            if len(events) == 5:
                os.kill(victim, signal.SIGKILL)
                killed = True
        assert killed
        assert text_of(events) == want, "no token repeated or missing"
        server.wait_line(rf"rank 2 \(host [^,]+, pid {victim}\) is gone")
        server.wait_ready()
        assert server.info()["replicas"][0]["restarts"] == 1
        assert victim not in server.ranks()
        # Once more, without a request: ready must turn false and true again.
        os.kill(server.ranks()[0], signal.SIGKILL)
        server.wait_status(503)
        server.wait_status(200, 120)
        assert server.chat(body)["choices"][0]["message"]["content"] == want
        assert server.stop() == 0


def case_a_dead_replica_s_requests_move_to_the_other():
    body = question(max_tokens=400)
    with Server(FULGER, MODEL, "--replicas", "2") as server:
        server.wait_line(r"replica 0: ready")
        server.wait_line(r"replica 1: ready")
        want = server.chat(body)["choices"][0]["message"]["content"]
        assert len(server.info()["replicas"]) == 2 and len(server.ranks()) == 2, server.info()
        events, restarted = [], None
        for event in server.stream(body):
            events.append(event)
            if len(events) == 5:
                running = [replica["running"] for replica in server.info()["replicas"]]
                assert sorted(running) == [0, 1], running
                victim = running.index(1)
                os.kill(server.ranks()[victim], signal.SIGKILL)
                restarted = victim
        assert restarted is not None
        assert text_of(events) == want, "no token repeated or missing"
        assert server.get("/health/ready")[0] == 200, "the other one serves"
        server.wait_line(rf"replica {restarted}: ready")
        assert sum(replica["restarts"] for replica in server.info()["replicas"]) == 1
        assert server.metric("fulger_replica_restarts_total") == 1
        assert server.stop() == 0


def case_a_client_that_leaves_frees_its_sequence():
    """Streaming or not, over HTTP or gRPC; another request goes on beside it, with the tokens that it gets alone.

    That it takes one step, and no more, is told by steps in cancel_test.cc."""
    stayer = question(max_tokens=3000, with_picture=False)
    leaver = question(max_tokens=4000, with_picture=False)
    leaver["messages"][0]["content"][0]["text"] = "Once upon a time there was a long prompt. " * 100  # 3,200 tokens
    flags = ("--grpc", "127.0.0.1:0", "--block-size", "16")
    with tempfile.TemporaryDirectory() as folder, Server(FULGER, MODEL, *flags) as server:
        server.wait_ready()
        alone = text_of(server.stream(stayer))
        path = os.path.join(folder, "demo.jpg")
        subprocess.run([os.path.join(BUILD, "bin", "draw_picture"), path], check=True)
        grpc = server.wait_line(r"gRPC on 127\.0\.0\.1:\d+").rsplit(" ", 1)[1]

        def streaming():
            answer = server.open("/v1/chat/completions", {**leaver, "stream": True})
            answer.readline()
            return answer.close

        def whole():
            return server.open("/v1/chat/completions", leaver, wait=False).close

        def over_grpc():
            command = [os.path.join(BUILD, "bin", "grpc_chat"), grpc, path, "4000"]
            client = subprocess.Popen(command, stdout=subprocess.PIPE)
            client.stdout.readline()  # what the model is; the answer follows

            def leave():
                client.kill()
                client.wait()
                client.stdout.close()
            return leave

        for arrive in (streaming, whole, over_grpc):
            stream = server.stream(stayer)
            events = [next(stream)]
            leave = arrive()
            wait_metric(server, "fulger_state_slots_used", 2)
            leave()
            wait_metric(server, "fulger_state_slots_used", 1)
            assert server.metric("fulger_requests_running") == 1
            blocks = server.metric("fulger_kv_blocks_used")
            assert blocks < 195, f"{blocks} blocks: the stayer has at most 191, the leaver's prompt over HTTP 201"
            events += list(stream)
            assert text_of(events) == alone, arrive.__name__
            wait_metric(server, "fulger_state_slots_used", 0)
            wait_metric(server, "fulger_kv_blocks_used", 0)
        server.chat(question(max_tokens=4))
        # SIGTERM lets a running request end.
        stream = server.stream(question(max_tokens=200, with_picture=False))
        events = [next(stream)]
        server.process.send_signal(signal.SIGTERM)
        events += list(stream)
        assert events[-1] == "[DONE]" and events[-2]["choices"][0]["finish_reason"] == "length", events[-2:]
        assert server.process.wait(60) == 0


def case_an_idle_cluster_burns_no_cpu():
    with Server(FULGER, MODEL, *FIVE_RANKS) as server:
        server.wait_ready()
        server.chat(question(max_tokens=8))
        pids = [*server.ranks(), server.process.pid]
        before, seconds = [cpu_seconds(pid) for pid in pids], 8.0
        time.sleep(seconds)
        shares = [(cpu_seconds(pid) - b) / seconds for pid, b in zip(pids, before)]
        print("share of a core, ranks 0..4 and the coordinator:", [f"{share:.1%}" for share in shares])
        assert max(shares) < 0.02, shares
        assert server.stop() == 0


def case_errors_are_told_plainly():
    def refused(*flags):
        done = run("serve", "--model", MODEL, "--listen", "127.0.0.1:0", *flags)
        assert done.returncode == 1, done
        return done.stderr

    assert "tp 3" in refused("--tp", "3")
    assert "/nowhere" in run("serve", "--model", "/nowhere").stderr
    assert "expected cpu, cuda, or cuda:0,1" in refused("--device", "gpu")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    no_gpu = refused("--device", "cuda")  # of a build without CUDA; of one with it, where no GPU is seen
    assert "rank 0 (" in no_gpu and ("no CUDA backend: build where nvcc" in no_gpu or "nvidia-smi" in no_gpu), no_gpu
    assert "needs --device cuda" in refused("--transport", "nccl")
    assert "names 1 GPU, room for 1 rank" in refused("--device", "cuda:3", "--tp", "2")
    assert "int8 runs on CPUs only" in refused("--device", "cuda", "--experts", "int8")
    assert "transport single is for one rank" in refused("--tp", "2", "--transport", "single")
    assert "cannot hold one sequence" in refused("--max-context", "4096", "--cache-tokens", "64")
    assert "cannot start /nowhere/worker" in refused("--worker-binary", "/nowhere/worker")
    assert "the replica did not start: the worker exited with code 1" in refused("--worker-binary", "/bin/false")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--model", MODEL, "--listen", f"127.0.0.1:{port}")
        assert done.returncode == 1 and str(port) in done.stderr and "in use" in done.stderr, done.stderr
        done = run("chat", "--url", "http://127.0.0.1:1", "--prompt", "hi")
        assert done.returncode == 1 and "cannot connect" in done.stderr, done
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        for body, words in ((question(temperature=-1), "temperature"), ({"model": "demo"}, "messages"),
                            (question(max_tokens=0), "max_tokens"),
                            (question(with_picture=False, max_tokens=4) | {"model": "other"}, "other")):
            status, answer = server.post("/v1/chat/completions", body)
            assert status in (400, 404) and words in answer["error"]["message"], (status, answer)
        broken = question()
        # A JPEG cut in half, in sound base64: the decoder must refuse it. And one cut in its base64.
        whole = picture()
        prefix, data = whole.split(",")
        jpeg = base64.b64decode(data)
        half = prefix + "," + base64.b64encode(jpeg[:len(jpeg) // 2]).decode()
        for url, words in ((half, "JPEG: damaged or truncated"), (whole[:5001], "base64")):
            broken["messages"][0]["content"][0]["image_url"]["url"] = url
            status, answer = server.post("/v1/chat/completions", broken)
            assert status == 400 and words in answer["error"]["message"], (status, answer)
        assert server.get("/health/ready")[0] == 200
        assert server.stop() == 0


def case_the_other_commands():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "demo.jpg")
        subprocess.run([os.path.join(BUILD, "bin", "draw_picture"), path], check=True)
        flags = ("--max-tokens", "16", "--temperature", "0", "--image", path, "--prompt", "What is this?")
        serving = ("--model", MODEL, "--max-context", "8192")
        offline = run("generate", *serving, *flags, "--json")
        assert offline.returncode == 0, offline.stderr
        answer = json.loads(offline.stdout)
        assert 0 < answer["completion_tokens"] <= 16 and answer["image_tokens"] == 220, answer
        printed = run("generate", *serving, *flags)
        assert printed.stdout == answer["text"] + "\n", printed
        with Server(FULGER, MODEL) as server:
            server.wait_ready()
            online = run("chat", "--url", f"http://127.0.0.1:{server.port}", *flags)
            assert online.returncode == 0, online
            assert online.stdout == answer["text"] + "\n", online
            talk = subprocess.run([FULGER, "chat", "--url", f"http://127.0.0.1:{server.port}", "--max-tokens", "4"],
                                  input=f"/image {path}\nOne\nTwo\n/quit\n", capture_output=True, text=True,
                                  timeout=120, check=True)
            assert talk.stdout.count("\n") >= 2 and not talk.stderr, talk
            story = "Once upon a time there was a long prompt. " * 12
            explain = ("cache", "explain", "--url", f"http://127.0.0.1:{server.port}", "--prompt", story)
            first, again = run(*explain), run(*explain)
            assert first.returncode == again.returncode == 0, (first, again)
            assert first.stdout.startswith("0 of ") and "nothing was cached" in first.stdout, first
            assert again.stdout.startswith(tuple("123456789")) and "tokens were cached" in again.stdout, again
            body = os.path.join(folder, "request.json")
            with open(body, "w", encoding="utf-8") as file:
                json.dump({"prompt": "Something else.", "stream": True}, file)
            other = run("cache", "explain", "--url", f"http://127.0.0.1:{server.port}", "--request", body)
            assert other.returncode == 0 and other.stdout.startswith("0 of "), other
        failed = run("generate", "--model", MODEL, "--prompt", "x", "--image", __file__)
        assert failed.returncode == 1 and "fulger generate: picture 0" in failed.stderr, failed
        config = os.path.join(folder, "serve.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'model = "{MODEL}"\nprompt = "a"\nmax-tokens = 2\nmax-context = 512\njson = true\n')
        assert json.loads(run("generate", "--config", config).stdout)["completion_tokens"] <= 2
    audit = json.loads(run("inspect", MODEL, "--json").stdout)
    assert audit["ok"] and audit["found"] == audit["expected"] > 0 and audit["layouts"], audit
    assert "0 missing" in run("inspect", MODEL).stdout


def case_openai_python():
    python = os.path.join(environment(BUILD, "openai"), "python")
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        client = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openai_client.py")
        subprocess.run([python, client, f"http://127.0.0.1:{server.port}/v1", picture()], check=True, timeout=120)
        assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
