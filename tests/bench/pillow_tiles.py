"""The peer of the row of pictures: what the reference's processor does with Pillow and numpy."""
import io
import pathlib
import sys

import numpy as np
import PIL
from PIL import Image, ImageOps

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden" / "image"))
from make_image_goldens import RELEASED, fit, select_best_resolution  # noqa: E402

VERSION = PIL.__version__
TILE = RELEASED["tile"]
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def photograph(path, height=1836, width=3264):
    """A JPEG with the spectrum of a photograph: noise whose amplitude falls with the frequency."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(7)
        radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        amplitude = 1 / np.maximum(radius, 1 / width) ** 1.1

        def field():
            waves = amplitude * np.exp(2j * np.pi * rng.uniform(size=amplitude.shape))
            values = np.fft.irfft2(waves, s=(height, width))
            return values / values.std()
        luma, first, second = field(), field(), field()
        rgb = np.stack([luma + 0.35 * first, luma - 0.15 * first + 0.2 * second, luma - 0.3 * second], -1)
        Image.fromarray(np.clip(118 + 52 * rgb, 0, 255).astype(np.uint8)).save(path, quality=90, subsampling="4:2:0")
    return path


def tiles(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    height, width = select_best_resolution((image.height, image.width), RELEASED["pinpoints"])
    new_height, new_width, top, left = fit(image.height, image.width, height, width)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image.resize((new_width, new_height), Image.Resampling.BICUBIC), (left, top))
    grid = np.asarray(canvas).reshape(height // TILE, TILE, width // TILE, TILE, 3).transpose(0, 2, 1, 3, 4)
    thumbnail = np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return np.concatenate([thumbnail[None], grid.reshape(-1, TILE, TILE, 3)])


def normalised_tiles(data):
    values = tiles(data).astype(np.float32)
    values *= 1 / (255 * STD)
    values -= MEAN / STD
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def compare(data, path):
    expected = tiles(data)
    found = np.fromfile(path, np.uint8).reshape(expected.shape)
    off = np.abs(found.astype(np.int16) - expected).max()
    # Pillow 13 orders the passes by itself where the height shrinks more.
    if off > 2:
        raise AssertionError(f"tiles differ from Pillow's by {off}")
