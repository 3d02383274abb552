"""What the model is fed: at rate 0 the truth, at rate 1 what its own decoder would write, in between some of each."""

from dataclasses import replace

import pytest
import torch

from arlab.decoding import greedy
from arlab.decoding.sampling import draw
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.fixed_window import FixedWindowLM
from arlab.nn.language_model import Recompute
from arlab.nn.rnn import RecurrentLM
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.batches import IGNORE, Batch, padded, random_windows
from arlab.text.pairs import PairInputs, ordered_pairs
from arlab.training.exposure import accuracy_by_position, corrupt_prefixes, free_running, scheduled_sampling
from arlab.training.loop import fit

CONFIG = DecoderConfig.gpt2(vocab_size=11, context_length=12, d_model=16, layers=2, heads=2, init="xavier")


def a_model():
    return DecoderLM(CONFIG, seed=0)


def windows(rows=5, seed=0):
    ids = torch.randint(11, (400,), generator=torch.Generator().manual_seed(seed))
    return random_windows(ids, 9, rows, torch.Generator().manual_seed(seed + 1))


def test_at_rate_0_training_is_teacher_forcing_exactly():
    forced, scheduled = a_model(), a_model()
    expected = fit(forced, windows(), steps=4, lr=1e-2)
    steps = fit(scheduled, scheduled_sampling(scheduled, windows(), 0.0), steps=4, lr=1e-2)
    assert [s.loss for s in steps] == [s.loss for s in expected]
    assert all(torch.equal(a, b) for a, b in zip(forced.parameters(), scheduled.parameters(), strict=True))
    batch = next(windows())
    assert next(scheduled_sampling(forced, [batch], 0.0)).inputs is batch.inputs  # at no cost, and without a draw


def test_free_running_feeds_what_greedy_decoding_writes():
    model, batch = a_model().eval(), next(windows())
    fed = next(free_running(model, [batch]))
    written = greedy(model, batch.inputs[:, :1], max_new_tokens=8).ids[:, 0]
    assert torch.equal(fed.inputs, torch.cat([batch.inputs[:, :1], written], dim=1))
    assert torch.equal(fed.targets, batch.targets)


def test_what_the_model_says_is_said_without_dropout():
    model, batch = DecoderLM(replace(CONFIG, dropout=0.5), seed=0).train(), next(windows())
    fed = next(free_running(model, [batch])).inputs
    assert model.training and torch.equal(fed, next(free_running(a_model(), [batch])).inputs)


def test_free_running_with_a_generator_draws_from_the_model():
    """The same uniforms, one pass over the whole prefix for each position: the oracle."""
    model, batch = a_model().eval(), next(windows())
    fed = next(free_running(model, [batch], generator=torch.Generator().manual_seed(7)))
    ids, generator = batch.inputs[:, :1], torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, draw(model(ids)[:, -1], generator)[:, None]], dim=1)
    assert torch.equal(fed.inputs, ids)


def test_what_was_no_target_stays():
    """A prompt whose targets are ignored, the first token, and padding."""
    model = a_model()
    batch = padded([[1, 2, 3, 4, 5, 6], [7, 8, 9]], pad_id=0)
    targets = batch.targets.clone()
    targets[0, :3] = IGNORE
    fed = next(free_running(model, [Batch(batch.inputs, targets)]))
    assert batch.inputs.tolist() == [[1, 2, 3, 4, 5], [7, 8, 0, 0, 0]]
    own = [greedy(model.eval(), [prompt], max_new_tokens=1).tokens(0)[0] for prompt in ([1, 2, 3, 4], [7])]
    assert fed.inputs.tolist() == [[1, 2, 3, 4, own[0]], [7, own[1], 0, 0, 0]]


def test_the_rate_is_the_share_that_is_replaced():
    """A model sure of token 10, texts without it: 200 x 8 coins at 0.3. Five standard errors (0.0115): odds of 6e-7."""
    model = a_model()
    with torch.no_grad():
        model.head.weight.zero_()
        model.norm.weight.zero_()
        model.norm.bias.fill_(1.0)
        model.head.weight[10] = 1.0
    texts = torch.randint(10, (200, 10), generator=torch.Generator().manual_seed(0))
    batch = Batch(texts[:, :-1], texts[:, 1:])
    stream = scheduled_sampling(model, [batch], 0.3, generator=torch.Generator().manual_seed(1), argmax=True)
    fed = next(stream).inputs
    assert set(fed[fed != batch.inputs].tolist()) == {10}
    assert abs((fed == 10)[:, 1:].float().mean().item() - 0.3) < 5 * 0.0115
    assert torch.equal(fed[:, 0], batch.inputs[:, 0])


def test_the_rate_may_grow_with_the_batches():
    seen = []

    def rate(number):
        seen.append(number)
        return number / 2

    model = a_model()
    stream = scheduled_sampling(model, windows(), rate, generator=torch.Generator().manual_seed(0))
    first, source = next(stream), next(windows())
    assert torch.equal(first.inputs, source.inputs)
    next(stream), next(stream)
    assert seen == [0, 1, 2]
    with pytest.raises(ValueError, match="rate is 1.5 at batch 3"):
        next(stream)


def test_it_uses_the_weights_of_the_moment_and_leaves_the_model_as_it_was():
    model = a_model().train()
    stream = free_running(model, windows())
    before = next(stream).inputs
    assert model.training and all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        model.head.weight[:] = -model.head.weight
    again = next(free_running(model, windows())).inputs
    assert not torch.equal(before, again)


def test_coins_and_draws_need_a_generator():
    for rate, argmax in [(0.5, False), (0.5, True), (1.0, False)]:
        with pytest.raises(ValueError, match="need a generator"):
            next(scheduled_sampling(a_model(), windows(), rate, argmax=argmax))


def test_any_model_of_the_protocol_runs_free():
    """A recurrent one, one with a window, one that recomputes: none of them knows its device, as a DecoderLM does."""
    batch = next(windows())
    plain = Recompute(DecoderLM(CONFIG, seed=3).eval())
    for model in (RecurrentLM(11, 8, 8, kind="lstm", seed=0), FixedWindowLM(11, 3, 8, 8, seed=0), plain):
        assert not hasattr(model, "device")
        fed = next(free_running(model, [batch])).inputs
        written = greedy(model, batch.inputs[:, :1], max_new_tokens=8).ids[:, 0]
        assert torch.equal(fed[:, 1:], written) and torch.equal(fed[:, 0], batch.inputs[:, 0])


def test_the_batch_goes_to_the_models_device_and_comes_back():
    """`meta` stands in for a GPU: the CPU's ids must not meet weights that are elsewhere."""
    model = FixedWindowLM(11, 3, 8, 8).to("meta")
    seen = []
    model.forward = lambda ids, cache=None: seen.append(ids.device.type) or torch.zeros(*ids.shape, 11, device="meta")
    with pytest.raises(NotImplementedError, match="meta"):  # its numbers cannot be brought back
        next(free_running(model, [next(windows())]))
    assert set(seen) == {"meta"}


# --- pairs


def translator(seed=0, **settings):
    sizes = {"source_vocab": 9, "vocab_size": 11, "source_length": 6, "context_length": 9, "d_model": 16}
    shape = {"encoder_layers": 1, "layers": 2, "heads": 2, "bos_id": 0}
    return Seq2SeqTransformer(Seq2SeqConfig(**sizes, **shape, **settings), seed=seed)


def pairs(rows=5, seed=0):
    """Sources and targets of unequal length; the end symbol also fills the prefixes, as it may."""
    generator = torch.Generator().manual_seed(seed)

    def some(vocab, longest):
        return [torch.randint(2, vocab, (longest - row % 3,), generator=generator).tolist() for row in range(rows)]

    return ordered_pairs(some(9, 6), some(11, 7), rows, bos_id=0, eos_id=1, pad_id=1)


def test_at_rate_0_training_on_pairs_is_teacher_forcing_exactly():
    forced, scheduled = translator(), translator()
    expected = fit(forced, pairs() * 4, steps=4, lr=1e-2)
    steps = fit(scheduled, scheduled_sampling(scheduled, pairs() * 4, 0.0), steps=4, lr=1e-2)
    assert [s.loss for s in steps] == [s.loss for s in expected]
    assert all(torch.equal(a, b) for a, b in zip(forced.parameters(), scheduled.parameters(), strict=True))


def test_on_pairs_free_running_feeds_what_greedy_decoding_writes():
    model, (batch,) = translator(dropout=0.4).train(), pairs()
    fed = next(free_running(model, [batch]))
    assert model.training and isinstance(fed.inputs, PairInputs) and torch.equal(fed.targets, batch.targets)
    assert torch.equal(fed.inputs.source, batch.inputs.source) and torch.equal(fed.inputs.lengths, batch.inputs.lengths)
    quiet = translator().eval()
    for row in range(5):
        source = batch.inputs.source[row, : batch.inputs.lengths[row]].tolist()
        asked = int((batch.targets[row] != IGNORE).sum()) - 1  # the end symbol is predicted and never fed
        written = greedy(quiet.given(source), [[0]], max_new_tokens=asked).tokens()
        assert fed.inputs.prefix[row, : asked + 1].tolist() == [0, *written]


def test_scheduled_sampling_on_pairs_replaces_some():
    model, (batch,) = translator(), pairs(rows=40)
    stream = scheduled_sampling(model, [batch], 0.5, generator=torch.Generator().manual_seed(0))
    fed = next(stream).inputs.prefix
    changed = fed != batch.inputs.prefix
    assert changed.any() and not changed[:, 0].any() and not changed[:, -1].all()
    with pytest.raises(ValueError, match="has no .given"):
        next(free_running(a_model(), [batch]))


# --- random prefixes


def test_corrupting_leaves_alone_what_was_no_target_and_the_targets():
    """A prompt, a row's first token, padding and sources stay; every token that was asked for may be hit."""
    batch = padded([[1, 2, 3, 4, 5, 6], [7, 8, 9]], pad_id=0)
    batch.targets[0, :2] = IGNORE
    before = batch.inputs.clone(), batch.targets.clone()
    hit = torch.zeros(batch.inputs.shape, dtype=torch.bool)
    for seed in range(20):
        fed = next(corrupt_prefixes([batch], 0.5, 11, generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(fed.targets, before[1]) and torch.equal(batch.inputs, before[0])
        hit |= fed.inputs != before[0]
    assert hit.tolist() == [[False, False, False, True, True], [False, True, False, False, False]]
    (pair,) = pairs()
    fed = next(corrupt_prefixes([pair], 1.0, 11, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(fed.inputs.source, pair.inputs.source) and torch.equal(fed.targets, pair.targets)
    inside = (pair.targets != IGNORE)[:, :-1] & (pair.targets != 1)[:, :-1]
    assert torch.equal((fed.inputs.prefix != pair.inputs.prefix)[:, 1:], inside)


def test_wrong_tokens_are_all_others_alike_at_the_rate():
    """40,000 inputs of token 3 among 5: each other one .4 / 4; five standard errors (.0015), 5 counts: odds of 3e-6."""
    ids = torch.full((400, 101), 3)
    batch = Batch(ids[:, :-1], ids[:, 1:])
    fed = next(corrupt_prefixes([batch], 0.4, 5, generator=torch.Generator().manual_seed(0))).inputs[:, 1:]
    shares = torch.bincount(fed.flatten(), minlength=5) / fed.numel()
    for token, expected in enumerate([0.1, 0.1, 0.1, 0.6, 0.1]):
        assert abs(shares[token].item() - expected) < 5 * (expected * (1 - expected) / fed.numel()) ** 0.5
    assert torch.equal(next(corrupt_prefixes([batch], 0, 5, generator=torch.Generator())).inputs, batch.inputs)
    rising = corrupt_prefixes([batch] * 3, lambda n: n, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(next(rising).inputs, batch.inputs) and not (next(rising).inputs[:, 1:] == 3).any()
    with pytest.raises(ValueError, match="rate is 2 at batch 2"):
        next(rising)
    with pytest.raises(ValueError, match="vocab_size is 1"):
        corrupt_prefixes([batch], 0.1, 1, generator=torch.Generator())


# --- accuracy by position


def by_hand(model, batch, free):
    """One row, one position at a time, with nothing of the library's but the forward pass."""
    pair = isinstance(batch.inputs, PairInputs)
    truth = (batch.inputs.prefix if pair else batch.inputs).tolist()
    rows, right, asked = len(truth), [0] * len(truth[0]), [0] * len(truth[0])
    for row in range(rows):
        fed = truth[row][:1]
        for t, target in enumerate(batch.targets[row].tolist()):
            ids = torch.tensor([fed])
            if pair:
                end = int(batch.inputs.lengths[row])
                ids = PairInputs(batch.inputs.source[row : row + 1, :end], torch.tensor([end]), ids)
            said = int(model(ids)[0, -1].argmax())
            if target != IGNORE:
                right[t] += said == target
                asked[t] += 1
            if t + 1 < len(truth[row]):
                fed.append(said if free and target == truth[row][t + 1] else truth[row][t + 1])
    return [r / n if n else None for r, n in zip(right, asked, strict=True)], asked


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("kind", ["text", "pairs"])
def test_accuracy_by_position_is_that_of_a_loop_by_hand(kind, free):
    """A model trained for a moment, so that it is right now and then; a prompt that is not asked for."""
    model = a_model() if kind == "text" else translator(dropout=0.3)
    batch = next(windows(rows=12)) if kind == "text" else pairs(rows=12)[0]
    fit(model, [batch] * 12, steps=12, lr=1e-2)
    if kind == "text":
        batch.targets[:4, :3] = IGNORE
    model.eval()
    with torch.no_grad():
        expected, asked = by_hand(model, batch, free)
    found = accuracy_by_position(model.train(), [batch], free_running=free)
    assert model.training and found.counts.tolist() == asked
    assert found.accuracy.tolist() == pytest.approx([float("nan") if a is None else a for a in expected], nan_ok=True)
    assert 0.1 < sum(expected) / len(expected) < 0.99


def test_batches_of_unequal_length_are_counted_together():
    model = a_model()
    long, short = next(windows(rows=3)), Batch(*(half[:, :4] for half in next(windows(rows=2, seed=5))))
    both = accuracy_by_position(model, [short, long], free_running=True)
    one, other = (accuracy_by_position(model, [batch], free_running=True) for batch in (long, short))
    assert both.counts.tolist() == [5] * 4 + [3] * 5
    expected = one.accuracy * 3
    expected[:4] += other.accuracy * 2
    assert torch.allclose(both.accuracy, expected / both.counts)


def test_slips_are_fed_back_and_not_counted():
    """A model that repeats what it read last, asked to repeat: right for ever, until a slip; then never again."""

    class Parrot:
        vocab_size, context_length, bos_id = 5, None, None

        def __call__(self, ids, cache=None):
            return torch.nn.functional.one_hot(ids, 5).float()

        def new_cache(self, rows, capacity):
            return None

    ids = torch.full((3000, 7), 2)
    batch = Batch(ids[:, :-1], ids[:, 1:])
    assert accuracy_by_position(Parrot(), [batch], free_running=True).accuracy.tolist() == [1.0] * 6
    seen = []

    def watch(fed, said):
        seen.append(fed.inputs)
        return said == fed.targets

    slipping = {"slip": 0.2, "generator": torch.Generator().manual_seed(0), "symbols": 4}
    found = accuracy_by_position(Parrot(), [batch], free_running=True, correct=watch, **slipping).accuracy
    assert found[0] == 1 and set(seen[0].flatten().tolist()) == {0, 1, 2, 3}
    # .8^t and those that a later slip brought back, one in three; 5 standard errors of at most .0092: odds of 3e-6
    share = 1.0
    for t in range(1, 6):
        share = share * 0.8 + (1 - share) * 0.2 / 3
        assert abs(found[t].item() - share) < 5 * 0.0092


def test_a_checker_may_know_more_than_the_target():
    """Right is whatever follows what was fed: such a checker sees the prefix that the model really had."""
    model, batch = a_model(), next(windows())
    all_right = accuracy_by_position(model, [batch], free_running=True, correct=lambda fed, said: said >= 0)
    assert all_right.accuracy.tolist() == [1.0] * 9

    def follows(fed, said):
        assert torch.equal(fed.inputs[:, 1:], said[:, :-1]) and torch.equal(fed.targets, batch.targets)
        return said == fed.inputs

    accuracy_by_position(model, [batch], free_running=True, correct=follows)
    with pytest.raises(ValueError, match="correct returned shape"):
        accuracy_by_position(model, [batch], correct=lambda fed, said: (said >= 0).all())
    with pytest.raises(ValueError, match="correct returned torch.float32; needed booleans"):
        accuracy_by_position(model, [batch], correct=lambda fed, said: (said >= 0).float())


def test_what_cannot_be_measured_is_named():
    model, batch = a_model(), next(windows())
    for settings, words in [
        ({"slip": 1.5, "free_running": True}, "slip is 1.5"),
        ({"slip": 0.1}, "needs free_running=True"),
        ({"slip": 0.1, "free_running": True}, "give generator"),
        ({"slip": 0.1, "free_running": True, "symbols": 1, "generator": torch.Generator()}, "symbols is 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            accuracy_by_position(model, [batch], **settings)
    with pytest.raises(ValueError, match="nothing to measure"):
        accuracy_by_position(model, [Batch(batch.inputs, torch.full_like(batch.targets, IGNORE))])
