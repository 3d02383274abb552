"""Reading a Llama-architecture GGUF file (the format of llama.cpp) with the `gguf` package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from arlab.nn.decoder import DecoderConfig
from arlab.text.tokenizers import BPETokenizer

LONGEST_ARRAY = 1_000_000  # tokens and merges are the longest lists; the largest vocabularies have some 260,000
CONTROL_TOKEN = 3  # gguf's token type of special tokens such as <|im_start|>


class CheckedReader(gguf.GGUFReader):
    """The package trusts the file's own counts: past the file's end it would go on reading nothing, for ever."""

    def _get(self, offset, dtype, count=1, override_order=None):
        # frombuffer, not slices of the package's memmap: 250,000 small reads take a third of the time.
        dtype = np.dtype(dtype).newbyteorder(override_order or self.byte_order)
        end = int(offset) + int(count) * dtype.itemsize
        if end > self.data.size:
            raise ValueError(f"it has {self.data.size:,} bytes, and something in it should end at byte {end:,}")
        return np.frombuffer(self.data, dtype, int(count), int(offset))

    def _get_field_parts(self, orig_offs, raw_type):
        if raw_type == gguf.GGUFValueType.ARRAY:
            length = int(self._get(orig_offs + 4, np.uint64)[0])
            if length > LONGEST_ARRAY:
                raise ValueError(f"a list in it should have {length:,} entries; arlab reads {LONGEST_ARRAY:,} at most")
        return super()._get_field_parts(orig_offs, raw_type)


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[DecoderConfig, dict[str, Tensor], BPETokenizer]:
    """The config, the dequantised weights by the names of DecoderLM, and the tokenizer inside the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no GGUF file {path}")
    try:
        reader = CheckedReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, TypeError, OSError) as error:
        # The package trusts the file's own counts; a cut or altered file shows up as any of these.
        raise ValueError(
            f"{path} is not a whole GGUF file ({error or type(error).__name__}); fetch it again"
        ) from error
    if (architecture := fields.get("general.architecture")) != "llama":
        raise ValueError(f"{path} holds a model of architecture {architecture!r}; arlab reads 'llama'")
    try:
        config = _config(fields, tied="output.weight" not in tensors)
        weights = _weights(tensors, config, dtype)
        return config, weights, _tokenizer(fields)
    except KeyError as error:
        raise ValueError(f"{path} lacks {error.args[0]!r}; it is cut short or not a Llama model") from error
    except ValueError:
        raise
    except Exception as error:  # shapes that do not join, merges without their tokens: each library raises its own
        raise ValueError(f"{path} is not a whole Llama model ({error}); fetch it again") from error


def _config(fields: dict, tied: bool) -> DecoderConfig:
    heads, d_model = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    config = DecoderConfig.llama(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        context_length=fields["llama.context_length"],
        d_model=d_model,
        layers=fields["llama.block_count"],
        heads=heads,
        kv_heads=fields.get("llama.attention.head_count_kv", heads),
        d_ff=fields["llama.feed_forward_length"],
        norm_eps=round(fields["llama.attention.layer_norm_rms_epsilon"], 9),  # stored as float32: 9.9999997e-06
        rotary_base=fields.get("llama.rope.freq_base", 10_000.0),
        tied=tied,
        bos_id=fields.get("tokenizer.ggml.bos_token_id"),
    )
    # What arlab would silently get wrong: rotary positions on a part of a head, or stretched.
    for name, known in (("llama.rope.dimension_count", config.head_dim), ("llama.rope.scaling.type", "none")):
        if fields.get(name, known) != known:
            raise ValueError(f"the file has {name} = {fields[name]!r}; arlab knows {known!r} only")
    return config


def _weights(tensors: dict, config: DecoderConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    unread = set(tensors)

    def read(name: str) -> Tensor:
        tensor = tensors[name]
        unread.discard(name)
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except (ValueError, NotImplementedError) as error:
            raise ValueError(
                f"{name} cannot be dequantised ({error}); the file is cut short or of a kind unknown"
            ) from error
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(dtype)  # a copy: norms are views of the file

    weights = {"embed_tokens.weight": read("token_embd.weight"), "norm.weight": read("output_norm.weight")}
    if not config.tied:
        weights["head.weight"] = read("output.weight")
    for layer in range(config.layers):
        theirs, ours = f"blk.{layer}.", f"blocks.{layer}."
        q = _halves(read(theirs + "attn_q.weight"), config.heads)
        k = _halves(read(theirs + "attn_k.weight"), config.n_kv_heads)
        weights[ours + "attn.qkv.weight"] = torch.cat([q, k, read(theirs + "attn_v.weight")])
        weights[ours + "attn.out.weight"] = read(theirs + "attn_output.weight")
        gate, up = read(theirs + "ffn_gate.weight"), read(theirs + "ffn_up.weight")
        weights[ours + "ffn.gate_up.weight"] = torch.cat([gate, up])
        weights[ours + "ffn.down.weight"] = read(theirs + "ffn_down.weight")
        weights[ours + "norm1.weight"] = read(theirs + "attn_norm.weight")
        weights[ours + "norm2.weight"] = read(theirs + "ffn_norm.weight")
    if unread:
        raise ValueError(f"the file also holds {sorted(unread)[:3]}, which arlab's Llama has no place for")
    return weights


def _halves(weight: Tensor, heads: int) -> Tensor:
    """GGUF stores rotary pairs side by side (0,1), (2,3), ...; arlab pairs feature i with i + head_dim/2.

    Reordering the rows of W_Q and W_K alike changes no dot product, so no model output.
    """
    rows, d_model = weight.shape
    if rows % (2 * heads):
        raise ValueError(f"a query or key matrix has {rows} rows, which do not divide into {heads} heads of even width")
    return weight.view(heads, rows // heads // 2, 2, d_model).transpose(1, 2).reshape(rows, d_model)


def _tokenizer(fields: dict) -> BPETokenizer:
    kind, pre = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "gpt2")
    digits = {"smollm": True, "gpt2": False, "gpt-2": False}
    if kind != "gpt2" or pre not in digits:
        raise ValueError(
            f"the tokenizer is {kind!r} with pre-tokenizer {pre!r}; arlab reads gpt2 with {sorted(digits)}"
        )
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    return BPETokenizer.from_vocabulary(
        tokens,
        fields["tokenizer.ggml.merges"],
        special=[token for token, type_ in zip(tokens, types, strict=True) if type_ == CONTROL_TOKEN],
        single_digits=digits[pre],
        bos_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_id=fields.get("tokenizer.ggml.eos_token_id"),
        pad_id=fields.get("tokenizer.ggml.padding_token_id"),
        chat_template=fields.get("tokenizer.chat_template"),
    )
