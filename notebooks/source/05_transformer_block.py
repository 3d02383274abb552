# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · The transformer block
#
# Attention and its mask are one half of a block. The other half looks like plumbing: a code for positions, a small
# network applied to each token, a sum, a norm. Leave out any of it and the model does not know word order, or forgets
# how to learn at all once it is deep. You build each part, take it away again, and measure what breaks.
#
# **You will be able to**
#
# - number the places of a text, from binary digits to sinusoids, learned vectors and rotations, and say what each knows
#   about distance;
# - explain why a deep network learns $g(x) = 0$ more easily than $f(x) = x$, and what a residual connection does with
#   that;
# - say on what a token's output depends under LayerNorm and under BatchNorm, and find the leak in the latter;
# - put pre-LN and post-LN blocks together, and tell from their first gradients and their loss which one to stack;
# - count a model's parameters and its arithmetic, and compare three encoders by work, waiting and distance.
#
# **Time** 100 minutes. **Before this** attention ([03](03_attention.ipynb)) and its mask
# ([04](04_causal_masking.ipynb)). **Follows** lecture 004 (transformer block, positions, residual connections, norms).
#
# [← 04 Causal masking](04_causal_masking.ipynb) · [06 Teacher forcing →](06_teacher_forcing.ipynb)

# %% tags=["nbval-ignore-output"]
import copy
import math
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import arlab
from arlab.exercises import transformer_block as check
from arlab.nn import costs, masks, positions
from arlab.nn.attention import attention
from arlab.nn.blocks import BatchNorm, LayerNorm
from arlab.nn.cache import Layout
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.leaks import find_leaks
from arlab.recipes import transformer_block as recipe
from arlab.text.batches import IGNORE, padded, ragged, random_windows
from arlab.training.loop import train
from arlab.training.losses import next_token_loss
from arlab.views import PositionExplorer, TrainingCurves

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # told apart by colour-blind readers too
plt.rcParams.update({"figure.dpi": 78, "font.size": 9.5})
torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)
lab = arlab.setup(seed=0)

# %% [markdown]
# ## 1 · Attention does not know the order
#
# Take *Ann fed the cat* and *the cat fed Ann*: the same four words, in another order, and another one goes hungry.
#
# **Before you run the next cell:** $X$ has a row for each word, its embedding, and these rows are shuffled before
# attention. What happens to the rows of its output? And does the causal mask change your answer?

# %%
words = ["Ann", "fed", "the", "cat"]
X = torch.randn(4, 8, generator=lab.generator())
order = torch.tensor([2, 3, 1, 0])  # the cat fed Ann
W_Q, W_K, W_V = (torch.randn(8, 8, generator=lab.generator(n)) / math.sqrt(8) for n in (1, 2, 3))


def attend(x, mask=None):
    return attention(x @ W_Q, x @ W_K, x @ W_V, mask)[0]


print("without a mask, the shuffled output is the output of the shuffled words:", end=" ")
print(torch.allclose(attend(X[order]), attend(X)[order], atol=1e-6))
causal = masks.causal_mask(4)
print("with the causal mask:                                                  ", end=" ")
print(torch.allclose(attend(X[order], causal), attend(X, causal)[order], atol=1e-6))
fed = [attend(X)[1], attend(X[order])[2]]
print("what attention makes of 'fed', in both sentences:", torch.stack(fed)[:, :4])

# %% [markdown]
# Each word gets exactly the vector it had before, wherever it stands: without a mask a sentence is a bag of words. The
# causal mask breaks the symmetry, since the first word sees one word and the last one all; a decoder can learn a little
# about order from that alone (section 3 measures how little). Better to say it outright.
#
# ## 2 · From binary counting to clocks
#
# Give each position $t$ a vector. The oldest code for numbers is binary:

# %%
t = torch.arange(16)
bits = t[:, None] // 2 ** torch.arange(4) % 2  # (16, 4): the fastest digit first
for row in (0, 1, 2, 3, 4, 7, 8, 15):
    print(f"{row:2d}:", *bits[row].tolist())
print("digit i repeats after", [2 ** (i + 1) for i in range(4)], "positions")

# %% [markdown]
# Each digit is a wave that is switched on and off, twice as slow as the one before. A network prefers numbers that
# change smoothly. So replace each square wave by a round one: a hand $i$ that turns by $\omega_i$ radians a position,
# and write down both its coordinates,
#
# $$p_t = \big(\sin \omega_0 t,\ \cos \omega_0 t,\ \sin \omega_1 t,\ \cos \omega_1 t,\ \dots\big), \qquad
# \omega_i = 10000^{-2i/d}.$$
#
# $d$ is the width of the model, so there are $d/2$ hands. With $d = 8$ each hand is ten times slower than the one
# before.
#
# **Before you run the next cell:** going from 7 to 8, four binary digits change at once (0111 to 1000); from 8 to 9,
# one. How far does $p_t$ move in these two steps?


# %%
def sinusoids(t, d):
    """(..., ) positions -> (..., d): sine and cosine of d/2 hands, alternating."""
    omega = 10_000.0 ** (-2 * torch.arange(d // 2) / d)  # radians a position, from fast to slow
    angles = t[..., None] * omega
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


p = sinusoids(t, 8)
print("binary digits that change:", (bits[1:] != bits[:-1]).sum(-1).tolist())
print("distance from p_t to p_t+1:", [f"{step:.4f}" for step in (p[1:] - p[:-1]).norm(dim=-1)[:8].tolist()])
print("p_3 =", p[3])
print("equals arlab's:", torch.allclose(positions.sinusoidal(t, 8), p))

# %% [markdown]
# All steps have the same length. More than that: the dot product of two positions depends on their distance alone,
#
# $$p_s \cdot p_t = \sum_i \big(\sin \omega_i s \sin \omega_i t + \cos \omega_i s \cos \omega_i t\big) = \sum_i \cos
# \omega_i (s - t).$$

# %%
clock = sinusoids(torch.arange(128), 64)
binary = torch.arange(128)[:, None] // 2 ** torch.arange(7) % 2 * 2.0 - 1  # digits as -1 and 1
for s, u in ((3, 5), (63, 65), (101, 103), (63, 64), (64, 96), (10, 42)):
    print(f"positions {s:3d} and {u:3d}, distance {u - s:2d}:  p.p = {clock[s] @ clock[u]:7.4f}", end="   ")
    print(f"binary digits: {binary[s] @ binary[u]:4.0f}")

# %% tags=["nbval-ignore-output"]
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(9.4, 3.1), layout="constrained", width_ratios=[0.5, 1.5, 1.3])
left.imshow(bits, cmap="Greys", aspect="auto", interpolation="nearest")
left.set(title="binary", xlabel="digit", ylabel="position", xticks=range(4))
middle.imshow(clock[:40], cmap="RdBu", aspect="auto", interpolation="nearest", vmin=-1, vmax=1)
middle.set(title="sinusoids, d = 64 (-1 red, 1 blue)", xlabel="feature (sin, cos, sin, cos, ...)", ylabel="position")
for table, name, colour in ((clock, "sinusoids", BLUE), (binary, "binary digits", ORANGE)):
    similarity = table @ table[64] / (table[64] @ table[64])
    right.plot(similarity, color=colour, label=name)
right.set(title="dot product with position 64", xlabel="position", ylabel="share of its own")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# *Left and middle: fast columns on the left, slow ones on the right, switched or smooth. Right: for the sinusoids the
# neighbours of 64 are the most alike, and both sides fall off alike, in waves; for binary digits 63 is the very
# opposite of 64.*
#
# Now think of each pair $(\sin a, \cos a)$ as a hand. To go from $p_t$ to $p_{t+k}$, every hand turns by its own angle
# $k\,\omega_i$, **whatever $t$ is**: one fixed matrix moves any position $k$ places on. A layer that wants "the token
# three places before me" can learn that matrix.
#
# ### Exercise 1 · `move`
#
# You are given vectors $p_t$, `(..., d)`, and are not told $t$. Return $p_{t + \text{steps}}$; `steps` may be negative.
# The addition theorems will do:
#
# $$\sin(a + b) = \sin a \cos b + \cos a \sin b, \qquad \cos(a + b) = \cos a \cos b - \sin a \sin b.$$


# %%
def move(p, steps):
    """p (..., d): sinusoids of some positions -> those of the positions `steps` later."""
    raise NotImplementedError


check.move(move)

# %%
check.move.hint()

# %%
check.move.solution()

# %% [markdown]
# ## 3 · Learned vectors, and rotations
#
# GPT-2 does not bother with clocks: a second embedding table has a vector for each place, trained like all other
# weights. What it learns, it learns for each place apart. Here is the table of a small model that has read Shakespeare
# in windows of 64 (it was trained beforehand; its recipe stands in `arlab/recipes/transformer_block.py`).
#
# **Before you run the next cell:** training begins with random vectors. Will the vectors of neighbouring places end up
# alike? What would the model do at place 64, the 65th?

# %%
RUN_IT = False  # True: train all of this notebook's recorded runs here and now, ten minutes on a quiet core

by_code, measured = recipe.position_codes() if RUN_IT else recipe.recorded("positions")
learned = torch.tensor(measured["learned"]["table"])  # (64, 64): a vector for each place
before = 0.02 * torch.randn(64, 64, generator=lab.generator())  # how such a table starts
apart = torch.arange(64)[:, None] - torch.arange(64)
for name, table in (("before training", before), ("learned", learned)):
    cosine = F.cosine_similarity(table[:, None], table[None], dim=-1)
    near, far = cosine[apart.abs() == 1].mean(), cosine[apart.abs() >= 24].mean()
    print(f"{name:16s} cosine of neighbours {near:5.2f}, of places 24 or more apart {far:5.2f}")
reader = DecoderLM(DecoderConfig.gpt2(vocab_size=65, context_length=64, d_model=64, layers=2, heads=4))
try:
    reader(torch.zeros(1, 65, dtype=torch.long))
except ValueError as error:
    print("65 characters:", error)

# %% [markdown]
# Nobody told the model that place 10 lies between 9 and 11; it found out. But it has no vector for a place it never
# trained, and says so.
#
# **Rotary positions** (notebook 08's SmolLM2 uses them) take the hint of exercise 1 seriously: if moving means
# turning, leave the embeddings alone and *turn the queries and keys themselves*. Query $q$ at position $m$ and key
# $k$ at position $n$ are turned by $m\,\omega_i$ and $n\,\omega_i$ in each pair $i$ of features; write $R_m$ and
# $R_n$ for the matrices that do it. A dot product knows lengths and angles only, so the score depends on $m - n$:
#
# $$(R_m q)^\top (R_n k) = q^\top R_{n - m}\, k .$$


# %%
def turn(x, position):
    """Turn feature i and feature i + half together by position * omega_i; x (..., d)."""
    half = x.size(-1) // 2
    angle = position * 10_000.0 ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


q, k = torch.randn(2, 64, generator=lab.generator())
W = torch.randn(64, 64, generator=lab.generator(1)) / 8  # for the sums: some W_Q W_K^T, with q and k as embeddings
for m, n in ((5, 3), (45, 43), (105, 103), (5, 0), (105, 100)):
    added = (q + clock[m]) @ W @ (k + clock[n])
    print(f"query at {m:3d}, key at {n:3d}, distance {m - n}:  turned {turn(q, m) @ turn(k, n):8.4f}", end="   ")
    print(f"sinusoids added {added:8.4f}")
table = positions.RotaryTable(64, 128, 10_000.0)
by_arlab = positions.rotate(q.expand(1, 1, 128, 64), table(torch.arange(128)[None], torch.float32))
print("equals arlab's:", torch.allclose(torch.stack([turn(q, m) for m in range(128)]), by_arlab[0, 0], atol=1e-4))

# %% [markdown]
# With rotations the same distance gives the same score, anywhere. With added sinusoids the score also holds word times
# place, and moving both words changes it; a layer has to learn to ignore that.
#
# Does it matter for prediction? Five models of two layers, recorded, 600 steps each, the same text in the same order:
# without positions; with sinusoids, added to embeddings as small as GPT-2's at the start or to embeddings of size 1;
# with a learned table; with rotations.
#
# **Before you run the next cell:** put them in order. The one without positions still has its causal mask.

# %%
for name in by_code:
    print(f"{name:34s} unseen text: {measured[name]['validation_loss']:.2f} nats per character")
print(
    f"size of a sinusoid: {clock.square().mean().sqrt():.2f}; of GPT-2's embeddings before training: {before.std():.2f}"
)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.8, 2.7), layout="constrained")
colours, dashes = ("0.4", ORANGE, GREEN, PINK, BLUE), (":", "--", "-.", "-", "-")
for (name, records), colour, dash in zip(by_code.items(), colours, dashes, strict=True):
    ax.plot([r.step for r in records], [r.loss for r in records], dash, color=colour, label=name, linewidth=2)
ax.set(
    xlabel="training step", ylabel="loss (nats per character)", title="codes for positions (recorded)", ylim=(1.7, 3.5)
)
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# *Rotary positions end lowest, at about 2.0; next come sinusoids with larger embeddings and the learned table; the
# plain sinusoids stay above everything, even above the model without positions.*
#
# Two surprises. Without any code a model still gets far: each place knows its own character, and the mask tells it
# how much came before, though hardly what stood just there. And the sinusoids hurt at first: beside embeddings that
# start at 0.02 they are so large that the words drown in the clock. The original transformer multiplied its
# embeddings by $\sqrt{d}$, which makes them as loud as the clock; with embeddings of size 1 (and Xavier's matrices,
# and an output matrix of its own) the third model hears both. These are 600 steps of a small model, not a ranking for
# all times; but that distances matter more than places fits what today's models do.
#
# In the explorer the codes stand under a binary counter. Switch between *sinusoidal*, *learned* and *rotary*; move two
# positions, $m$ and $m'$, and compare their dot products with all others; choose a pair of features, and watch its
# hand. Then raise the base, which slows the hands, and see how far a position's likeness reaches.

# %% tags=["nbval-ignore-output"]
PositionExplorer(d_model=64, length=128, base=10_000, learned=learned, position=20, other=50)

# %% [markdown]
# **Questions to answer by moving it**
#
# 1. Which digit of the binary counter flips only once between 0 and 15? Which pair of features goes round in about the
#    number of places after which that digit repeats?
# 2. Bring the base down to 10. From which distance on does the product no longer tell how far apart two places are?
# 3. Move $m$ from 10 to 60 with *rotary* and with *learned*. Which curve keeps its shape?
# 4. Which of the codes can tell what position 127 looks like if training never went beyond 63?
#
# <details><summary>Answers</summary>
#
# 1. The fourth, worth 8; it repeats after 16 places. Pair 3 goes round once in 14.9 places, pair 4 in 19.9.
# 2. From 5 or so: the product has fallen from 32 to 0, and goes on up and down, so that it has the same value at many
#    distances. All hands are fast now; the slowest (pair 31) goes round in 58 places. With 10,000 the slow hands hardly
#    move, and their share of the product falls off slowly.
# 3. The rotary one: drawn across the distance it is the same for every $m$. The learned table knows places, and
#    distances only as far as it has found out about them.
# 4. Sinusoids and rotations are formulas and have a value there (whether the layers above make sense of it is another
#    matter); the learned table has none.
#
# </details>

# %% [markdown]
# ## 4 · The two branches
#
# A block has two of them. The first is **multi-head attention** (notebook 03), in four moves: project $X$ to queries,
# keys and values and split them into $h$ heads; let each head attend; write the heads' results side by side; mix them
# with one more matrix, $W^O$.
#
# The second is the **feed-forward network**, FFN: two matrices with a bend (an *activation function*) between them,
#
# $$\text{ffn}(x) = W_\text{down}\,\phi(W_\text{up}\, x + b_\text{up}) + b_\text{down}, \qquad d \to 4d \to d,$$
#
# where $\phi$ is a function of single numbers, here GELU (a smooth version of $\max(0, x)$). Attention is the only
# place where tokens meet; the FFN is the same function for each token, wherever it stands.


# %%
class MultiHead(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.w_q, self.w_k, self.w_v, self.w_o = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x):
        rows, time, d = x.shape
        q, k, v = (
            project(x).view(rows, time, self.heads, d // self.heads).transpose(1, 2)  # (rows, heads, time, d / heads)
            for project in (self.w_q, self.w_k, self.w_v)
        )
        z, _ = attention(q, k, v, masks.causal_mask(time).to(x.device))  # each head on its own
        return self.w_o(z.transpose(1, 2).reshape(rows, time, d))  # side by side again, and mixed


class FFN(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


# %% [markdown]
# **Before you run the next cell:** one token of six is exchanged. At how many places does the FFN's output change? And
# the output of attention with its causal mask?

# %%
torch.manual_seed(0)
d = 16
mha, ffn = MultiHead(d, heads=4), FFN(d)
x = torch.randn(1, 6, d)
other = x.clone()
other[0, 2] = torch.randn(d)  # place 2, counted from 0, holds another word
changes = {}
with torch.no_grad():
    for name, part in (("FFN", ffn), ("attention", mha)):
        changes[name] = (part(other) - part(x))[0]  # (places, d)
        print(f"{name:9s} changes at places", changes[name].any(-1).nonzero().flatten().tolist())
    one_by_one = torch.stack([ffn(x[0, place]) for place in range(6)])
    print("FFN of the whole text equals FFN token by token:", torch.allclose(ffn(x)[0], one_by_one, atol=1e-6))
    straight = ffn.down.weight @ ffn.up.weight  # what would be left of the two matrices without the bend
    no_bend = ffn.down(ffn.up(x))
    single = x @ straight.T + ffn.down.weight @ ffn.up.bias + ffn.down.bias
    print("without the bend, both matrices are one of shape", tuple(straight.shape), end=": ")
    print(torch.allclose(no_bend, single, atol=1e-5))

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(6.6, 1.9), layout="constrained", sharey=True)
for ax, (name, change) in zip(axes, changes.items(), strict=True):
    ax.imshow(change, cmap="RdBu", aspect="auto", interpolation="nearest", vmin=-0.5, vmax=0.5)
    ax.set(title=f"change in the output of {name}", xlabel="feature", xticks=range(0, 16, 5), yticks=range(6))
axes[0].set_ylabel("place")
plt.show()

# %% [markdown]
# *White is no change. Left: the FFN answers at place 2 alone. Right: attention carries the new word to its own place
# and to all places after it.*
#
# Two lessons. The FFN does not move anything between places. And the width $4d$ pays only because of the bend: without
# it, up and down would multiply out to a single $d \times d$ matrix.
#
# **Question.** Of a block's parameters (its trainable numbers), how many stand in attention, how many in the FFN?
#
# <details><summary>Answer</summary>
#
# Attention has four $d \times d$ matrices, $4d^2$; the FFN has $2 \cdot 4d^2 = 8d^2$, twice as many (and some biases).
# Section 11 counts exactly.
#
# </details>
#
# ## 5 · Residual connections: learning to do nothing
#
# A deep network can do whatever a shallow one can: let the additional layers hand their input on, $f(x) = x$. So more
# depth should never hurt. But it does. He and others (2015) drew the conclusion that a layer is bad at learning the
# identity, and let it add to its input instead:
#
# $$y = x + g(x).$$
#
# Now handing on needs $g(x) = 0$. Is that so much easier? Take one layer (two matrices with a bend), the same first
# weights twice, and teach it both.
#
# **Before you run the next cell:** which target is reached first, and why?


# %%
def layers_of(depth, d=16):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(d, 4 * d), nn.ReLU(), nn.Linear(4 * d, d)) for _ in range(depth)]


def learn(layers, target, residual=False, steps=200, d=16):
    """Mean squared error at each step; a fresh random batch every time."""
    optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=1e-3)
    generator, errors = lab.generator(), []
    for _ in range(steps):
        x = h = torch.randn(64, d, generator=generator)
        for layer in layers:
            h = h + layer(h) if residual else layer(h)
        error = F.mse_loss(h, target(x))
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    return errors


# %%
identity = learn(layers_of(1), lambda x: x)  # f(x) = x
nothing = learn(layers_of(1), lambda x: 0 * x)  # g(x) = 0
with_sum = learn(layers_of(1), lambda x: x, residual=True)  # x + g(x) = x
print(f"before training, error of f(x) = x: {identity[0]:.2f}, of g(x) = 0: {nothing[0]:.2f}")
print("after 200 steps, f(x) = x at least ten times worse:", identity[-1] > 10 * nothing[-1])
print(
    "x + g(x) = x is the same task as g(x) = 0:", all(abs(a - b) < 1e-4 for a, b in zip(with_sum, nothing, strict=True))
)

# %% [markdown]
# Small random weights nearly are the zero function already. To be the identity, they have to be built up with care.
# Now stack them. A network of any depth is asked for $f(x) = x$: nothing at all.

# %%
depths = (1, 2, 4, 8, 16)
errors = {
    residual: [sum(learn(layers_of(depth), lambda x: x, residual)[-10:]) / 10 for depth in depths]
    for residual in (False, True)
}
print("guessing 0 everywhere has an error of about 1")
print("without the sum: 16 layers are no better than guessing:", errors[False][-1] > 0.9)
print("without the sum: each doubling of the depth is worse:  ", errors[False] == sorted(errors[False]))
print("with the sum:    16 layers have an error below 0.1:    ", errors[True][-1] < 0.1)

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.9), layout="constrained")
left.plot(identity, color=ORANGE, label="one layer, f(x) = x")
left.plot(nothing, color=BLUE, label="one layer, g(x) = 0")
left.set(xlabel="training step", ylabel="mean squared error", yscale="log", title="two tasks for the same layer")
for residual, colour, name in ((False, ORANGE, "layer(h)"), (True, BLUE, "h + layer(h)")):
    right.plot(depths, errors[residual], "o-", color=colour, label=name)
right.set(
    xlabel="layers", ylabel="error after 200 steps", xscale="log", yscale="log", title="a stack that should do nothing"
)
right.set_xticks(depths, depths)
right.minorticks_off()
for ax in (left, right):
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Left: for the zero function the layer starts about where 200 steps bring it for the identity. Right: without the
# sum, the error rises with depth up to 1, where the input no longer matters; with it, it rises too, but stays far
# below.*
#
# The sum also gives the gradient a way back. By the chain rule $\partial y / \partial x = 1 + g'(x)$ (for vectors:
# the identity matrix plus the derivatives of $g$). Without the sum, the factors $f'(x)$ of all layers are multiplied,
# and small ones leave nothing. With it, the product of all $1 + g'(x)$ holds the summand 1, whatever the $g$ do.
#
# ## 6 · Three ways to lose balance
#
# **Products.** Write $h^{(l)}$ for the vectors after layer $l$, the *stream*. In $h^{(l)} = W^{(l-1)} h^{(l-1)}$ each
# matrix stretches or shrinks a little, and the little is multiplied.
#
# **Sums.** In $h^{(l)} = h^{(l-1)} + f(h^{(l-1)})$, if $f$ gives back as much as it gets, the variance doubles in each
# layer.
#
# **Before you run the next cell:** 24 layers, each of them stretching by a quarter ($\times 1.25$): by how much in all?
# And 48 sums that each double the variance?


# %%
def branch(h, generator):
    """A fresh FFN that gives back as much as it gets."""
    d = h.size(-1)
    up = torch.randn(d, 4 * d, generator=generator) * math.sqrt(2 / d)  # 2: the bend halves the mean square
    down = torch.randn(4 * d, d, generator=generator) / math.sqrt(4 * d)
    return torch.relu(h @ up) @ down


def sizes(step, layers=48):
    """The deviation of the stream before the first layer and after each of them."""
    generator = lab.generator()
    h = torch.randn(256, 64, generator=generator)
    found = [h.std().item()]
    for _ in range(layers):
        h = step(h, generator)
        found.append(h.std().item())
    return found


def stretch(factor):
    return lambda h, generator: h @ torch.randn(64, 64, generator=generator) * factor / math.sqrt(64)


def norm(h):
    return F.layer_norm(h, h.shape[-1:])  # each row to mean 0 and deviation 1; section 7 builds it


# %%
for factor in (0.8, 1.25):
    print(f"24 products, each x {factor}: {sizes(stretch(factor), 24)[-1]:.1e}   (expected {factor**24:.1e})")
grown = {
    "h + f(h)": sizes(lambda h, generator: h + branch(h, generator)),
    "norm(h + f(h)), post": sizes(lambda h, generator: norm(h + branch(h, generator))),
    "h + f(norm(h)), pre": sizes(lambda h, generator: h + branch(norm(h), generator)),
}
for name, found in grown.items():
    print(f"48 x {name:21s} {found[-1]:.1e}")
print(f"expected: sqrt(2)^48 = {2**24:.1e},  1,  sqrt(49) = {math.sqrt(49):.1f}")

# %% [markdown]
# A norm after each sum holds the stream at 1. A norm inside the branch lets it grow, but slowly: each branch adds the
# same amount, so the variance grows like $l$ and the deviation like $\sqrt l$.
#
# **Saturation.** A softmax whose inputs differ by a lot gives one of them all the weight, and then its derivative,
# $p_i(1 - p_i)$ for each weight, is close to 0: nothing can be learned through it. Scores are products of two vectors
# of the stream, so they grow with its *square*.


# %%
def saturation(h, generator):
    """Mean largest attention weight, and mean of sum p (1 - p), when 256 tokens h attend to each other."""
    w_q, w_k = torch.randn(2, 64, 64, generator=generator) / 8
    p = ((h @ w_q) @ (h @ w_k).T / 8).softmax(-1)
    return p.max(-1).values.mean().item(), (p * (1 - p)).sum(-1).mean().item()


generator = lab.generator()
h = torch.randn(256, 64, generator=generator)
print("layer   stream    largest weight   sum p(1-p)   | with a norm in front")
saturated = []
for layer in range(13):
    saturated.append((*saturation(h, lab.generator()), *saturation(norm(h), lab.generator())))
    if layer % 2 == 0:
        top, slope, top_normed, slope_normed = saturated[-1]
        print(f"{layer:3d}  {h.std():9.1f}  {top:12.2f}  {slope:14.2f}", end="")
        print(f"        |  {top_normed:12.2f}  {slope_normed:8.2f}")
    h = h + branch(h, generator)

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.9), layout="constrained")
for (name, found), colour in zip(grown.items(), (ORANGE, GREEN, BLUE), strict=True):
    left.plot(found, color=colour, label=name)
left.set(xlabel="layer", ylabel="deviation of the stream", yscale="log", title="sums")
right.plot([slope for _, slope, _, _ in saturated], color=ORANGE, label="scores from h")
right.plot([slope for _, _, _, slope in saturated], color=BLUE, label="scores from norm(h)")
right.set(
    xlabel="layers of h + f(h) below",
    ylabel="mean of sum p(1 - p)",
    ylim=(0, 1.05),
    title="what the softmax lets through",
)
for ax in (left, right):
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Left: the bare sum grows by seven orders of magnitude, the normed ones stay flat or nearly so. Right: with the stream
# the derivative of the softmax dies within a few layers; behind a norm it stays where it was.*
#
# All three have one cure: bring the numbers back to size 1, over and over. The question is, over which numbers to take
# the mean.
#
# ## 7 · LayerNorm and BatchNorm
#
# Let $x = (x_1, \dots, x_d)$ be the vector of **one token**. LayerNorm takes mean and variance over its features,
#
# $$\hat\mu = \frac1d \sum_i x_i, \quad \hat\sigma^2 = \frac1d \sum_i (x_i - \hat\mu)^2, \qquad \text{LayerNorm}(x) =
# \frac{x - \hat\mu}{\sqrt{\hat\sigma^2 + \epsilon}} \odot \gamma + \beta,$$
#
# with a learned gain $\gamma$ and shift $\beta$ for each feature ($\odot$ multiplies feature by feature), and a small
# $\epsilon$ against division by 0. BatchNorm, made for images, takes mean and variance of **one feature** over all
# tokens of the batch.


# %%
def normalise(x, dims, eps=1e-5):
    """Mean 0 and variance 1 over the dimensions named."""
    mean = x.mean(dims, keepdim=True)
    variance = (x - mean).square().mean(dims, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


x = 3 * torch.randn(2, 5, 8, generator=lab.generator()) + 1  # (rows, time, features)
by_layer, by_batch = normalise(x, dims=-1), normalise(x, dims=(0, 1))
print("LayerNorm: every token has mean 0:   ", torch.allclose(by_layer.mean(-1), torch.zeros(2, 5), atol=1e-6))
print("BatchNorm: every feature has mean 0: ", torch.allclose(by_batch.mean((0, 1)), torch.zeros(8), atol=1e-6))
print("arlab's LayerNorm gives the same:    ", torch.allclose(LayerNorm(8)(x), by_layer, atol=1e-5))
print("arlab's BatchNorm, while training:   ", torch.allclose(BatchNorm(8)(x), by_batch, atol=1e-5))

# %% [markdown]
# ### Exercise 2 · `layer_norm`
#
# The whole of it: gain, shift, and an $\epsilon$ that stands under the root. `x` is `(..., d)`; gain and shift are
# `(d,)`.


# %%
def layer_norm(x, gain, shift, eps):
    """Each vector of x (..., d) to mean 0 and variance 1, times gain, plus shift."""
    raise NotImplementedError


check.layer_norm(layer_norm)

# %%
check.layer_norm.hint()

# %%
check.layer_norm.solution()

# %% [markdown]
# ### The same line in four batches
#
# Texts are ragged, batches are not: short rows are filled up on the right with a pad symbol, whose predictions are not
# counted. Put the line *Speak, speak.* into four batches: with two neighbours, with two others, with the first two and
# twice the padding, and alone.
#
# **Before you run the next cell:** in which of them does LayerNorm give that line the same numbers? And BatchNorm?

# %%
tokenizer, train_ids, held_out_ids = recipe.shakespeare()
pad = tokenizer.vocab_size  # one id more than there are characters
embed = torch.randn(tokenizer.vocab_size + 1, 16, generator=lab.generator())
line, two, others = "Speak, speak.", ("You are all resolved", "rather to die than"), ("We are", "accounted poor")


def first_row(neighbours, dims, filling=0):
    """What the norm makes of `line`, alone or above its neighbours; `filling` more pads at the end of each row."""
    ids = padded([tokenizer.encode(text) for text in (line, *neighbours)], pad_id=pad).inputs
    ids = F.pad(ids, (0, filling), value=pad)
    return normalise(embed[ids], dims)[0, : len(line) - 1]  # its real places


for name, dims in (("LayerNorm", -1), ("BatchNorm", (0, 1))):
    usual = first_row(two, dims)
    print(f"{name}: largest change with", end=" ")
    for what, row in (
        ("other neighbours", first_row(others, dims)),
        ("more padding", first_row(two, dims, filling=19)),
        ("no neighbours", first_row((), dims)),
    ):
        print(f"{what} {(row - usual).abs().max():.4f}", end=", " if what != "no neighbours" else "\n")

# %% [markdown]
# Under BatchNorm a line means something else in other company, and pads, which mean nothing, count as much as words.
# When a model writes, there is no company. So BatchNorm keeps a running average of means and variances during training,
# and uses that afterwards: **another function than the one that was trained.** Two small language models show the gap:
# the same first weights, the same lines of Shakespeare in ragged batches, a hundred steps with one norm or the other.


# %%
def lines_of(ids):
    return [tokenizer.encode(text + "\n") for text in tokenizer.decode(ids.tolist()).split("\n") if len(text) > 1]


lines, unseen = lines_of(train_ids), lines_of(held_out_ids[:9000])[:192]
steps = lab.scale(cpu=100, gpu=1000)


def trained(kind):
    config = DecoderConfig.gpt2(
        vocab_size=tokenizer.vocab_size + 1, context_length=128, d_model=64, layers=2, heads=4, norm=kind
    )
    model = DecoderLM(config, seed=0).to(lab.device)
    batches = ragged(lines, 16, pad_id=pad, context=64, generator=lab.generator(), by_length=False)
    on_device = (batch.to(lab.device) for batch in batches)
    curve = [step.loss for step in train(model, on_device, steps=steps, lr=3e-3, warmup=20)]
    return model, curve


# %%
models = {kind: trained(kind) for kind in ("layer", "batch")}
for kind, (_, curve) in models.items():
    print(f"norm={kind}: training loss below 2.9 at the end: {sum(curve[-10:]) / 10 < 2.9}")


# %%
@torch.no_grad()
def unseen_loss(model, rows, width=None, training=False):
    """Nats per character on the unseen lines, `rows` of them at a time, filled up to `width`."""
    model = copy.deepcopy(model).train(training)  # training=True: statistics of the batch; the copy's averages move
    total = counted = 0
    for start in range(0, len(unseen), rows):
        inputs, targets = padded(unseen[start : start + rows], pad_id=pad, context=64)
        inputs = F.pad(inputs, (0, max(0, (width or 0) - inputs.size(1))), value=pad).to(lab.device)
        logits = model(inputs)[:, : targets.size(1)]
        total += next_token_loss(logits, targets.to(lab.device), reduction="sum").item()
        counted += int((targets != IGNORE).sum())
    return total / counted


# %%
ways = {
    "batch of 16": dict(rows=16, training=True),
    "padded to 128": dict(rows=16, width=128, training=True),
    "alone": dict(rows=1, training=True),
    "running averages": dict(rows=16),
}
losses = {kind: {way: unseen_loss(model, **how) for way, how in ways.items()} for kind, (model, _) in models.items()}
spread = {kind: max(found.values()) - min(found.values()) for kind, found in losses.items()}
print(f"LayerNorm: the four ways of reading differ by less than 0.0001: {spread['layer'] < 1e-4}")
print(
    "BatchNorm: worse by more than 0.3 when each line is read alone: ",
    losses["batch"]["alone"] > losses["batch"]["batch of 16"] + 0.3,
)
print(
    "BatchNorm: worse by more than 0.1 with more padding:            ",
    losses["batch"]["padded to 128"] > losses["batch"]["batch of 16"] + 0.1,
)
print(
    "BatchNorm: the running averages give another loss:              ",
    abs(losses["batch"]["running averages"] - losses["batch"]["batch of 16"]) > 0.001,
)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.1, 2.9), layout="constrained")
for (kind, found), colour, mark, side in zip(losses.items(), (BLUE, ORANGE), "os", (-1, 1), strict=True):
    ax.plot([i + 0.06 * side for i in range(4)], found.values(), mark, color=colour, label=f"{kind.capitalize()}Norm")
    for i, loss in enumerate(found.values()):
        ax.annotate(
            f"{loss:.3f}", (i + 0.06 * side, loss), (22 * side, 0), textcoords="offset points", ha="center", va="center"
        )
ax.set_xticks(range(4), ["in batches of 16", "the same, padded to 128", "each line alone", "with running averages"])
ax.set(ylabel="unseen lines, nats per character", title="one model, the same lines, read in four ways")
ax.margins(x=0.12, y=0.2)
ax.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# *The LayerNorm model gives the same loss in each case. The BatchNorm model is as good as long as batches look like the
# training batches, and gets worse with more padding or without company.*
#
# Be fair to BatchNorm: it trains just as fast here, and its running averages repair most of the damage as long as the
# text to come looks like the text that was. But there is worse than a changing mean.
#
# **Before you run the next cell:** mean and variance are taken over time as well. Which outputs of a *causal* model
# depend on the last token of the text while it trains?


# %%
class InTraining:
    """A model as it is while it trains, also for the leak detector, which would switch it to eval mode."""

    def __init__(self, model):
        self.model, self.embed_tokens = model, model.embed_tokens

    def forward_embeddings(self, x):
        return self.model.train().forward_embeddings(x)


text = torch.tensor([tokenizer.encode("Speak, s")])
for kind in ("layer", "batch"):
    config = DecoderConfig.gpt2(vocab_size=65, context_length=8, d_model=32, layers=1, heads=2, norm=kind)
    small = DecoderLM(config, seed=0)
    leaks = find_leaks(InTraining(small), text, projections=1)
    later = find_leaks(small, text, projections=1)  # the detector puts it in eval mode
    print(f"{kind.capitalize()}Norm: {len(leaks):2d} of 28 pairs (t, s > t) leak in training, {len(later)} afterwards")

# %% [markdown]
# Every position sees every later one through the mean, past the mask. A model could learn to read it; and even if it
# does not, its training loss is no longer that of predicting the next token. LayerNorm needs nothing but the token
# itself: the same in training and afterwards, for any batch size and any padding.

# %% [markdown]
# ## 8 · The block
#
# Two branches, each with its residual connection and its norm. Where to put the norm? Today mostly inside the branch,
# **pre-LN**:
#
# $$x \leftarrow x + \text{attention}(\text{norm}_1(x)), \qquad x \leftarrow x + \text{ffn}(\text{norm}_2(x)).$$


# %%
class MyBlock(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.norm1, self.mha = nn.LayerNorm(d), MultiHead(d, heads)
        self.norm2, self.ffn = nn.LayerNorm(d), FFN(d)

    def forward(self, x):  # (rows, time, d) -> the same shape, so that blocks can be stacked
        x = x + self.mha(self.norm1(x))
        return x + self.ffn(self.norm2(x))


# %% [markdown]
# `arlab`'s block is the same, with $W^Q$, $W^K$, $W^V$ stacked into one matrix. Fill yours with its weights; the
# numbers must agree.

# %%
config = DecoderConfig(vocab_size=65, context_length=32, d_model=48, layers=1, heads=4, init="xavier")
theirs = DecoderLM(config, seed=0).blocks[0]
mine = MyBlock(d=48, heads=4)
with torch.no_grad():
    weights, biases = theirs.attn.qkv.weight.chunk(3), theirs.attn.qkv.bias.chunk(3)
    for linear, weight, bias in zip((mine.mha.w_q, mine.mha.w_k, mine.mha.w_v), weights, biases, strict=True):
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
mine.mha.w_o.load_state_dict(theirs.attn.out.state_dict())
for part in ("norm1", "norm2", "ffn"):
    getattr(mine, part).load_state_dict(getattr(theirs, part).state_dict())

x = torch.randn(2, 32, 48, generator=lab.generator())
with torch.no_grad():
    layout = Layout(past=(0, 0), time=32, device=x.device)  # two rows, nothing in a cache
    print("my block equals arlab's:   ", torch.allclose(mine(x), theirs(x, layout), atol=1e-5))
    heads_and_ffn = mine(x) - x
    print("it adds to x, deviation:   ", f"{heads_and_ffn.std():.4f} to {x.std():.4f}")
print("my parameters, arlab's:    ", *(sum(p.numel() for p in block.parameters()) for block in (mine, theirs)))

# %% [markdown]
# ### Exercise 3 · `post_ln_block`
#
# The original transformer (2017) and the lecture's first figure put the norm after the sum, on the stream itself: *add
# & norm*. That is **post-LN**. Write it, for any four functions.


# %%
def post_ln_block(x, attention, ffn, norm1, norm2):
    """x (..., time, d) through one post-LN block; the other four are functions of such an x."""
    raise NotImplementedError


check.post_ln_block(post_ln_block)

# %%
check.post_ln_block.hint()

# %%
check.post_ln_block.solution()

# %% [markdown]
# ## 9 · Twenty-four blocks, and parts taken away
#
# Now stack 24 blocks to a language model of characters, width 64, and leave out the residual connections, the norms, or
# both. Before any training, send one batch forward and the gradient of the loss back. At each block, note three things:
# the size of the stream, the size of the gradient with respect to the stream, and how alike the tokens are to each
# other (the mean cosine between two places of a text).
#
# The matrices start as Xavier Glorot's rule has it, embeddings with deviation 1. (GPT-2 starts smaller, and smaller
# still with depth; that is a cure of its own, so it is left out here.)
#
# **Before you run the next cell:** four models, untrained. What should the loss of each be, if it knows nothing? The
# vocabulary has 65 characters.

# %%
batch = next(random_windows(train_ids, 32, 16, lab.generator()))


def look(model):
    """(loss, sizes, gradients, likeness) of one batch; the lists hold the embedding and then every block."""
    streams = [model.embed_tokens(batch.inputs)]
    streams[0].retain_grad()

    def keep(module, inputs, output):
        output.retain_grad()
        streams.append(output)

    hooks = [block.register_forward_hook(keep) for block in model.blocks]
    logits = model.forward_embeddings(streams[0])
    loss = next_token_loss(logits, batch.targets)
    loss.backward()
    for hook in hooks:
        hook.remove()
    directions = [F.normalize(stream.detach(), dim=-1) for stream in streams]
    # The squared length of a sum of 32 unit vectors is 32 plus the cosines of all 32 * 31 pairs.
    alike = [((u.sum(1).square().sum(-1) - 32) / (32 * 31)).mean().item() for u in directions]
    return loss.item(), [s.std().item() for s in streams], [s.grad.norm().item() for s in streams], alike


# %%
variants = {
    "both": {},
    "no residuals": {"residual": False},
    "no norms": {"norm": "none"},
    "neither": {"residual": False, "norm": "none"},
}
seen = {name: look(recipe.deep_model(24, **choices)) for name, choices in variants.items()}
print(f"ln 65 = {math.log(65):.2f}")
print("                   loss     stream, first and last     gradient, first and last    alike, last")
for name, (loss, stream, gradient, alike) in seen.items():
    at_first = f"{loss:.2f}" if loss < 100 else f"{loss:.1e}"
    print(
        f"{name:13s} {at_first:>9s}    {stream[0]:9.0e} {stream[-1]:12.0e} {gradient[0]:12.0e} {gradient[-1]:12.0e}",
        end="",
    )
    print(f"   {alike[-1]:12.2f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.8), layout="constrained")
titles = ("size of the stream", "gradient at the stream", "likeness of two tokens")
for ax, title, which in zip(axes, titles, (1, 2, 3), strict=True):
    for (name, found), colour, dash in zip(
        seen.items(), (BLUE, GREEN, ORANGE, PINK), ("-", "--", "-.", ":"), strict=True
    ):
        ax.plot(found[which], dash, color=colour, label=name, linewidth=2)
    ax.set(title=title, xlabel="block (0 is the embedding)", yscale="linear" if which == 3 else "log")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# *Middle panel, read from right to left, as the gradient travels. With residuals and norms it grows about fivefold
# over 24 blocks. Without norms it explodes on its way down, without both it dies.*
#
# - **Neither:** each block shrinks the stream, so the output hardly depends on the input (the loss is $\ln 65$), and
#   the gradient that reaches the embedding is less than a billionth of what set out.
# - **No norms:** the sums of section 6. The loss of the untrained model is in the hundred thousands.
# - **No residuals:** stream and gradient look healthy, thanks to the norms. But look at the third panel: each attention
#   averages, nothing keeps a token's own vector, and after some six blocks all tokens are the same.
#
# Does it matter for training? These runs were recorded beforehand, with 200 steps each
# (`RUN_IT = True` in section 3 trains them here).

# %%
runs, about = recipe.residuals() if RUN_IT else recipe.recorded("residuals")
for name, records in runs.items():
    print(f"{name:22s} after {records[-1].step:3d} steps: loss {records[-1].loss:.2f}")
for name, why in about["stopped"].items():
    print(f"{name:22s} stopped at {why.split(' (')[0]}")
unigram = F.one_hot(train_ids, 65).float().mean(0)
unigram_loss = -(unigram * unigram.clamp(min=1e-9).log()).sum().item()
print(f"knowing only how frequent each character is: {unigram_loss:.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for (name, records), colour, dash in zip(
    runs.items(), (BLUE, GREEN, PINK, ORANGE), ("-", "--", ":", "-."), strict=True
):
    ax.plot([r.step for r in records], [r.loss for r in records], dash, color=colour, label=name, linewidth=2)
ax.axhline(unigram_loss, color="0.4", linewidth=1, label="character frequencies")
ax.set(
    xlabel="training step",
    ylabel="loss (nats per character)",
    title="24 blocks, parts taken away (recorded)",
    ylim=(2.3, 4.3),
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Of the deep models only the one with both learns more than how frequent each character is; the one without norms does
# not survive its first step. A single block without residuals is better off than 24 of them.*
#
# **Question.** Without residuals, the gradient reaches all blocks. Why does the model learn nothing but frequencies?
#
# <details><summary>Answer</summary>
#
# All places of a text carry the same vector by then, so the output cannot depend on which character stands where. The
# best constant prediction is the frequency of each character, and that is where the loss stays. A gradient of a healthy
# size is needed; it is not enough.
#
# </details>
#
# ## 10 · post-LN against pre-LN
#
# In post-LN there is no unbroken sum from the embedding to the output: after each sum a norm rescales everything that
# came before. By the end of 24 blocks, what the first branch added has been rescaled 48 times.
#
# **Before you run the next cells:** 12 blocks, 60 steps, one model of each kind, the same batches. Which loss will be
# lower, and does it have anything to do with the size of the first gradient?

# %%
for where in ("pre-LN", "post-LN"):
    model = recipe.deep_model(12, norm_first=where == "pre-LN")
    loss, stream, gradient, _ = look(model)
    last = math.sqrt(sum(weight.grad.square().sum().item() for weight in model.blocks[-1].parameters()))
    print(f"{where:7s}: loss {loss:.2f}, stream at the end {stream[-1]:.1f}", end=", ")
    print(f"gradient at the embedding {gradient[0]:.2f}, of the last block's weights {last:.2f}")

# %% tags=["nbval-ignore-output"]
steps = lab.scale(cpu=60, gpu=600)
curves = TrainingCurves(total=steps, title="12 blocks, live", smoothing=5)
curves.line("character frequencies", unigram_loss)
display(curves)
live = {}
for where in ("pre-LN", "post-LN"):
    model = recipe.deep_model(12, norm_first=where == "pre-LN").to(lab.device)
    ids = train_ids.to(lab.device)
    live[where] = list(curves.follow(recipe.bare_train(model, ids, steps=steps), name=where))

# %%
final = {where: sum(step.loss for step in records[-10:]) / 10 for where, records in live.items()}
print("pre-LN is lower by more than 0.1:                   ", final["pre-LN"] < final["post-LN"] - 0.1)
print("pre-LN already knows more than frequencies:         ", final["pre-LN"] < unigram_loss - 0.05)

# %% [markdown]
# With respect to the stream the first gradients have about the same size, and yet one of the two gets stuck:
# vanishing gradients are only one way to fail. But those of the last block's weights are some three times as large in
# post-LN. Xiong and others (2020) start from there: with such gradients the first steps, at the full learning rate,
# are too large. A **warm-up** lets the rate grow from 0. Recorded runs of 400 steps, with a warm-up of 200 steps or
# none:

# %%
runs, _ = recipe.norm_place() if RUN_IT else recipe.recorded("norm place")
print("loss after 400 steps     post-LN   with warm-up      pre-LN   with warm-up")
for depth in recipe.DEPTHS:
    row = [
        runs[f"{depth} layers, {where}-LN{warm}"][-1].loss for where in ("post", "pre") for warm in ("", ", warm-up")
    ]
    print(f"{depth:2d} blocks            " + "".join(f"{loss:12.2f}" for loss in row))
again, _ = recipe.warmup_seeds() if RUN_IT else recipe.recorded("warm-up seeds")
print("12 blocks, post-LN, other first weights:", {name: round(records[-1].loss, 2) for name, records in again.items()})

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.8), layout="constrained", sharey=True)
for ax, depth in zip(axes, recipe.DEPTHS, strict=True):
    for where, colour in (("post", ORANGE), ("pre", BLUE)):
        for warm, dash in (("", "-"), (", warm-up", "--")):
            records = runs[f"{depth} layers, {where}-LN{warm}"]
            ax.plot([r.step for r in records], [r.loss for r in records], dash, color=colour, label=f"{where}-LN{warm}")
    ax.axhline(unigram_loss, color="grey", linestyle=":", label="character frequencies")
    ax.set(title=f"{depth} blocks (recorded)", xlabel="training step", ylim=(2.2, 4.2))
axes[0].set_ylabel("loss (nats per character)")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *Orange is post-LN, blue pre-LN, dashed with a warm-up. At 6 blocks all four end close together. At 12, post-LN hangs
# at the dotted line for a long time, and less long with a warm-up. At 24 it never leaves it. The blue curves hardly
# change from left to right.*
#
# A warm-up helps post-LN at 12 blocks, is not enough at 24, and costs pre-LN a little, as its first steps are small.
# How long a model hangs at the dotted line depends on its first weights, as the last line of the table shows: do not
# judge by one seed.
#
# **Question.** In which of the two does the stream at the end hold the embedding itself, unscaled, as one of its
# summands?
#
# <details><summary>Answer</summary>
#
# In pre-LN: the stream is the embedding plus what every branch has added, a sum of 49 terms at 24 blocks. That is why
# it grows (section 6), and why one more norm stands after the last block. In post-LN each norm rescales all that came
# before.
#
# </details>

# %% [markdown]
# ## 11 · Counting
#
# How many parameters does a model have, and how much arithmetic is one pass? Both follow from a few sizes: vocabulary
# $V$, context $C$, width $d$, layers $L$.
#
# ### Exercise 4 · `count_parameters`
#
# A GPT-2 style model: token embeddings and learned positions; in each block $W^Q, W^K, W^V, W^O$, up and down (every
# matrix with a bias), and two LayerNorms with gain and shift; one more LayerNorm at the end. The output matrix is the
# embedding matrix used again (*tied*), so it is not counted a second time.


# %%
def count_parameters(vocab_size, context_length, d, layers):
    """The number of trainable numbers."""
    raise NotImplementedError


check.count_parameters(count_parameters)

# %%
check.count_parameters.hint()

# %%
check.count_parameters.solution()

# %% [markdown]
# `arlab.nn.costs` counts by part. GPT-2's smallest version has $d = 768$ and 12 blocks.
#
# **Before you run the next cell:** where do most of its 124 million numbers sit: in the embeddings, in attention, or in
# the FFNs? And for a model of width 64?

# %%
families = {
    "d 64, 2 blocks": DecoderConfig.gpt2(vocab_size=65, context_length=64, d_model=64, layers=2, heads=4),
    "d 64, 24 blocks": DecoderConfig.gpt2(vocab_size=65, context_length=64, d_model=64, layers=24, heads=4),
    "GPT-2 small": DecoderConfig.gpt2(vocab_size=50_257, context_length=1024, d_model=768, layers=12, heads=12),
    "GPT-2 XL": DecoderConfig.gpt2(vocab_size=50_257, context_length=1024, d_model=1600, layers=48, heads=25),
}
counted = {name: costs.parameters(config) for name, config in families.items()}
for name, parts in counted.items():
    total = sum(parts.values())
    tables = (parts["embedding"] + parts["positions"]) / total
    print(f"{name:16s}{total:14,d}   tables {tables:4.0%}   attention {parts['attention'] / total:4.0%}", end="   ")
    print(f"ffn {parts['ffn'] / total:4.0%}   norms {parts['norms'] / total:.2%}")
with torch.device("meta"):  # shapes without memory
    real = DecoderLM(families["GPT-2 small"])
print("counted from the model itself:", f"{sum(p.numel() for p in real.parameters()):,d}")

# %% [markdown]
# In a block the FFN has twice the parameters of attention, whatever the width. With the same vocabulary, the tables'
# share falls as a model grows.
#
# **Arithmetic.** One number of a weight matrix costs one multiplication and one addition for each token: 2 floating
# point operations (FLOP). So a pass over $T$ tokens costs about $2T$ times the number of weights in matrices. What that
# leaves out has no weights: the scores $QK^\top$ and the mixing $AV$, $2T^2 d$ each. Count a pass of your own block
# with PyTorch's counter.

# %%
T, d = 32, 48
with FlopCounterMode(display=False) as counter, torch.no_grad():
    mine(torch.randn(1, T, d))
matrices = 12 * d * d
one = DecoderConfig(vocab_size=65, context_length=T, d_model=d, layers=1, heads=4)
by_part = costs.forward_flops(one, time=T)
print(f"counted {counter.get_total_flops():,d}")
print(f"by hand {2 * T * matrices + 4 * T * T * d:,d} = 2 T 12 d^2 + 4 T^2 d")
print(f"arlab   {sum(by_part.values()) - by_part['logits']:,d} (without the logits)")
print(f"scores and mixing cost as much as the matrices when 4 T^2 d = 24 T d^2, at T = 6 d = {6 * d}")

# %% tags=["nbval-ignore-output"]
lengths = [2**n for n in range(6, 18)]
flops = [costs.forward_flops(families["GPT-2 small"], time=T) for T in lengths]
groups = {
    "ffn": ("ffn",),
    "projections of attention": ("qkv", "out"),
    "scores and mixing": ("scores", "mix"),
    "logits": ("logits",),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.3), layout="constrained")
bottom = [0.0] * len(counted)
for part, colour in zip(("embedding", "positions", "attention", "ffn"), (GREEN, PINK, ORANGE, BLUE), strict=True):
    shares = [parts[part] / sum(parts.values()) for parts in counted.values()]
    left.barh(list(counted), shares, left=bottom, color=colour, label=part)
    bottom = [a + b for a, b in zip(bottom, shares, strict=True)]
left.set(xlabel="share of the parameters", title="where the numbers sit", xlim=(0, 1))
left.invert_yaxis()
left.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
for (name, parts), colour, dash in zip(
    groups.items(), (BLUE, ORANGE, GREEN, PINK), ("-", "--", "-.", ":"), strict=True
):
    per_token = [sum(one[part] for part in parts) / T for one, T in zip(flops, lengths, strict=True)]
    right.plot(lengths, per_token, dash, color=colour, label=name, linewidth=2)
right.axvline(6 * 768, color="grey", linewidth=1)
right.text(6 * 768 * 0.9, 4e6, "T = 6 d", rotation=90, color="0.35", ha="right", va="bottom")
right.set(xscale="log", yscale="log", xlabel="tokens T", ylabel="FLOP a token", title="GPT-2 small, one pass")
right.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *Left: in a block twice as much blue (FFN) as orange (attention). Right: the cost of matrices is the same for each
# token, however long the text; that of scores and mixing grows with it, and at $T = 6d$ it has caught up with all
# matrices of the blocks.*
#
# ## 12 · Which encoder is the simplest to compute?
#
# The lecture asks it of three ways to turn $T$ vectors into $T$ vectors: an **MLP** at each place (here $d \to d \to
# d$), a **recurrent network**, $h_t = \tanh(W x_t + U h_{t-1})$, and **self-attention**. There are three things to
# count:
#
# - *work*: how many FLOP;
# - *waiting*: how many matrix products must follow one another, even with any number of processors;
# - *distance*: how many products lie between the first token and the last output, at best. The longer that way, the
#   harder it is to learn that the last depends on the first.
#
# **Before you run the next cell:** make a table of three rows and three columns, with $T$ and $d$, and fill it in.


# %%
def mlp(tokens, w):
    return [torch.relu(x @ w[0]) @ w[1] for x in tokens]


def rnn(tokens, w):
    h, states = torch.zeros_like(tokens[0]), []
    for x in tokens:
        h = torch.tanh(x @ w[0] + h @ w[1])  # needs the h before it
        states.append(h)
    return states


def self_attention(tokens, w):
    queries, keys, values = ([x @ w[i] for x in tokens] for i in range(3))
    K, V = torch.cat(keys), torch.cat(values)
    return [(q @ K.T / math.sqrt(K.size(1))).softmax(-1) @ V @ w[3] for q in queries]


encoders = {"MLP": mlp, "RNN": rnn, "self-attention": self_attention}

# %% [markdown]
# Autograd remembers which result was made from which. So the products between an input and an output can be counted in
# its graph: the longest chain is the waiting, the shortest one from the first token is the distance.


# %%
def products(output, tokens):
    """(longest chain of matrix products behind `output`, shortest chain to the first token or None)."""
    found, todo = {}, [output.grad_fn]
    while todo:
        node = todo[-1]
        before = [n for n, _ in node.next_functions if n is not None]
        missing = [n for n in before if n not in found]
        if missing:
            todo += missing
            continue
        here = int(node.name().startswith("MmBackward"))
        longest = here + max((found[n][0] for n in before), default=0)
        ways = [found[n][1] for n in before if found[n][1] is not None]
        start = 0 if getattr(node, "variable", None) is tokens[0] else None
        found[node] = (longest, here + min(ways) if ways else start)
        todo.pop()
    return found[output.grad_fn]


# %%
d = 32
w = [torch.randn(d, d, generator=lab.generator(n)) / math.sqrt(d) for n in range(4)]
print("                    T        FLOP   waiting   distance from the first token to the last output")
table = {}
for name, encoder in encoders.items():
    for T in (4, 16, 64, 256):
        tokens = [torch.randn(1, d).requires_grad_() for _ in range(T)]
        with FlopCounterMode(display=False) as counter:
            last = encoder(tokens, w)[-1]
        waiting, distance = products(last, tokens)
        table[name, T] = counter.get_total_flops(), waiting, distance
        print(f"{name:15s} {T:5d} {counter.get_total_flops():11,d} {waiting:9d}   {distance if distance else 'no way'}")

# %%
for T in (4, 16, 64, 256):
    assert table["MLP", T] == (4 * T * d * d, 2, None)
    assert table["RNN", T] == (4 * T * d * d, T, T)
    assert table["self-attention", T] == (8 * T * d * d + 4 * T * T * d, 4, 3)
print("MLP             4 T d^2            2 products in a row    no way from token to token")
print("RNN             4 T d^2            T                      T")
print("self-attention  8 T d^2 + 4 T^2 d  4                      3, whatever T is")

# %% [markdown]
# How long do they take? Attention and MLP work on all tokens in one product; the RNN has to go through them in a loop,
# here once in Python and once in PyTorch's own loop.

# %% tags=["nbval-ignore-output"]
d = 64
w = [torch.randn(d, d) / math.sqrt(d) for _ in range(4)]
torch_rnn = nn.RNN(d, d, bias=False)
kinds = {
    "MLP": lambda x: mlp([x], w)[0],
    "RNN, loop in Python": lambda x: torch.cat(rnn(x.split(1), w)),
    "RNN, loop in torch": lambda x: torch_rnn(x)[0],
    "self-attention": lambda x: self_attention([x], w)[0],
}
lengths, seconds = [16, 64, 256, 1024, 2048], {name: [] for name in kinds}
with torch.no_grad():
    for T in lengths:
        x = torch.randn(T, d)
        for name, kind in kinds.items():
            kind(x)
            best = math.inf
            for _ in range(5):
                start = time.perf_counter()
                kind(x)
                best = min(best, time.perf_counter() - start)
            seconds[name].append(best)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.3, 3.3), layout="constrained")
for (name, found), colour, dash in zip(
    seconds.items(), (GREEN, ORANGE, PINK, BLUE), ("-", "-", "--", "-"), strict=True
):
    ax.plot(lengths, [1e3 * s for s in found], "o" + dash, color=colour, label=name)
ax.set(xscale="log", yscale="log", xlabel="tokens T", ylabel="milliseconds (best of five)", title=f"one layer, d = {d}")
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *The MLP is the fastest throughout. The recurrent network rises with $T$ from the start, as each step waits for the
# one before. Attention starts below it and bends upwards, with $T^2$, once $T$ is well above $d$; on one processor
# core it ends above it.*
#
# So the answer depends on what you count. The MLP is the simplest, and useless on its own: no word ever hears of
# another. (One could paste all $T$ vectors into a single long one; then its matrix grows with $T$, fits one length
# only, and learns each place anew.) The RNN does no more work than the MLP, and waits the longest. Attention does
# more work than either, but no word waits for its neighbour, and no two words are further apart than one layer. That
# is what GPUs like, and why a block consists of attention *and* an MLP.
#
# **Question.** The transformer that *writes* a text produces one token after another. What has become of its advantage?
#
# <details><summary>Answer</summary>
#
# In training all places are computed at once (teacher forcing, notebook 06). While writing, token $t + 1$ has to wait
# for token $t$, as in an RNN; what is left is the short distance between words. Notebook 13 wins back some of the rest.
#
# </details>

# %% [markdown]
# ## Questions of the lecture
#
# Lecture 004 asks the first of these outright and the others between the lines. Answer first, then unfold.
#
# **1.** Of MLP, recurrent network and self-attention, which is the simplest to compute?
#
# <details><summary>Answer</summary>
#
# In operations and in time the MLP: $4Td^2$ here, all places at once. But it connects no tokens. Between the other two
# it depends: attention needs more operations as soon as $T$ is not small, the RNN needs $T$ steps one after another
# (section 12).
#
# </details>
#
# **2.** In which sense are sinusoids a continuous version of binary counting? What do they gain by it?
#
# <details><summary>Answer</summary>
#
# Digits flip at periods 2, 4, 8, ...; each pair of features turns at a period of its own, from fast to slow. But all
# steps are equally long, the dot product of two positions depends on their distance alone, and moving on by $k$ is one
# fixed rotation (section 2).
#
# </details>
#
# **3.** A deep network can represent every shallow one. Why then did deeper networks train worse, and what does a
# residual connection change?
#
# <details><summary>Answer</summary>
#
# Being able to represent is not the same as learning: the identity has to be built from small random weights, layer by
# layer (section 5: 16 layers asked to do nothing are no better than guessing). With $x + g(x)$ doing nothing is $g =
# 0$, which the first weights nearly are; and the gradient has a way back on which nothing is multiplied.
#
# </details>
#
# **4.** What makes LayerNorm independent of batch size, of padding, and of training or inference?
#
# <details><summary>Answer</summary>
#
# Mean and variance are taken over one token's own features. No other row, place or pad enters, and no running average
# is needed. BatchNorm fails in each of the three, and in training it also looks into the future (section 7).
#
# </details>
#
# **5.** Name the three sources of instability. Which part of the block answers which?
#
# <details><summary>Answer</summary>
#
# Products of many matrices: the residual sum gives a way around them. Sums that add as much as they have: a norm in the
# branch (growth like $\sqrt l$) or on the sum (none). Saturated softmax: a norm in front of the queries and keys, and
# the scale $1/\sqrt{d_k}$ (section 6, notebook 03).
#
# </details>
#
# **6.** Pre-LN and post-LN: what is normalised in each, and which would you stack 24 times?
#
# <details><summary>Answer</summary>
#
# Pre-LN normalises what a branch reads, post-LN what the stream has become. Pre-LN: from the embedding to the output
# there is a path of sums alone, and it trains at every depth of section 10 without a warm-up.
#
# </details>
#
# **7.** The FFN is the same for each token. Is a block then the same for each place?
#
# <details><summary>Answer</summary>
#
# No: attention differs, as each place sees other tokens (and positions, if they were added). The FFN turns different
# inputs into different outputs by the same rule.
#
# </details>

# %% [markdown]
# ## What to try next
#
# - Section 5: start the last matrix of each layer at zero. What is the error of 16 layers before the first step?
# - Section 9: give `deep_model` GPT-2's initialisation (`init="gpt2"`). Which of the four models does it help?
# - Section 10: give the post-LN model of 12 blocks ten times the learning rate, then a tenth. Set `RUN_IT = True` for
#   all of it.
# - Use `norm="rms"` in section 7. Does RMSNorm pass the same tests as LayerNorm?
# - Modern models put a norm on queries and keys as well. Which of the three instabilities does that answer?
#
# ## Where the idea comes from
#
# - The block, sinusoids, the table of section 12: Vaswani and others, *Attention is all you need* (2017).
# - Rotary positions: Su and others, *RoFormer* (2021). Order from the mask alone: Haviv and others (2022).
# - Residual connections: He and others, *Deep residual learning for image recognition* (2015).
# - BatchNorm: Ioffe and Szegedy (2015). LayerNorm: Ba, Kiros and Hinton (2016). BatchNorm in transformers: Shen and
#   others, *PowerNorm* (2020).
# - The first weights: Glorot and Bengio (2010). Tokens that become alike: Dong and others, *Attention is not all you
#   need* (2021).
# - Where the norm stands: Xiong and others, *On layer normalization in the transformer architecture* (2020).
#
# [06 Teacher forcing →](06_teacher_forcing.ipynb) trains the model that you have built.
