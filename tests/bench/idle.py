#!/usr/bin/env python3
"""How long a rank stands still between decode steps, from its own clock.

    idle.py [--build build] [--seconds 3] [--threads 1] [--streams 1,8,32] [--must 2]

A server and its worker as `fulger serve` starts them, and streams that decode all the time. Two models: the tests' demo
(a step takes a fraction of a millisecond: shorter than the way to the coordinator and back) and one whose step takes
several. /debug/trace gives each step's begin and end on the rank.

  between    from the end of a step to the begin of the next, sending its result and times included
  waiting    the part of it in which no plan was there: the coordinator was late
Both in per cent of the time from the first step's begin to the last one's end; only steps that decode and nothing else,
and that follow such a step. Fails where `between` is not below --must per cent on the model of long steps.
"""
import argparse
import http.client
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "e2e"))
from fulger_process import Server  # noqa: E402

LAYERS = 4


def config(vocabulary):
    alpha = {f"layernorm_{kind}_{name}": value for kind in ("full_attention", "linear_attention", "mlp")
             for name, value in (("alpha", 2.0), ("beta", 1.0))}
    return {"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01", "hidden_size": 1024,
            "intermediate_size": 1024, "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 2,
            "head_dim": 128, "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_act": "silu",
            "vocab_size": vocabulary, "rms_norm_eps": 1e-05, "max_position_embeddings": 8192,
            "tie_word_embeddings": False, "attn_type_list": [0] * (LAYERS - 1) + [1], "rope_theta": 10000000,
            "rotary_dim": 64, "postnorm": True, "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid", **alpha}


def long_steps(build, demo):
    """140 MB of random weights and the demo's tokenizer."""
    folder = build / "bench-checkpoint-idle"
    text = json.loads((demo / "config.json").read_text())
    vocabulary = text.get("text_config", text)["vocab_size"]
    shape = build / "bench-checkpoint-idle.json"
    shape.write_text(json.dumps(config(vocabulary)))
    subprocess.run([build / "bin" / "fulger-random-checkpoint", shape, folder], check=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder / name)
    return folder


class Streams:
    """Requests that decode until they are left."""

    def __init__(self, server, count):
        body = {"model": "demo", "temperature": 0, "max_tokens": 7000, "ignore_eos": True, "stream": True}
        self.answers = [server.open("/v1/completions", {**body, "prompt": f"Stream {i} tells a long story."})
                        for i in range(count)]
        self.readers = [threading.Thread(target=self._read, args=(answer,), daemon=True) for answer in self.answers]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(answer):
        try:
            while answer.read1(1 << 16):
                pass
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # left

    def close(self):
        for answer in self.answers:
            answer.connection.sock.shutdown(2)
        for reader in self.readers:
            reader.join()


def measure(server, streams, seconds):
    """Step time in ms, between and waiting in per cent, steps counted."""
    load = Streams(server, streams)
    try:
        server.get("/debug/trace?seconds=0.5")  # all of them decode by now
        trace = json.loads(server.get(f"/debug/trace?seconds={seconds}")[1])
    finally:
        load.close()
    steps = sorted(((e["ts"], e["dur"], e["args"]) for e in trace["traceEvents"]
                    if e["ph"] == "X" and e["pid"] != 1 and e["name"].startswith("step ")), key=lambda step: step[0])
    # Only steps that all streams decode in, and that follow such a step. The first is where the trace began.
    full = [args["decode_rows"] == streams and args["prefill_tokens"] == 0 for _, _, args in steps]
    pairs = [(steps[i], steps[i + 1]) for i in range(1, len(steps) - 1) if full[i] and full[i + 1]]
    if len(pairs) < 20:
        raise SystemExit(f"{streams} streams: only {len(pairs)} pairs of decode steps among {len(steps)} steps")
    busy = sum(b[1] for _, b in pairs)
    between = sum(b[0] - (a[0] + a[1]) for a, b in pairs)
    waiting = sum(b[2]["idle_before_ms"] * 1e3 for _, b in pairs)
    gaps = sorted(b[0] - (a[0] + a[1]) for a, b in pairs)
    total = busy + between
    return {"steps": len(pairs), "step_ms": busy / len(pairs) / 1e3, "gap_us": statistics.median(gaps),
            "gap_p99_us": gaps[len(gaps) * 99 // 100],
            "between": 100 * between / total, "waiting": 100 * waiting / total}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=TESTS.parent / "build")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--must", type=float, default=2)
    options = parser.parse_args()
    demo = options.build / "golden_checkpoints" / "demo"
    missed = False
    print(f"{'model':12} {'streams':>7} {'steps':>6} {'step ms':>8} {'gap us':>7} {'p99':>7} {'between %':>9} {'waiting %':>9}")
    for name, model in (("demo", demo), ("long steps", long_steps(options.build, demo))):
        with Server(str(options.build / "bin" / "fulger"), str(model), "--threads", options.threads) as server:
            server.wait_ready()
            for streams in map(int, options.streams.split(",")):
                m = measure(server, streams, options.seconds)
                print(f"{name:12} {streams:7} {m['steps']:6} {m['step_ms']:8.3f} {m['gap_us']:7.1f} {m['gap_p99_us']:7.1f} "
                      f"{m['between']:9.2f} {m['waiting']:9.2f}", flush=True)
                missed = missed or (model != demo and m["between"] >= options.must)
    if missed:
        sys.exit(f"a rank stood still for {options.must}% or more of its time")


if __name__ == "__main__":
    main()
