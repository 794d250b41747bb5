"""The reference as transformers itself has it: models.minimax_vl_01, used when the installed release contains it.

Same interface as reference.Composed. Models without vision (g3, g4) are built with g0's tower, which is never called.
"""
import dataclasses

import torch
from transformers.models.clip.modeling_clip import CLIPVisionModel
from transformers.models.minimax_vl_01 import configuration_minimax_vl_01, modeling_minimax_vl_01

import model_configs
import reference

modeling_minimax_vl_01.MiniMaxVL01TextTopKRouter.forward = reference.route_lowest_first


class Native(reference.Composed):
    name = "native"

    def _build_text(self):
        m = self.m
        if m.vision is None:
            m = dataclasses.replace(m, vision=model_configs.MODELS["g0"].vision, image_token=0)
        config = configuration_minimax_vl_01.MiniMaxVL01Config(**model_configs.native_config(m))
        full = modeling_minimax_vl_01.MiniMaxVL01ForConditionalGeneration(config).float()
        full.set_attn_implementation("eager")
        full.set_experts_implementation("eager")
        assert isinstance(full.model.vision_tower, CLIPVisionModel)
        prefix = "language_model." if self.m.vision is None else ""
        state = {}
        for name, shape, sources in model_configs.native_tensors(m):
            parts = [s[len(prefix):] for s in sources]
            if all(p in self.w for p in parts):
                state[name] = torch.cat([self.w[p].reshape(-1) for p in parts]).reshape(shape)
        unused = ("slope_rate", "_decay", "post_layernorm.weight", "post_layernorm.bias")
        if self.m.vision is None:
            unused += tuple(n for n, _ in full.named_parameters() if not n.startswith(("model.language", "lm_head")))
        return reference.load(full, state, unused)

    def _build_vision(self):
        return self.text.model.vision_tower

    @property
    def decoder(self):
        return self.text.model.language_model

    def new_cache(self):
        return modeling_minimax_vl_01.MiniMaxVL01TextCache()

    def project(self, features):
        return self.text.model.multi_modal_projector(features)

    def pack(self, projected, height, width):
        packed, _ = self.text.model.pack_image_features(
            [projected], [(height, width)], vision_feature_select_strategy="default",
            image_newline=self.text.model.image_newline)
        return packed[0]
