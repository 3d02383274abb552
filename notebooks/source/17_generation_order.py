# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Generation order: left to right is a choice
#
# Every model so far wrote its text from left to right. The chain rule does not ask for that: it holds in any order. But
# what is *equally true* need not be *equally easy*. When you add 27 and 45 on paper, you begin at the right. And some
# models do not write in any order at all: they fill all gaps at once. This notebook shows what each order makes easy,
# and what is lost when the order is given up.
#
# **You will be able to**
#
# - factorise a joint probability in any order, and say what changes and what does not;
# - predict from the carries which sums a left-to-right adder gets wrong, and test the prediction on trained models;
# - train a model that looks both ways, and compare it fairly with one that looks back only;
# - say why a pseudo-likelihood is no likelihood;
# - compute exactly what parallel decoding gets wrong, and what more passes mend.
#
# **Time** 75 minutes. **Before this** the chain rule ([01](01_autoregression.ipynb)), the causal mask
# ([04](04_causal_masking.ipynb)), teacher forcing ([06](06_teacher_forcing.ipynb)). **Follows** lecture 004 (is left to
# right the only way? 23 + 45 = 68) and lecture 001 (autoregressive and bidirectional models).
#
# [← 16 Exposure bias](16_exposure_bias.ipynb) · [18 In-context learning →](18_in_context_learning.ipynb)

# %% tags=["nbval-ignore-output"]
import itertools
import math
from statistics import fmean

import matplotlib.pyplot as plt
import torch

import arlab
from arlab.decoding.gap_laws import MaskedWorld, parallel_law, pseudo_log_likelihood, total_variation
from arlab.decoding.parallel import parallel_decoding
from arlab.exercises import generation_order as check
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import generation_order as recipe
from arlab.recipes import shakespeare
from arlab.text.addition import Addition
from arlab.text.batches import IGNORE
from arlab.text.masking import masked
from arlab.training.loop import train
from arlab.views import OrderView, TrainingCurves
from arlab.worlds import TreeLM

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"

# %% [markdown]
# What the lectures ask about order, and where below you see the answer:
#
# | question | section |
# |---|---|
# | Does the chain rule need left to right? | 1 |
# | What does a right-to-left model know? | 2 |
# | In which order should 23 + 45 = 68 be written? | 3 |
# | How does BERT-like, bidirectional prediction differ from autoregressive prediction? | 4, 5 |
# | What does parallel, non-autoregressive decoding get wrong? | 6 |
#
# ## 1. The chain rule in any order
#
# A language of three words, small enough to write down: a determiner, a noun, a verb.

# %%
WORDS = ["the", "a", "cat", "cats", "sleeps", "purrs", "sleep", "purr"]
the, a, cat, cats, sleeps, purrs, sleep, purr = range(8)


def p_of(**words):
    """A row of probabilities over the eight words."""
    return [words.get(word, 0.0) for word in WORDS]


tree = TreeLM(
    {
        (): p_of(the=0.6, a=0.4),
        (the,): p_of(cats=0.9, cat=0.1),
        (a,): p_of(cat=1.0),
        **{(d, cats): p_of(sleep=0.5, purr=0.5) for d in (the, a)},
        **{(d, cat): p_of(sleeps=0.95, purrs=0.05) for d in (the, a)},
    },
    max_length=3,
    names=WORDS,
)
joint = dict(tree.enumerate())
for x, p in joint.items():
    print(f"{' '.join(WORDS[i] for i in x):15} {p:.4f}")
print(f"sum             {sum(joint.values()):.4f}")

# %% [markdown]
# The table was made from left to right: $P(x_1)\,P(x_2 \mid x_1)\,P(x_3 \mid x_1, x_2)$. But it is only a table now,
# and from a table you can compute *any* conditional: add up the rows that agree with what is given. So let $\pi$ be any
# order of the positions, a permutation. The chain rule in that order is
#
# $$P(x) = \prod_{i=1}^{T} P\big(x_{\pi_i} \mid x_{\pi_1}, \dots, x_{\pi_{i-1}}\big).$$
#
# **Before you run:** "a cat sleeps" has probability .38. Written from right to left, the first factor is
# $P(x_3 = \text{sleeps})$. Is it larger or smaller than $P(x_1 = \text{a}) = .4$? And the product of all three?


# %%
def mass(fixed):
    """The probability that these positions hold these words: {position: word}."""
    return sum(p for x, p in joint.items() if all(x[t] == word for t, word in fixed.items()))


def factors(x, order):
    """P(x at order[i] | x at order[0], ..., order[i - 1]) for each i."""
    known, found = {}, []
    for t in order:
        before = mass(known)
        known = {**known, t: x[t]}
        found.append(mass(known) / before)
    return found


x = (a, cat, sleeps)
for order in itertools.permutations(range(3)):
    found = factors(x, order)
    steps = "  ".join(f"{WORDS[x[t]]:6} {p:.4f}" for t, p in zip(order, found, strict=True))
    print(f"{steps}   product {math.prod(found):.4f}")

# %% [markdown]
# Other factors, the same product. It is no accident: each factor is a quotient of two sums, and in the product all but
# the last numerator cancel. For every sentence, in every order:

# %%
everywhere = max(
    abs(math.prod(factors(x, order)) - p) for x, p in joint.items() for order in itertools.permutations(range(3))
)
print(f"largest difference over {len(joint)} sentences and 6 orders below 1e-12: {everywhere < 1e-12}")
for order in itertools.permutations(range(3)):
    print(order, f"sum over all sentences {sum(math.prod(factors(x, order)) for x in joint):.4f}")

# %% [markdown]
# So a model may write in any order and lose nothing *in principle*. What changes is **where the difficulty sits**. The
# entropy of the sentence is split over the steps in a different way.
#
# **Before you run:** take four orders: left to right, right to left, noun first, noun last. In which of them is the
# *last* step free of surprise?

# %%
orders = {"left to right": (0, 1, 2), "right to left": (2, 1, 0), "noun first": (1, 0, 2), "noun last": (0, 2, 1)}
bits = {
    name: [sum(-p * math.log2(factors(x, order)[i]) for x, p in joint.items()) for i in range(3)]
    for name, order in orders.items()
}
for name, each in bits.items():
    print(f"{name:14}" + " + ".join(f"{b:.4f}" for b in each) + f" = {sum(each):.4f} bits")

# %%
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
part, place = ["determiner", "noun", "verb"], range(len(orders))
left = [0.0] * len(orders)
for i in range(3):
    for row, (name, order) in enumerate(orders.items()):
        colour = (BLUE, ORANGE, GREEN)[order[i]]
        ax.barh(row, bits[name][i], left=left[row], color=colour, edgecolor="white")
        if bits[name][i] > 0.12:
            ax.text(left[row] + bits[name][i] / 2, row, part[order[i]], ha="center", va="center", color="white")
        left[row] += bits[name][i]
ax.set(xlabel="bits of surprise, step after step from the left", yticks=list(place))
ax.set_yticklabels(list(orders))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# *Figure: the entropy of the sentence, split over the three steps, for four orders. Every bar has the same length; its
# parts differ. Written from right to left, almost all of it lies in the verb, and the noun then costs nothing: "sleeps"
# already says that there is one cat. The last step is free only where the noun comes last.*
#
# ### Exercise 1: the factors in any order
#
# Write it yourself, for any joint given as a table, any length and any order.


# %%
def order_factors(joint, x, order):
    """P(x[order[i]] | x[order[0]], ..., x[order[i-1]]) for i = 0, 1, ...: a list of len(order) floats.

    joint: dict {tuple of tokens: probability}; x: a tuple of tokens of positive probability;
    order: the positions, each once, in the order in which they are written (perhaps not all of them).
    """
    raise NotImplementedError


# %%
check.order_factors(order_factors)

# %%
check.order_factors.hint()

# %%
check.order_factors.solution()

# %% [markdown]
# ## 2. A model that writes from right to left
#
# Nothing new has to be built. Turn every text round, train as before, and turn round what comes out: the causal mask
# now hides what stands to the *left*. Here is the tree above, turned: its conditionals come from the table, and
# sampling from it gives whole sentences, last word first.

# %%
turned = {x[::-1]: p for x, p in joint.items()}
backward = TreeLM(
    {
        prefix: [
            sum(p for x, p in turned.items() if x[: len(prefix) + 1] == (*prefix, word))
            / sum(p for x, p in turned.items() if x[: len(prefix)] == prefix)
            for word in range(8)
        ]
        for prefix in {x[:n] for x in turned for n in range(3)}
    },
    max_length=3,
    names=WORDS,
)
laws = dict(backward.enumerate())
print("first word written, from the right:", {WORDS[w]: round(p, 4) for w, p in enumerate(backward.table[()]) if p})
print(
    "the same law:", all(math.isclose(laws[x[::-1]], p) for x, p in joint.items()), "sum", round(sum(laws.values()), 4)
)

# %% [markdown]
# **Before you run:** and real text? Is English harder to guess backwards? Two small transformers of the same size, on
# the same windows of Shakespeare, one of them on turned windows: three seeds each. That takes a while, so what you see
# is **recorded**, from `python -m arlab.recipes record_17_generation_order`. Set `RUN_IT = True` to run this and the
# following recorded experiments yourself (about ten minutes on one core).

# %%
RUN_IT = False
SOURCE = "run now" if RUN_IT else "recorded"


def experiment(name):
    """(runs, what else was measured): recorded, or run now."""
    return recipe.EXPERIMENTS[name]() if RUN_IT else recipe.recorded(name)


gap_runs, gaps = experiment("gaps")
seeds = sorted({int(run.split()[-1]) for run in gap_runs})
for kind in ("left to right", "right to left"):
    losses = [gaps["text_loss"][f"{kind} / seed {seed}"] for seed in seeds]
    print(f"{kind}: held-out loss " + ", ".join(f"{loss:.2f}" for loss in losses) + " nats a character")

# %% tags=["nbval-ignore-output"]
curves = TrainingCurves(title="The same text in both directions", smoothing=10)
for kind in ("left to right", "right to left"):
    for seed in seeds:
        later = [step for step in gap_runs[f"{kind} / seed {seed}"] if step.step > 100]  # the first ones are far above
        curves.add(f"{kind}, seed {seed}", later, recorded=not RUN_IT)
curves

# %% [markdown]
# *Figure: training loss from step 100 on, left to right and right to left, three seeds each. The two directions lie
# close together all the way.*
#
# By the chain rule both directions have the same floor, the entropy of the text; how near a model of limited size gets
# may differ a little. What such a model is *good for* differs a lot. One continues a text whose beginning you have; the
# other finds the beginning of a text whose end you have: a line that must end on a given rhyme, a question to a given
# answer.
#
# ## 3. 23 + 45 = 68
#
# Now to a task in which the order matters. Write the answer of $a + b$ digit by digit, $s_i$ at the place of $10^i$.
# With the digits $a_i$, $b_i$ and the carry $c_i$ that comes in from the right ($c_0 = 0$):
#
# $$s_i = (a_i + b_i + c_i) \bmod 10, \qquad c_{i+1} = 1 \text{ where } a_i + b_i + c_i \ge 10, \text{ else } 0.$$
#
# The carries run from right to left. A model that writes the *leftmost* digit first has to know all carries before it
# has written anything. Written **reversed**, units first, each digit needs only its own two digits and one carry.

# %%
forward, backwards = Addition(3), Addition(3, reversed=True)
for a_, b_ in ((23, 45), (27, 45), (345, 155), (999, 1)):
    texts = [
        "".join(task.symbols[i] for i in task.encode(a_, b_) + task.answer(a_, b_)) for task in (forward, backwards)
    ]
    print(f"{texts[0]}   {texts[1]}   carries {forward.carries(a_, b_)[::-1]}   chain {forward.longest_chain(a_, b_)}")

# %% [markdown]
# (Numbers are padded with zeros, so that all sums are equally long. The carries are those that hundreds, tens and units
# send to their left.) Not every carry is hard to foresee. Where
# $a_i + b_i$ is 10 or more, this place surely sends one; where it is 8 or less, surely none. Only **9** has to wait: it
# passes on what it gets. A carry that travels through nines depends on digits far away. We call the number of places
# that it travels the length of the **carry chain**: 0 without a carry; 1 where it ends in the next place; 345 + 155
# has 2, since the carry from 5 + 5 goes through 4 + 5; 999 + 1 has 3.
#
# **Before you run:** suppose that a model looks only at two places when it writes a digit: that digit's own and its
# right neighbour. Which sums does it get wrong from left to right? And reversed? How does the share of wrong ones grow
# with the number of digits?


# %%
def right_without_looking_far(digits):
    """The share of uniform sums in which no carry goes through a nine: exact, place by place from the right."""
    quiet, carrying = 1.0, 0.0  # no far-travelling carry so far, and the last place sends none / sends one
    for _ in range(digits):
        # of 100 pairs of digits 45 sum to 10 or more, 10 to nine, 45 to less
        quiet, carrying = 0.55 * quiet + 0.45 * carrying, 0.45 * quiet + 0.45 * carrying
    return quiet + carrying


near = {n: right_without_looking_far(n) for n in range(1, 9)}
by_hand = fmean(Addition(2).longest_chain(a_, b_) <= 1 for a_ in range(100) for b_ in range(100))
print(f"all 10,000 sums of two digits, counted: {by_hand:.4f}, from the recursion: {near[2]:.4f}")
for n, share in near.items():
    print(f"digits: {n}   left to right {share:.4f}")

# %% [markdown]
# Reversed, two places are always enough. The digit $s_{i-1}$ that you have just written, together with $a_{i-1}$ and
# $b_{i-1}$, betrays the carry that went *into* place $i-1$, and so the one that comes out. That is your second
# exercise.
#
# ### Exercise 2: one digit, without looking far


# %%
def next_digit(here, right, last):
    """The next digit of a reversed sum: from two places and the digit just written, and nothing else.

    here: (a_i, b_i), the digits of this place; right: (a, b) of the place to its right, or None for the units;
    last: the answer's digit just written there, or None for the units. Returns an int from 0 to 9.
    """
    raise NotImplementedError


# %%
check.next_digit(next_digit)

# %%
check.next_digit.hint()

# %%
check.next_digit.solution()

# %% [markdown]
# ### Trained models
#
# Two transformers with one layer, one for each order: same start, same sums, equally many steps. Only the answer's
# digits are asked for. Both are trained here and now. They have 16 heads: a digit depends on five others, and with more
# heads to look with, the training finds them sooner.
#
# **Before you run:** which of the two gets to 100 % first? Will the other one be *bad*, or bad on some sums?

# %%
tests = recipe.by_chain(forward, 100)  # sums whose longest chain is 0, 1, 2, 3 places
unseen = torch.cat(tests)  # never trained on


def train_adder(task):
    """A fresh adder and the records of its training."""
    adder = recipe.adder(task, heads=16).to(lab.device)
    batches = (batch.to(lab.device) for batch in task.batches(64, lab.generator(), without=unseen))
    return adder, list(train(adder, batches, steps=600, lr=4e-3, warmup=50))


adder_forward, steps_forward = train_adder(forward)

# %%
adder_backwards, steps_backwards = train_adder(backwards)
adders = {"left to right": (adder_forward, forward), "reversed": (adder_backwards, backwards)}

# %% tags=["nbval-ignore-output"]
live = TrainingCurves(title="Three-digit sums, in two orders", smoothing=10)
live.add("left to right", steps_forward, recorded=False)
live.add("reversed", steps_backwards, recorded=False)
live

# %% [markdown]
# *Figure: training loss of both orders against steps. Left to right falls first, and then slowly. Reversed waits on a
# plateau, then falls below it, to almost nothing.*

# %%
by_length = {name: [float(recipe.exact(*lane, pairs).mean()) for pairs in tests] for name, lane in adders.items()}
print("reversed: at least 90 % right at every length of chain:", min(by_length["reversed"]) >= 0.9)
lower = [a_ < b_ for a_, b_ in zip(by_length["left to right"][2:], by_length["reversed"][2:], strict=True)]
print("left to right is below it at chains of 2 and of 3:", all(lower))

# %% [markdown]
# Now look at single sums. Each lane writes in its own order; the carries stand above. Choose 345 + 155 or 999 + 1 and
# move the step slider: at which step does each model have to decide about the carry?

# %% tags=["nbval-ignore-output"]
view = OrderView(
    adders,
    a=345,
    b=155,
    examples=[(23, 45), (27, 45), (123, 456), (345, 155), (444, 555), (444, 556), (999, 1)],
)
view

# %% [markdown]
# *Figure: one sum, written by both models; bars show how sure a model was of each digit. Where a carry may travel
# through nines, the left-to-right model has to look far for its first digits: it hesitates, or is sure and wrong. The
# reversed one never has to.*
#
# **Questions to answer with the controls**
#
# 1. 444 + 555 and 444 + 556 differ by one in the last digit. At which step does that digit matter to each model?
# 2. Find a sum with carries that the left-to-right model answers with confidence. How long is its chain?
# 3. At which two places is the left-to-right model least sure in 345 + 155, and between which digits?
#
# <details><summary>Answers</summary>
#
# 1. Left to right at the very first step: 0999 or 1000. (In our run it begins both with a 1.) Reversed at the first
#    step too, but there it only has to add 4 and 5, or 4 and 6.
# 2. For example 27 + 45: the carry ends in the next place (a chain of 1), and 7 + 5 announces it at once.
# 3. At the hundreds, 4 or 5, and at the tens, 9 or 0: both wait for the carry that comes from the units through 4 + 5,
#    which are not written yet.
#
# </details>
#
# One run says little. Here are three seeds of each, for 2, 3 and 4 digits (recorded, 4 heads, 1,000 steps). First by
# the length of the chain: 200 test sums for each length, for in uniform sums the long ones are rare (of chains of four
# places only 40 were drawn).
#
# A test sum is never trained on, but its mirror may be: 45 + 27 where 27 + 45 is asked. In 1,000 batches of 128 sums
# that happens to nearly all test sums of two digits, to one in eight of three, and to hardly any of four. Both orders
# see the same sums, so the comparison stays fair; what two digits are like without the mirrors is left for you to try.

# %%
sum_runs, sums = experiment("addition")
shown = sorted({int(run.split()[-1]) for run in sum_runs})


def of(task, order):
    """The recorded runs of one task in one order."""
    return [f"{task} / {order} / seed {seed}" for seed in shown if f"{task} / {order} / seed {seed}" in sum_runs]


for order in ("left to right", "reversed"):
    for run in (*of("3 digits", order), *of("4 digits", order)):
        print(f"{run:34} exact by chain: " + "  ".join(f"{share:.2f}" for share in sums["chains"][run]))

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3), layout="constrained", sharey=True)
for order, colour, marker, shift in (("left to right", BLUE, "o", -0.06), ("reversed", ORANGE, "s", 0.06)):
    for ax, n in zip(axes, (3, 4), strict=False):
        for run in of(f"{n} digits", order):
            label = order if run.endswith(f" {shown[0]}") else None
            at = [chain + shift for chain in range(n + 1)]
            ax.plot(at, sums["chains"][run], color=colour, marker=marker, label=label, alpha=0.8)
        ax.set(xlabel="longest carry chain (places)", title=f"{n} digits, by chain ({SOURCE})", xticks=range(n + 1))
    for n in (2, 3, 4):
        ends = [sums["curve"][run][-1][1] for run in of(f"{n} digits", order)]
        axes[2].plot([n + shift] * len(ends), ends, color=colour, marker=marker, ls="none", alpha=0.8)
axes[2].plot([2, 3, 4], [near[n] for n in (2, 3, 4)], color=GREY, ls=":", label="left to right\nwithout looking far")
axes[2].set(xlabel="digits of the operands", xticks=[2, 3, 4], ylim=(-0.05, 1.05))
axes[2].set_title(f"uniform sums, by digits ({SOURCE})")
axes[0].set_ylabel("share of exact answers")
axes[0].legend(frameon=False, loc="lower left")
axes[2].legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# *Figure: left and middle, exact answers by the length of the carry chain, a line for each seed; right, exact answers
# on uniform sums by the number of digits, a mark for each seed.*
#
# Three digits first. Reversed, a long chain is as easy as a short one. From left to right it is not: chains of two
# places and more cost every seed a good part of its answers. (Nor is a chain of 0 quite safe: a nine that gets no carry
# must be told from one that does.) The models do better than the two-place rule, which gets none of the long ones: a
# layer of attention can look further. It learns to do so late, and from few examples, since uniform sums seldom need
# it. With four digits the longest chains, of three and four places, are lost most often.
#
# But one reversed model with four digits stands near the floor. Before you read on: what may have happened to it?

# %%
TASKS = {f"{n} digits": near[n] for n in (2, 3, 4)}
for task in TASKS:
    for order in ("left to right", "reversed"):
        ends = [sums["curve"][run][-1][1] for run in of(task, order)]
        print(f"{task} {order:14} exact on uniform sums: " + ", ".join(f"{share:.2f}" for share in ends))

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", sharey=True)
for ax, (task, without) in zip(axes, TASKS.items(), strict=True):
    for order, colour, style in (("left to right", BLUE, "-"), ("reversed", ORANGE, "--")):
        for run in of(task, order):
            steps, share = zip(*sums["curve"][run], strict=True)
            ax.plot(steps, share, color=colour, ls=style, label=order if run.endswith(f" {shown[0]}") else None)
    ax.axhline(without, color=GREY, ls=":", label="without looking far")
    ax.set(xlabel="training step", title=task)
axes[0].set_ylabel(f"exact answers ({SOURCE})")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *Figure: exact answers on uniform sums while training, a line for each seed; dotted, the two-place rule from left to
# right.*
#
# Read the curves from the left. Left to right is nearly always *ahead* at first: most sums need no far-travelling
# carry, and the two-place rule is soon found. Near the dotted line, or below it, it slows down. Reversed has to find a
# trick, the carry from the digit just written; until then it gets hardly anything right, and when it has found it,
# everything.
#
# *When* it finds it differs from seed to seed. With three digits, all three runs are above 95 % by step 500. With four,
# one is by step 500, the second by step 600, and the third has not found it after 1,000 steps: 10 % right, where left
# to right with the same seed has 94 %. So for four digits two seeds of three speak for the reversed order, and the
# *mean* over seeds speaks against it; three seeds do not tell how often a run stays behind like this. With two digits,
# both orders end near 100 %. A good order makes a short rule exist. It does not make training find it, and a model that
# is large enough for the long rule needs it less.
#
# ## 4. Looking both ways
#
# BERT (Devlin et al., 2019) gives up the order altogether. Some tokens (15 %) are hidden behind a **mask** symbol; the
# model sees all the others, before *and* behind, and has to say what is hidden. The causal mask is gone
# (`DecoderConfig(causal=False)`), and the target at a position is that position's own token, not the next one.

# %%
ids = torch.tensor([[the, cats, purr], [a, cat, sleeps], [the, cats, sleep]])
MASK = len(WORDS)  # one id more than there are words: read, never predicted
inputs, targets = masked(ids, MASK, 0.4, lab.generator(6))
shown_words = [*WORDS, "[mask]"]
for row in range(3):
    reads = " ".join(shown_words[i] for i in inputs[row].tolist())
    asked = " ".join("·" if i == IGNORE else WORDS[i] for i in targets[row].tolist())
    print(f"reads {reads:24} is asked for {asked}")

# %% [markdown]
# A causal model of $T$ tokens gets $T$ lessons from one pass; this one only as many as there are masks. In exchange, it
# sees more at each. What does "sees" mean? Take two untrained models, alike but for the mask, and ask which input
# embeddings move the logits of the middle position.
#
# **Before you run:** which cells are exactly 0?

# %%
reach = {}
for name, causal in (("causal", True), ("both ways", False)):
    config = DecoderConfig.gpt2(
        vocab_size=9, context_length=9, d_model=32, layers=2, heads=2, causal=causal, init="xavier"
    )
    model = DecoderLM(config, seed=0)
    x_in = model.embed_tokens(torch.arange(9)[None]).detach().requires_grad_()
    logits = model.forward_embeddings(x_in)[0]  # (time, vocab)
    reach[name] = torch.stack(
        [torch.autograd.grad(row.square().sum(), x_in, retain_graph=True)[0][0].norm(dim=-1) for row in logits]
    )
    print(f"{name:9} position 4 depends on positions", (reach[name][4] > 0).nonzero()[:, 0].tolist())

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
for ax, (name, cells) in zip(axes, reach.items(), strict=True):
    ax.imshow(cells > 0, cmap="Blues", vmin=0, vmax=1.4)
    ax.set(xlabel="input position s", ylabel="output position t", title=f"{name}: {int((cells > 0).sum())} of 81")
    ax.set(xticks=range(0, 9, 2), yticks=range(0, 9, 2))
plt.show()

# %% [markdown]
# *Figure: blue where the output at t depends on the input at s. Left the causal triangle, right everything.*
#
# That is why such a model cannot be trained on "predict the next token": the next token is in its input (notebook 04
# trained the cheat). It has to be hidden. And it is why it has no cache: when a gap is filled, the keys
# and values of *every* position change, from the second layer on.
#
# ### What is the second side worth?
#
# Three models of one size, trained on the same windows for equally many steps (recorded, three seeds): left to right,
# right to left, and masked. One test for all: one character of held-out Shakespeare is missing, with 8 characters to
# each side. Three controls make it fair:
#
# - The masked model sees 16 characters, the others 8. So the causal models also get 16 on their one side.
# - The masked model has a quarter of the characters hidden on average, and gets a quarter of the lessons from a pass.
#   So it is also trained four times as long.
# - A left-to-right model can use both sides after all, by **Bayes' rule**: put each of the 65 candidates into the gap,
#   score the whole window by the chain rule, and normalise.
#
# **Before you run:** order them by accuracy. Will 16 characters on one side be as good as 8 on each? And will the model
# that was *trained* to look both ways beat the left-to-right model that scores all candidates?

# %%
ways = {
    "left, 8": "left to right / seed {}",
    "left, 16": "left to right / seed {} / twice the context",
    "right, 8": "right to left / seed {}",
    "right, 16": "right to left / seed {} / twice the context",
    "both, 8 + 8: masked": "both sides / seed {}",
    "the same, 4 times the steps": "both sides, longer / seed {}",
    "both, 8 + 8: Bayes": "left to right / seed {} / every candidate scored",
}
quality = {way: [gaps["found"][pattern.format(seed)] for seed in seeds] for way, pattern in ways.items()}
for way, found in quality.items():
    print(f"{way:28} accuracy " + ", ".join(f"{f['accuracy']:.2f}" for f in found), end="   -ln p ")
    print(", ".join(f"{f['nll']:.2f}" for f in found))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
colours = (SKY, BLUE, "#E69F00", ORANGE, "#66C2A5", GREEN, PURPLE)
for ax, key, label in ((axes[0], "accuracy", "share of right argmaxes"), (axes[1], "nll", "-ln p of the truth (nats)")):
    for row, ((_, found), colour) in enumerate(zip(quality.items(), colours, strict=True)):
        ax.barh(row, fmean(f[key] for f in found), color=colour)
        ax.plot([f[key] for f in found], [row] * len(found), "k|", ms=8)
    ax.set(xlabel=f"{label} ({SOURCE})")
axes[0].set_yticks(range(len(quality)), list(quality))
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# *Figure: how often the most probable character is right (left), and minus the logarithm of the true one's probability
# (right): bars are means, ticks the three seeds.*
#
# One side is as good as the other, and more of the *same* side brings these models nothing: what is missing stands
# behind the gap. The masked model uses it, and is ahead, a little at equal steps and more at equal lessons. But look at
# the last bar. The left-to-right model has never been trained to fill a gap, and does it best of all, when every
# candidate is scored with the whole window: its joint probability answers every question, at the price of $V$ passes
# instead of one. What both sides are worth, and how cheaply a model can be asked for it, are two things.
#
# ## 5. A pseudo-likelihood is no likelihood
#
# A causal model gives a whole text a probability: one factor a position, and the products of all texts sum to 1. What
# does a masked model give? Hide each position in turn, multiply:
#
# $$\mathrm{PL}(x) = \prod_{t=1}^{T} P(x_t \mid x_1, \dots, x_{t-1}, x_{t+1}, \dots, x_T).$$
#
# This **pseudo-likelihood** (Besag, 1975) looks like a chain rule. It is none: the factors condition on each other in a
# circle.
#
# **Before you run:** in "the cats sleep", how surprising is "cats" between the two others? Will the PLs of all
# sentences sum to less than 1, to 1, or to more?


# %%
def all_but(x, t):
    """P(x[t] | all the others), from the table."""
    others = {s: x[s] for s in range(3) if s != t}
    return mass({**others, t: x[t]}) / mass(others)


pl = {x: math.prod(all_but(x, t) for t in range(3)) for x in joint}
for x in joint:
    each = " ".join(f"{all_but(x, t):.4f}" for t in range(3))
    print(f"{' '.join(WORDS[i] for i in x):15} P {joint[x]:.4f}   PL {pl[x]:.4f} = {each}")
print(f"sums            P {sum(joint.values()):.4f}   PL {sum(pl.values()):.4f}")

# %%
world = MaskedWorld(joint, vocab_size=len(WORDS))  # the perfect masked model of this language
logs = pseudo_log_likelihood(world, [list(x) for x in joint], mask_id=MASK)
print("arlab's agrees:", torch.allclose(logs.sum(1).exp(), torch.tensor(list(pl.values()), dtype=torch.float64)))

# %%
fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
for shift, values, colour, label in (
    (-0.2, joint, BLUE, f"P, sum {sum(joint.values()):.2f}"),
    (0.2, pl, ORANGE, f"PL, sum {sum(pl.values()):.2f}"),
):
    ax.bar([i + shift for i in range(len(joint))], [values[x] for x in joint], 0.4, color=colour, label=label)
ax.set_xticks(range(len(joint)), ["\n".join(WORDS[i] for i in x) for x in joint])
ax.set(ylabel="probability, or not")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the probability of each sentence and its pseudo-likelihood. The PLs are no distribution.*
#
# Each word is easy once the two others are seen: agreement is counted again and again. So never compare a masked
# model's "perplexity" with a causal model's; they measure different things. (As a score for ranking sentences of one
# length, PL can still be useful.)
#
# ## 6. All at once
#
# A masked model answers for every gap in one pass. So why not fill **all** gaps at once: one pass for a whole sentence,
# where an autoregressive model needs one for each token? Take the perfect masked model of our language, three gaps, and
# let each gap take its most probable word.
#
# **Before you run:** compute the three argmaxes from the table of section 1. Which sentence is it?

# %%
blank = torch.tensor([[MASK] * 3])
p = world(blank)[0].exp()  # (3, 8): a distribution for each gap, by itself
at_once = p.argmax(-1)
for t in range(3):
    print(f"position {t}: " + ", ".join(f"{WORDS[w]} {p[t, w]:.4f}" for w in range(8) if p[t, w] > 0))
said = " ".join(WORDS[i] for i in at_once.tolist())
print(f"argmax of each: {said!r}, whose probability is {joint.get(tuple(at_once.tolist()), 0.0)}")

# %% [markdown]
# "the cats sleeps": every word is the best one at its place, and the sentence does not exist. Each gap was answered as
# if the others were still open. Drawing instead of taking the argmax does not help: the law of what is drawn is the
# *product of the marginals*.

# %%
product = {x: math.prod(p[t, w].item() for t, w in enumerate(x)) for x in itertools.product(range(8), repeat=3)}
print(f"drawn all at once, a sentence that exists has probability {sum(product[x] for x in joint):.4f}")
print(
    "arlab's exact law is that product:",
    total_variation(parallel_law(world, [MASK] * 3, mask_id=MASK, steps=1), product) < 1e-12,
)

# %% [markdown]
# The purest case has two gaps and two sentences, "thank you" and "many thanks", half and half.

# %%
twins = MaskedWorld({(0, 0): 0.5, (1, 1): 0.5}, vocab_size=2)
names = (("thank", "many"), ("you", "thanks"))
for steps in (1, 2):
    law = parallel_law(twins, [2, 2], mask_id=2, steps=steps)
    print(
        f"{steps} pass{'es' * (steps > 1)}: "
        + ", ".join(f"{names[0][i]} {names[1][j]} {q:.4f}" for (i, j), q in law.items())
    )

# %% [markdown]
# Half of what one pass draws is impossible. With two passes the second gap sees what the first has become, and the law
# is right. In general, with $N$ gaps and $S$ passes, pass $s$ fills gaps until $\lceil N s / S \rceil$ are filled,
# those first of which the model is surest, and the model runs again (as in *MaskGIT*; *mask-predict* may also take back
# what it has filled). With $S = N$ this is the chain rule of section 1, in an order that the model chooses.
#
# How far is the law of what is drawn from the true one? **Total variation**, half the sum of $|P - Q|$, says it: 0 for
# equal laws, 1 for laws that share nothing.
#
# **Before you run:** for our language and two passes: which two gaps are filled first? Is "the cats sleeps" possible
# still?

# %%
for steps in (1, 2, 3):
    filling = parallel_decoding(world, blank, mask_id=MASK, steps=steps)
    law = parallel_law(world, [MASK] * 3, mask_id=MASK, steps=steps)
    words = " ".join(WORDS[i] for i in filling.ids[0].tolist())
    print(f"passes: {steps}  argmax {words!r:18} (filled at pass {(filling.when[0] + 1).tolist()})", end="  ")
    print(f"draws: total variation {total_variation(law, joint):.4f}")

# %% [markdown]
# The determiner and the noun come first: of them the model is surest (.6 and .54, the verb .437). The verb then agrees
# with the noun, so "the cats sleeps" is out; but "a cats" can still be drawn, for these two were filled side by side.
#
# How many passes are needed depends on how much the gaps depend on *each other*. Three worlds with six tokens of two
# kinds each: one whose tokens are independent, one with random dependence, one that is strongly coupled; and the exact
# law of the draws for every number of passes.
#
# **Before you run:** for which of them is one pass enough? Does each further pass help?

# %%
generator = lab.generator(5)
loose = TreeLM.random(2, 6, generator, sharp=1.0)
tight = TreeLM.random(2, 6, generator, sharp=4.0)
coins = [0.3, 0.6, 0.5, 0.8, 0.4, 0.7]
free = {
    x: math.prod(q if i else 1 - q for i, q in zip(x, coins, strict=True))
    for x in itertools.product(range(2), repeat=6)
}
worlds = {"independent": free, "random": dict(loose.enumerate()), "strongly coupled": dict(tight.enumerate())}
variation = {}
for name, law in worlds.items():
    perfect = MaskedWorld(law, vocab_size=2)
    variation[name] = [
        total_variation(parallel_law(perfect, [2] * 6, mask_id=2, steps=steps), law) for steps in range(1, 7)
    ]
    print(f"{name:17}" + "  ".join(f"{steps}: {tv:.4f}" for steps, tv in enumerate(variation[name], 1)))

# %%
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for (name, values), colour, marker in zip(variation.items(), (GREY, BLUE, ORANGE), "o^s", strict=True):
    ax.plot(range(1, 7), values, color=colour, marker=marker, label=name)
ax.set(xlabel="passes of the model for six gaps", ylabel="total variation from the true law")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: distance of the law of parallel decoding from the true law, against the number of passes. Independent gaps
# cost nothing at once; the others reach 0 only with one gap a pass.*
#
# More passes help on the whole, not each single one: in the strongly coupled world three passes are worse than two. It
# matters *which* gaps share a pass, and with three they are other pairs.
#
# The error has nothing to do with a bad model: these models are perfect. It is the price of filling side by side what
# depends on each other. Where the input settles the answer, as in a sum, there is nothing to agree on, and one pass
# would do. Where there are many good answers, a story, the gaps have to agree on one.
#
# And a real one? The masked models of section 4 fill six characters in a row, hidden in held-out Shakespeare, in 1, 2,
# 3 and 6 passes, drawing. A larger left-to-right model judges the result (recorded).

# %%
judged = [gaps["six_gaps"][f"both sides, longer / seed {seed}"]["judged"] for seed in seeds]
for passes in ("1", "2", "3", "6", "truth"):
    name = "the true characters" if passes == "truth" else f"{passes} pass" + "es" * (passes != "1")
    print(f"{name:20} judge's -ln p a character: " + ", ".join(f"{one[passes]:.2f}" for one in judged))

tokenizer, _, held_out = shakespeare.data()
windows = recipe.stretches(held_out, gaps["tests"])[:8, recipe.SIDE : 3 * recipe.SIDE + 1]
drawn = gaps["six_gaps"][f"both sides, longer / seed {seeds[0]}"]["drawn"]
for row in (2, 4, 6):
    text = tokenizer.decode(windows[row].tolist())
    before, behind = text[: recipe.SIX.start], text[recipe.SIX.stop :]
    found = "   ".join(f"{passes}: {drawn[passes][row]!r}" for passes in ("1", "3", "6"))
    print(f"{before!r} ...... {behind!r}   {found}   truth: {text[recipe.SIX]!r}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
for number, one in enumerate(judged):
    values = [one[passes] for passes in ("1", "2", "3", "6")]
    ax.plot([1, 2, 3, 6], values, color=GREEN, marker="o", alpha=0.8, label=None if number else "drawn, three seeds")
ax.axhline(judged[0]["truth"], color=GREY, ls="--", label="the true characters")
ax.set(xlabel="passes for six gaps", ylabel="judge's -ln p (nats)", xticks=[1, 2, 3, 6])
ax.set_title(f"six characters in a row ({SOURCE})")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the judge's loss on six drawn characters and the one behind them, against the number of passes; dashed, on
# the true characters. Each pass more brings the drawn ones nearer to text.*
#
# The trained model is not perfect: even when each gap has its own pass, about half of the distance to the true
# characters is left. The other half is the price of filling side by side. (After one pass the judge's loss is above that
# of a blind guess among 65 characters, $\ln 65 = 4.17$: it is sure that this is no text.)
#
# ### Exercise 3: fill the surest first


# %%
def fill_surest(model, ids, mask_id, passes):
    """Fill the gaps of one row in `passes` passes; after pass s of S, ceil(N s / S) of its N gaps are filled.

    model(list of ids) -> (time, vocab) probabilities, one row a position, each given what is visible; it never
    proposes the mask. Each pass runs the model once and fills, with their argmaxes, the open gaps with the largest
    maximum, the leftmost among equals. ids: a list; leave it as it is. Returns the filled list.
    """
    raise NotImplementedError


# %%
check.fill_surest(fill_surest)

# %%
check.fill_surest.hint()

# %%
check.fill_surest.solution()

# %% [markdown]
# ### What it costs
#
# One pass for a whole answer sounds unbeatable. Count, for $T$ tokens, the passes and the positions that each pass has
# to compute.

# %%
T = 64
print(f"{'':34}passes   positions computed")
for name, passes, positions in (
    ("left to right, with a cache", T, T),
    ("left to right, without a cache", T, T * (T + 1) // 2),
    ("masked, all at once", 1, T),
    ("masked, 8 passes", 8, 8 * T),
    ("masked, one gap a pass", T, T * T),
):
    print(f"{name:34}{passes:6}{positions:21,}")

# %% [markdown]
# With few passes a masked model needs fewer *steps*, each one wide, which suits a GPU; it does not need less
# arithmetic, for it has no cache. Masked diffusion models for text are this idea, trained at every share of masks.
#
# ## Questions to check yourself
#
# The first three come from the lectures.
#
# **1.** Must a model of $p(y \mid x)$ write $y$ from its first token to its last? (004)
#
# <details><summary>Answer</summary>
#
# No. The chain rule holds in every order, and every order gives the same joint probability (section 1). The order
# decides how hard each factor is, and so how well a model of limited size learns it.
#
# </details>
#
# **2.** BERT is a transformer too, but no autoregressive one. From what does it predict, and what does it give up by
# that? (001)
#
# <details><summary>Answer</summary>
#
# Each prediction sees both sides, and a gap is filled better for it (section 4). It gives up a probability for the
# whole text (section 5), a lesson at every position of a pass, the cache, and agreement between gaps that are filled
# together (section 6).
#
# </details>
#
# **3.** 23 + 45 = 68 has no carry at all. Why does the lecture's question about the order still make sense? (004)
#
# <details><summary>Answer</summary>
#
# The model has to *know* that there is no carry before it writes the 6: that the units sum to less than 10 is something
# that it must work out at the first step. Reversed it would have worked it out by writing the 8.
#
# </details>
#
# **4.** Your two-digit adder reaches 100 % in either order. Does that show that the order is without effect?
#
# <details><summary>Answer</summary>
#
# No: with enough capacity and steps both are learned. Look at how soon, at long chains apart, and at smaller models.
#
# </details>
#
# **5.** A colleague reports a masked model with "perplexity 4" and a causal one with 15 on the same text. Which is
# better?
#
# <details><summary>Answer</summary>
#
# It cannot be said. The first number comes from a pseudo-likelihood, where each token is predicted from both sides, and
# the factors do not multiply to a probability of the text.
#
# </details>
#
# **6.** When is filling all gaps in one pass exact?
#
# <details><summary>Answer</summary>
#
# When the gaps are independent given what is visible; in particular when the visible part settles them.
#
# </details>
#
# ## What to try next
#
# - Keep the mirrors of the test sums out of training as well: in `recipe.addition`, pass
#   `without=torch.cat([unseen, unseen.flip(1)])`. Do two digits get worse?
# - Middle digit first: which carries would that order have to foresee? Write the task, and predict the share of hard
#   sums before you train.
# - Give the left-to-right adder a second layer (`recipe.adder`). Which chain lengths profit?
# - `parallel_law(..., order=[0, 1, 2])`: does it matter for two passes which gaps come first? Find a world where the
#   surest-first order is worse than left to right.
# - Train a masked adder (`masked_batches(task.batches(...), task.mask_id, (0.0, 1.0))`, `causal=False`), and put it
#   into the view as a third lane: `Parallel(model, task, steps=4)` from `arlab.views.order_view`. In which order does
#   it fill the digits when it may choose?
#
# ## Where the idea comes from
#
# Masked prediction: Taylor (1953), the cloze test; Devlin et al. (2019), *BERT*. Orders other than left to right: Yang
# et al. (2019), *XLNet*; Papadopoulos et al. (2024), *Arrows of Time*. Reversed sums: Lee et al. (2024), *Teaching
# Arithmetic to Small Transformers*. Carry chains: Burks, Goldstine and von Neumann (1946). Pseudo-likelihood: Besag
# (1975); for masked models Salazar et al. (2020). Parallel decoding: Gu et al. (2018); Ghazvininejad et al. (2019),
# *Mask-Predict*; Chang et al. (2022), *MaskGIT*; as diffusion, Austin et al. (2021).
#
# [← 16 Exposure bias](16_exposure_bias.ipynb) · [18 In-context learning →](18_in_context_learning.ipynb)
