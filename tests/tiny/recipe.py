"""What fulger-tiny is: its sizes, its special tokens, and where the shared helpers of the golden scripts lie."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden", "model"))

import model_configs  # noqa: E402  (the path above)

SPECIALS = ("<beginning_of_sentence>", "<end_of_sentence>", "<end_of_document>", "<function_call>", "<reserved_0>",
            "<reserved_1>", "<image>", "<reserved_2>")
VOCAB = 512
FIRST_SPECIAL = VOCAB - len(SPECIALS)
BOS, EOS, IMAGE = (FIRST_SPECIAL + SPECIALS.index(s) for s in (SPECIALS[0], SPECIALS[1], "<image>"))

# The network of the release in small: 16 layers in the 7+1 pattern, 8 experts of which 2 work, inner width != hidden,
# tiles of 48 pixels (16 patches of 12), so that a picture of 96 x 96 is four tiles and the thumbnail in 88 tokens.
MODEL = model_configs.Model(
    id="fulger-tiny", vocab=VOCAB, hidden=96, inter=64, layers=16, heads=8, kv_heads=4, head_dim=16, experts=8,
    rotary=8, theta=1e7, softmax_every=8, alphas=(model_configs.deepnorm(16),) * 3, image_token=IMAGE,
    vision=model_configs.Vision(hidden=96, inter=192, layers=4, heads=6, tile=48, patch=12,
                                pinpoints=model_configs.pinpoints(48, 3, 6)))
