"""The sequence tree without a browser: its probabilities are the world's own, and what it cannot draw it refuses."""

import math

import pytest
import torch
import traitlets

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.views.sequence_tree import FOLD_FROM, MAX_NODES, SequenceTree
from arlab.worlds import TreeLM, beam_trap, rank_flip


def random_world(vocab_size: int, max_length: int, eos_id: int | None = None) -> TreeLM:
    return TreeLM.random(vocab_size, max_length, torch.Generator().manual_seed(1), eos_id=eos_id, sharp=2.0)


@pytest.fixture(params=["trap", "flip", "random", "ending", "one token"])
def world(request) -> TreeLM:
    return {
        "trap": beam_trap,
        "flip": rank_flip,
        "random": lambda: random_world(3, 4),
        "ending": lambda: random_world(4, 4, eos_id=1),
        "one token": lambda: TreeLM({(): [1.0]}, max_length=1),
    }[request.param]()


def spelt(nodes: dict, i: int) -> tuple[int, ...]:
    return () if i == 0 else (*spelt(nodes, nodes["parents"][i]), nodes["tokens"][i])


def test_what_the_page_gets_is_the_enumeration(world):
    view = SequenceTree(world)
    nodes = view.nodes
    sent = [(spelt(nodes, i), nodes["mass"][i]) for i in view.ranking]
    assert sent == world.enumerate() == view.sequences  # the same order, the same numbers to the last bit
    assert math.fsum(p for _, p in sent) == pytest.approx(1, abs=1e-12)
    leaves = set(range(len(nodes["parents"]))) - set(nodes["parents"])
    assert leaves == set(view.ranking)


def test_every_inner_node_has_the_mass_of_what_is_behind_it(world):
    nodes = SequenceTree(world).nodes
    for i, parent in enumerate(nodes["parents"]):
        assert parent < i
        children = [c for c, p in enumerate(nodes["parents"]) if p == i]
        if children:
            assert math.fsum(nodes["mass"][c] for c in children) == pytest.approx(nodes["mass"][i], rel=1e-12)
            assert math.fsum(nodes["p"][c] for c in children) == pytest.approx(1)
            assert [nodes["tokens"][c] for c in children] == sorted(nodes["tokens"][c] for c in children)


def test_the_path_s_probability_is_the_product_and_the_sum_of_logs():
    world = beam_trap()
    view = SequenceTree(world, [0, 1])
    assert view.probability == 0.55 * 0.33
    view.path = [0, 0, 0]
    assert view.probability == pytest.approx(0.187)
    assert view.logprob == pytest.approx(world.logprob([0, 0, 0])) == pytest.approx(math.log(0.187))
    view.path = []
    assert (view.probability, view.logprob) == (1, 0)


@pytest.mark.parametrize(
    "path, says",
    [
        ([2], r"path is \[2\]: token 2 cannot follow \[\]"),  # its probability is 0
        ([0, 7], r"token 7 cannot follow \[0\]"),
        ([0, 0, 0, 0], r"token 0 cannot follow \[0, 0, 0\]"),  # beyond the end
    ],
)
def test_a_path_that_the_world_cannot_take_is_refused(path, says):
    with pytest.raises(ValueError, match=says):
        SequenceTree(beam_trap(), path)
    view = SequenceTree(beam_trap(), [1])
    with pytest.raises(traitlets.TraitError, match=says):
        view.path = path
    assert view.path == [1]


def test_nothing_follows_the_end_symbol():
    view = SequenceTree(random_world(4, 4, eos_id=1))
    with pytest.raises(ValueError, match=r"token 0 cannot follow \[0, 1\]"):
        view.path = [0, 1, 0]
    assert view.eos_id == 1
    assert SequenceTree(beam_trap()).eos_id == -1


def test_a_world_too_large_to_draw_is_refused_before_it_is_enumerated():
    huge = TreeLM({}, max_length=40, default=[0.5, 0.5])  # 2^40 sequences: enumerating would not end
    with pytest.raises(ValueError, match=f"more than {MAX_NODES} prefixes.*smaller max_length .now 40"):
        SequenceTree(huge)
    assert SequenceTree(TreeLM({}, max_length=8, default=[0.5, 0.5])).describe().startswith("SequenceTree: 256 seq")


def test_large_trees_open_folded():
    assert not SequenceTree(beam_trap()).fold
    large = random_world(4, 3)
    assert len(SequenceTree(large).nodes["parents"]) > FOLD_FROM
    assert SequenceTree(large).fold and not SequenceTree(large, fold=False).fold


def test_only_a_tree_can_be_drawn(as_shipped):
    config = DecoderConfig.gpt2(vocab_size=3, context_length=4, d_model=8, layers=1, heads=1)
    with pytest.raises(TypeError, match="world is a DecoderLM"):
        SequenceTree(DecoderLM(config))


def test_a_world_with_a_hole_says_where():
    with pytest.raises(KeyError, match=r"no distribution for the prefix \(1,\)"):
        SequenceTree(TreeLM({(): [0.5, 0.5], (0,): [1.0, 0.0]}, max_length=2))


def test_it_is_described_by_one_fixed_line():
    assert repr(SequenceTree(beam_trap())) == "SequenceTree: 13 sequences of at most 3 tokens, 3 symbols"
    ending = SequenceTree(random_world(2, 2, eos_id=0))
    assert repr(ending) == "SequenceTree: 3 sequences of at most 2 tokens, 2 symbols, with an end symbol"
