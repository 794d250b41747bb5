"""The model in float64 NumPy, written from the model's description alone: the second source of the goldens.

It shares no code with the composed torch reference, nor with the C++: sequential lightning recurrence, attention row
block by row block, one token's experts at a time. Slow and plain on purpose.
"""
import math

import numpy as np

import model_configs
import tiny_checkpoint

LIGHTNING_NORM_EPS = 1e-6
ERF = np.frompyfunc(math.erf, 1, 1)
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps) * w + b


def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + ERF(x / math.sqrt(2)).astype(np.float64))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best_grid(pinpoints, height, width):
    """(rows, columns) in pixels: most effective pixels, then least waste, then first listed."""
    best, best_key = None, None
    for grid_h, grid_w in pinpoints:
        scale = min(grid_w / width, grid_h / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        key = (effective, -(grid_h * grid_w - effective))
        if best_key is None or key > best_key:
            best, best_key = (grid_h, grid_w), key
    return best


def kept(m, height, width):
    """((first row, last row + 1), (first column, last column + 1)) of the unpadded feature map, and its tiles."""
    v = m.vision
    grid_h, grid_w = best_grid(v.pinpoints, height, width)
    ch, cw = v.side * (grid_h // v.tile), v.side * (grid_w // v.tile)
    if width / height > cw / ch:
        pad = (ch - height * cw // width) // 2
        return (pad, ch - pad), (0, cw), (grid_h // v.tile, grid_w // v.tile)
    pad = (cw - width * ch // height) // 2
    return (0, ch), (pad, cw - pad), (grid_h // v.tile, grid_w // v.tile)


def image_tokens(m, height, width):
    (top, bottom), (left, right), _ = kept(m, height, width)
    return m.vision.side**2 + (bottom - top) * (right - left + 1)


class Oracle:
    def __init__(self, m, weights=None):
        """weights: {released name: array}; without them, those of the formula."""
        self.m = m
        if weights is None:
            weights = {name: np.asarray(tiny_checkpoint.weight(m, name, shape)).reshape(shape)
                       for name, shape in model_configs.tensors(m)}
        self.w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
        self.prefix = "" if m.vision is None else "language_model."

    # --- vision ---

    def vit(self, tiles):
        """uint8 [n, side, side, 3] -> [n, patches, hidden], the class token dropped."""
        v, p = self.m.vision, "vision_tower.vision_model."
        pixels = (tiles.astype(np.float64) / 255 - MEAN) / STD
        n, s, q = len(tiles), v.side, v.patch
        patches = pixels.reshape(n, s, q, s, q, 3).transpose(0, 1, 3, 5, 2, 4).reshape(n, s * s, 3 * q * q)
        x = patches @ self.w[p + "embeddings.patch_embedding.weight"].reshape(v.hidden, -1).T
        cls = np.broadcast_to(self.w[p + "embeddings.class_embedding"], (n, 1, v.hidden))
        x = np.concatenate([cls, x], axis=1) + self.w[p + "embeddings.position_embedding.weight"]
        x = layer_norm(x, self.w[p + "pre_layrnorm.weight"], self.w[p + "pre_layrnorm.bias"])
        for layer in range(v.layers):
            x = self._vit_layer(x, f"{p}encoder.layers.{layer}.")
        return x[:, 1:]

    def _vit_layer(self, x, p):
        def linear(y, name):
            return y @ self.w[p + name + ".weight"].T + self.w[p + name + ".bias"]

        v = self.m.vision
        n, t, hd = len(x), x.shape[1], v.hidden // v.heads
        y = layer_norm(x, self.w[p + "layer_norm1.weight"], self.w[p + "layer_norm1.bias"])
        q, k, val = (linear(y, f"self_attn.{c}_proj").reshape(n, t, v.heads, hd).transpose(0, 2, 1, 3) for c in "qkv")
        mixed = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(hd)) @ val
        x = x + linear(mixed.transpose(0, 2, 1, 3).reshape(n, t, v.hidden), "self_attn.out_proj")
        y = layer_norm(x, self.w[p + "layer_norm2.weight"], self.w[p + "layer_norm2.bias"])
        return x + linear(gelu(linear(y, "mlp.fc1")), "mlp.fc2")

    def project(self, features):
        w, p = self.w, "multi_modal_projector."
        y = gelu(features @ w[p + "linear_1.weight"].T + w[p + "linear_1.bias"])
        return y @ w[p + "linear_2.weight"].T + w[p + "linear_2.bias"]

    def pack(self, projected, height, width):
        """[tiles, patches, hidden] -> [tokens, hidden]: thumbnail, then each kept row with a newline after it."""
        side = self.m.vision.side
        (top, bottom), (left, right), (_, columns) = kept(self.m, height, width)
        rows = list(projected[0])
        for r in range(top, bottom):
            for c in range(left, right):
                tile = 1 + r // side * columns + c // side
                rows.append(projected[tile, r % side * side + c % side])
            rows.append(self.w["image_newline"])
        return np.stack(rows)

    # --- text ---

    def embed(self, ids, features):
        """features: [rows, hidden] in order of the picture tokens, or None."""
        out = self.w[self.prefix + "model.embed_tokens.weight"][ids]
        if features is not None:
            at = np.flatnonzero(np.asarray(ids) == self.m.image_token)
            assert len(at) == len(features), f"{len(at)} picture tokens, {len(features)} rows"
            out[at] = features
        return out

    def forward(self, h):
        """[T, hidden] -> logits [T, vocab], [output of each layer], smallest routing margin, experts used by layer."""
        m, margins, used, hidden = self.m, [], [], []
        for layer in range(m.layers):
            p = f"{self.prefix}model.layers.{layer}."
            a_alpha, a_beta = (m.alphas[0], m.betas[0]) if m.is_softmax(layer) else (m.alphas[1], m.betas[1])
            x0 = rms_norm(h, self.w[p + "input_layernorm.weight"], 1e-5)
            attention = self._softmax_attention if m.is_softmax(layer) else self._lightning
            h1 = a_alpha * x0 + a_beta * attention(x0, layer, p + "self_attn.")
            x1 = rms_norm(h1, self.w[p + "post_attention_layernorm.weight"], 1e-5)
            moe, margin, experts = self._moe(x1, p + "block_sparse_moe.", layer in m.tie_gate_layers)
            h = m.alphas[2] * x1 + m.betas[2] * moe
            margins.append(margin)
            used.append(experts)
            hidden.append(h)
        y = rms_norm(h, self.w[self.prefix + "model.norm.weight"], 1e-5)
        return y @ self.w[self.prefix + "lm_head.weight"].T, hidden, min(margins), used

    def slopes(self, layer):
        m = self.m
        factor = 1 - layer / max(m.layers - 1, 1) + 1e-5
        return np.array([2.0 ** (-8 * (h + 1) / m.heads) * factor for h in range(m.heads)])

    def _lightning(self, x, layer, p):
        m, t = self.m, len(x)
        z = silu(x @ self.w[p + "qkv_proj.weight"].T).reshape(t, m.heads, 3, m.head_dim)
        decay = np.exp(-self.slopes(layer))[:, None, None]
        state = np.zeros((m.heads, m.head_dim, m.head_dim))
        out = np.empty((t, m.heads, m.head_dim))
        for i in range(t):
            q, k, v = z[i, :, 0], z[i, :, 1], z[i, :, 2]
            state = decay * state + k[:, :, None] * v[:, None, :]
            out[i] = np.einsum("hd,hde->he", q, state)
        n = rms_norm(out.reshape(t, -1), self.w[p + "norm.weight"], LIGHTNING_NORM_EPS)
        return (sigmoid(x @ self.w[p + "output_gate.weight"].T) * n) @ self.w[p + "out_proj.weight"].T

    def _rope(self, x):
        """[T, heads, head_dim]: pairs (i, i + rotary / 2) of the first `rotary` dimensions."""
        half = self.m.rotary // 2
        angle = np.arange(len(x))[:, None] * self.m.theta ** (-2.0 * np.arange(half) / self.m.rotary)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)

    def _softmax_attention(self, x, layer, p):
        m, t = self.m, len(x)
        q = self._rope((x @ self.w[p + "q_proj.weight"].T).reshape(t, m.heads, m.head_dim))
        k = self._rope((x @ self.w[p + "k_proj.weight"].T).reshape(t, m.kv_heads, m.head_dim))
        v = (x @ self.w[p + "v_proj.weight"].T).reshape(t, m.kv_heads, m.head_dim)
        out = np.empty((t, m.heads, m.head_dim))
        for h in range(m.heads):
            g = h // (m.heads // m.kv_heads)
            for start in range(0, t, 512):
                end = min(start + 512, t)
                scores = q[start:end, h] @ k[:end, g].T / math.sqrt(m.head_dim)
                scores[np.arange(end)[None, :] > np.arange(start, end)[:, None]] = -np.inf
                out[start:end, h] = softmax(scores) @ v[:end, g]
        return out.reshape(t, -1) @ self.w[p + "o_proj.weight"].T

    def _moe(self, x, p, crafted_ties):
        """Margin: the smallest distance between the second logit and the first one that is not chosen. Where ties are
        crafted, that is the next smaller VALUE: equal logits are settled by index, not by rounding."""
        logits = x @ self.w[p + "gate.weight"].T
        order = np.argsort(-logits, axis=-1, kind="stable")  # equal logits: lowest index first
        ranked = np.take_along_axis(logits, order, axis=-1)
        out = np.zeros_like(x)
        for i in range(len(x)):
            first, second = order[i, :2]
            w0 = 1 / (1 + math.exp(logits[i, second] - logits[i, first]))
            out[i] = w0 * self._expert(x[i], p, first) + (1 - w0) * self._expert(x[i], p, second)
        margin = math.inf
        if self.m.experts > 2:
            lower = ranked[:, 2:]
            gaps = ranked[:, 1:2] - lower
            margin = np.where(gaps == 0, np.inf, gaps).min() if crafted_ties else gaps.min()
        return out, float(margin), set(order[:, :2].ravel().tolist())

    def _expert(self, x, p, e):
        w1, w2, w3 = (self.w[f"{p}experts.{e}.w{i}.weight"] for i in (1, 2, 3))
        return w2 @ (silu(w1 @ x) * (w3 @ x))
