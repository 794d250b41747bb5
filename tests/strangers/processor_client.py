"""processor_client.py URL MODEL_DIR PICTURE_VALUES FOLDER: transformers' processor on a checkpoint's folder against ours.

The released processor is code of its own that we do not have. A transformers release that knows minimax_vl_01 gives it by
AutoProcessor; until then it is put together from transformers' parts: AutoTokenizer on the folder's files, LLaVA-NeXT's
Pillow image processor with the folder's preprocessor_config.json, and LLaVA-NeXT's expansion of picture tokens. Two things
are not LLaVA-NeXT's: the size of the resized picture is rounded down, and the chat template is ours.
"""
import base64
import json
import os
import random
import subprocess
import sys
import urllib.request

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer
from transformers.models.llava_next import image_processing_pil_llava_next as llava
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden", "image"))
from pictures import picture  # noqa: E402

SIZES = [(56, 56), (1, 1), (7, 300), (300, 7), (113, 57), (480, 640), (333, 201), (90, 400), (57, 56), (224, 224)]


def rounded_down(image, target_resolution, input_data_format):
    """get_patch_output_size of the model at hand: floor where LLaVA-NeXT has ceil."""
    height, width = image.shape[-2:]
    target_height, target_width = target_resolution
    if width / height > target_width / target_height:
        return target_width * height // width, target_width
    return target_height, target_height * width // height


def processor_of(folder):
    with open(os.path.join(folder, "preprocessor_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    if "minimax_vl_01" in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
        return AutoProcessor.from_pretrained(folder, use_fast=False), config, "AutoProcessor"
    llava.get_patch_output_size = rounded_down
    width, height = config["size"]
    size = {"height": height, "width": width}
    images = llava.LlavaNextImageProcessorPil(
        size=size, crop_size=size, image_grid_pinpoints=config["image_grid_pinpoints"], image_mean=config["image_mean"],
        image_std=config["image_std"], do_center_crop=False)
    with open(os.path.join(HERE, "..", "golden", "text", "chat_template_vl01.jinja"), encoding="utf-8") as file:
        template = file.read()
    # The picture's tokens are the patches alone: no class token to add or to drop.
    processor = LlavaNextProcessor(images, AutoTokenizer.from_pretrained(folder), patch_size=config["patch_size"],
                                   vision_feature_select_strategy="full", chat_template=template)
    return processor, config, "LLaVA-NeXT's processor"


def ours(binary, folder, files, out):
    """Of each picture: its size, its tiles as they are sent, and as a rank normalises them."""
    subprocess.run([binary, folder, out, *files], check=True)
    data, at, found = open(out, "rb").read(), 0, []

    def take(kind, *shape):
        nonlocal at
        values = np.frombuffer(data, kind, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values
    for _ in files:
        height, width, tiles, side, patch = (int(v) for v in take(np.int32, 5))
        pixels = take(np.uint8, tiles, side, side, 3).transpose(0, 3, 1, 2)
        grid = side // patch
        values = take(np.float32, tiles, grid, grid, 3, patch, patch).transpose(0, 3, 1, 4, 2, 5)
        found.append(((height, width), pixels, values.reshape(tiles, 3, side, side)))
    assert at == len(data)
    return found


def tokens_of(url, messages):
    body = json.dumps({"messages": messages}).encode()
    request = urllib.request.Request(url + "/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["tokens"]


def check_pixels(processor, images, values):
    as_sent = processor.image_processor(images, do_rescale=False, do_normalize=False, do_pad=False, return_tensors=None)
    normalised = processor.image_processor(images, do_pad=False, return_tensors=None)
    worst = 0.0
    for i, (size, pixels, floats) in enumerate(values):
        assert tuple(int(v) for v in normalised["image_sizes"][i]) == size, (normalised["image_sizes"][i], size)
        theirs = np.asarray(as_sent["pixel_values"][i])
        assert theirs.shape == pixels.shape and np.array_equal(theirs, pixels), (i, size, theirs.shape, pixels.shape)
        difference = np.abs(np.asarray(normalised["pixel_values"][i], np.float64) - floats).max()
        worst = max(worst, float(difference))
        assert floats.shape == pixels.shape and floats.min() < floats.max()
    assert worst < 2e-6, worst
    return worst


def check_ids(processor, url, images, urls):
    # No names of control tokens: typed by a user they are text here, which is not so in transformers.
    texts = ["What is this?", "line\n line", "ț ß 漢字", " "]
    rng = random.Random(9)
    for _ in range(12):
        theirs, sent, chosen = [], [], []
        for role in ["system"] * rng.randrange(2) + ["user", "assistant", "user"][rng.choice([0, 0, 2]):]:
            parts = [("text", rng.choice(texts))]
            if role == "user":
                for _ in range(rng.randrange(3)):
                    parts.insert(rng.randrange(len(parts) + 1), ("image", rng.randrange(len(images))))
            theirs.append({"role": role, "content": [
                {"type": "image"} if kind == "image" else {"type": "text", "text": value} for kind, value in parts]})
            sent.append({"role": role, "content": [
                {"type": "image_url", "image_url": {"url": urls[value]}} if kind == "image"
                else {"type": "text", "text": value} for kind, value in parts]})
            chosen += [images[value] for kind, value in parts if kind == "image"]
        text = processor.apply_chat_template(theirs, add_generation_prompt=True, tokenize=False)
        ids = processor(text=text, images=chosen or None, return_tensors=None)["input_ids"]
        ids = [int(v) for v in (ids[0] if isinstance(ids[0], (list, np.ndarray)) else ids)]
        mine = tokens_of(url, sent)
        assert ids == mine, (text, len(ids), len(mine), next(i for i, p in enumerate(zip(ids, mine)) if p[0] != p[1]))


def main():
    url, folder, binary, scratch = sys.argv[1:5]
    processor, _, name = processor_of(folder)
    images, files, urls = [], [], []
    for seed, (height, width) in enumerate(SIZES):
        image = Image.fromarray(picture(height, width, seed))
        path = os.path.join(scratch, f"{seed}.png")
        image.save(path)
        images.append(image)
        files.append(path)
        with open(path, "rb") as file:
            urls.append("data:image/png;base64," + base64.b64encode(file.read()).decode())
    worst = check_pixels(processor, images, ours(binary, folder, files, os.path.join(scratch, "values")))
    check_ids(processor, url, images, urls)
    print(f"{name} (transformers {transformers.__version__}, Pillow {PIL.__version__}): image_sizes and uint8 pixels equal, "
          f"normalised ones to {worst:.1e}, input_ids equal")


if __name__ == "__main__":
    main()
