"""The protocol's laws, for the n-gram table, the fixed window and the recurrent net alike."""

import pytest
import torch

from arlab.decoding import TopP, greedy, sample, sample_steps
from arlab.nn.fixed_window import FixedWindowLM
from arlab.nn.language_model import LanguageModel, Recompute, last_logits
from arlab.nn.ngram import NGramLM
from arlab.nn.rnn import RecurrentLM

VOCAB, BOS = 7, 7  # the start symbol is read and never predicted


def ids_of(*shape, seed=0, high=VOCAB):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def ngram(order, smoothing):
    return NGramLM(order, VOCAB, smoothing, bos_id=BOS).fit(list(ids_of(30, 12, seed=1)))


def net(build, **options):
    """In float64, with weights large enough for the past to matter."""
    model = build(VOCAB, **options, bos_id=BOS, seed=0).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(1.5)
    return model


BUILDERS = {
    "unigram": lambda: ngram(1, "witten_bell"),
    "trigram": lambda: ngram(3, "witten_bell"),
    "5-gram": lambda: ngram(5, "witten_bell"),
    "add-k": lambda: ngram(3, 0.5),
    "counts": lambda: ngram(4, None),
    "window 1": lambda: net(FixedWindowLM, window=1, d_model=5, d_hidden=9),
    "window 4": lambda: net(FixedWindowLM, window=4, d_model=5, d_hidden=9),
    "rnn": lambda: net(RecurrentLM, d_model=5, d_hidden=8),
    "gru x2": lambda: net(RecurrentLM, d_model=5, d_hidden=8, layers=2, kind="gru"),
    "lstm x2": lambda: net(RecurrentLM, d_model=5, d_hidden=8, layers=2, kind="lstm"),
}


@pytest.fixture(params=BUILDERS, scope="module")
def model(request):
    return BUILDERS[request.param]()


class Uncached(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.run = lambda ids: model(ids)

    def forward(self, ids):
        return self.run(ids)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_it_speaks_the_protocol(model):
    assert isinstance(model, LanguageModel)
    assert (model.vocab_size, model.context_length, model.bos_id) == (VOCAB, None, BOS)
    ids = ids_of(3, 9)
    logits = model(ids)
    assert logits.shape == (3, 9, VOCAB)
    same(logits.double().softmax(-1).sum(-1), torch.ones(3, 9).double())


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [3, 2, 4], [8, 1], [1, 8]])
def test_with_a_cache_in_any_pieces_the_logits_are_those_of_one_pass(model, chunks):
    ids = ids_of(3, 9)
    cache, parts = model.new_cache(3, 9), []
    for chunk in ids.split(chunks, dim=1):
        parts.append(model(chunk, cache))
    same(torch.cat(parts, dim=1), model(ids))
    assert cache.lengths == [9] * 3


def test_the_last_logits_are_the_last_ones(model):
    ids = ids_of(4, 6)
    whole, ends = model(ids), [2, 6, 1, 4]
    same(last_logits(model, ids), whole[:, -1])
    expected = whole[torch.arange(4), torch.tensor(ends) - 1]
    same(last_logits(model, ids, None, ends), expected)
    cache = model.new_cache(4, 10)
    same(last_logits(model, ids, cache, ends), expected)
    cache.truncate(ends)
    new = ids_of(4, 2, seed=3)
    for row, end in enumerate(ends):  # what follows a ragged prompt
        alone = model(torch.cat([ids[row, :end], new[row]])[None])[0, -2:]
        fork = model.new_cache(1, 10)
        model(ids[row : row + 1, :end], fork)
        same(model(new[row : row + 1], fork)[0], alone)
    after = model(new, cache)
    for row, end in enumerate(ends):
        same(after[row], model(torch.cat([ids[row, :end], new[row]])[None])[0, -2:])


@pytest.mark.parametrize("lengths", [[0, 1], [1, 4], [1], [1, 2, 3]])
def test_lengths_that_do_not_fit_are_refused(model, lengths, as_shipped):
    with pytest.raises(ValueError, match=r"lengths is \[.*needed one for each of 2 rows, 1 to 3"):
        last_logits(model, ids_of(2, 3), None, lengths)


def test_a_row_in_a_batch_is_the_row_alone(model):
    ids = ids_of(5, 8)
    together = model(ids)
    for row in range(5):
        same(together[row : row + 1], model(ids[row : row + 1]))


def test_reordered_rows_go_on_as_copies(model):
    ids, new = ids_of(3, 5), ids_of(4, 3, seed=2)
    cache = model.new_cache(3, 8)
    model(ids, cache)
    picked = [2, 0, 2, 1]  # one row twice, and more rows than before
    cache.reorder(picked)
    same(model(new, cache), model(torch.cat([ids[picked], new], dim=1))[:, 5:])


def test_a_truncated_row_has_forgotten(model):
    """A rejected draft: what was read and taken back leaves no trace, in any mixture of rows, none and all."""
    ids, new = ids_of(4, 6), ids_of(4, 2, seed=2)
    cache = model.new_cache(4, 12)
    model(ids, cache)
    kept = [6, 2, 0, 5]
    cache.truncate(kept)
    assert cache.lengths == kept
    after = model(new, cache)
    for row, length in enumerate(kept):
        same(after[row], model(torch.cat([ids[row, :length], new[row]])[None])[0, length:])
    cache.truncate([1, 1, 1, 1])
    cache.reorder([3, 1])
    after = model(new[:2], cache)
    for row, old in enumerate((3, 1)):
        first = ids[old, :1] if old != 2 else new[old, :1]
        same(after[row], model(torch.cat([first, new[row]])[None])[0, 1:])


def test_two_caches_do_not_meet(model):
    ids = ids_of(2, 4)
    one, two = model.new_cache(2, 8), model.new_cache(2, 8)
    model(ids, one)
    model(ids.flip(1), two)
    same(model(ids, one), model(torch.cat([ids, ids], dim=1))[:, 4:])


def test_the_future_does_not_count(model):
    ids = ids_of(2, 9)
    changed = ids.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCAB
    same(model(changed)[:, :5], model(ids)[:, :5])


def test_decoders_take_it_as_it_is_ragged_prompts_too(model):
    prompts = [[3, 1, 4], [BOS], [5, 6, 2, 0, 5, 1], []]
    plain = Recompute(Uncached(model), vocab_size=VOCAB, bos_id=BOS)
    ours, theirs = (greedy(m, prompts, max_new_tokens=8) for m in (model, plain))
    assert torch.equal(ours.ids, theirs.ids)
    draws = [
        sample(m, prompts, max_new_tokens=8, n=2, filters=[TopP(0.9)], generator=torch.Generator().manual_seed(1))
        for m in (model, plain)
    ]
    assert torch.equal(draws[0].ids, draws[1].ids)
    same(draws[0].logprobs, draws[1].logprobs)
    for row, prompt in enumerate(prompts):
        assert greedy(model, [prompt], max_new_tokens=8).tokens() == ours.tokens(row)
    assert torch.equal(ours.ids[1], ours.ids[3])  # an empty prompt starts from the start symbol


def test_a_steps_logits_are_those_of_a_full_pass(model):
    read = [[2, 5], [1, 3, 0, 4]]
    for step in sample_steps(model, read, max_new_tokens=6, generator=torch.Generator().manual_seed(0)):
        for row, ids in enumerate(read):
            same(step.logits[row], model(torch.tensor([ids]))[0, -1])
            ids.append(int(step.chosen[row]))


def test_bad_ids_are_named(model, as_shipped):
    with pytest.raises(ValueError, match=r"ids\[1, 2\] is 9; ids must lie between 0 and 7"):
        model(torch.tensor([[0, 1, 2], [0, 1, 9]]))
    with pytest.raises(ValueError, match=r"ids\[0, 0\] is -1"):
        model(torch.tensor([[-1]]))
    with pytest.raises(ValueError, match=r"needed \(rows, time\)"):
        model(torch.tensor([1, 2]))
    with pytest.raises(TypeError, match="integer"):
        model(torch.tensor([[0.5]]))
    with pytest.raises(ValueError, match="do not fit the cache's capacity of 4"):
        model(ids_of(2, 5), model.new_cache(2, 4))
    with pytest.raises(ValueError, match="ids has 2 rows and the cache 3"):
        model(ids_of(2, 3), model.new_cache(3, 4))
