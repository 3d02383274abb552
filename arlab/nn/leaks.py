"""Which inputs does an output really depend on? A leak detector for language models.

An autoregressive model may use positions s <= t for its prediction at t, and nothing later. Instead of trusting the
mask, measure it: the derivative of `logits[t]` with respect to the embedding at position s. It has to be exactly 0
for every s > t, since a masked weight is exactly 0 and so is everything multiplied by it.

What is measured. For each pair (t, s) the Jacobian J = d logits[t] / d embedding[s] is a (vocab, d_model) matrix, and
its Frobenius norm says how strongly t listens to s. The whole of J would cost one backward pass for every token of the
vocabulary, so J is multiplied with a few random Gaussian vectors u instead: the mean of |u J|^2 is |J|^2 (Hutchinson,
1990). Summing the logits would be cheaper still, but there a leak can cancel out: adding the same future signal to one
logit and subtracting it from another leaves the sum as it was. For a Gaussian u, u J = 0 with J != 0 has probability 0.

What it cannot see. A derivative looks at small changes around the tokens given. A leak through something that has no
derivative (an argmax, a rule such as "if the sequence is longer than 8") needs the other test: change token t + 1 and
see that the logits up to t stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.nn.language_model import LanguageModel, checked_ids, eval_mode


def leak_map(
    model: Callable,
    ids: Int[Tensor, "..."] | Sequence,
    *,
    projections: int = 4,
    embedding: nn.Module | None = None,
    seed: int = 0,
) -> Float[Tensor, "time time"]:
    """Norm of d logits[t] / d embedding[s] for every output position t (row) and input position s (column).

    ids: (time,) or (rows, time). With several rows the largest value over the rows is kept, so a leak in any row shows.
    model: anything with `embed_tokens` and `forward_embeddings(x) -> logits`, or any module that looks its ids up in an
    `nn.Embedding`; name that one with `embedding=` where it is not the model's own (a plain function, for instance).
    projections: random vectors per position. One is enough to find a leak; more make the size of it less noisy.

    The model is measured in eval mode, since dropout would be noise, and every module gets its own mode back. No
    gradient is left on the parameters. Returns float64 on the CPU, in which the square of a tiny gradient is not 0.

    Raises ValueError for ids that are empty, misshapen or not in the model's vocabulary, for a model whose embedding
    cannot be found, for logits that are not (rows, time, vocab) and for gradients that are not finite. Cost: one
    forward pass and `time` backward passes over rows * projections sequences.
    """
    ids = _as_rows(ids).to(_device(model, embedding))
    if isinstance(model, LanguageModel):
        checked_ids(ids, model)
    if projections < 1:
        raise ValueError(f"projections is {projections}; at least 1 is needed")
    rows, time = ids.shape
    repeated = ids.repeat(projections, 1)  # each projection is a row of its own: one backward pass serves them all
    # enable_grad alone does not undo an enclosing inference_mode
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(model):
        logits, leaves = _forward(model, repeated.clone(), embedding)
        if logits.dim() != 3 or logits.shape[:2] != repeated.shape:
            raise ValueError(
                f"the model returned logits of shape {tuple(logits.shape)} for ids of shape {tuple(repeated.shape)}; "
                "expected (rows, time, vocab)"
            )
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(len(repeated), logits.shape[-1], generator=generator).to(logits)
        measured = torch.stack([_row(logits[:, t], directions, leaves, t, rows, time) for t in range(time)])
    return measured.amax(dim=1).cpu()


def find_leaks(model: Callable, ids: Int[Tensor, "..."] | Sequence, **options) -> list[tuple[int, int, float]]:
    """Every pair (t, s, value) with s > t whose output at t depends on the input at s. Empty for a causal model.

    Ordered by t, then s. There is no tolerance: in a causal model the value is 0, not merely small. The options are
    those of `leak_map`.
    """
    measured = leak_map(model, ids, **options)
    return [(t, s, measured[t, s].item()) for t, s in measured.triu(1).nonzero().tolist()]


def _row(logits: Tensor, directions: Tensor, leaves: list[Tensor], t: int, rows: int, time: int) -> Tensor:
    """Norms (rows, time) of d logits at position t; logits (rows * projections, vocab)."""
    gradients = torch.autograd.grad((logits * directions).sum(), leaves, retain_graph=True, allow_unused=True)
    squares = torch.zeros(len(directions), time, dtype=torch.float64, device=logits.device)
    for gradient in gradients:
        if gradient is not None:  # None: nothing at position t depends on this lookup
            squares += gradient.double().square().sum(-1)
    if not squares.isfinite().all():
        raise ValueError(
            f"the gradient of logits[{t}] is not finite; a mask row that is -inf throughout gives NaN, "
            "so look for a position that sees nothing"
        )
    return squares.view(-1, rows, time).mean(0).sqrt()


def _forward(model: Callable, ids: Tensor, embedding: nn.Module | None) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the embedded input as leaves that a gradient can be taken for."""
    if embedding is None and hasattr(model, "forward_embeddings") and hasattr(model, "embed_tokens"):
        x = model.embed_tokens(ids).detach().requires_grad_()
        return _logits(model.forward_embeddings(x)), [x]

    if embedding is not None:
        candidates = [embedding]
    elif isinstance(model, nn.Module):
        candidates = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    else:
        candidates = []
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        # A table of positions is looked up too: the one meant is the one that is given the ids.
        if not (inputs and isinstance(inputs[0], Tensor) and torch.equal(inputs[0].to(ids), ids)):
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    hooks = [module.register_forward_hook(cut) for module in candidates]
    try:
        logits = _logits(model(ids))
    finally:
        for hook in hooks:
            hook.remove()
    if not leaves:
        raise ValueError(
            f"no nn.Embedding of {type(model).__name__} was given the ids as they are; "
            "name the one that embeds the tokens with embedding=, or give the model forward_embeddings(x)"
        )
    return logits, leaves


def _logits(output: object) -> Tensor:
    """The logits of a model's answer: a tensor, the first of a tuple, or what a `transformers` output calls logits."""
    output = getattr(output, "logits", output)
    return output[0] if isinstance(output, tuple) else output


def _device(model: Callable, embedding: nn.Module | None) -> torch.device:
    module = embedding if embedding is not None else model
    first = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


def _as_rows(ids: Tensor | Sequence) -> Tensor:
    ids = torch.as_tensor(ids)
    if ids.dim() == 1:
        ids = ids[None]
    if ids.dim() != 2 or ids.numel() == 0 or ids.is_floating_point():
        raise ValueError(
            f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}; expected integers, (time,) or (rows, time), "
            "at least one"
        )
    return ids
