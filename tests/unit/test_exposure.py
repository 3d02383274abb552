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
from arlab.text.batches import IGNORE, Batch, padded, random_windows
from arlab.training.exposure import free_running, scheduled_sampling
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
