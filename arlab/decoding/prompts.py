"""The public edge of decoding: prompts as people write them, to right-padded ids and lengths.

Left padding exists only here. Inside, row r's tokens stand at positions 0 .. lengths[r] - 1.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from arlab.nn.language_model import LanguageModel, checked_ids, model_device


@dataclass(frozen=True, eq=False)
class Prompts:
    """Right-padded ids and the real length of each row."""

    ids: Int[Tensor, "rows time"]
    lengths: list[int]

    @property
    def even(self) -> bool:
        return min(self.lengths) == max(self.lengths)

    def repeat(self, n: int) -> Prompts:
        """Each row n times, one after the other."""
        if n == 1:
            return self
        return Prompts(self.ids.repeat_interleave(n, dim=0), [length for length in self.lengths for _ in range(n)])


def read_prompts(
    model: LanguageModel,
    prompt: Tensor | Sequence[int] | Sequence[Sequence[int]],
    mask: Bool[Tensor, "batch time"] | None,
    max_new_tokens: int,
) -> Prompts:
    """Check a prompt against the model and the room it has.

    Args:
        prompt: ids (batch, time), or one row (time,), as a tensor or as lists; lists may be ragged.
        mask: (batch, time), True for a real token, for ragged rows padded on the left.
        max_new_tokens: how many tokens are to follow.

    Raises:
        ValueError: an empty prompt for a model without a bos_id, ids out of range, a prompt (with its new tokens)
            longer than the context, a mask that does not fit or pads elsewhere than on the left.
        TypeError: ids that are not integers, a mask that is not boolean.
    """
    rows = _rows(prompt, mask)
    for row, ids in enumerate(rows):
        if not ids:
            if model.bos_id is None:
                raise ValueError(f"prompt {row} is empty and the model has no bos_id to start from; give it a token")
            ids.append(model.bos_id)
    lengths = [len(ids) for ids in rows]
    check_new_tokens(max_new_tokens)
    if model.context_length is not None and max(lengths) + max_new_tokens > model.context_length:
        raise ValueError(
            f"a prompt of {max(lengths)} tokens and {max_new_tokens} new ones exceed the model's context_length of "
            f"{model.context_length}; shorten it, or wrap the model: Recompute(model, window={model.context_length})"
        )
    padded = torch.tensor([ids + [ids[-1]] * (max(lengths) - len(ids)) for ids in rows])  # any valid id will do
    return Prompts(checked_ids(padded, model).to(model_device(model)), lengths)


def check_new_tokens(max_new_tokens: int) -> None:
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, Integral) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}; it must be an integer of 0 or more")


def _rows(prompt, mask: Tensor | None) -> list[list[int]]:
    if isinstance(prompt, np.ndarray):
        prompt = torch.as_tensor(prompt)
    if isinstance(prompt, Tensor):
        if prompt.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"a prompt must hold integer ids; got {prompt.dtype}")
        if prompt.dim() not in (1, 2) or (prompt.dim() == 2 and prompt.size(0) == 0):
            raise ValueError(f"a prompt must be (batch, time) or (time,), at least one row; got {tuple(prompt.shape)}")
        rows = prompt.tolist() if prompt.dim() == 2 else [prompt.tolist()]
    else:
        rows = [_integers(row) for row in prompt] if _holds_rows(prompt) else [_integers(prompt)]
    return rows if mask is None else _strip_padding(rows, mask)


def _holds_rows(prompt) -> bool:
    """Whether any entry is a row of ids itself (a tensor of one id is not)."""
    rows = prompt if isinstance(prompt, Sequence) else ()
    return any(getattr(row, "ndim", 0) or (isinstance(row, Sequence) and not isinstance(row, str)) for row in rows)


def _integers(ids) -> list[int]:
    """The ids as Python's own integers; those of NumPy and torch serve as well."""
    if not isinstance(ids, Iterable):
        raise TypeError(f"a prompt must hold integer ids; got {ids!r}")
    if isinstance(ids, Iterator):
        raise TypeError(f"a prompt must be a list or a tensor; {ids!r} can be read only once")
    for i in ids:
        if isinstance(i, bool) or not hasattr(i, "__index__"):  # 1.5 has none; int() would cut it to 1
            raise TypeError(f"a prompt must hold integer ids; got {i!r}")
    return [operator.index(i) for i in ids]


def _strip_padding(rows: list[list[int]], mask: Tensor) -> list[list[int]]:
    width = len(rows[0])
    if not isinstance(mask, Tensor) or tuple(mask.shape) != (len(rows), width):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"the mask has shape {shape}; the prompt has {(len(rows), width)}")
    if any(len(row) != width for row in rows):
        raise ValueError(f"a mask needs prompts of one width; got rows of {[len(row) for row in rows]} tokens")
    if mask.dtype != torch.bool:
        raise TypeError(f"the mask's dtype is {mask.dtype}; it must be torch.bool, True for a real token")
    if (mask[:, :-1] & ~mask[:, 1:]).any():
        raise ValueError("the mask has padding after a real token; prompts are padded on the left (False first)")
    return [row[width - count :] for row, count in zip(rows, mask.sum(dim=1).tolist(), strict=True)]
