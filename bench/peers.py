"""The same weights in `transformers`' classes, so that only the code differs."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from arlab.nn.decoder import DecoderLM


def llama(model: DecoderLM, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A LlamaForCausalLM with the weights of this Llama-style DecoderLM."""
    ours, c = model.state_dict(), model.config
    config = LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        intermediate_size=c.n_ff,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.n_kv_heads,
        max_position_embeddings=c.context_length,
        rms_norm_eps=c.norm_eps,
        rope_theta=c.rotary_base,
        tie_word_embeddings=c.tied,
    )
    names = {"embed_tokens.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    names["head.weight"] = "lm_head.weight"
    theirs = {name: ours[our_name] for our_name, name in names.items()}
    sizes = [c.heads * c.head_dim, c.n_kv_heads * c.head_dim, c.n_kv_heads * c.head_dim]
    for i in range(c.layers):
        a, b = f"model.layers.{i}.", f"blocks.{i}."
        for name, part in zip("qkv", ours[b + "attn.qkv.weight"].split(sizes), strict=True):
            theirs[f"{a}self_attn.{name}_proj.weight"] = part
        for name, part in zip(("gate", "up"), ours[b + "ffn.gate_up.weight"].chunk(2), strict=True):
            theirs[f"{a}mlp.{name}_proj.weight"] = part
        theirs[a + "self_attn.o_proj.weight"] = ours[b + "attn.out.weight"]
        theirs[a + "mlp.down_proj.weight"] = ours[b + "ffn.down.weight"]
        theirs[a + "input_layernorm.weight"] = ours[b + "norm1.weight"]
        theirs[a + "post_attention_layernorm.weight"] = ours[b + "norm2.weight"]
    return _filled(LlamaForCausalLM(config), theirs, dtype)


def gpt2(model: DecoderLM) -> GPT2LMHeadModel:
    """A GPT2LMHeadModel with the weights of this GPT-2 style DecoderLM."""
    ours, c = model.state_dict(), model.config
    config = GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.context_length,
        n_embd=c.d_model,
        n_layer=c.layers,
        n_head=c.heads,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = {
        "transformer.wte.weight": ours["embed_tokens.weight"],
        "transformer.wpe.weight": ours["embed_positions.weight"],
        "transformer.ln_f.weight": ours["norm.weight"],
        "transformer.ln_f.bias": ours["norm.bias"],
        "lm_head.weight": ours["head.weight"],
    }
    matrices = {"attn.c_attn": "attn.qkv", "attn.c_proj": "attn.out", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
    for i in range(c.layers):
        a, b = f"transformer.h.{i}.", f"blocks.{i}."
        for name, our_name in matrices.items():
            theirs[f"{a}{name}.weight"] = ours[f"{b}{our_name}.weight"].T.contiguous()
            theirs[f"{a}{name}.bias"] = ours[f"{b}{our_name}.bias"]
        for name, our_name in {"ln_1": "norm1", "ln_2": "norm2"}.items():
            for kind in ("weight", "bias"):
                theirs[f"{a}{name}.{kind}"] = ours[f"{b}{our_name}.{kind}"]
    return _filled(GPT2LMHeadModel(config), theirs, torch.float32)


def _filled(peer, weights: dict, dtype: torch.dtype):
    left_out = peer.load_state_dict(weights, strict=False)
    missing = [name for name in left_out.missing_keys if not name.endswith((".attn.bias", ".masked_bias"))]
    if missing or left_out.unexpected_keys:
        raise RuntimeError(f"the peer's weights do not fit: missing {missing}, unexpected {left_out.unexpected_keys}")
    return peer.to(dtype).eval()
