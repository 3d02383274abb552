"""Reading a model folder as `transformers` writes it (config.json, *.safetensors), without that library."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arlab.nn.decoder import DecoderConfig
from arlab.text.tokenizers import BPETokenizer

FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]
FILES += ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]

CONSTANTS = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")  # masks and tables that old files carry along


def read_folder(
    path_or_name: str | Path, dtype: torch.dtype
) -> tuple[DecoderConfig, dict[str, Tensor], BPETokenizer | None]:
    """The config, the weights by the names of DecoderLM, and the tokenizer or None."""
    folder = _folder(path_or_name)
    settings = _json(folder / "config.json")
    kinds = {"gpt2": (_gpt2_config, _gpt2_weights), "llama": (_llama_config, _llama_weights)}
    kind = settings.get("model_type")
    if kind not in kinds:
        raise ValueError(f"{folder} holds a model of type {kind!r}; arlab reads {', '.join(kinds)}")
    read_config, read_weights = kinds[kind]
    try:
        config = read_config(settings)
        tensors = _tensors(folder, dtype)
        weights = read_weights(tensors, config)
    except KeyError as error:
        raise ValueError(f"{folder} lacks {error.args[0]!r}: its config or weights are not whole") from error
    # The readers take out what they use. A layer too many or a bias that stays behind would be a model half read.
    left_over = [
        name for name in tensors if not name.endswith(CONSTANTS) and not (config.tied and name == "lm_head.weight")
    ]
    if left_over:
        raise ValueError(f"{folder} also holds {sorted(left_over)[:3]}, which its config.json leaves no place for")
    return config, weights, _tokenizer(folder, settings)


def _folder(path_or_name: str | Path) -> Path:
    folder = Path(path_or_name)
    if folder.is_dir():
        return folder
    if isinstance(path_or_name, Path) or str(path_or_name).count("/") > 1 or str(path_or_name).startswith((".", "/")):
        raise FileNotFoundError(f"no folder {path_or_name}")
    from huggingface_hub import snapshot_download  # only for a name: a folder needs no network code

    try:
        return Path(snapshot_download(str(path_or_name), allow_patterns=FILES))
    except Exception as error:  # the hub's client raises many kinds, a missing network among them
        raise FileNotFoundError(
            f"{path_or_name!r} is no folder here and the hub did not give it ({type(error).__name__}: {error})"
        ) from error


def _json(path: Path) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} has no {path.name}; is it a model folder?") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds a {type(settings).__name__}; it must be a JSON object")
    return settings


def _tensors(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "only pickled weights, which can run code when opened" if pickled else "no *.safetensors file"
        raise ValueError(f"{folder} has {why}; save it with model.save_pretrained(folder, safe_serialization=True)")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict: it has no __iter__)
                    tensors[name] = opened.get_tensor(name).to(dtype)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is not a whole safetensors file ({error}); fetch it again") from error
    return tensors


def _require(settings: dict, allowed: dict[str, tuple]) -> None:
    """Refuse a setting that arlab would silently get wrong."""
    for name, values in allowed.items():
        if name in settings and settings[name] not in values:
            raise ValueError(f"config.json has {name} = {settings[name]!r}; arlab knows {', '.join(map(repr, values))}")


def _gpt2_config(settings: dict) -> DecoderConfig:
    activations = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
    _require(
        settings,
        {
            "activation_function": tuple(activations),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
    )
    return DecoderConfig.gpt2(
        vocab_size=settings["vocab_size"],
        context_length=settings["n_positions"],
        d_model=settings["n_embd"],
        layers=settings["n_layer"],
        heads=settings["n_head"],
        d_ff=settings.get("n_inner"),
        norm_eps=settings.get("layer_norm_epsilon", 1e-5),
        ffn=activations[settings.get("activation_function", "gelu_new")],
        tied=settings.get("tie_word_embeddings", True),
        bos_id=_below(settings.get("bos_token_id"), settings["vocab_size"]),
    )


def _gpt2_weights(tensors: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """GPT-2's Conv1D keeps its matrices as (in, out); a Linear wants (out, in)."""
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    weights = {
        "embed_tokens.weight": tensors.pop(prefix + "wte.weight"),
        "embed_positions.weight": tensors.pop(prefix + "wpe.weight"),
        "norm.weight": tensors.pop(prefix + "ln_f.weight"),
        "norm.bias": tensors.pop(prefix + "ln_f.bias"),
    }
    if not config.tied:
        weights["head.weight"] = tensors.pop("lm_head.weight")
    matrices = {"attn.c_attn": "attn.qkv", "attn.c_proj": "attn.out", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
    for layer in range(config.layers):
        theirs, ours = f"{prefix}h.{layer}.", f"blocks.{layer}."
        for their_name, our_name in matrices.items():
            weights[f"{ours}{our_name}.weight"] = tensors.pop(f"{theirs}{their_name}.weight").T.contiguous()
            weights[f"{ours}{our_name}.bias"] = tensors.pop(f"{theirs}{their_name}.bias")
        for their_name, our_name in {"ln_1": "norm1", "ln_2": "norm2"}.items():
            weights[f"{ours}{our_name}.weight"] = tensors.pop(f"{theirs}{their_name}.weight")
            weights[f"{ours}{our_name}.bias"] = tensors.pop(f"{theirs}{their_name}.bias")
    return weights


def _llama_config(settings: dict) -> DecoderConfig:
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(f"config.json has rope settings {rope}; arlab knows plain rotary positions only")
    _require(settings, {"hidden_act": ("silu",), "mlp_bias": (False,), "attention_bias": (False,)})
    return DecoderConfig.llama(
        vocab_size=settings["vocab_size"],
        context_length=settings["max_position_embeddings"],
        d_model=settings["hidden_size"],
        layers=settings["num_hidden_layers"],
        heads=settings["num_attention_heads"],
        kv_heads=settings.get("num_key_value_heads"),
        d_head=settings.get("head_dim"),
        d_ff=settings["intermediate_size"],
        norm_eps=settings["rms_norm_eps"],
        rotary_base=float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0))),
        tied=settings.get("tie_word_embeddings", False),
        bos_id=_below(settings.get("bos_token_id"), settings["vocab_size"]),
    )


def _llama_weights(tensors: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    prefix = "model." if any(name.startswith("model.") for name in tensors) else ""
    weights = {
        "embed_tokens.weight": tensors.pop(prefix + "embed_tokens.weight"),
        "norm.weight": tensors.pop(prefix + "norm.weight"),
    }
    if not config.tied:
        weights["head.weight"] = tensors.pop("lm_head.weight")
    for layer in range(config.layers):
        theirs, ours = f"{prefix}layers.{layer}.", f"blocks.{layer}."
        q, k, v = (tensors.pop(f"{theirs}self_attn.{name}_proj.weight") for name in "qkv")
        gate, up = (tensors.pop(f"{theirs}mlp.{name}_proj.weight") for name in ("gate", "up"))
        weights[ours + "attn.qkv.weight"] = torch.cat([q, k, v])
        weights[ours + "attn.out.weight"] = tensors.pop(theirs + "self_attn.o_proj.weight")
        weights[ours + "ffn.gate_up.weight"] = torch.cat([gate, up])
        weights[ours + "ffn.down.weight"] = tensors.pop(theirs + "mlp.down_proj.weight")
        weights[ours + "norm1.weight"] = tensors.pop(theirs + "input_layernorm.weight")
        weights[ours + "norm2.weight"] = tensors.pop(theirs + "post_attention_layernorm.weight")
    return weights


def _below(token_id: int | list | None, vocab_size: int) -> int | None:
    return token_id if isinstance(token_id, int) and 0 <= token_id < vocab_size else None


def _tokenizer(folder: Path, settings: dict) -> BPETokenizer | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    chat_file = folder / "tokenizer_config.json"
    more = _json(chat_file) if chat_file.is_file() else {}
    ids = {name: settings.get(f"{name[:-3]}_token_id") for name in ("bos_id", "eos_id", "pad_id")}
    ids = {name: value if isinstance(value, int) else None for name, value in ids.items()}
    apart = folder / "chat_template.jinja"  # where newer versions of transformers put it
    template = apart.read_text(encoding="utf-8") if apart.is_file() else more.get("chat_template")
    return BPETokenizer.from_file(
        folder / "tokenizer.json", chat_template=template if isinstance(template, str) else None, **ids
    )
