"""The tokenizer: byte-level BPE trained by HF tokenizers on the questions and answers of the generator.

Digits and words in capitals stay one token a character: they are what the model reads, copies and computes with.
"""
import os
import random
import re

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import recipe
import scenes
import texts

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def corpus(seed, count):
    rng = random.Random(seed)
    kinds = list(scenes.KINDS) + list(texts.KINDS)
    for i in range(count):
        kind = kinds[i % len(kinds)]
        if kind in scenes.KINDS:
            turns = scenes.KINDS[kind](rng).questions
        else:
            turns = texts.KINDS[kind](rng)[1]
        yield "user name=user\n"
        yield "ai name=assistant\n"
        for _, question, answer in turns:
            for text in (question, answer):
                text = re.sub(r" ?[0-9]", " ", text)
                yield re.sub(r" ?\b[A-Z0-9]+\b", " ", text)
    for text in ("system ai_setting=assistant\n", "You are a helpful assistant.", "Hello!", "Describe this picture."):
        for _ in range(10):
            yield text


def build(seed=1, count=6000):
    t = tokenizers.Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=recipe.FIRST_SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(corpus(seed, count), trainer)
    missing = recipe.FIRST_SPECIAL - t.get_vocab_size()
    assert missing >= 0
    # Fewer merges than room: the empty ids between stay unused, as the release's last rows do.
    fillers = [f"<unused_{i}>" for i in range(missing)]
    t.add_special_tokens(fillers + list(recipe.SPECIALS))
    assert t.token_to_id("<image>") == recipe.IMAGE and t.token_to_id(recipe.SPECIALS[1]) == recipe.EOS
    return t


def load_or_build(path):
    if not os.path.exists(path):
        build().save(path)
    return tokenizers.Tokenizer.from_file(path)


if __name__ == "__main__":
    built = build()
    print(built.get_vocab_size(), built.encode("What colour is the circle? Read: HAT 482").tokens)
