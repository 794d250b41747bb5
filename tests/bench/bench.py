#!/usr/bin/env python3
"""The table of figures against peers and limits.  make bench, make bench-check, or

    tests/bench/bench.py [--check] [--only TEXT] [--rounds N] [--threads N] [--bin DIR].. [--json FILE]

Peers come from PyPI into an environment of their own (environment.py); one that cannot be had is skipped, loudly.
"""
import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import sys

import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]


def table(suite):
    """(name, must, aim, how)"""
    int8_experts = ["--experts", "int8"]
    all_int8 = [*int8_experts, "--projections", "int8"]  # what Q8_0 has in eight bits
    return [
        ("decode, batch 1, of the read bandwidth", 0.75, 0.88, lambda r: suite.against_limit(r, "decode batch 1")),
        ("decode, batch 1, against llama.cpp's best 16-bit form", 1.15, 1.35,
         lambda r: suite.against_llama(r, "decode batch 1", ["BF16", "F16"], "decode 24")),
        ("prefill of 512, of the multiply-adds", 0.60, 0.75, lambda r: suite.against_limit(r, "prefill 512")),
        ("prefill of 512, against llama.cpp F16", 1.8, 2.3,
         lambda r: suite.against_llama(r, "prefill 512", ["F16"], "prefill 512")),
        ("decode, against transformers, medium", 1.5, 2.5, lambda r: suite.against_transformers(r, suite.medium)),
        ("decode, against transformers, tiny", 3, 10, lambda r: suite.against_transformers(r, suite.tiny)),
        ("tokenizer, English", 5, 15, lambda r: suite.tokenizer(r, "english")),
        ("tokenizer, mixed text", 5, 15, lambda r: suite.tokenizer(r, "mixed")),
        ("JPEG of 3264x1836 to 19 tiles", 2.4, 3, suite.picture),
        ("loading, of reading the page cache into new memory", 0.80, 0.95, lambda r: suite.loading(r, "limit_new")),
        ("loading, of reading the page cache into warm memory", None, None, lambda r: suite.loading(r, "limit_warm")),
        ("int8 experts, batch 1, of the read bandwidth", 0.70, 0.85,
         lambda r: suite.against_limit(r, "decode batch 1", int8_experts)),
        ("all int8, batch 1, of the read bandwidth", 0.70, 0.85, lambda r: suite.against_limit(r, "decode batch 1", all_int8)),
        ("all int8, batch 1, against llama.cpp Q8_0", 1.4, 1.8,
         lambda r: suite.against_llama(r, "decode batch 1", ["Q8_0"], "decode 24", all_int8)),
        ("decode, batch 8, of its floor", 0.70, None, lambda r: suite.against_limit(r, "decode batch 8", share="median_share_of_floors")),
        ("tp 2 as two processes, against two threads", 0.90, None, suite.tensor_parallel),
    ]


def show(row):
    if row.skipped:
        return f"{row.name:56} SKIPPED: {row.skipped}"
    verdict = "" if row.must is None else "miss" if row.median < row.must else "must" if row.aim is None or row.median < row.aim else "aim"
    goal = "" if row.must is None else f"{row.must:g} / {row.aim if row.aim is not None else '-'}"
    spread = f"{min(row.ratios):.2f}..{max(row.ratios):.2f}"
    return f"{row.name:56} {row.ours:>10} {row.other:>10} {row.median:7.2f} {spread:>14} {goal:>12} {verdict:>5}  {row.ran}"


def write_report(path, args, machine, order, done):
    """With --keep the other rows of an earlier report of the same machine and settings stay."""
    about = {"machine": machine, "rounds": args.rounds, "threads": args.threads}
    rows = {}
    if args.keep and path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if any(earlier[k] != v for k, v in about.items()):
            sys.exit(f"bench: {path} is of another machine or other settings: {({k: earlier[k] for k in about})}, not {about}")
        rows = {row["name"]: row for row in earlier["rows"]}
    rows.update({r.name: dict(dataclasses.asdict(r), median=r.median if r.ratios else None) for r in done})
    report = dict(about, date=datetime.date.today().isoformat(), rows=[rows[name] for name in order if name in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a row misses what it must reach")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bin", action="append", default=[], help="where our programs are that build/bin has not")
    parser.add_argument("--json", default=str(ROOT / "build" / "bench.json"))
    parser.add_argument("--keep", action="store_true", help="keep what the JSON file has of other rows (with --only)")
    args = parser.parse_args()
    environment.enter()
    os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
    import rows
    suite = rows.Suite([ROOT / "build" / "bin", *args.bin], args.threads, args.rounds)
    suite.write_checkpoints()
    machine = f"{rows.processor()}, {os.cpu_count()} cores"
    print(f"{machine}\n{'':56} {'ours':>10} {'other':>10} {'ratio':>7} {'spread':>14} {'must / aim':>12}")
    done = []
    for name, must, aim, how in table(suite):
        if args.only not in name:
            continue
        row = rows.Row(name, must, aim)
        try:
            how(row)
        except (rows.Skipped, rows.Gone, ImportError, FileNotFoundError) as problem:
            row.skipped = str(problem)
        print(show(row), flush=True)
        done.append(row)
    write_report(pathlib.Path(args.json), args, machine, [name for name, *_ in table(suite)], done)
    if args.check:
        bad = [r for r in done if r.must is not None and (r.skipped or r.median < r.must)]
        for r in bad:
            print(f"bench-check: {r.name}: " + (f"not measured: {r.skipped}" if r.skipped else f"{r.median:.2f}, must be {r.must:g}"))
        print(f"bench-check: {len(done) - len(bad)} of {len(done)} rows hold")
        return 1 if bad else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
