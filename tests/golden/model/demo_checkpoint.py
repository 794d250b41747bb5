#!/usr/bin/env python3
"""Writes the checkpoint of `make demo`: the released format at toy size, with a byte-level tokenizer. Untrained: it
answers with noise, but it takes the whole way (pictures, lightning and softmax layers, experts, special tokens).

    demo_checkpoint.py /tmp/demo            about 4 million parameters, bf16, a few seconds of plain python3
"""
import argparse

import model_configs
import safetensors_writer
import tiny_checkpoint

# The released vocabulary starts its added tokens at 200019; here the same order starts at 280.
SPECIALS = ("<beginning_of_sentence>", "<end_of_sentence>", "<end_of_document>", "<function_call>", "<reserved_0>",
            "<reserved_1>", "<image>", "<reserved_2>")
FIRST_SPECIAL = 280
MERGES = ("h e", "i n", "Ġ t", "r e", "Ġ a", "o n", "Ġt he", "e r", "a t", "Ġ s", "e n", "i s", "o r", "e s", "Ġ w",
          "in g", "Ġ o", "i t", "a n", "o u", "Ġo f", "Ġa n", "m a", "Ġan d")
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_alphabet():
    """The character that stands for each byte: itself where it prints, else the next unused one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def tokenizer():
    """tokenizer.json: 256 bytes, one token for each merge, then the special tokens."""
    vocab = {character: byte for byte, character in byte_alphabet().items()}
    for merge in MERGES:
        left, right = merge.split(" ")
        assert left in vocab and right in vocab and left + right not in vocab, merge
        vocab[left + right] = len(vocab)
    assert len(vocab) == FIRST_SPECIAL
    added = [{"id": FIRST_SPECIAL + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, text in enumerate(SPECIALS)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
                {**byte_level, "use_regex": False}]},
            "post_processor": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": list(MERGES)}}


def tokenizer_config():
    return {"add_prefix_space": False, "bos_token": SPECIALS[0], "eos_token": SPECIALS[1], "unk_token": SPECIALS[2],
            "clean_up_tokenization_spaces": False, "model_max_length": 40960000, "tokenizer_class": "GPT2Tokenizer"}


def write_demo(folder):
    m = model_configs.MODELS["demo"]
    assert m.vocab == FIRST_SPECIAL + len(SPECIALS)
    assert m.image_token == FIRST_SPECIAL + SPECIALS.index("<image>")
    total = tiny_checkpoint.write_checkpoint(m, folder, dtype="BF16")
    safetensors_writer.write_json(folder, "tokenizer.json", tokenizer())
    safetensors_writer.write_json(folder, "tokenizer_config.json", tokenizer_config())
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    args = parser.parse_args()
    print(f"{args.folder}: demo, {write_demo(args.folder):,} bytes of tensors")


if __name__ == "__main__":
    main()
