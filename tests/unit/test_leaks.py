"""The leak detector: silent for causal models, and never fooled by a leak that cancels out."""

import pytest
import torch
from torch import nn

from arlab.nn.leaks import find_leaks, leak_map

IDS = torch.tensor([3, 1, 4, 1, 5, 9])
TIME = len(IDS)


class Mixer(nn.Module):
    """One head of attention written by hand, as a student would; `mask` (queries, keys), True = may attend."""

    def __init__(self, mask, width=8, vocab=11):
        super().__init__()
        torch.manual_seed(0)
        self.mask = mask
        self.embed = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(32, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, vocab)

    def forward(self, ids):
        x = self.embed(ids) + self.positions(torch.arange(ids.shape[1]).expand(ids.shape))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = (q @ k.transpose(-2, -1)).masked_fill(~self.mask, -torch.inf)
        return self.head(self.drop(x + scores.softmax(-1) @ v))


class Balanced(nn.Module):
    """logits[t] carries the next token's embedding with plus in one half of the vocabulary and minus in the other.

    Their sum does not move when the future moves: a detector that sums the logits sees no leak at all.
    """

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 5)

    def forward(self, ids):
        x = self.embed(ids)
        following = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
        return torch.cat([x + following, x - following], dim=-1)


def test_a_causal_model_has_exact_zeros_above_the_diagonal():
    model = Mixer(torch.ones(TIME, TIME).tril().bool())
    measured = leak_map(model, IDS)
    assert measured.shape == (TIME, TIME)
    assert (measured.triu(1) == 0).all()
    assert (measured.tril() > 0)[torch.ones(TIME, TIME).tril().bool()].all()
    assert find_leaks(model, IDS) == []


def test_one_wrong_cell_of_the_mask_is_found_and_named():
    mask = torch.ones(TIME, TIME).tril().bool()
    mask[2, 5] = True
    leaks = find_leaks(Mixer(mask), IDS)
    assert [(t, s) for t, s, _ in leaks] == [(2, 5)]
    assert leaks[0][2] > 0


def test_a_model_without_a_mask_leaks_everywhere():
    leaks = find_leaks(Mixer(torch.ones(TIME, TIME).bool()), IDS)
    assert [(t, s) for t, s, _ in leaks] == [(t, s) for t in range(TIME) for s in range(t + 1, TIME)]


def test_a_leak_that_cancels_in_the_sum_of_the_logits_is_found():
    model = Balanced()
    x = model.embed(IDS[None]).detach().requires_grad_()
    following = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
    summed = torch.cat([x + following, x - following], dim=-1)[0, 0].sum()
    assert torch.autograd.grad(summed, x)[0][0, 1].abs().max() == 0  # what the cheap detector sees
    assert [(t, s) for t, s, _ in find_leaks(model, IDS, projections=1)] == [(t, t + 1) for t in range(TIME - 1)]


def test_the_size_is_the_norm_of_the_jacobian():
    # d logits[t] / d x[t] stacks two identities of width 5: |J|^2 = 10, and |u J|^2 is twice a chi-square with 5
    # degrees of freedom (mean 10, variance 40). Over n = 2,000 projections one sigma is 0.14, or 0.7 % of |J|:
    # 5 % is 7 sigma.
    measured = leak_map(Balanced(), IDS, projections=2000)
    assert measured.diagonal().sub(10**0.5).abs().max() < 0.05 * 10**0.5


def test_a_tiny_leak_is_not_rounded_away():
    class Whisper(Balanced):
        def forward(self, ids):
            x = self.embed(ids)
            return x + 1e-30 * x.roll(-1, dims=1)  # its square, 1e-60, is 0 in float32

    leaks = find_leaks(Whisper(), IDS)
    assert [(t, s) for t, s, _ in leaks] == [(t, t + 1) for t in range(TIME - 1)]
    assert all(1e-31 < value < 1e-28 for *_, value in leaks)


def test_several_rows_keep_the_largest_value():
    class OnlyAfterSeven(Balanced):
        def forward(self, ids):
            x = self.embed(ids)
            return x + x.roll(-1, dims=1) * (ids == 7).any(1)[:, None, None]

    harmless, harmful = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 7, 3, 4])
    model = OnlyAfterSeven()
    assert find_leaks(model, harmless) == []
    assert [(t, s) for t, s, _ in find_leaks(model, torch.stack([harmless, harmful]))] == [(0, 1), (1, 2), (2, 3)]


def test_modes_and_gradients_are_left_as_they_were():
    model = Mixer(torch.ones(TIME, TIME).tril().bool())
    model.drop.eval()  # a model may be in training mode in part
    before = [module.training for module in model.modules()]
    assert before.count(True) and before.count(False)
    with torch.no_grad():
        first = leak_map(model, IDS)
    assert [module.training for module in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(first, leak_map(model, IDS)), "dropout or a fresh seed makes the measurement change"
    assert not model.embed._forward_hooks


def test_it_measures_inside_inference_mode():
    with torch.inference_mode():
        ids = torch.tensor([1, 2, 3])
        assert find_leaks(Balanced(), ids)


def test_a_plain_function_names_its_embedding():
    table = nn.Embedding(11, 4)

    def model(ids):
        return table(ids).flip(1)

    with pytest.raises(ValueError, match="embedding="):
        leak_map(model, IDS)
    assert (0, 5) in [(t, s) for t, s, _ in find_leaks(model, IDS, embedding=table)]


def test_a_tuple_or_an_object_with_logits_is_understood():
    class Wrapped(Balanced):
        def forward(self, ids):
            return super().forward(ids), "something else"

    assert torch.equal(leak_map(Wrapped(), IDS), leak_map(Balanced(), IDS))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("causal", [True, False])
def test_the_lab_decoder(kind, causal):
    """Through forward_embeddings, with the fused kernel: its zeros are exact as well."""
    from arlab.nn.decoder import DecoderConfig, DecoderLM

    shape = dict(vocab_size=23, context_length=16, d_model=16, layers=3, heads=4)
    if kind == "llama":
        config = DecoderConfig(**shape, kv_heads=2, norm="rms", positions="rotary", ffn="swiglu", causal=causal)
    else:
        config = DecoderConfig(**shape, norm="layer", positions="learned", ffn="gelu_tanh", causal=causal)
    ids = torch.randint(0, 23, (2, 12), generator=torch.Generator().manual_seed(0))
    leaks = find_leaks(DecoderLM(config, seed=0), ids)
    assert len(leaks) == (0 if causal else 12 * 11 // 2)


@pytest.mark.parametrize("ids", [torch.zeros(0, dtype=torch.long), torch.zeros(1, 2, 3).long(), torch.zeros(4)])
def test_bad_ids_are_refused(as_shipped, ids):
    with pytest.raises(ValueError, match="ids has shape"):
        leak_map(Balanced(), ids)


def test_bad_models_and_options_are_refused():
    class LastOnly(Balanced):
        def forward(self, ids):
            return super().forward(ids)[:, -1]

    class Blind(Balanced):
        def forward(self, ids):
            x = self.embed(ids)
            return x * torch.full(x.shape[:2], -torch.inf).softmax(-1)[..., None]

    with pytest.raises(ValueError, match=r"\(rows, time, vocab\)"):
        leak_map(LastOnly(), IDS)
    with pytest.raises(ValueError, match="not finite"):
        leak_map(Blind(), IDS)
    with pytest.raises(ValueError, match="projections is 0"):
        leak_map(Balanced(), IDS, projections=0)


def test_ids_that_the_model_does_not_have_are_named():
    from arlab.nn.decoder import DecoderConfig, DecoderLM

    model = DecoderLM(DecoderConfig.gpt2(vocab_size=5, context_length=8, d_model=8, layers=1, heads=2), seed=0)
    with pytest.raises(ValueError, match=r"ids\[0, 1\] is 5; ids must lie between 0 and 4"):
        leak_map(model, [1, 5])
