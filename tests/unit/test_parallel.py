"""Filling gaps, held to enumeration: one gap a step is exact, all at once is the product of the marginals."""

import itertools
import math

import pytest
import torch

from arlab.decoding.gap_laws import MaskedWorld, parallel_law, pseudo_log_likelihood, total_variation
from arlab.decoding.parallel import gap_logits, parallel_decoding, parallel_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.worlds import TreeLM

TWINS = MaskedWorld({(0, 0): 0.5, (1, 1): 0.5}, 2)  # two sequences; either token alone is a coin
M = 2


def random_world(seed=0, vocab=3, length=3):
    tree = TreeLM.random(vocab, length, torch.Generator().manual_seed(seed), sharp=1.5)
    return MaskedWorld(tree.enumerate(), vocab)


def a_model(seed=0, vocab=5):
    settings = {"vocab_size": vocab + 1, "context_length": 6, "d_model": 16, "layers": 2, "heads": 2, "init": "xavier"}
    return DecoderLM(DecoderConfig.gpt2(**settings, causal=False), seed=seed).eval()


# ------------------------------------------------------------------------------------------------- the masked world


def test_the_world_answers_as_summing_by_hand_does():
    world = random_world()
    for visible in itertools.product(range(4), repeat=3):
        p = world(torch.tensor([visible]))[0].exp()
        for t, v in itertools.product(range(3), range(3)):
            mass = [sum(q for x, q in world.law.items() if x[t] == token and fits(x, visible, t)) for token in range(3)]
            assert p[t, v].item() == pytest.approx(mass[v] / sum(mass))


def fits(x, visible, t):
    return all(visible[s] in (3, x[s]) for s in range(len(x)) if s != t)


def test_what_is_impossible_leaves_it_uniform():
    assert TWINS(torch.tensor([[0, 1]])).exp().tolist() == [[[0.0, 1.0], [1.0, 0.0]]]  # each agrees with the other
    world = MaskedWorld({(0, 0, 0): 0.5, (1, 1, 1): 0.5}, 2)
    assert world(torch.tensor([[0, 1, M]]))[0, 2].exp().tolist() == [0.5, 0.5]


# ------------------------------------------------------------------------------------------------------ exact laws


@pytest.mark.parametrize("seed", range(4))
def test_one_gap_a_step_is_the_joint_law_in_every_order(seed):
    world = random_world(seed)
    for order in [None, *itertools.permutations(range(3))]:
        law = parallel_law(world, [3, 3, 3], mask_id=3, steps=3, order=order)
        assert total_variation(law, world.law) < 1e-12


def test_all_at_once_is_the_product_of_the_marginals():
    world = random_world(1)
    marginals = world(torch.tensor([[3, 3, 3]]))[0].exp()
    law = parallel_law(world, [3, 3, 3], mask_id=3, steps=1)
    assert len(law) == 27 and sum(law.values()) == pytest.approx(1)
    for x, p in law.items():
        assert p == pytest.approx(math.prod(marginals[t, v].item() for t, v in enumerate(x)))
    assert total_variation(law, world.law) > 0.05


def test_given_tokens_condition_it():
    world = random_world(2)
    law = parallel_law(world, [3, 1, 3], mask_id=3, steps=2)
    mass = sum(p for x, p in world.law.items() if x[1] == 1)
    assert total_variation(law, {x: p / mass for x, p in world.law.items() if x[1] == 1}) < 1e-12


def test_the_twins_half_of_what_is_filled_at_once_is_impossible():
    assert parallel_law(TWINS, [M, M], mask_id=M, steps=1) == {(0, 0): 0.25, (0, 1): 0.25, (1, 0): 0.25, (1, 1): 0.25}
    assert parallel_law(TWINS, [M, M], mask_id=M, steps=2) == {(0, 0): 0.5, (1, 1): 0.5}


def test_draws_follow_the_law():
    """Five standard errors of a share of 20,000: odds of 6e-7 for each of 27 fillings, at 1, 2 and 3 steps."""
    world, n, g = random_world(3), 20_000, torch.Generator().manual_seed(0)
    for steps in (1, 2, 3):
        rows = parallel_decoding(world, [[3, 3, 3]] * n, mask_id=3, steps=steps, generator=g).ids
        found, counts = rows.unique(dim=0, return_counts=True)
        shares = {tuple(x): c / n for x, c in zip(found.tolist(), counts.tolist(), strict=True)}
        law = parallel_law(world, [3, 3, 3], mask_id=3, steps=steps)
        assert set(shares) <= set(law)
        for x, p in law.items():
            assert abs(shares.get(x, 0.0) - p) <= 5 * math.sqrt(p * (1 - p) / n) + 1e-12


def test_a_trained_shape_has_a_law_too_and_never_says_the_mask():
    model = a_model()
    law = parallel_law(model, [5, 1, 5, 0], mask_id=5, steps=2, order=[2, 0])
    assert len(law) == 25 and sum(law.values()) == pytest.approx(1, abs=1e-6)
    assert all(5 not in row and row[1] == 1 and row[3] == 0 for row in law)


# --------------------------------------------------------------------------------------------------- argmax, records


def test_one_step_takes_each_positions_own_argmax():
    model, ids = a_model(), torch.tensor([[5, 1, 5, 0, 5], [2, 5, 3, 3, 3]])
    expected = torch.where(ids == 5, gap_logits(model, ids, 5).argmax(-1), ids)
    filling = parallel_decoding(model, ids, mask_id=5, steps=1)
    assert torch.equal(filling.ids, expected) and filling.passes == 1
    assert filling.when.tolist() == [[0, -1, 0, -1, 0], [-1, 0, -1, -1, -1]]
    p = gap_logits(model, ids, 5).softmax(-1).amax(-1)
    assert torch.allclose(filling.probabilities, torch.where(ids == 5, p, 1.0).double())


def test_the_surest_gap_comes_first_and_the_next_one_sees_it():
    """By hand: one pass a gap, always the position with the largest maximum."""
    model, ids = a_model(3), torch.tensor([[5, 1, 5, 0, 5, 5]])
    expected, when = ids.clone(), {}
    for step in range(4):
        p = gap_logits(model, expected, 5)[0].softmax(-1)
        open_now = [t for t in range(6) if expected[0, t] == 5]
        surest = max(open_now, key=lambda t, p=p: p[t].max().item())
        expected[0, surest], when[surest] = p[surest].argmax(), step
    filling = parallel_decoding(model, ids, mask_id=5, steps=4)
    assert torch.equal(filling.ids, expected)
    assert {t: int(filling.when[0, t]) for t in when} == when


@pytest.mark.parametrize("gaps, steps, filled", [(4, 2, [2, 2]), (5, 2, [3, 2]), (5, 3, [2, 2, 1]), (2, 9, [1, 1])])
def test_each_step_fills_its_share(gaps, steps, filled):
    ids = [[5] * gaps + [1] * (6 - gaps)]
    records = list(parallel_steps(a_model(), ids, mask_id=5, steps=steps))
    assert [int(step.filled.sum()) for step in records] == filled
    for before, after in itertools.pairwise(records):
        assert torch.equal(after.ids[before.ids != 5], before.ids[before.ids != 5])  # what stands, stands
        assert bool((after.probabilities[after.ids == 5] == 0).all())
    assert bool((records[-1].ids != 5).all())


def test_rows_do_not_disturb_each_other():
    model, rows = a_model(1), [[5, 5, 5, 1, 2, 5], [1, 2, 5, 4, 0, 0], [5, 5, 5, 5, 5, 5]]
    together = parallel_decoding(model, rows, mask_id=5, steps=3)
    for r, row in enumerate(rows):
        alone = parallel_decoding(model, [row], mask_id=5, steps=3)
        assert torch.equal(alone.ids[0], together.ids[r]) and torch.equal(alone.when[0], together.when[r])


def test_an_order_is_kept():
    filling = parallel_decoding(a_model(), [[5] * 6], mask_id=5, steps=6, order=range(5, -1, -1))
    assert filling.when.tolist() == [[5, 4, 3, 2, 1, 0]]
    pairs = parallel_decoding(a_model(), [[5] * 6], mask_id=5, steps=3, order=[3, 0, 1, 5, 2, 4])
    assert pairs.when.tolist() == [[0, 1, 2, 0, 2, 1]]


def test_revising_takes_back_what_has_become_unlikely():
    """Mask-predict by hand: say all gaps, keep the ceil(N s / S) surest of ALL gaps, mask the others."""
    taken_back = 0
    for seed in range(40):
        model, ids = a_model(seed), torch.tensor([[5, 5, 5, 5, 5, 1]])
        with torch.no_grad():
            model.embed_tokens.weight.mul_(4)  # sharper: what it is sure of changes with what it sees
        said, sure = ids.clone(), torch.zeros(6)
        for step in range(1, 4):
            p = gap_logits(model, said, 5)[0].softmax(-1)
            now_open = said[0] == 5
            whole = torch.where(now_open, p.argmax(-1), said[0])
            sure = torch.where(now_open, p.amax(-1), sure)
            keep = sorted(range(5), key=lambda t, sure=sure: -sure[t].item())[: -(-5 * step // 3)]
            before = said.clone()
            said = torch.tensor([[whole[t].item() if t in keep else int(ids[0, t]) for t in range(6)]])
            taken_back += bool(((before != 5) & (said == 5)).any())
        assert torch.equal(parallel_decoding(model, ids, mask_id=5, steps=3, revise=True).ids, said)
    assert taken_back  # in some of the forty


def test_dropout_is_off_and_modes_are_put_back():
    settings = {"vocab_size": 6, "context_length": 6, "d_model": 16, "layers": 1, "heads": 2, "dropout": 0.5}
    model = DecoderLM(DecoderConfig.gpt2(**settings, causal=False), seed=0).train()
    first, second = (parallel_decoding(model, [[5, 1, 5]], mask_id=5, steps=2) for _ in range(2))
    assert torch.equal(first.probabilities, second.probabilities) and model.training


# ---------------------------------------------------------------------------------------------- pseudo-likelihood


def test_pseudo_likelihood_is_each_token_given_all_others():
    world = random_world(4)
    rows = [x for x, _ in sorted(world.law.items())]
    found = pseudo_log_likelihood(world, rows, mask_id=3)
    for x, logs in zip(rows, found, strict=True):
        for t in range(3):
            others = sum(p for y, p in world.law.items() if all(y[s] == x[s] for s in range(3) if s != t))
            assert logs[t].exp().item() == pytest.approx(world.law[x] / others)


@pytest.mark.parametrize("ids, words", [([0, 1], r"shape \(2,\)"), ([[0, M]], "ids hold mask_id = 2")])
def test_only_whole_sequences_have_a_pseudo_likelihood(ids, words, as_shipped):
    with pytest.raises(ValueError, match=words):
        pseudo_log_likelihood(TWINS, ids, mask_id=M)


def test_pseudo_likelihoods_do_not_sum_to_1():
    rows = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert pseudo_log_likelihood(TWINS, rows, mask_id=M).sum(1).exp().tolist() == [1.0, 0.0, 0.0, 1.0]  # 2, not 1


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "given, words",
    [
        ({"ids": [[0, 1]]}, "there is no gap: no id is mask_id = 2"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"order": [0]}, r"leaves out the gaps at \[1\]"),
        ({"order": [0, 0, 1]}, "each once"),
        ({"order": [0, 2, 1]}, "positions from 0 to 1"),
        ({"revise": True, "generator": torch.Generator()}, "leave out a generator"),
        ({"revise": True, "order": [0, 1]}, "leave out an order"),
        ({"ids": [2, 2]}, r"shape \(2,\)"),
        ({"ids": [[0.5, 2.0]]}, "dtype torch.float32"),
        ({"mask_id": None}, "mask_id is None"),
    ],
)
def test_bad_input_is_named_before_the_first_step(given, words, as_shipped):
    settings = {"ids": [[M, M]], "steps": 1, **given}
    with pytest.raises(ValueError, match=words):
        parallel_steps(TWINS, settings.pop("ids"), **{"mask_id": M, **settings})


@pytest.mark.parametrize(
    "law, words",
    [
        ({(0, 0): 0.5, (1,): 0.5}, r"lengths \[1, 2\]"),
        ({(0, 2): 1.0}, "outside 0 to 1"),
        ({(0, 1): 0.7}, "sum to 0.7"),
        ({}, r"lengths \[\]"),
        ([((0, 0), 0.5), ((0, 0), 0.25), ((1, 1), 0.25)], "comes twice"),
    ],
)
def test_a_bad_law_is_named(law, words):
    with pytest.raises(ValueError, match=words):
        MaskedWorld(law, 2)


def test_a_row_of_another_length_and_too_many_fillings_are_named():
    with pytest.raises(ValueError, match="rows of 2 tokens"):
        TWINS(torch.tensor([[0, 1, 0]]))
    model = DecoderLM(DecoderConfig.gpt2(vocab_size=60, context_length=4, d_model=8, layers=1, heads=1, causal=False))
    with pytest.raises(ValueError, match="more than 100,000 fillings"):
        parallel_law(model, [59, 59, 59], mask_id=59, steps=1)
