#!/usr/bin/env python3
"""Runs one part of the GPU tests from a bundle: a table on the screen, a JSON file beside it.

    test_gpu.py PART [--out DIR] [--device cuda:N] [--nccl-library PATH] [--sanitizer TOOL]

PART: ops      every op on the GPU against the double-precision reference
      goldens  the model on the GPU against the goldens, float32 and bfloat16, layouts with thread ranks
      nccl     collectives and links over NCCL
      bench    figures of the ops, beside the copy and product rates of the same run
      cpu      what needs no GPU: that the bundle itself works

Exits with 1 if anything failed, was cut off, or (but for `cpu`) could not use a GPU. Each part ends within 8 minutes.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 460  # of a part

# part -> steps: (name, arguments of fulger-gpu-tests, more environment)
ON_GPU = {"FULGER_TEST_DEVICE": "cuda", "FULGER_REQUIRE_GPU": "1"}
PARTS = {
    "ops": [("ops", ["--gtest_filter=Cuda/OpSuite.*"], ON_GPU)],
    "goldens": [("float32", ["--gtest_filter=Cases/ModelGolden.*"], ON_GPU),
                ("bfloat16", ["--gtest_filter=Models/Bfloat16.*"], ON_GPU),
                ("sequences", ["--gtest_filter=*SequenceLife*"], ON_GPU),
                ("layouts", ["--gtest_filter=*LayoutSweep*:-*tp8*:*tp16*:*tp32*"], ON_GPU)],
    "nccl": [("nccl", ["--gtest_filter=Nccl/CommSuite.*:NcclFabricTest.*"], ON_GPU)],
    "bench": [("bench", ["bench"], {})],
    "cpu": [("ops-on-cpu", ["--gtest_filter=Cpu/OpSuite.*:MakeDevice.*"], {}),
            ("golden-on-cpu", ["--gtest_filter=Cases/ModelGolden.*g0*"], {})],
}
PROGRAM = os.path.join(HERE, "bin", "fulger-gpu-tests")


def run(name, arguments, environment, options, seconds):
    """One step: a row of the table."""
    row = {"program": name, "ok": False, "tests": 0, "failed": [], "skipped": 0, "seconds": 0.0}
    report = os.path.join(options.out, name + ".json")
    if os.path.exists(report):
        os.remove(report)
    is_test = arguments[0] != "bench"
    command = [PROGRAM, *arguments, "--gtest_output=json:" + report if is_test else "--json"]
    if not is_test:
        command += [report] + (["--device", options.device] if options.device else [])
    if options.sanitizer:
        command = ["compute-sanitizer", "--tool", options.sanitizer, "--error-exitcode", "1", *command]
    env = dict(os.environ, FULGER_GOLDEN_DIR=os.path.join(HERE, "golden"), **environment)
    if options.device and "FULGER_TEST_DEVICE" in env:
        env["FULGER_TEST_DEVICE"] = options.device
    if options.nccl_library:
        env["FULGER_NCCL_LIBRARY"] = options.nccl_library
    start = time.monotonic()
    log = os.path.join(options.out, name + ".log")
    with open(log, "wb") as out:
        try:
            code = subprocess.run(command, env=env, stdout=out, stderr=subprocess.STDOUT, timeout=max(1, seconds),
                                  check=False).returncode
        except subprocess.TimeoutExpired:
            code = None
    row["seconds"] = round(time.monotonic() - start, 1)
    if os.path.exists(report):
        with open(report, encoding="utf-8") as file:
            read(row, json.load(file), is_test)
    row["ok"] = code == 0 and row["tests"] > 0  # a filter that matches nothing has tested nothing
    if code is None:
        row["why"] = f"cut off after {seconds:.0f} s"
    elif not row["ok"] and not row["failed"]:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        row["why"] = f"exit code {code}: " + " | ".join(lines[-3:])
    return row


def read(row, report, is_test):
    if not is_test:
        row["figures"] = report
        row["tests"] = len(report["cases"])
        return
    for suite in report["testsuites"]:
        for test in suite["testsuite"]:
            row["tests"] += 1
            name = suite["name"] + "." + test["name"]
            if test.get("result") == "SKIPPED":
                row["skipped"] += 1
            for failure in test.get("failures", []):
                row["failed"].append({"test": name, "message": failure["failure"][:2000]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--out", default="gpu-results")
    parser.add_argument("--device", default="")
    parser.add_argument("--nccl-library", default="")
    parser.add_argument("--sanitizer", default="", help="memcheck, racecheck, synccheck or initcheck")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    end = time.monotonic() + LIMIT_S
    rows = [run(name, arguments, environment, options, end - time.monotonic())
            for name, arguments, environment in PARTS[options.part]]
    with open(os.path.join(HERE, "COMMIT"), encoding="utf-8") as file:
        commit = file.read().strip()
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                         capture_output=True, text=True, check=False).stdout.strip() if has("nvidia-smi") else "none"
    result = {"part": options.part, "commit": commit, "gpu": gpu, "sanitizer": options.sanitizer, "programs": rows}
    with open(os.path.join(options.out, options.part + ".json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)

    print(f"part {options.part}, commit {commit[:12]}, GPU: {gpu}")
    print(f"{'step':28} {'result':8} {'tests':>6} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for row in rows:
        print(f"{row['program']:28} {'ok' if row['ok'] else 'FAILED':8} {row['tests']:6} {len(row['failed']):7} "
              f"{row['skipped']:8} {row['seconds']:8}")
        if "why" in row:
            print(f"    {row['why']}")
        for failure in row["failed"][:20]:
            print(f"    {failure['test']}: {failure['message'].splitlines()[0] if failure['message'] else ''}")
        for case in row.get("figures", {}).get("cases", []):
            print(f"    {case['name']:48} {case['us']:10.1f} us  {100 * case['of_copy']:6.1f}% of copy  "
                  f"{case['flops'] / case['us'] / 1e6:8.2f} TFLOP/s")
    return 0 if all(row["ok"] for row in rows) else 1


def has(program):
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in os.environ.get("PATH", "").split(":"))


if __name__ == "__main__":
    sys.exit(main())
