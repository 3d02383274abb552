"""One token's way through a model as a single compiled graph, for GPUs.

A token of SmolLM2 is some 400 small kernels, and a GPU waits longer for each to be launched than it works on it. With
shapes that never change, `torch.compile` records them once (CUDA graphs, `mode="reduce-overhead"`) and replays them
with one call. So the step reads all `capacity` slots of the cache, masked to those in use, and the positions are data
on the device: no number of the host's is part of the graph.

    greedy(CompiledSteps(model), prompt, max_new_tokens=100)

Prompts and verification passes, of several tokens at a time, take the model's ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arlab.nn.cache import KVCache
from arlab.nn.decoder import DecoderLM, Parts


class StaticCache(KVCache):
    """A KVCache that also knows its lengths as numbers on the device, where a compiled step reads and raises them."""

    def __init__(self, *sizes: int, dtype, device):
        super().__init__(*sizes, dtype=dtype, device=device)
        self.positions: Int[Tensor, "rows"] = torch.zeros(self.rows, dtype=torch.long, device=device)
        self._known: list[int] = [0] * self.rows  # the lengths that `positions` holds

    def device_positions(self) -> Int[Tensor, "rows"]:
        """The lengths on the device; sent again only when something other than a compiled step has changed them."""
        if self._known != self.lengths:
            self.positions = torch.tensor(self.lengths, device=self.k.device)
            self._known = list(self.lengths)
        return self.positions

    def stepped(self) -> None:
        """A compiled step is over; it has raised the device's numbers itself."""
        self.advance(1)
        self._known = list(self.lengths)


class StepLayout:
    """Where one new token of each row stands, in tensors alone: what `Layout` is to an ordinary pass."""

    time = 1

    def __init__(self, positions: Int[Tensor, "rows"], capacity: int):
        self.positions, self.keys = positions[:, None], capacity

    def mask(self, causal: bool) -> Bool[Tensor, "rows 1 1 keys"]:
        """A single token sees all that its row holds, itself included, whether the model is causal or not."""
        return (torch.arange(self.keys, device=self.positions.device) <= self.positions)[:, None, None]

    def fused(self, causal: bool) -> tuple[Tensor, bool]:
        return self.mask(causal), False


class StepSlots:
    """The cache as the blocks see it during a compiled step."""

    def __init__(self, k: Tensor, v: Tensor, positions: Int[Tensor, "rows"]):
        self.k, self.v, self.positions = k, v, positions
        self.rows = torch.arange(positions.size(0), device=positions.device)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new token's keys and values (rows, kv_heads, 1, head_dim); all slots of the layer come back."""
        self.k[layer][self.rows, :, self.positions] = k[:, :, 0]
        self.v[layer][self.rows, :, self.positions] = v[:, :, 0]
        return self.k[layer], self.v[layer]


class CompiledSteps:
    """A DecoderLM, as a language model whose single-token steps are compiled.

    Every decoder takes it. A cache of another number of rows or another capacity means compiling once more. It is for
    decoding: compiled steps have no gradients.
    """

    def __init__(self, model: DecoderLM, *, backend: str = "inductor", mode: str | None = None):
        """
        Args:
            backend: of torch.compile.
            mode: of torch.compile; None: "reduce-overhead" (CUDA graphs) on CUDA, the default elsewhere.

        Raises:
            TypeError: a model that is no DecoderLM.
        """
        if not isinstance(model, DecoderLM):
            raise TypeError(f"CompiledSteps takes a DecoderLM; got a {type(model).__name__}")
        self.model, self.on_cuda = model, model.device.type == "cuda"
        if mode is None and self.on_cuda and backend == "inductor":
            mode = "reduce-overhead"
        self._step = torch.compile(self._one_token, fullgraph=True, dynamic=False, backend=backend, mode=mode)

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def context_length(self) -> int:
        return self.model.context_length

    @property
    def bos_id(self) -> int | None:
        return self.model.bos_id

    def parameters(self):
        return self.model.parameters()

    def new_cache(self, rows: int, capacity: int) -> StaticCache:
        """As the model's own; see `DecoderLM.new_cache`."""
        plain = self.model.new_cache(rows, capacity)
        layers, _, kv_heads, _, head_dim = plain.k.shape
        return StaticCache(layers, rows, kv_heads, capacity, head_dim, dtype=plain.k.dtype, device=plain.k.device)

    def __call__(self, ids: Tensor, cache: KVCache | None = None) -> Float[Tensor, "rows time vocab"]:
        if isinstance(cache, StaticCache) and ids.size(1) == 1:
            return self.last_logits(ids, cache)[:, None]
        return self.model(ids, cache)

    def last_logits(
        self, ids: Tensor, cache: KVCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Compiled where each row brings one token; the model's own otherwise. Errors as in `DecoderLM.last_logits`."""
        if not isinstance(cache, StaticCache) or ids.size(1) != 1:
            return self.model.last_logits(ids, cache, lengths)
        cache.layout(*ids.shape)  # refuses what does not fit
        positions = cache.device_positions()
        if self.on_cuda:
            torch.compiler.cudagraph_mark_step_begin()
            for tensor in (cache.k, cache.v, positions):  # written in place, at addresses that stay
                torch._dynamo.mark_static_address(tensor)
        with torch.no_grad():  # keys are written in place: the cache would hold on to the graph of every step
            logits = self._step(ids, positions, cache.k, cache.v)
        cache.stepped()
        # The next CUDA graph writes over this answer, and it may be another model's: contrastive decoding asks two.
        return logits.clone() if self.on_cuda else logits

    def _one_token(self, ids: Tensor, positions: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "rows vocab"]:
        model = self.model
        slots, layout = StepSlots(k, v, positions), StepLayout(positions, k.size(3))
        x = model.run(model.embed_tokens(ids), layout, slots, Parts(model.blocks, model.norm, model.head))
        logits = model.head(x)[:, -1]
        positions.add_(1)
        return logits
