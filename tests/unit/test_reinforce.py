"""Sequence-level training: the gradient is that of the expected reward, which small worlds let us enumerate."""

import itertools
import math

import pytest
import torch
from torch import nn

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.nn.rnn import RecurrentLM
from arlab.text.batches import IGNORE, Batch
from arlab.text.pairs import PairInputs
from arlab.training.reinforce import (
    draw_answers,
    every_answer,
    expected_reward,
    greedy_answers,
    log_probabilities,
    policy_loss,
    reinforce,
    reinforce_steps,
)
from arlab.worlds import TreeLM


class Table(nn.Module):
    """A logit for every token after every prefix, all of them free: a tree whose branches can learn."""

    def __init__(self, vocab_size, length, seed):
        super().__init__()
        prefixes = sum(vocab_size**n for n in range(length))
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(prefixes, vocab_size, generator=generator, dtype=torch.float64))
        self.vocab_size = self.bos_id = vocab_size

    def forward(self, ids):
        code, rows = torch.zeros_like(ids[:, 0]), []
        for t in range(ids.size(1)):
            code = code * 0 if t == 0 else code * self.vocab_size + ids[:, t] + 1
            rows.append(self.logits[code])
        return torch.stack(rows, dim=1)


def table(vocab_size=3, length=3, seed=0):
    return Recompute(Table(vocab_size, length, seed))


def worth(answer, question):
    """Not additive over tokens, not the likelihood, and not the same for two questions."""
    return float(sum((t + 1) * (token - 1) ** 2 for t, token in enumerate(answer)) * (1 + len(set(answer))))


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("eos_id", [None, 2])
def test_the_mean_of_the_estimator_is_the_gradient_of_the_expected_reward(eos_id):
    """Exactly: all sequences, each weighted by its probability; with any constant baseline as well."""
    model, asked = table(), {"max_new_tokens": 3, "eos_id": eos_id}
    exact = gradient(expected_reward(model, [[3]], worth, **asked), model)
    answers = every_answer(model, [[3]], worth, **asked)
    assert answers.weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert answers.rewards.size(1) == (27 if eos_id is None else 1 + 2 + 4 * 3)
    for baseline in (None, 5.0, torch.tensor([[-1.5]])):
        assert torch.allclose(-gradient(policy_loss(model, answers, baseline), model), exact, atol=1e-10)


def test_the_expected_reward_is_the_sum_over_the_worlds_sequences():
    """And its gradient is the slope: finite differences, which know nothing of autograd."""
    world = TreeLM.random(3, 3, torch.Generator().manual_seed(1), eos_id=0)
    expected = sum(p * worth(list(ids), []) for ids, p in world.enumerate())
    found = expected_reward(world, [[]], worth, max_new_tokens=3, eos_id=0)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    model, step = table(2, 2, seed=3), 1e-6
    exact = gradient(expected_reward(model, [[2]], worth, max_new_tokens=2), model)
    logits, slopes = model.model.logits.data, []
    for index in itertools.product(*map(range, logits.shape)):
        ends = []
        for sign in (1, -1):
            logits[index] += sign * step
            ends.append(expected_reward(model, [[2]], worth, max_new_tokens=2).item())
            logits[index] -= sign * step
        slopes.append((ends[0] - ends[1]) / (2 * step))
    assert torch.allclose(exact, torch.tensor(slopes, dtype=torch.float64), atol=1e-7)


def estimates(model, reward, baseline, samples, asked):
    """(probability, estimate of the gradient) for every tuple of `samples` sequences that may be drawn."""
    whole = every_answer(model, [[model.bos_id]], reward, **asked)
    ids = whole.batch
    for drawn in itertools.product(range(whole.rewards.size(1)), repeat=samples):
        rows, some = list(drawn), torch.full((1, samples), 1 / samples, dtype=torch.float64)
        answers = type(whole)(Batch(ids.inputs[rows], ids.targets[rows]), whole.rewards[:, rows], some)
        p = math.prod(whole.weights[0, rows].tolist())
        yield p, -gradient(policy_loss(model, answers, baseline), model)


def test_the_other_answers_as_baseline_add_no_bias_and_take_variance_away():
    """Exactly, over all 64 pairs of the 8 sequences. The reward has a large constant part, as many rewards do.

    (Without one, two samples are too few for the other's reward to be a good guess, and it can do harm.)
    """
    model, asked, variance = table(2, 3, seed=2), {"max_new_tokens": 3}, {}
    for constant in (0, 20):

        def reward(answer, question, constant=constant):
            return constant + worth(answer, question)

        exact = gradient(expected_reward(model, [[2]], reward, **asked), model)
        for baseline in (None, "others"):
            pairs = list(estimates(model, reward, baseline, 2, asked))
            assert len(pairs) == 64 and sum(p for p, _ in pairs) == pytest.approx(1, abs=1e-12)
            assert torch.allclose(sum(p * g for p, g in pairs), exact, atol=1e-10)
            variance[baseline, constant] = float(sum(p * (g - exact).square().sum() for p, g in pairs))
    assert variance["others", 20] < 0.1 * variance[None, 20]
    assert variance["others", 20] == pytest.approx(variance["others", 0])  # a constant has no say at all


@pytest.mark.parametrize("baseline", [None, "others"])
def test_drawn_answers_give_the_gradient_within_the_odds(baseline):
    """4,000 estimates of 4 samples each. Each of the 26 coordinates' means lies within 5 of its own standard errors.

    The standard error is estimated from the 4,000, which are near normal: 26 * 5.7e-7, odds of a false failure below
    2e-5; the seed is fixed, so that it either fails always or never.
    """
    model, generator = table(2, 3, seed=2), torch.Generator().manual_seed(0)
    exact = gradient(expected_reward(model, [[2]], worth, max_new_tokens=3), model)
    answers = draw_answers(model, [[2]] * 4000, worth, max_new_tokens=3, samples=4, generator=generator)
    with torch.no_grad():
        p = every_answer(model, [[2]], worth, max_new_tokens=3)
    rows = {tuple(ids): n for n, ids in enumerate(p.batch.targets.tolist())}
    scores = torch.stack([gradient(log_probabilities(model, one(p, n)).sum(), model) for n in range(len(rows))])
    which = torch.tensor([rows[tuple(ids)] for ids in answers.batch.targets.tolist()]).view(4000, 4)
    advantage = answers.rewards
    if baseline:
        advantage = advantage - (advantage.sum(1, keepdim=True) - advantage) / 3
    found = (advantage[..., None] * scores[which]).mean(1)  # (4000, coordinates)
    assert torch.allclose(-gradient(policy_loss(model, answers, baseline), model), found.mean(0), atol=1e-10)
    error = found.std(0) / 4000**0.5
    assert bool(((found.mean(0) - exact).abs() < 5 * error + 1e-12).all())


def one(answers, n):
    batch = Batch(answers.batch.inputs[n : n + 1], answers.batch.targets[n : n + 1])
    return type(answers)(batch, answers.rewards[:, n : n + 1], answers.weights[:, n : n + 1])


def a_decoder(seed=0, vocab_size=4):
    config = DecoderConfig.gpt2(
        vocab_size=vocab_size, context_length=8, d_model=8, layers=1, heads=2, dropout=0.2, init="xavier"
    )
    return DecoderLM(config, seed=seed)


def test_answers_end_where_they_end_and_the_judge_sees_the_question():
    """Prompts of unequal length, several samples each, in the order of the prompts."""
    seen = []

    def judge(answer, question):
        seen.append((answer, question))
        return 10 * question[0] + len(answer)

    model = a_decoder().train()
    answers = draw_answers(
        model,
        [[1, 2, 3], [2]],
        judge,
        max_new_tokens=4,
        eos_id=0,
        samples=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert model.training
    assert [question for _, question in seen] == [[1, 2, 3]] * 3 + [[2]] * 3
    for row, (answer, question) in enumerate(seen):
        written = question + answer
        assert 0 not in answer[:-1] and (len(answer) == 4 or answer[-1] == 0)
        assert answers.batch.inputs[row, : len(written) - 1].tolist() == written[:-1]
        targets = [IGNORE] * (len(question) - 1) + answer
        assert answers.batch.targets[row, : len(targets)].tolist() == targets
        assert set(answers.batch.targets[row, len(targets) :].tolist()) <= {IGNORE}
    assert answers.rewards.tolist() == [
        [10 + len(seen[n][0]) for n in range(3)],
        [20 + len(seen[n][0]) for n in (3, 4, 5)],
    ]
    alone = a_decoder().eval()
    for row, (answer, question) in enumerate(seen):
        log_p = alone(torch.tensor([question + answer]))[0].log_softmax(-1)
        expected = sum(log_p[len(question) - 1 + t, token] for t, token in enumerate(answer))
        assert log_probabilities(model, answers).flatten()[row].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_batch_is_asked_for_its_prompts_only():
    """Each row up to its first target, and no more of it."""
    inputs = torch.tensor([[1, 2, 3, 1], [2, 3, 3, 3]])
    targets = torch.tensor([[IGNORE, 3, 1, 2], [3, IGNORE, IGNORE, IGNORE]])
    asked = {"max_new_tokens": 2, "samples": 2}
    found, expected = (
        draw_answers(a_decoder(), prompts, worth, generator=torch.Generator().manual_seed(4), **asked)
        for prompts in (Batch(inputs, targets), [[1, 2], [2]])
    )
    assert torch.equal(found.batch.inputs, expected.batch.inputs)
    assert torch.equal(found.batch.targets, expected.batch.targets)
    ids = draw_answers(a_decoder(), torch.tensor([[1], [2]]), worth, generator=torch.Generator(), **asked)
    assert ids.batch.inputs[:, 0].tolist() == [1, 1, 2, 2]


def test_the_loss_of_several_prompts_is_the_mean_of_theirs():
    model = a_decoder()
    both = every_answer(model, [[1], [2]], lambda answer, question: sum(answer) * question[0], max_new_tokens=2)
    alone = [
        every_answer(model, [[ask]], lambda answer, question: sum(answer) * question[0], max_new_tokens=2)
        for ask in (1, 2)
    ]
    losses = [policy_loss(model, answers, 1.0) for answers in alone]
    assert torch.allclose(policy_loss(model, both, 1.0), sum(losses) / 2, atol=1e-6)


def test_greedy_answers_as_baseline():
    """A greedy answer's own reward is the baseline of its prompt's samples."""
    model, asked = a_decoder().eval(), {"max_new_tokens": 3}
    b = greedy_answers(model, [[1], [2]], worth, **asked).rewards
    assert b.shape == (2, 1)
    answers = draw_answers(model, [[1], [2]], worth, generator=torch.Generator().manual_seed(1), samples=2, **asked)
    expected = policy_loss(model, answers, b)
    found = reinforce(
        model, [[1], [2]], worth, generator=torch.Generator().manual_seed(1), samples=2, baseline="greedy", **asked
    )
    assert torch.equal(found, expected) and found.requires_grad


def test_equal_rewards_leave_nothing_to_learn():
    model = a_decoder()
    loss = reinforce(model, [[1]], lambda *_: 7.0, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
    assert gradient(loss, model).abs().max() == 0


@pytest.mark.parametrize("kind", ["table", "decoder", "recurrent"])
def test_training_raises_the_reward(kind):
    """More 1s are better; an untrained model writes each of 4 tokens about as often, a trained one writes 1s."""
    models = {"table": table(4, 3), "decoder": a_decoder(), "recurrent": RecurrentLM(4, 8, 8, seed=0)}
    model, count = models[kind], lambda answer, question: answer.count(1) / len(answer)
    prompts = itertools.repeat([[4]] if kind == "table" else [[1], [2]])
    settings = {"steps": 50, "lr": 0.05, "samples": 16, "max_new_tokens": 3}
    steps = list(reinforce_steps(model, prompts, count, generator=torch.Generator().manual_seed(0), **settings))
    assert [step.step for step in steps] == list(range(1, 51))
    assert steps[0].reward < 0.5 and sum(step.reward for step in steps[-5:]) / 5 > 0.7
    assert steps[-1].tokens == 50 * 16 * 3 * (1 if kind == "table" else 2)


def test_bad_input_is_named():
    model, generator = table(), torch.Generator().manual_seed(0)
    asked = {"max_new_tokens": 2, "generator": generator}
    with pytest.raises(ValueError, match="samples=2 at least"):
        reinforce(model, [[3]], worth, samples=1, **asked)
    with pytest.raises(ValueError, match="baseline is 'mean'"):
        reinforce(model, [[3]], worth, baseline="mean", **asked)
    with pytest.raises(ValueError, match="baseline 'others' needs"):
        policy_loss(model, every_answer(model, [[3]], worth, max_new_tokens=2))
    with pytest.raises(ValueError, match="more than 100,000 sequences"):
        expected_reward(model, [[3]], worth, max_new_tokens=30)
    with pytest.raises(ValueError, match="ended after 1 steps; 2"):
        list(reinforce_steps(model, [[[3]]], worth, steps=2, **asked))
    for value in (float("nan"), float("inf"), None):
        with pytest.raises(ValueError, match=r"the reward of answer \[.*\] to question \[3\] is (nan|inf|None)"):
            reinforce(model, [[3]], lambda answer, question, value=value: value, **asked)
    with pytest.raises(ValueError, match="no bos_id to start from"):
        reinforce(a_decoder(), [[]], worth, **asked)
    ids = torch.tensor([[1, 2], [1, 2]])
    with pytest.raises(ValueError, match="row 1 of the batch has no target"):
        reinforce(a_decoder(), Batch(ids, torch.tensor([[2, 3], [IGNORE, IGNORE]])), worth, **asked)
    with pytest.raises(ValueError, match="there are no prompts"):
        reinforce(a_decoder(), [], worth, **asked)
    pairs = PairInputs(torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([[3]]))
    with pytest.raises(ValueError, match="DecoderLM has no .given"):
        reinforce(a_decoder(), pairs, worth, **asked)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        expected_reward(model, [[3]], worth, max_new_tokens=0)
    with pytest.raises(ValueError, match="eos_id is 3"):  # once no end at all
        expected_reward(model, [[3]], worth, max_new_tokens=2, eos_id=3)


def test_a_baseline_for_each_prompt_is_a_column():
    """One number a prompt in a row was taken for one an answer, in silence, where there were as many of both."""
    model, generator = table(), torch.Generator().manual_seed(0)
    answers = draw_answers(model, [[1], [2]], worth, max_new_tokens=2, samples=2, generator=generator)
    for shape in ((2,), (3, 1), (2, 2, 1)):
        with pytest.raises(ValueError, match="baseline has shape .* needed \\(prompts, answers\\) = \\(2, 2\\)"):
            policy_loss(model, answers, torch.ones(shape))
    for same in (torch.tensor(0.75), torch.full((2, 1), 0.75), torch.full((2, 2), 0.75)):
        assert torch.equal(policy_loss(model, answers, same), policy_loss(model, answers, 0.75))


def test_there_may_be_several_end_symbols():
    """As in `sample`: a list was taken for no end at all."""
    one = expected_reward(table(), [[3]], worth, max_new_tokens=3, eos_id=2)
    assert torch.equal(expected_reward(table(), [[3]], worth, max_new_tokens=3, eos_id=[2]), one)
    answers = every_answer(table(), [[3]], worth, max_new_tokens=2, eos_id=[1, 2])
    assert answers.rewards.size(1) == 2 + 3 and answers.weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("prompt", [[1, 2], torch.tensor([1, 2])])
def test_one_flat_prompt_is_one_prompt(prompt):
    answers = draw_answers(a_decoder(), prompt, worth, max_new_tokens=2, samples=3, generator=torch.Generator())
    assert answers.rewards.shape == (1, 3) and answers.batch.inputs[:, :2].tolist() == [[1, 2]] * 3
