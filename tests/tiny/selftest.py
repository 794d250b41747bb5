#!/usr/bin/env python3
"""The scripts of this folder on an untrained network: processes and GPU feed give the same gradients, both forms of the
experts agree, and an exported folder answers the same in the reference and in Fulger.

    selftest.py BUILD_DIR
"""
import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile

NEEDS = ("torch", "transformers", "tokenizers", "numpy", "PIL")
HERE = os.path.dirname(os.path.abspath(__file__))


def gradients(net):
    import torch
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in net.parameters()])


def check_gradients(net, tokenizer):
    import feed
    import parallel
    import torch
    import train
    args = argparse.Namespace(seed=1, batch=6, parts=2, device="cpu", processes=2)
    weights = train.kind_weights({}, 2)
    workers = parallel.Workers(net, 2, 2, lambda job: train.parts_of(net, args, tokenizer, job))
    source = feed.Feed(args, tokenizer, 0, weights)
    workers.step((0, weights))
    shared = gradients(net)
    workers.close()
    for p in net.parameters():
        p.grad = None
    train.fed_step(net, args, source.take(weights))
    source.pool.terminate()
    assert torch.equal(shared, gradients(net)) and shared.abs().max() > 0


def check_experts(layer):
    import torch
    x = torch.randn(50, layer.m.hidden)
    top, index = torch.topk(torch.softmax(x @ layer.gate.T, -1), 2)
    assert torch.allclose(layer.dense(x, top, index), layer.sorted(x, top, index), atol=1e-6)


def main():
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        print(f"SKIPPED: {sys.executable} has no {', '.join(missing)}")
        return 77
    import export
    import network
    import tokens
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = network.Network()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tokens.load_or_build(os.path.join(folder, "tokenizer.json"))
        check_gradients(net, tokenizer)
        check_experts(net.layers[0])
        export.write({k: v.detach() for k, v in net.state_dict().items()}, folder, os.path.join(folder, "out"))
        subprocess.run([sys.executable, os.path.join(HERE, "evaluate.py"), os.path.join(folder, "out"), "--prove",
                        "--fulger", os.path.abspath(sys.argv[1]), "--limit", "12"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
