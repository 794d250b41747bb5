"""The first source of the goldens: other people's code in float32, on one CPU thread.

MiniMaxForCausalLM (eager attention, eager experts) with these deviations from MiniMax-VL-01 mended
  - rotary over the first rotary_dim of each head: rotary embedding and its application are MiniMax-M2's classes;
  - slope factor 1 - l/(L-1) + 1e-5 (generic: a further 1e-5 in the divisor);
  - top-2 by lowest index where probabilities tie (torch.topk leaves that open; without a tie it is asserted equal);
CLIPVisionModel (exact gelu, last layer, class token dropped), the projector from torch ops, and LLaVA-NeXT's
select_best_resolution and unpad_image for packing.
"""
import numpy as np
import torch
import transformers
from transformers.models.clip.modeling_clip import CLIPVisionConfig, CLIPVisionModel
from transformers.models.llava_next.modeling_llava_next import select_best_resolution, unpad_image
from transformers.models.minimax import modeling_minimax
from transformers.models.minimax.configuration_minimax import MiniMaxConfig
from transformers.models.minimax_m2 import modeling_minimax_m2

import model_configs
import oracle
import tiny_checkpoint

torch.set_num_threads(1)
torch.manual_seed(0)
torch.set_grad_enabled(False)


# --- mends of the generic MiniMax ------------------------------------------------------------------------------------

def _slope_rate(self, device=None):
    base = 1 / (2 ** (8 / self.num_attention_heads))
    exponent = torch.arange(self.num_attention_heads, device=device) + 1
    factor = 1 - self.layer_idx / max(self.num_hidden_layers - 1, 1) + 1e-5
    return (base**exponent * factor)[:, None, None]


def route_lowest_first(self, hidden_states):
    hidden_states = hidden_states.reshape(-1, self.hidden_dim)
    logits = torch.nn.functional.linear(hidden_states, self.weight)
    probs = torch.nn.functional.softmax(logits.float(), dim=-1)
    index = torch.sort(probs, dim=-1, descending=True, stable=True).indices[:, :self.top_k]
    weights = torch.gather(probs, -1, index)
    top = torch.topk(probs, self.top_k, dim=-1)
    assert torch.equal(top.values, weights), "stable sort and topk disagree beyond ties"
    return logits, weights / weights.sum(dim=-1, keepdim=True), index


modeling_minimax.MiniMaxLightningAttention.get_slope_rate = _slope_rate
modeling_minimax.MiniMaxTopKRouter.forward = route_lowest_first
modeling_minimax.MiniMaxRotaryEmbedding = modeling_minimax_m2.MiniMaxM2RotaryEmbedding
modeling_minimax.apply_rotary_pos_emb = modeling_minimax_m2.apply_rotary_pos_emb


def released_weights(m):
    return {name: torch.from_numpy(np.array(tiny_checkpoint.weight(m, name, shape))).reshape(shape)
            for name, shape in model_configs.tensors(m)}


def load(module, state, allowed_missing):
    missing, unexpected = module.load_state_dict(state, strict=False)
    bad = [k for k in missing if not k.endswith(allowed_missing)]
    assert not unexpected and not bad, (unexpected, bad)
    return module.eval()


class Composed:
    name = "composed"

    def __init__(self, m, weights=None):
        """weights: {released name: float32 tensor}; without them, those of the formula."""
        self.m = m
        self.w = weights if weights is not None else released_weights(m)
        self.text = self._build_text()
        self.vision = self._build_vision() if m.vision else None
        self.trace = {}
        for i, layer in enumerate(self.decoder.layers):
            layer.register_forward_hook(lambda _, __, out, i=i: self.trace.__setitem__(("layer", i), out[0]))
            layer.self_attn.register_forward_hook(lambda _, __, out, i=i: self.trace.__setitem__(("attn", i), out[0][0]))
            layer.mlp.register_forward_hook(lambda _, __, out, i=i: self.trace.__setitem__(("moe", i), out[0]))

    def _build_text(self):
        m = self.m
        native = model_configs.native_config(m)
        text = dict(native["text_config"] if m.vision else native)
        text.pop("model_type")
        config = MiniMaxConfig(**text)
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        model = modeling_minimax.MiniMaxForCausalLM(config).float()
        assert model.model.rotary_emb.inv_freq.numel() == m.rotary // 2
        assert config._attn_implementation == "eager" and config._experts_implementation == "eager"
        for layer in model.model.layers:
            if hasattr(layer.self_attn, "norm"):
                assert layer.self_attn.norm.variance_epsilon == oracle.LIGHTNING_NORM_EPS
        state = {}
        for name, shape, sources in model_configs.native_tensors(m):
            if "vision_tower" in name or "multi_modal" in name or "image_newline" in name:
                continue
            value = torch.cat([self.w[s].reshape(-1) for s in sources]).reshape(shape)
            state[name.replace("model.language_model.", "model.")] = value
        return load(model, state, ("slope_rate", "_decay"))

    @property
    def decoder(self):
        return self.text.model

    def new_cache(self):
        return modeling_minimax.MiniMaxCache()

    def _build_vision(self):
        config = CLIPVisionConfig(**{k: v for k, v in model_configs.native_config(self.m)["vision_config"].items()
                                     if k != "model_type"})
        assert config.hidden_act == "gelu"
        config._attn_implementation = "eager"
        prefix = "vision_tower.vision_model."
        state = {k[len(prefix):]: v for k, v in self.w.items() if k.startswith(prefix)}
        return load(CLIPVisionModel(config).float(), state, ("post_layernorm.weight", "post_layernorm.bias"))

    def vit(self, tiles):
        """uint8 [n, side, side, 3] -> [n, patches, hidden]."""
        pixels = torch.from_numpy(np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))).float() / 255
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (oracle.MEAN, oracle.STD))
        out = self.vision(pixel_values=(pixels - mean) / std, output_hidden_states=True)
        assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
        return out.hidden_states[-1][:, 1:]

    def project(self, features):
        p = "multi_modal_projector.linear_"
        f = torch.nn.functional
        y = f.gelu(f.linear(features, self.w[p + "1.weight"], self.w[p + "1.bias"]))
        return f.linear(y, self.w[p + "2.weight"], self.w[p + "2.bias"])

    def pack(self, projected, height, width):
        v = self.m.vision
        grid_h, grid_w = select_best_resolution((height, width), [list(p) for p in v.pinpoints])
        rows, columns = grid_h // v.tile, grid_w // v.tile
        assert len(projected) == 1 + rows * columns
        grid = projected[1:].view(rows, columns, v.side, v.side, -1).permute(4, 0, 2, 1, 3)
        grid = unpad_image(grid.flatten(1, 2).flatten(2, 3), (height, width))
        newline = self.w["image_newline"][:, None, None].expand(*grid.shape[:-1], 1)
        grid = torch.cat([grid, newline], dim=-1).flatten(1, 2).transpose(0, 1)
        return torch.cat([projected[0], grid], dim=0)

    def embed(self, ids, features):
        ids = torch.tensor(ids)
        out = self.decoder.embed_tokens(ids)
        if features is not None:
            mask = (ids == self.m.image_token)[:, None].expand_as(out)
            out = out.masked_scatter(mask, features)
        return out

    def _run(self, embeds, cache, first):
        t = len(embeds)
        mask = None if t == 1 else torch.full((t, t), torch.finfo(torch.float32).min).triu(1)[None, None]
        out = self.text(inputs_embeds=embeds[None], position_ids=torch.arange(first, first + t)[None],
                        past_key_values=cache, use_cache=cache is not None,
                        attention_mask={"full_attention": mask, "linear_attention": None})
        return out.logits[0].numpy()

    def forward(self, embeds):
        """[T, hidden] -> logits [T, vocab]; self.trace holds what every layer gave."""
        return self._run(embeds, None, 0)

    def start(self, embeds):
        """Prefill with a cache: (logits of the last position, cache)."""
        cache = self.new_cache()
        return self._run(embeds, cache, 0)[-1], cache

    def step(self, token, position, cache):
        return self._run(self.decoder.embed_tokens(torch.tensor([token])), cache, position)[0]

    def states(self, cache):
        """{layer: [heads, head_dim, head_dim]} of the lightning layers."""
        return {i: s[0].numpy() for i, s in enumerate(cache.linear_cache) if not isinstance(s, list)}


def versions():
    import PIL
    return {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "pillow": PIL.__version__}
