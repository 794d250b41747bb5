"""The network in the form that trains fast: a batch of padded sequences, lightning attention by blocks, experts sorted.

Its parameters carry the released names (experts of a layer are stacked: `...experts.w1` is [experts, inter, hidden]), so
`released_tensors` is all that an export needs. `evaluate.py --prove` compares it with the composed transformers reference.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

import recipe

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BLOCK = 32  # positions of a lightning block: any value gives the same sums


def rms_norm(x, weight, eps=1e-5):
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class Vision(nn.Module):
    def __init__(self, v):
        super().__init__()
        self.v = v
        h = v.hidden
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)
        self.class_embedding = nn.Parameter(torch.randn(h) * 0.02)
        self.patch = nn.Linear(3 * v.patch * v.patch, h, bias=False)
        self.position = nn.Parameter(torch.randn(v.side**2 + 1, h) * 0.02)
        self.pre_norm = nn.LayerNorm(h)
        self.layers = nn.ModuleList()
        for _ in range(v.layers):
            layer = nn.Module()
            layer.q, layer.k, layer.v, layer.out = (nn.Linear(h, h) for _ in range(4))
            layer.norm1, layer.norm2 = nn.LayerNorm(h), nn.LayerNorm(h)
            layer.fc1, layer.fc2 = nn.Linear(h, v.inter), nn.Linear(v.inter, h)
            self.layers.append(layer)

    def forward(self, pixels):
        """uint8 [n, side, side, 3] -> [n * patches, hidden], class token dropped."""
        v, p = self.v, self.v.patch
        n = len(pixels)
        pixels = (pixels.float() / 255 - self.mean) / self.std
        x = pixels.view(n, v.side, p, v.side, p, 3).permute(0, 1, 3, 5, 2, 4).reshape(n, v.side**2, -1)
        x = torch.cat([self.class_embedding.expand(n, 1, -1), self.patch(x)], dim=1) + self.position
        x = self.pre_norm(x)
        heads = lambda t: t.view(n, -1, v.heads, v.hidden // v.heads).transpose(1, 2)  # noqa: E731
        for layer in self.layers:
            y = layer.norm1(x)
            y = F.scaled_dot_product_attention(heads(layer.q(y)), heads(layer.k(y)), heads(layer.v(y)))
            x = x + layer.out(y.transpose(1, 2).reshape(n, -1, v.hidden))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.norm2(x))))
        return x[:, 1:].reshape(-1, v.hidden)


class Decoder(nn.Module):
    """One layer: attention of its kind, then the experts; the residual is the normed input."""

    def __init__(self, m, index):
        super().__init__()
        self.m, self.index, self.softmax = m, index, m.is_softmax(index)
        h, inner, kv = m.hidden, m.heads * m.head_dim, m.kv_heads * m.head_dim
        gain = (8 * m.layers) ** -0.25  # DeepNorm's scale of values, outputs and experts
        matrix = lambda *shape, g=1.0: nn.Parameter(torch.randn(*shape) * (g / math.sqrt(shape[-1])))  # noqa: E731
        self.norm1, self.norm2 = nn.Parameter(torch.ones(h)), nn.Parameter(torch.ones(h))
        if self.softmax:
            self.q_proj, self.k_proj, self.v_proj = matrix(inner, h), matrix(kv, h), matrix(kv, h, g=gain)
            self.o_proj = matrix(h, inner, g=gain)
        else:
            self.qkv_proj, self.output_gate = matrix(3 * inner, h), matrix(inner, h)
            self.attn_norm, self.out_proj = nn.Parameter(torch.ones(inner)), matrix(h, inner, g=gain)
            slope = 2.0 ** (-8.0 * torch.arange(1, m.heads + 1) / m.heads) * (1 - index / (m.layers - 1) + 1e-5)
            p = torch.arange(BLOCK)
            distance = p[:, None] - p
            self.register_buffer("inside", torch.where(distance >= 0, torch.exp(-slope[:, None, None] * distance), 0.0),
                                 persistent=False)
            self.register_buffer("q_decay", torch.exp(-slope[:, None] * (p + 1))[..., None], persistent=False)
            self.register_buffer("k_decay", torch.exp(-slope[:, None] * (BLOCK - 1 - p))[..., None], persistent=False)
            self.register_buffer("slope", slope, persistent=False)
        self.gate = nn.Parameter(torch.randn(m.experts, h) * 0.02)
        self.w1, self.w3 = matrix(m.experts, m.inter, h, g=gain), matrix(m.experts, m.inter, h, g=gain)
        self.w2 = matrix(m.experts, h, m.inter, g=gain)

    def lightning(self, x):
        m, (b, t, _) = self.m, x.shape
        z = F.silu(F.linear(x, self.qkv_proj))
        n = t // BLOCK
        q, k, v = z.view(b, n, BLOCK, m.heads, 3, m.head_dim).permute(4, 0, 3, 1, 2, 5)  # [b, heads, n, BLOCK, d]
        out = ((q @ k.transpose(-1, -2)) * self.inside[:, None]) @ v
        if n > 1:
            update = (k * self.k_decay[:, None]).transpose(-1, -2) @ v
            i = torch.arange(n, device=x.device)
            gap = i[:, None] - 1 - i  # blocks between
            carry = torch.where(gap >= 0, torch.exp(-self.slope[:, None, None] * BLOCK * gap), 0.0)
            state = torch.einsum("hij,bhjde->bhide", carry, update)
            out = out + (q * self.q_decay[:, None]) @ state
        out = out.permute(0, 2, 3, 1, 4).reshape(b, t, -1)
        out = rms_norm(out, self.attn_norm, 1e-6)
        return F.linear(torch.sigmoid(F.linear(x, self.output_gate)) * out, self.out_proj)

    def attention(self, x, rotary):
        m, (b, t, _) = self.m, x.shape
        heads = lambda y, n: y.view(b, t, n, m.head_dim).transpose(1, 2)  # noqa: E731
        q, k, v = (heads(F.linear(x, self.q_proj), m.heads), heads(F.linear(x, self.k_proj), m.kv_heads),
                   heads(F.linear(x, self.v_proj), m.kv_heads))
        q, k = rotate(q, rotary, m.rotary), rotate(k, rotary, m.rotary)
        group = m.heads // m.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(b, t, -1), self.o_proj)

    def experts(self, x, real):
        """[tokens, hidden] -> (sum of the two best experts, load balance of the tokens that are real)."""
        e = self.m.experts
        probs = torch.softmax(F.linear(x, self.gate).float(), dim=-1)
        top, index = torch.topk(probs, 2, dim=-1)
        top = top / top.sum(-1, keepdim=True)
        y = (self.dense if x.is_cuda else self.sorted)(x, top, index)
        share = F.one_hot(index[real], e).float().mean((0, 1))
        return y, e * (share * probs[real].mean(0)).sum()

    def sorted(self, x, top, index):
        """Each expert on its own tokens: least arithmetic, for a CPU."""
        flat = index.reshape(-1)
        order = torch.argsort(flat)
        parts = x[order // 2].split(torch.bincount(flat, minlength=self.m.experts).tolist())
        out = torch.cat([F.linear(F.silu(F.linear(p, self.w1[i])) * F.linear(p, self.w3[i]), self.w2[i])
                         for i, p in enumerate(parts)])
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return (out[back].view(len(x), 2, -1) * top[..., None].to(out.dtype)).sum(1)

    def dense(self, x, top, index):
        """All experts on all tokens, weighted: nothing waits for the host, for a GPU."""
        weight = torch.zeros(len(x), self.m.experts, device=x.device).scatter(1, index, top)
        inner = F.silu(x @ self.w1.transpose(1, 2)) * (x @ self.w3.transpose(1, 2))  # [experts, tokens, inter]
        inner = inner * weight.t()[..., None].to(inner.dtype)
        return torch.einsum("eni,ehi->nh", inner, self.w2.to(inner.dtype))

    def forward(self, h, rotary, real):
        m = self.m
        alpha = m.alphas[0] if self.softmax else m.alphas[1]
        x = rms_norm(h, self.norm1)
        h = alpha * x + (self.attention(x, rotary) if self.softmax else self.lightning(x))
        x = rms_norm(h, self.norm2)
        y, balance = self.experts(x.reshape(-1, x.shape[-1]), real)
        return m.alphas[2] * x + y.view_as(x), balance


def rotate(x, rotary, width):
    cos, sin = rotary
    a, b = x[..., :width // 2], x[..., width // 2:width]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, x[..., width:]], dim=-1)


class Network(nn.Module):
    def __init__(self, m=recipe.MODEL):
        super().__init__()
        self.m = m
        self.embed = nn.Parameter(torch.randn(m.vocab, m.hidden) * 0.5)
        self.layers = nn.ModuleList(Decoder(m, i) for i in range(m.layers))
        self.norm = nn.Parameter(torch.ones(m.hidden))
        self.head = nn.Parameter(torch.randn(m.vocab, m.hidden) * 0.02)
        self.vision = Vision(m.vision)
        self.linear_1, self.linear_2 = nn.Linear(m.vision.hidden, m.hidden), nn.Linear(m.hidden, m.hidden)
        self.newline = nn.Parameter(torch.randn(m.hidden) * 0.5)
        frequency = m.theta ** (-torch.arange(0, m.rotary, 2) / m.rotary)
        self.register_buffer("frequency", frequency.float(), persistent=False)

    def forward(self, ids, real, pixels, rows, wanted):
        """ids [b, t] (t a multiple of BLOCK); real: flat indices of positions that are not padding; pixels: all tiles of
        the batch, uint8; rows: the packed rows of all pictures in order, -1 the newline; wanted: flat indices of the positions
        whose logits are asked for. Returns (logits, balance)."""
        x = F.embedding(ids, self.embed)
        if pixels is not None:
            features = self.linear_2(F.gelu(self.linear_1(self.vision(pixels))))
            packed = torch.cat([features, self.newline[None].to(features.dtype)])[rows]
            x = x.masked_scatter((ids == self.m.image_token)[..., None], packed.to(x.dtype))
        angle = torch.arange(ids.shape[1], device=ids.device)[:, None] * self.frequency
        rotary = angle.cos(), angle.sin()
        balance = 0.0
        for layer in self.layers:
            x, more = layer(x, rotary, real)
            balance = balance + more
        x = rms_norm(x.reshape(-1, x.shape[-1])[wanted], self.norm)
        return F.linear(x, self.head).float(), balance / len(self.layers)


def released_tensors(net, state=None):
    """{released name: tensor}. `state` may be an averaged state dict of the same network."""
    s = state if state is not None else net.state_dict()
    m, v, out = net.m, net.m.vision, {}
    out["language_model.model.embed_tokens.weight"] = s["embed"]
    out["language_model.model.norm.weight"], out["language_model.lm_head.weight"] = s["norm"], s["head"]
    out["image_newline"] = s["newline"]
    for i in range(m.layers):
        p, q = f"language_model.model.layers.{i}.", f"layers.{i}."
        out[p + "input_layernorm.weight"], out[p + "post_attention_layernorm.weight"] = s[q + "norm1"], s[q + "norm2"]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj") if m.is_softmax(i) else ("qkv_proj", "output_gate",
                                                                                     "out_proj"):
            out[f"{p}self_attn.{name}.weight"] = s[q + name]
        if not m.is_softmax(i):
            out[p + "self_attn.norm.weight"] = s[q + "attn_norm"]
        out[p + "block_sparse_moe.gate.weight"] = s[q + "gate"]
        for e in range(m.experts):
            for w in ("w1", "w2", "w3"):
                out[f"{p}block_sparse_moe.experts.{e}.{w}.weight"] = s[q + w][e]
    p = "vision_tower.vision_model."
    out[p + "embeddings.class_embedding"] = s["vision.class_embedding"]
    out[p + "embeddings.patch_embedding.weight"] = s["vision.patch.weight"].reshape(v.hidden, 3, v.patch, v.patch)
    out[p + "embeddings.position_embedding.weight"] = s["vision.position"]
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj",
             "fc1": "mlp.fc1", "fc2": "mlp.fc2", "norm1": "layer_norm1", "norm2": "layer_norm2"}
    for kind in ("weight", "bias"):
        out[f"{p}pre_layrnorm.{kind}"] = s[f"vision.pre_norm.{kind}"]
        for l in range(v.layers):
            for ours, theirs in names.items():
                out[f"{p}encoder.layers.{l}.{theirs}.{kind}"] = s[f"vision.layers.{l}.{ours}.{kind}"]
        for l in ("linear_1", "linear_2"):
            out[f"multi_modal_projector.{l}.{kind}"] = s[f"{l}.{kind}"]
    return out
