"""The protocol: a student's own model, a model without a cache, a model with a short memory."""

import pytest
import torch
from torch import nn

from arlab.decoding import TopP, greedy, greedy_steps, sample
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import LanguageModel, Recompute, checked_ids, input_vocabulary, last_logits
from arlab.nn.rnn import Seq2SeqRNN
from arlab.worlds import TreeLM

CONFIG = DecoderConfig.llama(vocab_size=17, context_length=24, d_model=16, layers=2, heads=4, kv_heads=2, bos_id=0)


class Bigram(nn.Module):
    """What a student writes in notebook 02: one table, no cache, no attributes but the vocabulary's size."""

    def __init__(self, vocab_size=7):
        super().__init__()
        self.vocab_size = vocab_size
        self.table = nn.Embedding(vocab_size, vocab_size)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, ids):
        return self.table(ids)


class Spy(nn.Module):
    """Predicts the token after the last one it saw, and remembers the windows that it was fed."""

    vocab_size, context_length, bos_id = 11, 4, None

    def __init__(self):
        super().__init__()
        self.fed = []

    def forward(self, ids):
        self.fed.append(ids.tolist())
        return nn.functional.one_hot((ids + 1) % 11, 11).float() * 9


def model():
    built = DecoderLM(CONFIG, seed=0).double().eval().requires_grad_(False)
    for parameter in built.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)
    return built


def test_recompute_decodes_as_the_cached_model():
    cached = model()
    prompts = [[3, 1, 4], [1], [5, 9, 2, 6, 5]]
    plain = Recompute(cached)
    assert isinstance(plain, LanguageModel) and plain.context_length == 24 and plain.bos_id == 0
    ours, theirs = greedy(cached, prompts, max_new_tokens=10), greedy(plain, prompts, max_new_tokens=10)
    assert torch.equal(ours.ids, theirs.ids)
    torch.testing.assert_close(ours.logprobs, theirs.logprobs, rtol=0, atol=1e-5)
    drawn = [
        sample(m, prompts, max_new_tokens=8, n=3, filters=[TopP(0.9)], generator=torch.Generator().manual_seed(1)).ids
        for m in (cached, plain)
    ]
    assert torch.equal(*drawn)


def test_the_window_slides_one_token_at_a_time():
    spy = Spy()
    generation = greedy(Recompute(spy, window=3), [7, 8], max_new_tokens=4)
    assert generation.tokens() == [9, 10, 0, 1]
    assert spy.fed == [[[7, 8]], [[7, 8, 9]], [[8, 9, 10]], [[9, 10, 0]]]


@pytest.mark.parametrize("window", [None, 2])
def test_a_module_that_looks_at_all_it_gets_never_gets_the_padding(window):
    """Bidirectional, say. Recompute once ran ragged prompts right-padded, and the mean below saw the padding."""

    class Mean(nn.Module):
        vocab_size = 11

        def forward(self, ids):
            return nn.functional.one_hot(ids, 11).double().mean(1, keepdim=True).expand(-1, ids.size(1), -1)

    wrapped, prompts = Recompute(Mean(), window=window), [[1, 2, 3, 4], [5, 6], [7]]
    together = next(greedy_steps(wrapped, prompts, max_new_tokens=1)).logits
    for row, prompt in enumerate(prompts):
        assert torch.equal(together[row], next(greedy_steps(wrapped, [prompt], max_new_tokens=1)).logits[0])


def test_the_window_forgets():
    """Two prompts that differ before the window go on alike; without a window they do not."""
    wide, far, near = model(), [1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 9, 9, 5, 6, 7, 8]
    narrow = Recompute(wide, window=4)
    assert narrow.context_length is None
    logits = [last_logits(narrow, torch.tensor([p]), narrow.new_cache(1, 9)) for p in (far, near)]
    assert torch.equal(*logits)
    torch.testing.assert_close(logits[0], wide(torch.tensor([far[-4:]]))[:, -1])
    assert not torch.allclose(wide(torch.tensor([far]))[:, -1], wide(torch.tensor([near]))[:, -1])


def test_with_a_window_every_position_has_its_own():
    wide = model()
    ids = torch.tensor([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]])
    logits = Recompute(wide, window=2)(ids)
    for row in range(2):
        for t in range(5):
            alone = wide(ids[row : row + 1, max(0, t - 1) : t + 1])[0, -1]
            torch.testing.assert_close(logits[row, t], alone)


def test_a_window_goes_on_past_the_context():
    short = Recompute(model(), window=24)
    assert greedy(short, [1, 2], max_new_tokens=40).ids.shape == (1, 1, 40)
    with pytest.raises(ValueError, match=r"2 tokens and 40 new ones exceed.*24; .*Recompute\(model, window=24\)"):
        greedy(model(), [1, 2], max_new_tokens=40)


def test_a_students_module_decodes():
    table = Bigram()
    wrapped = Recompute(table)
    generation = greedy(wrapped, [[1], [4, 2]], max_new_tokens=5)
    for row, last in enumerate((1, 2)):
        for token in generation.tokens(row):
            last = int(table.table.weight[last].argmax())
            assert token == last
    assert wrapped.context_length is None and wrapped.bos_id is None


def test_recompute_says_what_is_missing():
    with pytest.raises(ValueError, match=r"Linear has no vocab_size; give Recompute\(model, vocab_size=...\)"):
        Recompute(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="window is 0; it must be 1 or more"):
        Recompute(Bigram(), window=0)
    with pytest.raises(ValueError, match="window is 25, longer than the model's context_length of 24"):
        Recompute(model(), window=25)
    assert Recompute(nn.Embedding(5, 5), vocab_size=5, bos_id=4, context_length=9).context_length == 9


def test_recompute_takes_one_source_and_refuses_several():
    """Rows that are run again by their length would be read beside other rows' sources, without a word."""
    translator = Seq2SeqRNN(12, 13, 6, 8, attention=True, bos_id=1, seed=0).eval()
    one = translator.given([4, 8])
    prompts = [[7], [7, 2]]
    assert torch.equal(
        greedy(Recompute(one), prompts, max_new_tokens=5).ids, greedy(one, prompts, max_new_tokens=5).ids
    )
    with pytest.raises(ValueError, match=r"given 2 sources; Recompute takes one: model.given\(source\)"):
        Recompute(translator.given([[1, 2, 3], [4, 8]]))


class Misshapen(Bigram):
    def __init__(self, cut):
        super().__init__()
        self.cut = cut

    def forward(self, ids):
        return self.cut(super().forward(ids))


@pytest.mark.parametrize(
    ("cut", "shape"),
    [(lambda x: x[:, -1], r"\(1, 7\)"), (lambda x: x[..., :5], r"\(1, 2, 5\)"), (lambda x: x[:, :1], r"\(1, 1, 7\)")],
)
def test_a_model_that_returns_another_shape_is_told_so(cut, shape, as_shipped):
    with pytest.raises(ValueError, match=rf"returned logits {shape}; needed \(rows, time, vocab\) = \(1, 2, 7\)"):
        greedy(Recompute(Misshapen(cut)), [1, 2], max_new_tokens=2)


@pytest.mark.parametrize("wrap", [lambda m: m, Recompute, lambda m: Recompute(m, window=2)])
@pytest.mark.parametrize("lengths", [[0, 1], [1, 4], [1], [1, 2, 3]])
def test_lengths_that_do_not_fit_are_refused(lengths, wrap):
    """A length of 0 would index position -1, the last of the padding, without a word; Recompute cut a 4 to 3."""
    with pytest.raises(ValueError, match=r"lengths is \[.*needed one for each of 2 rows, 1 to 3"):
        last_logits(wrap(model()), torch.ones(2, 3, dtype=torch.int64), None, lengths)


def test_what_recompute_refuses_leaves_no_trace(as_shipped):
    """The ids went into the cache before the module was asked, and its next answer was about them too."""
    plain, ids = Recompute(Bigram()), torch.tensor([[1, 2, 3]])
    cache = plain.new_cache(1, 8)
    plain(ids, cache)
    for call in (plain, plain.last_logits):
        with pytest.raises(ValueError, match=r"ids\[0, 1\] is 7; ids must lie between 0 and 6"):
            call(torch.tensor([[0, 7]]), cache)
        with pytest.raises(TypeError, match="must be an integer tensor; got torch.float32, not int64 or int32"):
            call(torch.tensor([[0.5]]), cache)
    with pytest.raises(ValueError, match="lengths is"):
        plain.last_logits(torch.tensor([[1, 2]]), cache, [3])
    assert cache.prefixes == ids.tolist()


def test_a_start_symbol_may_lie_just_behind_the_vocabulary():
    tree = TreeLM({}, max_length=2, default=[0.5, 0.5])
    assert (tree.vocab_size, tree.bos_id, input_vocabulary(tree)) == (2, 2, 3)
    assert checked_ids(torch.tensor([[2, 0]]), tree).tolist() == [[2, 0]]
    with pytest.raises(ValueError, match=r"ids\[0, 0\] is 3; ids must lie between 0 and 2"):
        checked_ids(torch.tensor([[3]]), tree)
    assert input_vocabulary(model()) == 17
