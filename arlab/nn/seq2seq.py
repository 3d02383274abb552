"""The transformer encoder-decoder (Vaswani et al., 2017; lecture 004), from the blocks of the decoder-only model.

The encoder reads the whole source at once, every token seeing every other. The decoder is an autoregressive
transformer whose blocks attend a second time, into the encoder's output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.nn.blocks import Block, make_norm
from arlab.nn.cache import KVCache, Layout
from arlab.nn.cross_attention import CrossBlock, SourceLayout, source_mask
from arlab.nn.decoder import DecoderConfig
from arlab.nn.given import EncoderDecoder, Memory
from arlab.nn.positions import RotaryTable, sinusoidal


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Everything that decides the shape of the model. The decoder's names are those of DecoderConfig."""

    source_vocab: int
    vocab_size: int  # the target's
    source_length: int  # the longest source
    context_length: int  # the longest target, its start symbol included
    d_model: int
    encoder_layers: int
    layers: int  # the decoder's
    heads: int
    bos_id: int  # the symbol that every target starts from
    d_ff: int | None = None  # None: 4 * d_model
    norm: str = "layer"
    norm_first: bool = True
    positions: str = "learned"  # "learned", "sinusoidal", "rotary" (in self-attention alone) or "none"
    ffn: str = "gelu"
    bias: bool = True
    tied: bool = True  # the output matrix is the target's embedding matrix
    shared: bool = False  # source and target have one vocabulary and one embedding
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("source_vocab", "source_length", "encoder_layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
        if self.shared and self.source_vocab != self.vocab_size:
            raise ValueError(
                f"shared embeddings need one vocabulary; source_vocab is {self.source_vocab}, "
                f"vocab_size {self.vocab_size}"
            )
        if self.bos_id is None:
            raise ValueError("bos_id is None; a decoder needs a symbol to start every target from")
        self.encoder, self.decoder  # noqa: B018  DecoderConfig checks the rest

    def _blocks(self, **sizes) -> DecoderConfig:
        alike = ("d_model", "heads", "d_ff", "norm", "norm_first", "positions", "ffn", "bias", "dropout")
        return DecoderConfig(**{name: getattr(self, name) for name in alike}, **sizes)

    @property
    def encoder(self) -> DecoderConfig:
        """The encoder's blocks: the decoder's, but that every token sees every other."""
        sizes = {"vocab_size": self.source_vocab, "context_length": self.source_length, "layers": self.encoder_layers}
        return self._blocks(**sizes, causal=False)

    @property
    def decoder(self) -> DecoderConfig:
        sizes = {"vocab_size": self.vocab_size, "context_length": self.context_length, "layers": self.layers}
        return self._blocks(**sizes, bos_id=self.bos_id, tied=self.tied)


class Seq2SeqTransformer(EncoderDecoder):
    """Encode the source; embed the target so far, attend to it and to the source, predict what comes next."""

    def __init__(self, config: Seq2SeqConfig, *, seed: int | None = None):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_source = self.embed_tokens if config.shared else nn.Embedding(config.source_vocab, config.d_model)
        self.source_positions = Positions(config.encoder)
        self.target_positions = Positions(config.decoder)
        self.encoder = nn.ModuleList(Block(config.encoder) for _ in range(config.encoder_layers))
        self.encoder_norm = make_norm(config.encoder) if config.norm_first else nn.Identity()
        self.decoder = nn.ModuleList(CrossBlock(config.decoder) for _ in range(config.layers))
        self.norm = make_norm(config.decoder) if config.norm_first else nn.Identity()
        for layer, block in enumerate(self.encoder):
            block.attn.layer, block.attn.kind = layer, "encoder"
        for layer, block in enumerate(self.decoder):
            block.attn.layer = block.cross.layer = layer
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed_tokens.weight
        self.init_weights(seed)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def source_vocab(self) -> int:
        return self.config.source_vocab

    @property
    def source_length(self) -> int:
        return self.config.source_length

    @property
    def context_length(self) -> int:
        return self.config.context_length

    @property
    def bos_id(self) -> int:
        return self.config.bos_id

    @torch.no_grad()
    def init_weights(self, seed: int | None = None) -> None:
        """Tables N(0, 1 / d_model), matrices uniform as Glorot and Bengio (2010) have it, each of W_Q, W_K, W_V, gate
        and up by itself although they share a tensor; biases 0, norms 1. What is looked up is scaled by sqrt(d_model)
        (Vaswani et al., 2017, section 3.4): variance 1 going in, and logits of variance about 1 from the same table.
        """
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, self.config.d_model**-0.5, generator=generator)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and module is not self.head:
                parts = {"qkv": 3, "kv": 2, "gate_up": 2}.get(name.rpartition(".")[2], 1)
                for part in module.weight.chunk(parts):
                    nn.init.xavier_uniform_(part, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        if not self.config.tied:
            self.head.weight.normal_(0.0, self.config.d_model**-0.5, generator=generator)

    def _encode(self, x: Tensor, lengths: Tensor) -> Float[Tensor, "rows source_time d_model"]:
        layout = SourceLayout(lengths, x.size(1))
        x, rotary = self.source_positions(x, layout)
        for block in self.encoder:
            x = block(x, layout, None, rotary)
        return self.encoder_norm(x)

    def remember(self, h: Float[Tensor, "sources source_time d_model"], lengths: Int[Tensor, "sources"]) -> Memory:
        """Keys and values of the encoded sources for every decoder layer, and where the padding is."""
        pairs = [block.cross.keys_values(h) for block in self.decoder]
        return Memory([source_mask(lengths, h.size(1)), *(half for pair in pairs for half in pair)], h.size(0))

    def decode(
        self, x: Float[Tensor, "rows time d_model"], memory: Memory, cache: SourceCache | None = None
    ) -> Float[Tensor, "rows time d_model"]:
        """From target embeddings to what the head turns into logits."""
        rows, time, _ = x.shape
        layout = Layout((0,) * rows, time, x.device) if cache is None else cache.layout(rows, time)
        if layout.keys > self.context_length:
            raise ValueError(f"{layout.keys} target tokens exceed the model's context_length of {self.context_length}")
        x, rotary = self.target_positions(x, layout)
        for layer, block in enumerate(self.decoder):
            x = block(x, layout, cache, rotary, (memory[1 + 2 * layer], memory[2 + 2 * layer], memory[0]))
        if cache is not None:
            cache.advance(time)
        return self.norm(x)

    def hidden(
        self, ids: Int[Tensor, "rows time"], memory: Memory, cache: SourceCache | None = None
    ) -> Float[Tensor, "rows time d_model"]:
        """`decode`, from ids on."""
        return self.decode(self.embed_tokens(ids), memory, cache)

    def _new_cache(self, memory: Memory, capacity: int) -> SourceCache:
        return SourceCache(self, memory, capacity)


class SourceCache(KVCache):
    """The decoder's own keys and values, and beside them those of the source: `memory`, which never grows."""

    def __init__(self, model: Seq2SeqTransformer, memory: Memory, capacity: int):
        config, weight = model.config.decoder, model.embed_tokens.weight
        sizes = (config.layers, memory.rows, config.n_kv_heads, capacity, config.head_dim)
        super().__init__(*sizes, dtype=weight.dtype, device=weight.device)
        self.memory = memory

    def reorder(self, rows) -> None:
        super().reorder(rows)
        self.memory = self.memory.pick(rows)


class Positions(nn.Module):
    """Scale what was looked up by sqrt(d_model) and add where it stands; rotary positions are handed on instead."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.scale = config.d_model**0.5
        learned, time = config.positions == "learned", config.context_length
        self.table = nn.Embedding(time, config.d_model) if learned else None
        rotary = config.positions == "rotary"
        self.rotary = RotaryTable(config.head_dim, time, config.rotary_base) if rotary else None
        fixed = sinusoidal(torch.arange(time), config.d_model) if config.positions == "sinusoidal" else None
        self.register_buffer("sinusoids", fixed, persistent=False)

    def forward(self, x: Float[Tensor, "rows time d_model"], layout: Layout):
        positions, x = layout.positions, x * self.scale
        if self.table is not None:
            x = x + self.table.weight[positions] * self.scale
        elif self.sinusoids is not None:
            x = x + self.sinusoids[positions].to(x.dtype)
        return x, None if self.rotary is None else self.rotary(positions, x.dtype)
