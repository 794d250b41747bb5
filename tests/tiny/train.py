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

import numpy as np
import torch
from torch.nn import functional as F

import network
import optimizer
import parallel
import recipe
import samples
import scenes
import texts
import tokens

# The order in which kinds are unlocked; before its turn a kind is drawn rarely. Shares of the drawing once unlocked.
KINDS = {"objects": 3.0, "copy": 0.5, "panels": 2.0, "compare": 0.5, "printed": 4.0, "needle": 1.0, "chat": 0.5, "bars": 2.0,
         "table": 2.0, "sort": 0.5, "add": 1.0, "subtract": 1.0}
UNLOCKED_AT_FIRST = 2
UNLOCK_NEXT_AT = 0.75  # the running accuracy that every unlocked kind must have
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def collate(encoded):
    """Padded batch of encoded samples."""
    longest = max(len(e[0]) for e in encoded)
    t = -(-longest // network.BLOCK) * network.BLOCK
    ids = np.zeros((len(encoded), t), dtype=np.int64)
    real, wanted, targets, answers, tiles, rows, first_tile = [], [], [], [], [], [], 0
    patches = recipe.MODEL.vision.side**2
    for i, (e, spans, cut, order) in enumerate(encoded):
        ids[i, :len(e)] = e
        real.append(np.arange(len(e)) + i * t)
        for k, (start, end) in enumerate(spans):
            answers.append((i, k, len(wanted), len(wanted) + end + 1 - start))
            wanted.extend(range(i * t + start - 1, i * t + end))
            targets.extend(e[start:end + 1])
        if cut is not None:
            rows.append(np.where(order < 0, -1, order + first_tile * patches))
            tiles.append(cut)
            first_tile += len(cut)
    pixels = None
    if tiles:
        pixels = (torch.from_numpy(np.concatenate(tiles)).float() / 255 - MEAN) / STD
        rows = np.concatenate(rows)
        rows = torch.from_numpy(np.where(rows < 0, first_tile * patches, rows))
    return (torch.from_numpy(ids), torch.from_numpy(np.concatenate(real)), pixels, rows if tiles else None,
            torch.tensor(wanted)), torch.tensor([int(x) for x in targets]), answers


def exact(logits, targets, answers):
    """For each answer: were all its tokens, the end included, the likeliest ones? Greedy decoding gives it then."""
    right = (logits.argmax(-1) == targets).numpy()
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
def evaluate(net, held_out, tokenizer, batch=32):
    """{task: accuracy} of last answers."""
    seen = {}
    order = sorted(range(len(held_out)), key=lambda i: held_out[i].image is None)
    for at in range(0, len(order), batch):
        chosen = [held_out[i] for i in order[at:at + batch]]
        inputs, targets, answers = collate([samples.encode(s, tokenizer) for s in chosen])
        logits, _ = net(*inputs)
        for i, k, ok in exact(logits, targets, answers):
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


def micro_batches(seed, step, size, parts, weights, tokenizer):
    """The samples of a step, encoded, sorted by length and cut into parts: less padding."""
    rng = random.Random(f"{seed} {step}")
    pairs = [(s, samples.encode(s, tokenizer)) for s in (samples.training_sample(rng, weights) for _ in range(size))]
    pairs.sort(key=lambda pair: len(pair[1][0]))
    each = -(-size // parts)
    return [pairs[i:i + each] for i in range(0, size, each)]


def compute_parts(net, args, tokenizer, job):
    """The parts of a step: each, called, adds its share to the gradients and tells (loss, balance, [(kind, right)])."""
    step, weights = job
    batches = micro_batches(args.seed, step, args.batch, args.parts, weights, tokenizer)
    total = sum(end + 1 - start for pairs in batches for _, e in pairs for start, end in e[1])

    def part(pairs):
        inputs, targets, answers = collate([e for _, e in pairs])
        logits, balance = net(*inputs)
        loss = F.cross_entropy(logits, targets, reduction="sum") / total
        (loss + 0.01 / args.parts * balance).backward()
        right = [(samples.KIND_OF_TASK[pairs[i][0].turns[k][0]], ok) for i, k, ok in exact(logits.detach(), targets, answers)]
        return loss.item(), float(balance.detach()), right

    return [lambda pairs=pairs: part(pairs) for pairs in batches]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--parts", type=int, default=4, help="forward passes of one step, shortest samples together")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each, that share the parts")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evaluate", type=int, default=500, help="steps between evaluations")
    args = parser.parse_args()
    os.makedirs(args.run, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = tokens.load_or_build(os.path.join(args.run, "tokenizer.json"))
    net = network.Network()
    optimizers = optimizer.make(net, args.lr)
    averages, step, accuracy, open_kinds = Averages(net), 0, {}, 0
    path = os.path.join(args.run, "state.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        averages.state, step, accuracy = saved["averages"], saved["step"], saved["accuracy"]
        open_kinds = saved["open_kinds"]
        for o, s in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(s)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, step {step}", flush=True)
    held_out = held_out_samples(40)
    workers = parallel.Workers(net, args.parts, args.processes, lambda job: compute_parts(net, args, tokenizer, job))
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
        told = workers.step((step, kind_weights(accuracy, open_kinds)))
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
                seconds_per_step=round((now - window) / 25, 2), unlocked=open_kinds, train={k: round(v, 2) for k, v in accuracy.items()})
            losses, window = [], now
        if step % args.evaluate == 0:
            live = {k: v.clone() for k, v in net.state_dict().items()}
            net.load_state_dict(averages.state)
            result = evaluate(net, held_out, tokenizer)
            net.load_state_dict(live)
            say(step=step, held_out=result, mean=round(sum(result.values()) / len(result), 3))
            window = time.monotonic()
        if time.monotonic() - saved_at > 180:
            save()
            saved_at = time.monotonic()
    save()


if __name__ == "__main__":
    main()
