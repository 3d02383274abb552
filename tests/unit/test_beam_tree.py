"""The beam tree without a browser: it draws what `beam_steps` looked at, and lists what `beam_search` finds."""

from __future__ import annotations

import json
import math
import operator

import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding import ContrastiveScorer, Temperature, TopK, beam_search, beam_steps, greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views.beam_tree import CUT, ENDED, LIMIT, LIVE, BeamTree
from arlab.worlds import TreeLM, beam_trap

PENALTIES = (-1.0, 0.0, 0.6, 1.0, 2.0, 5.0)
LETTERS = CharTokenizer("abcdefgh")


def small(seed: int = 0, vocab_size: int = 8, context_length: int = 16) -> DecoderLM:
    config = DecoderConfig.gpt2(vocab_size=vocab_size, context_length=context_length, d_model=16, layers=1, heads=2)
    model = DecoderLM(config, seed=seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4)  # a fresh model is nearly uniform; this one has opinions
    return model


def found(generation) -> list[tuple[tuple[int, ...], float, bool]]:
    """(ids, score, finished) of each hypothesis that there is."""
    each = zip(
        generation.lengths[0].tolist(), generation.scores[0].tolist(), generation.finished[0].tolist(), strict=True
    )
    return [(tuple(generation.tokens(0, n)), score, done) for n, (length, score, done) in enumerate(each) if length]


def listed(view: BeamTree) -> list[tuple[tuple[int, ...], float, bool]]:
    return [(one.ids, one.score, one.finished) for one in view.hypotheses]


def same(ours, theirs) -> None:
    assert [(ids, done) for ids, _, done in ours] == [(ids, done) for ids, _, done in theirs]
    assert [score for _, score, _ in ours] == pytest.approx([score for _, score, _ in theirs], rel=1e-6)


def spelt(tree: dict, i: int) -> list[int]:
    return [] if i == 0 else [*spelt(tree, tree["parents"][i]), tree["tokens"][i]]


SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([None, 0, 1]), st.integers(0, 2**20))


def world_of(shape: tuple[int, int, int | None, int]) -> TreeLM:
    """A random world; every third one has few distinct probabilities, zeros among them, and so is full of ties."""
    vocab_size, length, eos_id, seed = shape
    eos_id = None if eos_id is None else min(eos_id, vocab_size - 1)
    generator = torch.Generator().manual_seed(seed)
    if seed % 3:
        return TreeLM.random(vocab_size, length, generator, eos_id=eos_id, sharp=seed % 7 / 2)
    parts = torch.tensor([0, 1, 1, 2])[torch.randint(4, (vocab_size,), generator=generator)].tolist()
    parts = parts if sum(parts) else [1] * vocab_size
    return TreeLM({}, max_length=length, eos_id=eos_id, default=[part / sum(parts) for part in parts])


@settings(max_examples=60)
@given(SHAPES, st.integers(1, 5), st.sampled_from(PENALTIES))
def test_the_list_is_what_beam_search_finds_for_every_beam_size_and_penalty(shape, beams, penalty):
    world = world_of(shape)
    view = BeamTree(world, max_beams=beams, beams=beams, length_penalty=penalty)
    options = {"max_new_tokens": view.steps, "eos_id": world.eos_id, "beams": beams, "length_penalty": penalty}
    same(listed(view), found(beam_search(world, [], n=beams, **options)))
    same(listed(view)[:1], found(beam_search(world, [], **options)))  # the best is the best, however many one asks for
    assert view.last_step == len(list(beam_steps(world, [], n=beams, **options)))


@settings(max_examples=40)
@given(SHAPES, st.integers(1, 5))
def test_drawn_is_what_the_search_looked_at(shape, beams):
    """Every candidate of every step once, with the numbers of the step and of the world itself."""
    world = world_of(shape)
    view = BeamTree(world, max_beams=beams, beams=beams)
    tree = view.search["trees"][beams - 1]
    for step in beam_steps(world, [], max_new_tokens=view.steps, beams=beams, n=beams, eos_id=world.eos_id):
        here = [i for i, at in enumerate(tree["steps"]) if at == step.index + 1]
        real = [c for c, total in enumerate(step.totals[0].tolist()) if total > -math.inf]
        assert [tree["totals"][i] for i in here] == step.totals[0][real].tolist()
        assert [tree["tokens"][i] for i in here] == step.tokens[0][real].tolist()
        assert [tree["ranks"][i] for i in here] == [c + 1 for c in real]
        lives = [i for i, c in zip(here, real, strict=True) if c in step.live[0].tolist()]
        assert lives == [i for i in here if tree["fates"][i] == LIVE]
        ended = [i for i, c in zip(here, real, strict=True) if step.ended[0, c]]
        assert ended == [i for i in here if tree["fates"][i] in (ENDED, LIMIT)]
    sequences = [tuple(spelt(tree, i)) for i in range(len(tree["parents"]))]
    assert len(set(sequences)) == len(sequences)
    for i, ids in enumerate(sequences[1:], 1):
        assert tree["parents"][i] < i and tree["steps"][i] == len(ids)
        assert tree["fates"][tree["parents"][i]] == LIVE  # nothing grows out of what was cut or has ended
        logprob = math.log(world.distribution(ids[:-1])[ids[-1]])
        assert tree["scores"][i] == tree["logprobs"][i] == pytest.approx(logprob, abs=1e-9)
        assert tree["totals"][i] == pytest.approx(world.logprob(ids), abs=1e-9)
        assert ids[-1] == world.eos_id or tree["fates"][i] != ENDED


def test_the_trap_in_which_a_wider_beam_loses():
    view = BeamTree(beam_trap(), max_beams=3)
    best = []
    for view.beams in (1, 2, 3):
        best.append((view.hypotheses[0].ids, math.exp(view.hypotheses[0].total)))
    assert best == [
        ((0, 0, 0), pytest.approx(0.187)),
        ((1, 0, 0), pytest.approx(0.0765)),
        ((0, 0, 0), pytest.approx(0.187)),
    ]
    tree = view.search["trees"][1]
    fates = {tuple(spelt(tree, i)): fate for i, fate in enumerate(tree["fates"])}
    assert fates[(0,)] == LIVE and fates[(0, 0)] == CUT  # where the beam of two throws the winner away
    assert view.search["strings"] == {"0": "A", "1": "B", "2": "C"}


@pytest.mark.parametrize("filters", [(), [Temperature(2.0)], [TopK(3), Temperature(0.5)]])
def test_a_neural_model_with_a_prompt_and_filters(filters):
    model, prompt = small(), "abc"
    view = BeamTree(model, LETTERS, prompt, beams=4, max_beams=4, steps=5, eos_id=2, filters=filters)
    options = {"max_new_tokens": 5, "eos_id": 2, "filters": filters}
    for beams in range(1, 5):
        view.beams = beams
        for penalty in PENALTIES:
            view.length_penalty = penalty
            search = beam_search(model, LETTERS.encode(prompt), beams=beams, n=beams, length_penalty=penalty, **options)
            same(listed(view), found(search))
    for tree in view.search["trees"]:
        for i, parent in enumerate(tree["parents"][1:], 1):
            assert tree["totals"][parent] + tree["scores"][i] == pytest.approx(tree["totals"][i], abs=1e-5)
            assert (tree["scores"][i] == tree["logprobs"][i]) or filters
    assert view.facts["exact"] == (not filters)


def test_the_search_goes_on_while_its_best_branch_can_win():
    """After two steps the list is full (.4, .2) and the weaker branch (.1) hopeless; the better one (.3) is not."""
    names, end = ["A", "B", "end"], [0.0, 0.0, 1.0]
    table = {(): [0.5, 0.1, 0.4], (0,): [0.6, 0.0, 0.4], (1,): [1.0, 0.0, 0.0], (0, 0): end, (1, 0): end}
    view = BeamTree(TreeLM(table, max_length=4, eos_id=2, names=names, default=end), length_penalty=0.0)
    assert view.last_step == 3
    assert [(one.ids, pytest.approx(math.exp(one.score))) for one in view.hypotheses] == [((2,), 0.4), ((0, 0, 2), 0.3)]


def test_one_beam_is_greedy():
    model = small(seed=3)
    view = BeamTree(model, LETTERS, [1, 2], beams=1, steps=6)
    assert list(view.hypotheses[0].ids) == greedy(model, [1, 2], max_new_tokens=6).tokens()
    assert view.prompt == "bc" and view.ids == [1, 2]


def test_any_scorer_is_searched():
    """The contrastive score has no highest value: the search then never stops early, whatever the penalty."""
    scorer = ContrastiveScorer(small(0), small(1), alpha=0.1)
    view = BeamTree(scorer, LETTERS, "ab", beams=3, max_beams=3, steps=4, eos_id=5)
    for penalty in PENALTIES:
        view.length_penalty = penalty
        ids, options = LETTERS.encode("ab"), {"max_new_tokens": 4, "eos_id": 5, "length_penalty": penalty}
        same(listed(view), found(beam_search(scorer, ids, beams=3, n=3, **options)))
    assert view.facts["exact"] is False and view.facts["highest"] is None
    json.dumps(view.saved_state(), allow_nan=False)
    with pytest.raises(ValueError, match="filters go with a language model; ContrastiveScorer is a scorer"):
        BeamTree(scorer, LETTERS, "ab", filters=[Temperature(2.0)])


def test_a_large_vocabulary_travels_as_the_candidates_alone():
    model = small(vocab_size=49_152)
    strings = [f" token{i}" for i in range(49_152)]

    class Words:
        encode = staticmethod(lambda text: [int(word) for word in text.split()])
        decode = staticmethod(lambda ids: " ".join(map(str, ids)))
        token_strings = staticmethod(lambda: strings)

    view = BeamTree(model, Words(), "7 8", beams=5, steps=8, eos_id=0)
    used = {token for tree in view.search["trees"] for token in tree["tokens"][1:]}
    assert view.search["strings"] == {str(token): strings[token] for token in used}
    assert [max(tree["ranks"]) for tree in view.search["trees"]] == [2, 4, 6, 8, 10]
    assert len(json.dumps(view.saved_state())) < 60_000
    assert view.arrangement == "ranking" and BeamTree(beam_trap()).arrangement == "tree"


def test_a_new_prompt_searches_again_and_a_refused_one_changes_nothing():
    model = small()
    view = BeamTree(model, LETTERS, "abc", steps=4)
    view.path = [0]
    view.prompt = "hg"
    assert view.ids == LETTERS.encode("hg") and view.path is None
    same(listed(view), found(beam_search(model, LETTERS.encode("hg"), max_new_tokens=4, beams=2, n=2)))
    before = view.search
    for bad, says in [("xyz", "'x'"), ("a" * 13, "context_length of 16"), ("", "empty")]:
        with pytest.raises((ValueError, traitlets.TraitError), match=says):
            view.prompt = bad
        with pytest.raises(ValueError, match=says):
            view.answers["prompt"](text=bad)
        assert view.search is before and view.prompt == "hg" and view.ids == LETTERS.encode("hg")


def test_a_world_ends_where_it_ends():
    world = TreeLM.random(3, 4, torch.Generator().manual_seed(1), eos_id=2)
    assert BeamTree(world, steps=9).steps == 4
    begun = BeamTree(world, prompt=[0], steps=9)
    assert begun.steps == 3 and begun.facts["ends"] == [2]
    search = beam_search(world, [0], max_new_tokens=3, beams=2, n=2, eos_id=2)
    same(listed(begun), found(search))
    with pytest.raises(ValueError, match="fills this world's max_length of 4"):
        BeamTree(world, prompt=[0, 0, 0, 0])


@pytest.mark.parametrize(
    "given_settings, says",
    [
        ({"beams": 6}, "beams is 6; it must be from 1 to 5"),
        ({"beams": 0}, "beams is 0"),
        ({"max_beams": 13}, "max_beams is 13; it must be from 1 to 12"),
        ({"steps": 0}, "steps is 0; it must be from 1 to 40"),
        ({"step": 4}, "step is 4; it must be from 0 to 3"),
        ({"length_penalty": math.nan}, "length_penalty is nan; it must be from -2 to 5"),
        ({"length_penalty": 6.0}, "length_penalty is 6.0"),
        ({"prompt": "A"}, "the prompt is 'A', but there is no tokenizer"),
        ({"prompt": [3, 9]}, r"ids\[0, 1\] is 9"),
        ({"eos_id": 7}, "eos_id is 7"),
        ({"arrangement": "heap"}, "arrangement"),
    ],
)
def test_settings_out_of_range_are_refused(given_settings, says):
    with pytest.raises((ValueError, traitlets.TraitError), match=says):
        BeamTree(beam_trap(), **given_settings)


def test_sliders_refuse_what_is_out_of_range_and_stay():
    view = BeamTree(beam_trap(), max_beams=3)
    for name, value in [("beams", 4), ("step", -1), ("length_penalty", math.inf)]:
        before = operator.attrgetter(name)(view)
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(view, name, value)
        assert operator.attrgetter(name)(view) == before


def test_it_is_described_by_one_fixed_line():
    assert (
        repr(BeamTree(beam_trap(), max_beams=3))
        == "BeamTree: beam sizes 1 to 3, 3 steps, 2 beams shown, length penalty 1"
    )
