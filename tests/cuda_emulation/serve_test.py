#!/usr/bin/env python3
"""The real coordinator before workers on emulated GPUs: it answers as CPU ranks do, and whatever a GPU may lack is refused
before anything is loaded, with cause and cure. No GPU is involved.

    serve_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from e2e_test import BUILD, FULGER, MODEL, question  # noqa: E402
from fulger_process import Server, run_cases, text_of  # noqa: E402

WORKER = os.path.join(BUILD, "tests", "fulger-worker-emulated")
EMULATED = ("--worker-binary", WORKER, "--reserve-gib", "0.01")
GPU = ("--device", "cuda", *EMULATED)
# Float32 on both sides: the tokens are then the same in every layout.
EXACT = ("--weight-dtype", "f32")
SMALL = ("--cache-tokens", "8192", "--max-sequences", "4", "--anchors", "4")  # emulated memory is opened and shut often
TOKENS = 6


def card(**values):
    return {f"FULGER_EMULATION_{name.upper()}": str(value) for name, value in values.items()}


def answer_of_cpus():
    """The picture request's answer by a CPU rank, whose tokens the goldens of the model fix."""
    with Server(FULGER, MODEL, *EXACT) as server:
        server.wait_ready()
        text = server.chat(question(max_tokens=TOKENS))["choices"][0]["message"]["content"]
        assert server.stop() == 0
    return text


def check_answers(server):
    body, want = question(max_tokens=TOKENS), answer_of_cpus()
    answer = server.chat(body)
    assert answer["choices"][0]["message"]["content"] == want, (answer, want)
    assert answer["usage"]["completion_tokens"] == TOKENS, answer["usage"]
    assert text_of(server.stream(body)) == want, "again, from its anchor"


def case_one_rank():
    with Server(FULGER, MODEL, *GPU, *EXACT, *SMALL, env=card(memory_mib=256)) as server:
        server.wait_ready(300)
        server.wait_line(r"device cuda, transport single")
        server.wait_line(r"rank 0 \(host .*\) is ready: cuda:0: CUDA EMULATED ON THE CPU, .*0\.2 GiB of memory")
        info = server.info()
        assert info["device"] == "cuda" and info["transport"] == "single", info
        rank = info["ranks"][0]
        assert rank["device"] == "cuda:0" and rank["device_model"] == "CUDA EMULATED ON THE CPU", rank
        assert rank["device_bytes"] == 256 << 20 and 0 < rank["device_free_bytes"] < 256 << 20, rank
        assert server.metric("fulger_rank_device_memory_bytes") == 256 << 20
        assert server.metric("fulger_rank_device_free_bytes") == rank["device_free_bytes"]
        shown = server.get("/metrics")[1]
        assert re.search(r'fulger_rank_info\{[^}]*device="cuda:0"[^}]*model="CUDA EMULATED ON THE CPU"', shown), shown
        check_answers(server)
        assert server.stop() == 0


def case_five_ranks_over_mpi():
    """tp 2 x pp 2 x ep 2 and a vision rank; tensors go through host memory because --transport says so."""
    layout = ("--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1", "--transport", "mpi")
    with Server(FULGER, MODEL, *GPU, *EXACT, *SMALL, *layout, env=card(gpus=8, memory_mib=256)) as server:
        server.wait_ready(400)
        server.wait_line(r"device cuda, transport mpi through host memory")
        info = server.info()
        assert [rank["device"] for rank in info["ranks"]] == [f"cuda:{n}" for n in range(5)], info
        assert info["transport"] == "mpi" and info["ranks"][4]["role"] == "vision", info
        check_answers(server)
        assert server.stop() == 0


def refused(words, *flags, device="cuda", **values):
    """The server ends by itself, before a byte of the weights is read."""
    command = [FULGER, "serve", "--model", MODEL, "--listen", "127.0.0.1:0", "--device", device, *EMULATED, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **card(**values)})
    assert done.returncode == 1, done
    last = done.stderr.splitlines()[-1]
    for word in words:
        assert word in last, (word, done.stderr)
    assert "ready" not in done.stderr and "of ranks: load" not in done.stderr, done.stderr
    return last


def case_memory_decides():
    """Without --cache-tokens the cache is what the GPU leaves; slots that nobody named give way."""
    with Server(FULGER, MODEL, *GPU, env=card(memory_mib=96)) as server:  # 32 of them are cuBLASLt's workspace
        server.wait_ready(300)
        info = server.info()
        limits, rank = info["limits"], info["ranks"][0]
        tokens = limits["cache_tokens"]
        assert tokens == info["replicas"][0]["cache_tokens"] > 0 and limits["max_context"] == min(8192, tokens), limits
        reserve, room = int(0.01 * (1 << 30)), 64 << 20
        assert sum(rank["bytes"].values()) + reserve <= room, rank
        assert rank["bytes"]["kv"] / tokens * 16 + sum(rank["bytes"].values()) + reserve > room or tokens == 64 * 8192, rank
        line = server.wait_line(r"cuda:0 \(CUDA EMULATED ON THE CPU\): weights .*reserve for NCCL.* of 64\.00 MiB free")
        assert f"keys and values of {tokens} tokens" in line, line
        assert server.stop() == 0


def case_no_gpu_that_can():
    start = "the replica did not start: rank 0 (host "
    no = (start, "failed during device: device cuda:0: ")
    refused((*no, "no CUDA-capable device", "look at nvidia-smi and CUDA_VISIBLE_DEVICES"), gpus=0)
    refused((*no, "no NVIDIA driver or no GPU", "or use --device cpu"), driver=0)
    refused((*no, "the driver supports CUDA 12.4, this build needs 13.0: install a newer driver"), driver="12.4")
    refused((*no, "cudaErrorSystemDriverMismatch", "do not match"), error=803)
    refused((*no, "cudaErrorDevicesUnavailable", "another process holds the GPU exclusively"), error=46)
    refused((*no, "compute capability 7.5, this build has emulated", "-DFULGER_CUDA_ARCHITECTURES"), capability="7.5")
    last = refused(("device cuda:1: there is no such GPU, 1 found", "--ranks-per-device"), "--tp", "2", gpus=1)
    assert "rank 1 (" in last, last
    refused(("device cuda:5: there is no such GPU, 4 found",), device="cuda:5", gpus=4)


def case_too_little_memory():
    fits = ("does not fit on cuda:0 (CUDA EMULATED ON THE CPU): weights ", "lightning states of ", "keys and values of ",
            "reserve for NCCL", " bytes), and ", "spread the model over more ranks")
    # 32 MiB of each are cuBLASLt's workspace, which the device has taken before it is asked what is free.
    last = refused((*fits, "2.00 MiB are free of 34.00 MiB; 0 B are held", "32.00 MiB by cuBLASLt's workspace"), memory_mib=34)
    assert "nvidia-smi" not in last, last
    refused((*fits, "4.00 MiB are free of 8.00 GiB", "held by other processes", "end what else runs there (nvidia-smi)"), held_mib=8156)
    refused((*fits, "keys and values of 1000000000 tokens"), "--cache-tokens", "1000000000")
    refused((*fits, "lightning states of 40000 sequences and anchors"), "--max-sequences", "40000", "--anchors", "0", memory_mib=64)
    refused(("of which each of 2 ranks may have 40.00 MiB",), "--tp", "2", "--transport", "mpi", "--ranks-per-device", "2",
            "--cache-tokens", "1000000000", memory_mib=144)
    # So full that not even a rank's own handles fit.
    refused(("device cuda:0: CUDA EMULATED ON THE CPU: 12.00 MiB are free of 8.00 GiB, 7.99 GiB are held by other processes",
             "out of memory", "nvidia-smi"), held_mib=8180)


def case_nccl_that_cannot():
    two = ("--tp", "2", "--nccl-library")
    old = os.path.join(BUILD, "tests", "libold_nccl.so")
    if not os.path.exists(old):
        print("SKIPPED, NOTHING WAS TESTED: no nccl.h")
        sys.exit(77)
    refused(("failed during communicators: transport nccl: /nowhere/libnccl.so", "install NCCL", "--nccl-library"), *two,
            "/nowhere/libnccl.so", gpus=2, memory_mib=256)
    refused(("transport nccl: NCCL 2.12.5", "is too old, 2.18 or newer is needed"), *two, old, gpus=2, memory_mib=256)
    os.environ["OLD_NCCL_VERSION"] = "22809"
    refused(("NCCL 2.28.9", "--ranks-per-device is 2: 2.30 or newer can share"), *two, old, "--ranks-per-device", "2", memory_mib=256)


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
