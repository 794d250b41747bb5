#!/usr/bin/env python3
"""Writes distributions.json: what transformers' logits processors leave of given logits.

The order is vLLM's: allowed ids, minimum length, bias, penalties, temperature, min_p, top_k, top_p.
"""
import json
import pathlib

import torch
from transformers import (MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

VOCABULARY = 48


def presence_and_frequency(scores, output, presence, frequency):
    """OpenAI: mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence."""
    counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=VOCABULARY).float()
    return scores - counts * frequency - (counts > 0).float() * presence


def distribution(logits, prompt, output, unused, p):
    out = float("-inf")
    raw = logits.clone()
    raw[unused] = out
    logprobs = torch.log_softmax(raw.double(), dim=-1)
    scores = raw.clone()
    if p.get("allowed_ids"):
        mask = torch.full_like(scores, out)
        mask[p["allowed_ids"]] = 0
        scores = scores + mask
    if len(output) < p.get("min_tokens", 0):
        scores[p["stop_ids"]] = out
    ids = torch.tensor([prompt + output], dtype=torch.long)
    scores = scores[None, :]
    if p.get("logit_bias"):
        bias = {(int(k),): float(v) for k, v in p["logit_bias"].items()}
        scores = SequenceBiasLogitsProcessor(bias)(ids, scores)
    if p.get("repetition_penalty", 1) != 1:
        scores = RepetitionPenaltyLogitsProcessor(p["repetition_penalty"])(ids, scores)
    scores = presence_and_frequency(scores, output, p.get("presence_penalty", 0), p.get("frequency_penalty", 0))
    scores = TemperatureLogitsWarper(p["temperature"])(ids, scores)
    if p.get("min_p", 0) > 0:
        scores = MinPLogitsWarper(p["min_p"])(ids, scores)
    if p.get("top_k", 0) > 0:
        scores = TopKLogitsWarper(p["top_k"])(ids, scores)
    if p.get("top_p", 1) < 1:
        scores = TopPLogitsWarper(p["top_p"])(ids, scores)
    probabilities = torch.softmax(scores[0].double(), dim=-1)
    order = sorted((i for i in range(VOCABULARY) if probabilities[i] > 0), key=lambda i: (-probabilities[i], i))
    return logprobs, [[i, probabilities[i].item()] for i in order]


PARAMS = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.8, "top_k": 40},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 1.0, "top_p": 0.95},
    {"temperature": 1.3, "top_p": 0.01},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 2.0, "min_p": 0.02},
    {"temperature": 0.9, "top_k": 12, "top_p": 0.8},
    {"temperature": 1.1, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 1.0, "repetition_penalty": 1.3},
    {"temperature": 1.0, "repetition_penalty": 0.8},
    {"temperature": 1.0, "presence_penalty": 1.2},
    {"temperature": 1.0, "frequency_penalty": 0.7},
    {"temperature": 1.0, "frequency_penalty": -0.4, "presence_penalty": -0.3},
    {"temperature": 0.7, "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.2, "top_p": 0.9},
    {"temperature": 1.0, "logit_bias": {"3": 4.0, "7": -100.0, "11": 1.5}},
    {"temperature": 1.0, "logit_bias": {"5": 2.0}, "repetition_penalty": 1.5, "top_k": 8},
    {"temperature": 1.0, "allowed_ids": [2, 9, 9, 30, 31]},
    {"temperature": 1.0, "allowed_ids": [1, 4, 5, 6, 20, 21], "top_p": 0.7},
    {"temperature": 1.0, "stop_ids": [0, 6], "min_tokens": 10},
    {"temperature": 1.0, "stop_ids": [0, 6], "min_tokens": 6},
    {"temperature": 0.5, "stop_ids": [1, 2], "min_tokens": 9, "allowed_ids": [1, 2, 3, 4], "presence_penalty": 0.9},
]


def main():
    torch.manual_seed(20260611)
    cases = []
    for number, params in enumerate(PARAMS):
        logits = (torch.randn(VOCABULARY) * (1.0 + number % 4)).float()
        prompt = torch.randint(0, VOCABULARY - 3, (10,)).tolist()
        output = torch.randint(0, 12, (6,)).tolist()
        unused = [45, 46, 47] if number % 2 else []
        if unused:
            logits[unused] = 30.0  # would win everything
        logprobs, left = distribution(logits, prompt, output, unused, params)
        cases.append({
            "params": params, "logits": [x.item() for x in logits], "prompt": prompt, "output": output,
            "unused": unused, "left": left,
            "logprobs": [None if i in unused else logprobs[i].item() for i in range(VOCABULARY)],
        })
    path = pathlib.Path(__file__).with_name("distributions.json")
    path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
