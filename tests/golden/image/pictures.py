"""A test picture as a formula in 32-bit unsigned arithmetic, which coordinator/image/test_picture.h evaluates too."""
import numpy as np


def picture(height, width, seed):
    """uint8 [height, width, 3]: slow ramps, hard edges and some noise."""
    u32 = np.uint32
    with np.errstate(over="ignore"):
        y = np.arange(height, dtype=u32)[:, None, None]
        x = np.arange(width, dtype=u32)[None, :, None]
        c = np.arange(3, dtype=u32)[None, None, :]
        s = u32(seed)
        ramp = x * (c + u32(1)) + y * (u32(3) - c) + s * u32(7)
        edge = ((x >> u32(3)) ^ (y >> u32(2))) * u32(37) * (c + u32(1))
        noise = x * u32(73856093) ^ y * u32(19349663) ^ (c + u32(1)) * u32(83492791) ^ (s + u32(1)) * u32(2654435761)
        noise = (noise ^ (noise >> u32(15))) * u32(2246822519)
        value = (ramp & u32(127)) + (edge & u32(63)) + (noise >> u32(26))
    return np.ascontiguousarray(np.broadcast_to(value, (height, width, 3)).astype(np.uint8))
