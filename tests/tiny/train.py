#!/usr/bin/env python3
"""Trains fulger-tiny from nothing; stops and goes on at any time.

    train.py --run DIR [--steps N] [--batch 32] [--lr 0.002] [--minutes M]

DIR/state.pt is written every few minutes and read at start; DIR/log.jsonl gets a line every 25 steps and the held-out
accuracies every --evaluate steps. The samples of step s are a function of (seed, s) and of the tasks' weights, which
follow the accuracies seen so far: what is learnt is asked less.
"""
import argparse
import json
import os
import random
import signal
import time

import torch
from torch.nn import functional as F

import batches
import feed
import network
import optimizer
import parallel
import samples
import tokens

# The order in which kinds are unlocked; before its turn a kind is drawn rarely. Shares of the drawing once unlocked.
KINDS = {"objects": 3.0, "copy": 0.5, "panels": 2.0, "compare": 0.5, "printed": 4.0, "needle": 1.0, "chat": 0.5, "bars": 2.0,
         "table": 2.0, "sort": 0.5, "add": 1.0, "subtract": 1.0}
UNLOCKED_AT_FIRST = 2
UNLOCK_NEXT_AT = 0.75  # the running accuracy that every unlocked kind must have

def to_device(inputs, device):
    return tuple(x if x is None else x.to(device) for x in inputs)


def exact(logits, targets, answers):
    """For each answer: were all its tokens, the end included, the likeliest ones? Greedy decoding gives it then."""
    right = (logits.argmax(-1) == targets).cpu().numpy()
    return [(i, k, bool(right[a:b].all())) for i, k, a, b in answers]


def held_out_samples(per_kind, seed=77):
    out = []
    for kind in KINDS:
        rng = random.Random(f"{seed} {kind}")
        for _ in range(per_kind):
            turns, image = samples.draw(kind, rng, "held-out")
            if image is not None:
                turns = [rng.choice(turns)]
            out.append(samples.Sample(turns, image))
    return out


@torch.no_grad()
def evaluate(net, held_out, tokenizer, device, batch=32):
    """{task: accuracy} of last answers."""
    seen = {}
    order = sorted(range(len(held_out)), key=lambda i: held_out[i].image is None)
    for at in range(0, len(order), batch):
        chosen = [held_out[i] for i in order[at:at + batch]]
        inputs, targets, answers = batches.collate([samples.encode(s, tokenizer) for s in chosen])
        logits, _ = net(*to_device(inputs, device))
        for i, k, ok in exact(logits, targets.to(device), answers):
            if k == len(chosen[i].turns) - 1:
                seen.setdefault(chosen[i].turns[k][0], []).append(ok)
    return {task: round(sum(v) / len(v), 3) for task, v in sorted(seen.items())}


class Averages:
    """A running mean of the weights: what is exported, in place of a decayed learning rate."""

    def __init__(self, net):
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net, step):
        keep = min(0.998, (1 + step) / (20 + step))
        for k, v in net.state_dict().items():
            self.state[k].lerp_(v, 1 - keep)


def unlocked(accuracy, before):
    """How many kinds are drawn in full."""
    now = max(before, UNLOCKED_AT_FIRST)
    if now < len(KINDS) and all(accuracy.get(k, 0.0) > UNLOCK_NEXT_AT for k in list(KINDS)[:now]):
        now += 1
    return now


def kind_weights(accuracy, open_kinds):
    return {k: w * (0.2 + 0.8 * (1 - accuracy.get(k, 0.0) ** 2)) * (1.0 if i < open_kinds else 0.02)
            for i, (k, w) in enumerate(KINDS.items())}


def backward(net, args, batch, total):
    """Adds one collated batch's share to the gradients; (loss, balance, [(kind, right)])."""
    inputs, targets, answers, kinds = batch
    targets = targets.to(args.device)
    logits, balance = net(*to_device(inputs, args.device))
    loss = F.cross_entropy(logits, targets, reduction="sum") / total
    (loss + 0.01 * len(targets) / total * balance).backward()
    right = [(kinds[i][k], ok) for i, k, ok in exact(logits.detach(), targets, answers)]
    return loss.item(), float(balance.detach()), right


def parts_of(net, args, tokenizer, job):
    """The parts of a step, for parallel.Workers."""
    step, weights = job
    drawn = [batches.collated(pairs) for pairs in
             batches.micro_batches(args.seed, step, args.batch, args.parts, weights, tokenizer)]
    total = sum(len(targets) for _, targets, _, _ in drawn)
    return [lambda batch=batch: backward(net, args, batch, total) for batch in drawn]


def fed_step(net, args, drawn):
    """The same on a GPU: all parts, one after another."""
    total = sum(len(targets) for _, targets, _, _ in drawn)
    return [backward(net, args, batch, total) for batch in drawn]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--parts", type=int, default=4, help="forward passes of one step, shortest samples together")
    parser.add_argument("--processes", type=int, default=2,
                        help="on CPUs: of one thread each, that share the parts; with a GPU: that draw the samples")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evaluate", type=int, default=500, help="steps between evaluations")
    args = parser.parse_args()
    os.makedirs(args.run, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = tokens.load_or_build(os.path.join(args.run, "tokenizer.json"))
    net = network.Network()
    path = os.path.join(args.run, "state.pt")
    saved = torch.load(path, map_location="cpu") if os.path.exists(path) else None
    step, accuracy, open_kinds = (saved["step"], saved["accuracy"], saved["open_kinds"]) if saved else (0, {}, 0)
    held_out = held_out_samples(40)
    if args.device == "cuda":  # its processes are forked before CUDA starts
        torch.set_float32_matmul_precision("high")
        source = feed.Feed(args, tokenizer, step, kind_weights(accuracy, unlocked(accuracy, open_kinds)))
        net.to("cuda")
        compute = lambda job: fed_step(net, args, source.take(job[1]))  # noqa: E731
        close = source.pool.terminate
    else:
        workers = parallel.Workers(net, args.parts, args.processes, lambda job: parts_of(net, args, tokenizer, job))
        compute, close = workers.step, workers.close
    optimizers, averages = optimizer.make(net, args.lr), Averages(net)
    if saved:
        net.load_state_dict(saved["net"])
        averages.state = {k: v.to(args.device) for k, v in saved["averages"].items()}
        for o, s in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(s)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, step {step}", flush=True)
    log = open(os.path.join(args.run, "log.jsonl"), "a", encoding="utf-8")

    def say(**line):
        text = json.dumps(line)
        print(text, flush=True)
        log.write(text + "\n")
        log.flush()

    def save():
        torch.save({"net": net.state_dict(), "averages": averages.state, "step": step, "accuracy": accuracy,
                    "open_kinds": open_kinds,
                    "optimizers": [o.state_dict() for o in optimizers]}, path + ".new")
        os.replace(path + ".new", path)

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    signal.signal(signal.SIGINT, lambda *_: stopping.append(1))
    begun = saved_at = window = time.monotonic()
    losses = []
    while step < args.steps and not stopping and time.monotonic() - begun < args.minutes * 60:
        open_kinds = unlocked(accuracy, open_kinds)
        told = compute((step, kind_weights(accuracy, open_kinds)))
        for o in optimizers:
            for group in o.param_groups:
                group["lr"] = args.lr * min(1.0, (step + 1) / 100)
        loss_sum = sum(loss for loss, _, _ in told)
        balance = sum(b for _, b, _ in told) / len(told)
        for kind, ok in (pair for _, _, pairs in told for pair in pairs):
            accuracy[kind] = accuracy.get(kind, 0.0) * 0.995 + 0.005 * ok
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        averages.update(net, step)
        step += 1
        losses.append(loss_sum)
        if step % 25 == 0:
            now = time.monotonic()
            say(step=step, loss=round(sum(losses) / len(losses), 4), balance=round(balance, 3),
                seconds_per_step=round((now - window) / 25, 2), unlocked=open_kinds,
                train={k: round(v, 2) for k, v in accuracy.items()})
            losses, window = [], now
        if step % args.evaluate == 0:
            live = {k: v.clone() for k, v in net.state_dict().items()}
            net.load_state_dict(averages.state)
            result = evaluate(net, held_out, tokenizer, args.device)
            net.load_state_dict(live)
            say(step=step, held_out=result, mean=round(sum(result.values()) / len(result), 3))
            window = time.monotonic()
        if time.monotonic() - saved_at > 180:
            save()
            saved_at = time.monotonic()
    save()
    close()


if __name__ == "__main__":
    main()
