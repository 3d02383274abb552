"""What proposes tokens to speculative decoding: a language model, or a look back into the text.

A draft is anything with `propose(text, limit) -> Proposal`: at most `limit` tokens to follow `text`, and the
probabilities that they were drawn with. It may be wrong as often as it likes: the target's law stays exact as long as
those probabilities are the ones it drew with.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from arlab.decoding.filters import Filter, MinP, Temperature, TopK, TopP, apply, in_float64, peak_of
from arlab.nn.language_model import LanguageModel, input_vocabulary, last_logits, model_device


@dataclass(frozen=True, eq=False)
class Proposal:
    """Tokens to follow the text, and for each the distribution that it was drawn from.

    probabilities is None where there was no drawing: each token had probability 1.
    """

    tokens: list[int]
    probabilities: Float[Tensor, "drafted vocab"] | None = None


@runtime_checkable
class Draft(Protocol):
    """Proposes what may come next."""

    def propose(self, text: list[int], limit: int) -> Proposal: ...


class LookupDraft:
    """Looks for the text's last few tokens earlier in the text, and proposes what followed them there.

    The longest match of `shortest` to `longest` tokens is taken, the latest one among equals. Where what followed runs
    into the end of the text, it goes on with the copy: a loop is copied round and round. Nothing found, nothing
    proposed. It costs no model at all and pays where the answer repeats its prompt: editing, quoting, code.

    Source: prompt lookup decoding (Saxena, 2023); "Inference with Reference" (Yang et al., 2023).
    """

    def __init__(self, longest: int = 3, shortest: int = 1):
        """
        Raises:
            ValueError: unless 1 <= shortest <= longest.
            TypeError: lengths that are no integers.
        """
        self.longest, self.shortest = operator.index(longest), operator.index(shortest)
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"shortest is {shortest} and longest {longest}; needed 1 <= shortest <= longest")

    def propose(self, text: list[int], limit: int) -> Proposal:
        source = self._find(text) if text else None
        if source is None:
            return Proposal([])
        longer = list(text)
        for i in range(source, source + limit):
            longer.append(longer[i])  # may read what it has just written
        return Proposal(longer[len(text) :])

    def _find(self, text: list[int]) -> int | None:
        """Where the continuation of the best match begins."""
        last, best, found = text[-1], self.shortest - 1, None
        for end in range(len(text) - 1, 0, -1):  # the match would be text[... : end]
            if text[end - 1] != last:
                continue
            length = 1
            while length < min(self.longest, end) and text[end - 1 - length] == text[-1 - length]:
                length += 1
            if length > best:
                best, found = length, end
                if best == self.longest:
                    break
        return found


class ModelDraft:
    """A language model as a draft, with a cache of its own.

    The cache remembers the text it has read. When the next text differs (drafted tokens were rejected), it is truncated
    to what the two have in common; when tokens are missing (a whole draft was accepted, and its last token never
    read), they are read in one pass.
    """

    def __init__(
        self,
        model: LanguageModel,
        capacity: int,
        *,
        filters: Sequence[Filter] = (),
        generator: torch.Generator | None = None,
        ends: Sequence[int] = (),
    ):
        """
        Args:
            capacity: the longest text, drafted tokens included.
            filters: for its distribution; those of the target, or fewer drafts are accepted.
            ends: end symbols; nothing is drafted behind one.
        """
        self.model, self.capacity = model, capacity
        self.filters, self.generator, self.ends = tuple(filters), generator, tuple(ends)
        self.greedy = is_greedy(self.filters)
        self.cache, self.read = None, []  # the ids in the cache

    def propose(self, text: list[int], limit: int) -> Proposal:
        self._go_back_to(text)
        new, tokens, laws = text[len(self.read) :], [], []
        while len(tokens) < limit:
            logits = self._logits(new)
            if self.greedy:
                tokens.append(int(logits.argmax()))
            else:
                laws.append(probabilities(logits, self.filters))
                tokens.append(draw_from(laws[-1], self.generator))
            new = tokens[-1:]
            if tokens[-1] in self.ends:
                break
        return Proposal(tokens, torch.stack(laws) if laws else None)

    def _logits(self, new: list[int]) -> Float[Tensor, "vocab"]:
        """After the text read so far and these tokens, which are read now."""
        with torch.inference_mode():
            ids = torch.tensor([new], device=model_device(self.model))
            logits = last_logits(self.model, ids, self.cache)[0]
        self.read += new
        peak_of(logits)  # refuses NaN and rows without any token
        return logits

    def _go_back_to(self, text: list[int]) -> None:
        """Forget what does not belong to `text`, and its last token in any case: that one is to be read now."""
        if self.cache is None:
            self.cache = self.model.new_cache(1, self.capacity)
        common = 0
        for mine, given in zip(self.read, text[:-1], strict=False):
            if mine != given:
                break
            common += 1
        if common < len(self.read):
            self.cache.truncate([common])
            self.read = self.read[:common]


def as_draft(
    draft: LanguageModel | Draft,
    target: LanguageModel,
    prompt: list[int],
    capacity: int,
    *,
    filters: Sequence[Filter],
    generator: torch.Generator | None,
    ends: Sequence[int],
) -> Draft:
    """A model wrapped in ModelDraft, checked against the target; anything with `propose` as it is.

    Raises:
        ValueError: another vocabulary, a context below `capacity`, a prompt with ids that the draft cannot read.
        TypeError: neither a language model nor an object with `propose`.
    """
    is_class = isinstance(draft, type)  # LookupDraft without its brackets
    if isinstance(draft, Draft) and not is_class:
        return draft
    if not isinstance(draft, LanguageModel) or is_class:
        what = f"the class {draft.__name__} itself" if is_class else f"a {type(draft).__name__}"
        raise TypeError(f"the draft is {what}; needed a LanguageModel, or an object with propose(text, limit)")
    if draft.vocab_size != target.vocab_size:
        raise ValueError(
            f"the draft has {draft.vocab_size} tokens and the target {target.vocab_size}; the target can only judge "
            "tokens of its own: use two models of one tokenizer"
        )
    if draft.context_length is not None and draft.context_length < capacity:
        raise ValueError(
            f"the draft's context_length is {draft.context_length}; prompt and new tokens make {capacity}. Shorten "
            f"them, or wrap it: Recompute(draft, window={draft.context_length})"
        )
    readable = input_vocabulary(draft)
    strange = [i for i in prompt if i >= readable]
    if strange:
        raise ValueError(f"the draft cannot read id {strange[0]} of the prompt; its ids run from 0 to {readable - 1}")
    return ModelDraft(draft, capacity, filters=filters, generator=generator, ends=ends)


# ------------------------------------------------------------------------------------------ distributions and draws


def is_greedy(filters: Sequence[Filter]) -> bool:
    """Whether these filters leave the argmax alone, so that nobody need apply them.

    The first must be Temperature(0) or TopK(1), and the others the library's, each of which keeps the best token. (Not
    one further back: Temperature(1e9) before it may round two different logits to the same number.)
    """
    ours = all(isinstance(filter_, (Temperature, TopK, TopP, MinP)) for filter_ in filters)
    return ours and len(filters) > 0 and filters[0] in (Temperature(0), TopK(1))


def probabilities(logits: Float[Tensor, "*rows vocab"], filters: Sequence[Filter]) -> Float[Tensor, "*rows vocab"]:
    """softmax of the filtered logits, in float64: what is drawn from, and what the other side is compared with."""
    with torch.no_grad():
        rows = logits if logits.dim() > 1 else logits[None]  # filters are used to rows
        peak_of(rows)
        filtered = apply(filters, rows)
        peak_of(filtered)
        return in_float64(filtered).softmax(dim=-1).reshape(logits.shape)


def draw_from(probabilities: Float[Tensor, "vocab"], generator: torch.Generator | None) -> int:
    """A token drawn with these probabilities, by inverting their cumulative sum at one uniform number."""
    edges = probabilities.cumsum(dim=-1)  # the right end of each token
    u = min(uniform(generator), 1 - 2**-52) * edges[-1:]  # rounding must not lift it to the total
    return int(torch.searchsorted(edges, u, right=True))  # right: u = 0 is not for a token without width


def uniform(generator: torch.Generator | None) -> float:
    """A float64 number in [0, 1) from the generator; None: torch's global one."""
    device = "cpu" if generator is None else generator.device
    return torch.rand((), generator=generator, device=device, dtype=torch.float64).item()
