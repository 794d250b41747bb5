"""Small encoded pictures of every kind that clients send, and what Pillow reads from them."""
import hashlib
import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from pictures import picture

ORIENTATION = 0x0112


def exif(orientation, big_endian=False):
    """A directory with another tag before the orientation, in either byte order."""
    order, magic = (">", b"MM\0*") if big_endian else ("<", b"II*\0")
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 99) + struct.pack(order + "HHIHH", ORIENTATION, 3, 1,
                                                                          orientation, 0)
    return magic + struct.pack(order + "IH", 8, 2) + entries + struct.pack(order + "I", 0)


def xmp(orientation):
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/>'
            "</x:xmpmeta>").encode()


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# PNG, written here because Pillow writes neither interlaced files nor all depths.
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_rows(samples, bits):
    """samples: [h, w, c] integers -> filter byte 0 and packed samples per row."""
    out = b""
    for row in samples:
        flat = row.reshape(-1)
        if bits == 16:
            data = flat.astype(">u2").tobytes()
        elif bits == 8:
            data = flat.astype(np.uint8).tobytes()
        else:
            text = "".join(format(int(v), f"0{bits}b") for v in flat)
            text += "0" * (-len(text) % 8)
            data = bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
        out += b"\0" + data
    return out


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(samples, bits, color_type, interlaced=False, before=(), after=()):
    height, width = samples.shape[:2]
    if interlaced:
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7]
        raw = b"".join(packed_rows(p, bits) for p in parts if p.size)
    else:
        raw = packed_rows(samples, bits)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + chunk(b"IDAT", zlib.compress(raw, 9)) +
            b"".join(after) + chunk(b"IEND", b""))


def png_files():
    rgb = picture(29, 37, 1)
    image = Image.fromarray(rgb)
    wide = rgb.astype(np.uint32) * 257 ^ 0x35
    gray = rgb[:, :, :1]
    alpha = np.concatenate([rgb, rgb[:, :, :1]], axis=2)
    palette = chunk(b"PLTE", picture(1, 16, 3).tobytes())
    yield "rgb.png", saved(image, "PNG", optimize=True)
    yield "rgba.png", png(alpha, 8, 6)
    yield "gray_alpha.png", png(rgb[:, :, :2], 8, 4)
    for bits in (1, 2, 4, 8):
        yield f"gray{bits}.png", png(gray >> (8 - bits), bits, 0)
        yield f"gray{bits}_interlaced.png", png(gray >> (8 - bits), bits, 0, interlaced=True)
    for bits in (1, 2, 4):
        yield f"palette{bits}.png", png(gray >> (8 - bits), bits, 3, before=[palette])
    yield "palette8.png", saved(image.quantize(200), "PNG")
    yield "palette_interlaced.png", png(gray >> 4, 4, 3, interlaced=True, before=[palette])
    yield "palette_index_too_large.png", png(gray >> 3, 8, 3, before=[palette])
    yield "palette_trns.png", png(gray >> 4, 4, 3, before=[palette, chunk(b"tRNS", bytes(range(0, 160, 16)))])
    yield "gray_trns.png", png(gray, 8, 0, before=[chunk(b"tRNS", struct.pack(">H", int(gray[3, 3, 0])))])
    yield "rgb_trns.png", png(rgb, 8, 2, before=[chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[2, 2])))])
    yield "gray16.png", png(wide[:, :, :1] % 700, 16, 0)
    yield "gray16_interlaced.png", png(wide[:, :, :1] % 300, 16, 0, interlaced=True)
    yield "gray_alpha16.png", png(wide[:, :, :2], 16, 4)
    yield "rgb16.png", png(wide, 16, 2)
    yield "rgb16_interlaced.png", png(wide, 16, 2, interlaced=True)
    yield "rgba16.png", png(np.concatenate([wide, wide[:, :, :1]], axis=2), 16, 6)
    yield "rgb_interlaced.png", png(rgb, 8, 2, interlaced=True)
    yield "rgba_interlaced.png", png(alpha, 8, 6, interlaced=True)
    yield "one_pixel.png", png(rgb[:1, :1], 8, 2)
    yield "one_pixel_interlaced.png", png(rgb[:1, :1], 8, 2, interlaced=True)
    yield "gamma_and_profile.png", png(rgb, 8, 2, before=[chunk(b"gAMA", struct.pack(">I", 100000)),
                                                         chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))])
    small = rgb[:9, :13]
    yield "exif_before.png", png(small, 8, 2, before=[chunk(b"eXIf", exif(6))])
    yield "exif_after.png", png(small, 8, 2, after=[chunk(b"eXIf", exif(8, big_endian=True))])
    raw = exif(5)
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    yield "raw_profile.png", png(small, 8, 2, before=[chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))])
    yield "raw_profile_plain.png", png(small, 8, 2, before=[chunk(b"tEXt", b"Raw profile type exif\0" + text)])
    key = b"XML:com.adobe.xmp\0"
    yield "xmp.png", png(small, 8, 2, before=[chunk(b"iTXt", key + b"\0\0\0\0" + xmp(3))])
    yield "xmp_compressed.png", png(small, 8, 2, before=[chunk(b"iTXt", key + b"\1\0\0\0" + zlib.compress(xmp(7)))])
    frames = [Image.fromarray(picture(20, 24, s)) for s in (4, 5)]
    yield "animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)


# GIF, written here for frames that Pillow would crop or move. LZW without compression: a clear code in time.
def gif_frame(indices, left, top, local=None, interlaced=False):
    height, width = indices.shape
    order = list(range(height))
    if interlaced:
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
    codes = []
    for i, value in enumerate(indices[order].reshape(-1)):
        if i % 60 == 0:
            codes.append(128)
        codes.append(int(value))
    codes.append(129)
    bits = sum(code << (8 * i) for i, code in enumerate(codes))
    data = bits.to_bytes(len(codes), "little")
    flags = (0x40 if interlaced else 0) | (0x80 | 6 if local is not None else 0)
    out = b"," + struct.pack("<HHHHB", left, top, width, height, flags) + (local or b"") + b"\7"
    for i in range(0, len(data), 255):
        part = data[i:i + 255]
        out += bytes([len(part)]) + part
    return out + b"\0"


def gif(width, height, frames, palette=None, transparent=None):
    flags = 0x80 | 6 if palette is not None else 0
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0) + (palette or b"")
    for frame in frames:
        if transparent is not None:
            out += b"!\xf9\4" + bytes([1, 0, 0, transparent]) + b"\0"
        out += frame
    return out + b";"


GIF_INDICES = picture(13, 17, 12)[:, :, 0] >> 1


def gif_files():
    image = Image.fromarray(picture(29, 37, 6))
    frames = [Image.fromarray(picture(24, 20, s)).quantize(60) for s in (7, 8, 9)]
    palette = picture(1, 128, 10).tobytes()
    other = picture(1, 128, 11).tobytes()
    ramp = bytes(v for i in range(128) for v in (i, i, i))
    indices = GIF_INDICES
    yield "palette.gif", saved(image.quantize(128), "GIF")
    yield "animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0)
    yield "gray.gif", saved(image.convert("L"), "GIF")
    yield "interlaced.gif", gif(17, 13, [gif_frame(indices, 0, 0, interlaced=True)], palette)
    yield "local_palette.gif", gif(17, 13, [gif_frame(indices, 0, 0, local=other)], palette)
    yield "local_ramp.gif", gif(17, 13, [gif_frame(indices, 0, 0, local=ramp)], palette)
    yield "no_palette.gif", gif(17, 13, [gif_frame(indices, 0, 0)])
    yield "small_frame.gif", gif(25, 21, [gif_frame(indices, 5, 3)], palette)
    yield "small_frame_transparent.gif", gif(25, 21, [gif_frame(indices, 5, 3)], palette, transparent=77)
    yield "large_frame.gif", gif(10, 21, [gif_frame(indices, 4, 2)], palette)
    yield "commented.gif", gif(17, 13, [b"!\xfe\5hello\3you\0" + gif_frame(indices, 0, 0)], palette)


def with_segment(jpeg, marker, data):
    return jpeg[:2] + bytes([0xff, marker]) + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def jpeg_files():
    rgb = picture(29, 37, 13) // 2 + 40
    image = Image.fromarray(rgb)
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"baseline_{name}.jpg", saved(image, "JPEG", quality=85, subsampling=sampling)
        yield f"progressive_{name}.jpg", saved(image, "JPEG", quality=60, subsampling=sampling, progressive=True)
    yield "low_quality.jpg", saved(image, "JPEG", quality=8)
    yield "restarts.jpg", saved(image, "JPEG", quality=80, restart_marker_blocks=2)
    yield "optimized.jpg", saved(image, "JPEG", quality=90, optimize=True)
    yield "rgb_colours.jpg", saved(image, "JPEG", quality=90, keep_rgb=True)
    yield "gray.jpg", saved(image.convert("L"), "JPEG", quality=80)
    cmyk = Image.fromarray(np.concatenate([rgb, rgb[:, :, :1] // 2], axis=2), "CMYK")
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=85)
    # The same samples under a marker that says they are YCCK.
    data = saved(cmyk, "JPEG", quality=85)
    adobe = data.index(b"Adobe")
    yield "ycck.jpg", data[:adobe + 11] + b"\2" + data[adobe + 12:]
    yield "one_pixel.jpg", saved(image.crop((0, 0, 1, 1)), "JPEG")
    yield "seventeen.jpg", saved(image.crop((0, 0, 17, 16)), "JPEG", subsampling=2)
    small = saved(Image.fromarray(picture(8, 16, 14)), "JPEG", quality=95)
    for orientation in range(0, 10):
        yield f"exif{orientation}.jpg", with_segment(small, 0xe1, b"Exif\0\0" + exif(orientation, orientation % 2 == 0))
    yield "xmp6.jpg", with_segment(small, 0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))
    yield "exif1_wins_over_xmp6.jpg", with_segment(
        with_segment(small, 0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6)), 0xe1, b"Exif\0\0" + exif(1))
    block = exif(6)
    yield "exif_in_two_segments.jpg", with_segment(with_segment(small, 0xe1, b"Exif\0\0" + block[20:]), 0xe1,
                                                   b"Exif\0\0" + block[:20])


def webp_files():
    rgb = picture(29, 37, 15)
    image = Image.fromarray(rgb)
    alpha = Image.fromarray(np.concatenate([rgb, (rgb[:, :, :1] > 90) * np.uint8(255)], axis=2))
    yield "lossy.webp", saved(image, "WEBP", quality=60)
    yield "lossy_alpha.webp", saved(alpha, "WEBP", quality=70)
    yield "lossless.webp", saved(image, "WEBP", lossless=True)
    yield "lossless_alpha.webp", saved(alpha, "WEBP", lossless=True, exact=True)
    frames = [Image.fromarray(picture(20, 24, s)) for s in (16, 17, 18)]
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, duration=40)
    yield "animated_lossy.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=70)
    still = saved(Image.fromarray(picture(12, 10, 19)), "WEBP", lossless=True)
    body = still[12:]
    frame = struct.pack("<I", 3)[:3] + struct.pack("<I", 2)[:3]  # at (6, 4): offsets are halved
    frame += struct.pack("<I", 9)[:3] + struct.pack("<I", 11)[:3] + struct.pack("<I", 40)[:3] + b"\0"
    riff = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + struct.pack("<I", 29)[:3] + struct.pack("<I", 24)[:3]
    riff += b"ANIM" + struct.pack("<I", 6) + b"\x10\x80\xf0\xff\0\0"
    riff += b"ANMF" + struct.pack("<I", len(frame + body)) + frame + body
    yield "animated_small_frame.webp", b"RIFF" + struct.pack("<I", len(riff) + 4) + b"WEBP" + riff
    small = Image.fromarray(picture(9, 13, 20))
    yield "exif6.webp", saved(small, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(6))
    yield "exif8_bare.webp", saved(small, "WEBP", lossless=True, exif=exif(8, big_endian=True))
    yield "xmp5.webp", saved(small, "WEBP", lossless=True, xmp=xmp(5))


def make(folder):
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    cases = []
    for source in (png_files, gif_files, jpeg_files, webp_files):
        for name, data in source():
            (folder / name).write_bytes(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            if name == "local_ramp.gif":
                # Pillow 12 and 13 drop a local palette that is the grey ramp and colour the frame with the global one;
                # the format says grey, and so do browsers.
                image = Image.fromarray(GIF_INDICES).convert("RGB")
            pixels = image.tobytes()
            lossy = name.endswith(".jpg") or name in ("lossy.webp", "lossy_alpha.webp", "animated_lossy.webp")
            if lossy:  # kept whole, so that a test can say by how much another decoder differs
                (folder / (name + ".rgb")).write_bytes(pixels)
            cases.append({"file": name, "height": image.height, "width": image.width,
                          "sha256": hashlib.sha256(pixels).hexdigest(), "lossy": lossy})
    return cases
