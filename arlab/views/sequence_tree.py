"""Sequence tree: a world small enough to draw whole, and the chain rule built up as one walks through it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import traitlets

from arlab.views.base import BadValue, View, script, style
from arlab.worlds import TreeLM

MAX_NODES = 600  # prefixes of positive probability, the empty one and the complete sequences included
FOLD_FROM = 50  # larger trees open with the branches off the path folded up


class SequenceTree(View):
    """Every sequence of a `TreeLM` as a tree: choose a path, and see its probability as a product and as a sum of logs.

        view = SequenceTree(world)
        view.path = [0, 2]          # token ids; or click a node, or walk with the arrow keys
        view.probability            # p(path), the product of the probabilities along it
        view.sequences              # world.enumerate(): every complete sequence and its probability

    world: up to 600 prefixes of positive probability (the rest is not drawn). path: where to start.
    show_list: open the list of all sequences. fold: draw only the branches along the path (None: for a large tree).

    Raises ValueError for a world that is too large, and for a path that the world cannot take; TypeError for a model
    that is not a `TreeLM`; KeyError where the world lacks a distribution.
    """

    title = "Sequence tree"
    _esm = script("heat.js", "tree_layout.js", "sequence_tree.js")
    _css = style("sequence_tree.css")

    path = traitlets.List(traitlets.Int(), help="the token ids of the path shown").tag(sync=True)
    show_list = traitlets.Bool(False).tag(sync=True)
    fold = traitlets.Bool(False).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    eos_id = traitlets.Int(-1).tag(sync=True)  # -1 where there is no end symbol
    nodes = traitlets.Dict().tag(sync=True)  # parents, tokens, p, mass: one entry a prefix; every parent comes first
    ranking = traitlets.List(traitlets.Int()).tag(sync=True)  # the nodes of the complete sequences, best first

    def __init__(
        self, world: TreeLM, path: Sequence[int] = (), *, show_list: bool = False, fold: bool | None = None
    ) -> None:
        if not isinstance(world, TreeLM):
            raise TypeError(f"world is a {type(world).__name__}; the tree draws a TreeLM, which can be enumerated")
        self.world = world
        prefixes, self._index = _walked(world)
        self.sequences = world.enumerate()
        super().__init__(
            names=world.names,
            eos_id=-1 if world.eos_id is None else world.eos_id,
            nodes={
                "parents": [self._index[prefix[:-1]] if prefix else -1 for prefix in prefixes],
                "tokens": [prefix[-1] if prefix else -1 for prefix in prefixes],
                "p": [world.distribution(prefix[:-1])[prefix[-1]] if prefix else 1.0 for prefix in prefixes],
                "mass": list(prefixes.values()),
            },
            ranking=[self._index[ids] for ids, _ in self.sequences],
            path=list(path),
            show_list=show_list,
            fold=len(prefixes) > FOLD_FROM if fold is None else fold,
        )

    @property
    def probability(self) -> float:
        """The product of the probabilities along the path: all sequences that begin so, together."""
        return self.nodes["mass"][self._index[tuple(self.path)]]

    @property
    def logprob(self) -> float:
        """The same in nats, as the sum of the logs."""
        return math.fsum(math.log(self.world.distribution(self.path[:t])[token]) for t, token in enumerate(self.path))

    def describe(self) -> str:
        end = "" if self.world.eos_id is None else ", with an end symbol"
        count, longest = len(self.sequences), max(len(ids) for ids, _ in self.sequences)
        return f"SequenceTree: {count} sequences of at most {longest} tokens, {self.world.vocab_size} symbols{end}"

    @traitlets.validate("path")
    def _check_path(self, proposal) -> list[int]:
        path = tuple(proposal["value"])
        if path not in self._index:
            bad = next(t for t in range(len(path)) if path[: t + 1] not in self._index)
            raise BadValue(f"path is {list(path)}: token {path[bad]} cannot follow {list(path[:bad])} in this world")
        return list(path)


def _walked(world: TreeLM) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], int]]:
    """Prefix -> probability for every prefix of positive probability, parents first, siblings side by side; and
    prefix -> place in it. Multiplies in the order in which `TreeLM.enumerate` does, so that both agree to the bit."""
    prefixes: dict[tuple[int, ...], float] = {(): 1.0}
    latest = [()]
    while latest:
        found = []
        for prefix in latest:
            if len(prefix) == world.max_length or (prefix and prefix[-1] == world.eos_id):
                continue
            for token, p in enumerate(world.distribution(prefix)):
                if p > 0:
                    found.append((*prefix, token))
                    prefixes[found[-1]] = prefixes[prefix] * p
            if len(prefixes) > MAX_NODES:
                raise BadValue(
                    f"this world has more than {MAX_NODES} prefixes, too many to draw; give it a smaller max_length "
                    f"(now {world.max_length}) or fewer tokens (now {world.vocab_size})"
                )
        latest = found
    return prefixes, {prefix: i for i, prefix in enumerate(prefixes)}
