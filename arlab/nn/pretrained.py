"""Real weights in the lab's own classes: SmolLM2 from GGUF, GPT-2 and Llama kinds from a transformers folder."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from arlab import assets
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.gguf_file import read_gguf
from arlab.nn.transformers_folder import read_folder
from arlab.text.tokenizers import BPETokenizer

LONGEST_CONTEXT = 2**20  # a wrong byte in a file must not ask for rotary tables of many gigabytes


def smollm2(dtype: torch.dtype = torch.float32, device=None) -> tuple[DecoderLM, BPETokenizer]:
    """SmolLM2-135M-Instruct and its tokenizer: 30 layers, 49,152 tokens, a context of 8,192.

    Args:
        dtype: torch.float32, or torch.bfloat16 for half the memory, and more speed where the CPU has it.

    Raises:
        arlab.assets.AssetError: when the file cannot be fetched or is damaged.

    Source: "SmolLM2" (Allal et al., 2025); weights under Apache-2.0, quantised to 4 bits (Q4_1).
    """
    return from_gguf(assets.path("smollm2"), dtype=dtype, device=device)


def from_gguf(path: str | Path, dtype: torch.dtype = torch.float32, device=None) -> tuple[DecoderLM, BPETokenizer]:
    """A Llama-architecture GGUF file, its weights dequantised.

    Raises:
        FileNotFoundError, ValueError: no such file; not a whole GGUF file, another architecture, weights that do
            not fit or are not finite. Nothing is ever unpickled.
    """
    config, weights, tokenizer = read_gguf(Path(path), dtype)
    return build(config, weights, device), tokenizer


def from_transformers(
    path_or_name: str | Path, dtype: torch.dtype = torch.float32, device=None
) -> tuple[DecoderLM, BPETokenizer | None]:
    """A local folder (config.json and *.safetensors), or a name on the Hugging Face hub; GPT-2 and Llama kinds.

    Returns:
        the model, and its tokenizer where the folder has a tokenizer.json (else None).

    Raises:
        FileNotFoundError, ValueError: no such folder; another architecture, weights that do not fit, or weights
            only in pickled form (`pytorch_model.bin`), which can run code and are refused.
    """
    config, weights, tokenizer = read_folder(path_or_name, dtype)
    return build(config, weights, device), tokenizer


def build(config: DecoderConfig, weights: dict[str, Tensor], device=None) -> DecoderLM:
    """A DecoderLM around these weights, without first filling it with random ones.

    Raises:
        ValueError: names missing, left over, of another shape, or not finite; a context beyond LONGEST_CONTEXT.
    """
    if config.context_length > LONGEST_CONTEXT:
        raise ValueError(f"context_length is {config.context_length:,}; arlab reads up to {LONGEST_CONTEXT:,}")
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        model = DecoderLM(config)
    expected = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    if config.tied:
        weights = {**weights, "head.weight": weights.get("embed_tokens.weight")}
    missing, left_over = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or left_over:
        raise ValueError(f"the weights do not fit the config: missing {missing[:3]}, left over {left_over[:3]}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(weights[name].shape)}; the config asks for {shape}")
        if not math.isfinite(weights[name].sum(dtype=torch.float32)):  # one pass; NaN and inf survive a sum
            raise ValueError(f"{name} holds NaN or infinite values: the file is damaged")
    model.load_state_dict(weights, assign=True)
    if config.tied:
        model.head.weight = model.embed_tokens.weight
    model.build_tables()
    return model.to(device if device is not None else "cpu").eval().requires_grad_(False)
