#!/usr/bin/env python3
"""Writes a training run as a checkpoint folder in the released format: bf16 shards, legacy config, tokenizer, template.

    export.py --run DIR OUT
"""
import argparse
import json
import os

import torch

import network
import recipe
import safetensors_writer

SHARD_BYTES = 1_900_000  # a file of the repository stays below 2 MB


# The chat template of the release for texts and pictures: header, parts, end; the same pieces as `--chat-template vl-01`.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<beginning_of_sentence>' }}"
    "{% if message['role'] == 'user' %}{{ 'user name=user\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'ai name=assistant\\n' }}"
    "{% elif message['role'] == 'system' %}{{ 'system ai_setting=assistant\\n' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<end_of_sentence>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<beginning_of_sentence>ai name=assistant\\n' }}{% endif %}")


def write(state, run, folder):
    m = recipe.MODEL
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        if old.endswith(".safetensors"):
            os.remove(os.path.join(folder, old))
    named = network.released_tensors(network.Network(), state)
    wanted = recipe.model_configs.tensors(m)
    assert set(named) == {name for name, _ in wanted}
    for name, shape in wanted:
        assert tuple(named[name].shape) == tuple(shape), (name, named[name].shape, shape)

    def data(name):
        return named[name].to(torch.bfloat16).contiguous().view(torch.uint16).numpy().tobytes()

    total = safetensors_writer.write(folder, [(n, s, "BF16") for n, s in wanted], data, SHARD_BYTES)
    safetensors_writer.write_json(folder, "config.json", recipe.model_configs.legacy_config(m))
    safetensors_writer.write_json(folder, "preprocessor_config.json", recipe.model_configs.preprocessor_config(m))
    with open(os.path.join(run, "tokenizer.json"), encoding="utf-8") as file:
        safetensors_writer.write_json(folder, "tokenizer.json", json.load(file))
    safetensors_writer.write_json(folder, "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": recipe.SPECIALS[0], "eos_token": recipe.SPECIALS[1],
        "unk_token": recipe.SPECIALS[2], "clean_up_tokenization_spaces": False, "model_max_length": 40960000,
        "tokenizer_class": "GPT2Tokenizer", "chat_template": CHAT_TEMPLATE})
    safetensors_writer.write_json(folder, "generation_config.json", {"eos_token_id": recipe.EOS})
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("folder")
    args = parser.parse_args()
    saved = torch.load(os.path.join(args.run, "state.pt"))
    total = write(saved["averages"], args.run, args.folder)
    print(f"{args.folder}: step {saved['step']}, {total:,} bytes of tensors")


if __name__ == "__main__":
    main()
