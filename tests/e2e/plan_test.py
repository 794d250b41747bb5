#!/usr/bin/env python3
"""`fulger plan` beside real ranks: what it says they hold is what they report, byte for byte.

    plan_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from fulger_process import Server, run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
SIZES = ["--max-sequences", "5", "--anchors", "3", "--cache-tokens", "8192", "--block-size", "32"]


def plan(*flags, code=0):
    run = subprocess.run([FULGER, "plan", *flags], capture_output=True, text=True, timeout=60)
    assert run.returncode == code, (run.returncode, run.stderr)
    return run.stdout if code == 0 else run.stderr


def case_holds_what_ranks_report():
    for layout, experts, projections in (
            (["--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1", "--stage-layers", "3,5"], "stored", "stored"),
            (["--tp", "1", "--pp", "1", "--ep", "1", "--vision-ranks", "0"], "int8", "stored"),
            (["--tp", "2", "--pp", "1", "--ep", "1", "--vision-ranks", "0"], "int8", "int8"),
            (["--tp", "2", "--pp", "1", "--ep", "1", "--vision-ranks", "0", "--weight-dtype", "f32"], "stored", "stored")):
        shape = [*layout, "--experts", experts, "--projections", projections, *SIZES]
        told = json.loads(plan("--model", MODEL, "--cpu-ranks", "5", "--json", "--max-step-tokens", "512", *shape))
        assert len(told["layouts"]) == 1, told["layouts"]
        with Server(FULGER, MODEL, *shape) as server:
            info = server.wait_ready().info()
        assert told["layouts"][0]["plan_hash"] == info["plan_hash"]
        assert info["dtypes"]["experts"] == experts and info["dtypes"]["projections"] == projections, info["dtypes"]
        ranks = told["layouts"][0]["ranks"]
        assert len(ranks) == len(info["ranks"])
        for expected, found in zip(ranks, info["ranks"]):
            assert expected["rank"] == found["rank"] and expected["bytes"] == found["bytes"], (expected, found)


def case_needs_no_files():
    told = json.loads(plan("--gpu", "h200", "--nodes", "2", "--json"))
    assert told["model"]["parameters"] == 456_437_219_328
    assert "no files" in told["model"]["source"]
    assert "does not fit" not in plan("--gpu", "h200") and "serve it:" in plan("--gpu", "h200")
    assert "fits on 2 such nodes" in plan("--gpu", "h100", "--experts", "stored", code=3)
    assert "which cluster?" in plan(code=1)
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "plan.svg")
        plan("--gpu", "h200", "--svg", picture)
        assert xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg")
        cluster = os.path.join(folder, "cluster.toml")
        with open(cluster, "w", encoding="utf-8") as file:
            file.write('device = "b200"\nnodes = 1\nranks-per-node = 4\n')
        assert "1 node x 4 b200" in plan("--cluster", cluster, "--model", "minimax-text-01", "--experts", "int8")


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
