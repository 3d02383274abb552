"""A decoder-only language model: GPT-2 and Llama are two settings of the same thirty lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arlab.nn.blocks import ACTIVATIONS, Block, make_norm
from arlab.nn.cache import KVCache, Layout
from arlab.nn.language_model import checked_ids, pick_last
from arlab.nn.positions import RotaryTable, sinusoidal
from arlab.nn.straight import hooks_so_far, straight


@dataclass(frozen=True)
class DecoderConfig:
    """Every choice that shapes the model. `DecoderConfig.gpt2(...)` and `.llama(...)` set the two usual families."""

    vocab_size: int
    context_length: int
    d_model: int
    layers: int
    heads: int
    kv_heads: int | None = None  # None: as many as heads; fewer: grouped-query attention
    d_head: int | None = None  # None: d_model / heads
    d_ff: int | None = None  # None: 4 * d_model
    norm: str = "layer"  # "layer" or "rms"; "batch" and "none" are there to be compared with them
    norm_eps: float = 1e-5
    norm_first: bool = True  # pre-LN; False is post-LN, which needs no norm after the last block
    residual: bool = True  # False takes x + out of every branch
    positions: str = "learned"  # "learned", "rotary", "sinusoidal" or "none"
    rotary_base: float = 10_000.0
    ffn: str = "gelu"  # "gelu", "gelu_tanh", "relu" or "swiglu"
    bias: bool = True
    qkv_bias: bool | None = None  # None: as `bias`
    tied: bool = True  # the output matrix is the embedding matrix
    dropout: float = 0.0
    init: str = "gpt2"  # "gpt2": N(0, 0.02), less into the stream; "xavier": Glorot's for matrices, N(0, 1) embeddings
    causal: bool = True  # False lets every token see the future: notebook 04 trains such a cheat
    bos_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "d_model", "layers", "heads", "n_kv_heads", "head_dim", "n_ff"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
        if self.d_head is None and self.d_model % self.heads:
            raise ValueError(
                f"d_model is {self.d_model}, not a multiple of heads = {self.heads}; set d_head, or mend one"
            )
        if self.heads % self.n_kv_heads:
            raise ValueError(f"heads is {self.heads}, not a multiple of kv_heads = {self.n_kv_heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary positions turn pairs and need an even one")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model is {self.d_model}; sinusoidal positions need an even one")
        allowed = {
            "norm": ("layer", "rms", "batch", "none"),
            "init": ("gpt2", "xavier"),
            "positions": ("learned", "rotary", "sinusoidal", "none"),
            "ffn": (*ACTIVATIONS, "swiglu"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(values)}")
        if self.bos_id is not None and not 0 <= self.bos_id < self.vocab_size:
            raise ValueError(
                f"bos_id is {self.bos_id}; a decoder embeds it, so it must lie below vocab_size = {self.vocab_size}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        for name in ("norm_eps", "rotary_base"):
            if not 0 < getattr(self, name) < math.inf:  # NaN fails too
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number above 0")

    @property
    def n_kv_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_dim(self) -> int:
        return self.d_model // self.heads if self.d_head is None else self.d_head

    @property
    def n_ff(self) -> int:
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    @property
    def qkv_has_bias(self) -> bool:
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @classmethod
    def gpt2(cls, **sizes) -> DecoderConfig:
        """LayerNorm, learned positions, GELU, biases, tied embeddings (Radford et al., 2019)."""
        return cls(**{"ffn": "gelu_tanh", **sizes})

    @classmethod
    def llama(cls, **sizes) -> DecoderConfig:
        """RMSNorm, rotary positions, SwiGLU, no biases (Touvron et al., 2023)."""
        family = {"norm": "rms", "positions": "rotary", "ffn": "swiglu", "bias": False}
        return cls(**{**family, **sizes})


class DecoderLM(nn.Module):
    """Embed, add positions, run the blocks, normalise, and compare with every token of the vocabulary."""

    def __init__(self, config: DecoderConfig, *, seed: int | None = None):
        super().__init__()
        self.config = config
        self.embed_tokens = _embedding(config.vocab_size, config.d_model)
        learned = config.positions == "learned"
        self.embed_positions = _embedding(config.context_length, config.d_model) if learned else None
        self.build_tables()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        for layer, block in enumerate(self.blocks):
            block.attn.layer = layer
        self.norm = make_norm(config) if config.norm_first else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed_tokens.weight
        self.init_weights(seed)

    def build_tables(self) -> None:
        """cos, sin and sinusoids for every position: constants, so they are computed and never stored."""
        config = self.config
        self.rotary = None
        if self.embed_tokens.weight.is_meta:
            return  # shapes alone so far; whoever brings the weights calls this again
        if config.positions == "rotary":
            self.rotary = RotaryTable(config.head_dim, config.context_length, config.rotary_base)
        elif config.positions == "sinusoidal":
            table = sinusoidal(torch.arange(config.context_length), config.d_model)
            self.register_buffer("sinusoids", table, persistent=False)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def context_length(self) -> int:
        return self.config.context_length

    @property
    def bos_id(self) -> int | None:
        return self.config.bos_id

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @torch.no_grad()
    def init_weights(self, seed: int | None = None) -> None:
        """Fill every weight; biases become 0 and the norms' scales stay 1.

        "gpt2": N(0, 0.02), and the last matrix of each branch smaller by sqrt(2 layers), as in GPT-2: each of the
        2 x layers branches adds to the same residual stream, which should not grow with depth.
        "xavier": Glorot and Bengio (2010), each of W_Q, W_K, W_V, gate and up by itself although they share a tensor;
        N(0, 1) for the embeddings.
        """
        if self.embed_tokens.weight.is_meta:
            return
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            if self.config.init == "xavier":
                self._init_xavier(name, parameter, generator)
                continue
            into_stream = name.endswith(("attn.out.weight", "ffn.down.weight"))
            std = 0.02 / (2 * self.config.layers) ** 0.5 if into_stream else 0.02
            parameter.normal_(0.0, std, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()

    def _init_xavier(self, name: str, parameter: Tensor, generator: torch.Generator | None) -> None:
        if name.startswith("embed_"):
            parameter.normal_(0.0, 1.0, generator=generator)
            return
        config, parts = self.config, [parameter]
        if name.endswith("qkv.weight"):
            keys = config.n_kv_heads * config.head_dim
            parts = parameter.split([config.heads * config.head_dim, keys, keys])
        elif name.endswith("gate_up.weight"):
            parts = parameter.chunk(2)
        for part in parts:
            nn.init.xavier_uniform_(part, generator=generator)

    def new_cache(self, rows: int, capacity: int) -> KVCache:
        """Room for `capacity` tokens in each of `rows` rows.

        Raises:
            ValueError: when capacity exceeds the context length.
        """
        config, weight = self.config, self.embed_tokens.weight
        if capacity > config.context_length:
            raise ValueError(f"capacity is {capacity}, more than the model's context_length of {config.context_length}")
        return KVCache(
            config.layers, rows, config.n_kv_heads, capacity, config.head_dim, dtype=weight.dtype, device=weight.device
        )

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Float[Tensor, "rows time vocab"]:
        """Logits at every position; with a cache, `ids` are the new tokens only.

        Raises:
            ValueError: ids out of range, of the wrong shape, or longer than the context or the cache.
            TypeError: ids that are not integers.
        """
        return self._parts(cache).head(self._hidden(self.embed(ids), cache))

    def last_logits(
        self, ids: Tensor, cache: KVCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Logits after each row's last token alone: the vocabulary's product is the largest one of the pass.

        Raises:
            ValueError: as in `forward`; ragged rows for a model that is not causal, which would see their padding.
        """
        if lengths is not None and not self.config.causal and min(lengths) < ids.size(1):
            raise ValueError(f"causal is False: rows of {list(lengths)} tokens would see their padding; run each alone")
        return self._parts(cache).head(pick_last(self._hidden(self.embed(ids), cache), lengths))

    def embed(self, ids: Tensor) -> Float[Tensor, "rows time d_model"]:
        """The T x d_m matrix of lecture 002, for each row."""
        # On a GPU the check would make the host wait at every token; in a compiled model it would break the graph.
        if not torch.compiler.is_compiling() and (not isinstance(ids, Tensor) or ids.device.type == "cpu"):
            checked_ids(ids, self)
        return self.embed_tokens(ids)

    def forward_embeddings(
        self, x: Float[Tensor, "rows time d_model"], cache: KVCache | None = None
    ) -> Float[Tensor, "rows time vocab"]:
        """From token embeddings to logits: what the leak detector differentiates."""
        return self.head(self._hidden(x, cache))

    def _hidden(self, x: Tensor, cache: KVCache | None) -> Float[Tensor, "rows time d_model"]:
        rows, time, _ = x.shape
        layout = Layout((0,) * rows, time, x.device) if cache is None else cache.layout(rows, time)
        if layout.keys > self.config.context_length:
            raise ValueError(f"{layout.keys} tokens exceed the model's context_length of {self.config.context_length}")
        x = self.run(x, layout, cache, self._parts(cache))
        if cache is not None:
            cache.advance(time)
        return x

    def run(self, x: Tensor, layout: Layout, cache: KVCache | None, parts: Parts) -> Float[Tensor, "rows time d_model"]:
        """Positions, blocks and the last norm, where the layout says that the tokens stand."""
        positions = layout.positions
        if self.embed_positions is not None:
            x = x + self.embed_positions.weight[positions]
        elif self.config.positions == "sinusoidal":
            x = x + self.sinusoids[positions].to(x.dtype)
        rotary = None if self.rotary is None else self.rotary(positions, x.dtype)
        for block in parts.blocks:
            x = block(x, layout, cache, rotary)
        return parts.norm(x)

    def _parts(self, cache: KVCache | None) -> Parts:
        """The modules themselves; with a cache, where tokens come a few at a time, the straight way through them."""
        if cache is None:
            return Parts(self.blocks, self.norm, self.head)
        if cache.way is None or cache.way[0] is not self or cache.way[1] != hooks_so_far():
            blocks = [straight(block) for block in self.blocks]
            cache.way = self, hooks_so_far(), Parts(blocks, straight(self.norm), straight(self.head))
        return cache.way[2]


class Parts(NamedTuple):
    """What a pass calls, in order: each block with (x, layout, cache, rotary), then norm and head with x."""

    blocks: Iterable[Callable]
    norm: Callable
    head: Callable


def _embedding(rows: int, columns: int) -> nn.Embedding:
    """A table that init_weights fills: nn.Embedding's own start, N(0, 1), would be thrown away."""
    return nn.Embedding.from_pretrained(torch.empty(rows, columns), freeze=False)
