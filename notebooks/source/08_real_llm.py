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
# # 08 · A real language model
#
# In notebooks 03 and 04 you built attention and its mask. Around them a transformer has norms, positions and a
# feed-forward network, and today's models differ from GPT-2 in all three, and in their heads. You build these four,
# put them together to a model of some sixty lines, and load the weights of SmolLM2 into it: 135 million numbers that
# somebody else trained, in classes that you wrote.
#
# **You will be able to**
#
# - write RMSNorm, rotary positions, SwiGLU and grouped-query attention, and say what each changes and what it saves;
# - load real weights into your own model and prove that its logits are right;
# - say where 134.5 million parameters sit, and how a file of 98 MB can hold them;
# - talk to the model through its chat template, and tell an answer from a continuation;
# - look at attention maps and at a prediction as it forms through the layers, without reading too much into either.
#
# **Time** 75 minutes. **Before this** attention ([03](03_attention.ipynb)) and its mask ([04](04_causal_masking.ipynb)).
# **Follows** lectures 002 and 004; the four changes came after the original transformer.
#
# [← 07 Context length](07_context_length.ipynb) · [09 Sampling →](09_sampling.ipynb)

# %% tags=["nbval-ignore-output"]
import copy
import time

import gguf
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import arlab
from arlab import assets
from arlab.decoding import greedy
from arlab.exercises import real_llm as check
from arlab.nn.attention import attention, record_attention
from arlab.nn.blocks import Block as LabBlock
from arlab.nn.blocks import SwiGLU as LabSwiGLU
from arlab.nn.decoder import DecoderConfig
from arlab.nn.language_model import Recompute
from arlab.nn.pretrained import smollm2
from arlab.views import AttentionExplorer

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

# %% [markdown]
# ## 1 · From the GPT-2 block to the Llama block
#
# Both are stacks of the same kind of block. A matrix $x$ with a row for each token, the **stream**, runs through all
# of them. A block adds two branches to it, and each branch normalises its input first:
#
# $$x \leftarrow x + \text{attention}(\text{norm}(x)), \qquad x \leftarrow x + \text{ffn}(\text{norm}(x)).$$
#
# Here ffn is the feed-forward network, applied to each position alone. What differs is what fills these words, and
# how positions come in:
#
# | place | GPT-2 (2019) | Llama, SmolLM2 (2023, 2025) | why |
# |---|---|---|---|
# | norm | LayerNorm | **RMSNorm** | less to compute, and it trains as well |
# | positions | learned vectors, added to the embeddings | **rotary**, applied to queries and keys | distances matter, and no table of fixed length |
# | ffn | two matrices and GELU | **SwiGLU**: three matrices, one of them a gate | better loss for the same parameters |
# | keys and values | as many heads as queries | **grouped**: several query heads share one | a smaller cache, hence longer texts |
#
# **Before you run:** both blocks below have width $d = 576$ and 9 heads. The Llama block has three matrices in its
# ffn, not two. Is it larger?

# %%
sizes = dict(vocab_size=49152, context_length=8192, d_model=576, layers=1, heads=9)
gpt2 = LabBlock(DecoderConfig.gpt2(**sizes))
llama = LabBlock(DecoderConfig.llama(**sizes, kv_heads=3, d_ff=1536))
for part in ("norm1", "attn", "norm2", "ffn"):
    counts = [sum(p.numel() for p in getattr(block, part).parameters()) for block in (gpt2, llama)]
    print(f"{part:6} GPT-2 {counts[0]:>9,}   Llama {counts[1]:>9,}")
totals = [sum(p.numel() for p in block.parameters()) for block in (gpt2, llama)]
print(f"{'block':6} GPT-2 {totals[0]:>9,}   Llama {totals[1]:>9,}")

# %% [markdown]
# It is a little smaller. The ffn is the same size up to its biases (section 4 says how), attention has lost the keys
# and values that are now shared, and the biases are gone.
#
# ## 2 · RMSNorm: only rescale
#
# LayerNorm takes one token's features $x_1, \dots, x_d$, subtracts their mean, and divides by their standard
# deviation. RMSNorm leaves the mean alone and divides by the **root of the mean square**:
#
# $$y_i = \frac{x_i}{\sqrt{\frac{1}{d} \sum_{j=1}^{d} x_j^2 + \epsilon}} \; w_i$$
#
# $w$ is a learned scale for each feature, and the small $\epsilon$ keeps a vector of zeros from becoming 0/0.
#
# **Exercise.** Write it for `x` of shape `(..., d)`.


# %%
def rms_norm(x, weight, eps):
    """x (..., d), weight (d,): each token divided by its root mean square, then scaled; (..., d)."""
    raise NotImplementedError


# %%
check.rms_norm(rms_norm)

# %%
check.rms_norm.hint()

# %%
check.rms_norm.solution()


# %% [markdown]
# The same as a module, the first piece of the model:


# %%
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):  # (..., d)
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight


x = torch.randn(4, 576, generator=lab.generator())
print("equal to torch's:", torch.allclose(RMSNorm(576)(x), nn.RMSNorm(576, eps=1e-5)(x), atol=1e-6))

# %% [markdown]
# **Before you run:** multiply every feature by 5. Which of the two norms notices? Add 3 to every feature: which one
# notices that?

# %%
layer, rms = nn.LayerNorm(576), RMSNorm(576)
with torch.no_grad():
    for name, changed in (("5 x", 5 * x), ("x + 3", x + 3)):
        for norm in (layer, rms):
            same = torch.allclose(norm(x), norm(changed), atol=1e-3)
            print(f"{name:6} {type(norm).__name__:9} gives the same as for x: {same}")
print("parameters:", sum(p.numel() for p in layer.parameters()), "and", sum(p.numel() for p in rms.parameters()))

# %% [markdown]
# Both undo a change of scale, which is what keeps 30 blocks from blowing up or dying out. Only LayerNorm removes a
# shift as well. In two dimensions one can see what that costs:

# %%
points = torch.randn(300, 2, generator=lab.generator()) * torch.tensor([1.0, 0.6]) + torch.tensor([0.5, 0.2])
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
shown = (
    ("input", points),
    ("after LayerNorm", nn.LayerNorm(2, eps=1e-9)(points)),
    ("after RMSNorm", RMSNorm(2)(points)),
)
for ax, (title, xy) in zip(axes, shown, strict=True):
    xy = xy.detach()
    ax.scatter(xy[:, 0], xy[:, 1], s=14, c=points.atan2(points.flip(1))[:, 0], cmap="viridis", alpha=0.8)
    ax.set(title=title, xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="feature 1")
    ax.axhline(0, color="0.85", lw=0.8, zorder=0)
    ax.axvline(0, color="0.85", lw=0.8, zorder=0)
axes[0].set_ylabel("feature 2")
plt.show()

# %% [markdown]
# Three panels: a cloud of points, and the same points after each norm, coloured by their first direction. RMSNorm
# puts them on a circle and keeps each one's direction. LayerNorm, with its mean taken away, has one dimension fewer:
# in the plane only two points are left. In 576 dimensions the loss of one is nothing to fear; the paper that proposed
# RMSNorm found that it gains nothing either.
#
# ## 3 · Rotary positions
#
# Attention does not know order (notebook 03). GPT-2 adds a learned vector for position 0, 1, 2, ... to the
# embeddings, and has none for a position that it never trained. Rotary positions (RoPE) leave the embeddings alone
# and **turn** queries and keys: take two features $(a, b)$ of a vector at position $m$ as a point in the plane, and
# rotate it by the angle $m\theta$:
#
# $$R_m \begin{pmatrix} a \\ b \end{pmatrix} = \begin{pmatrix} a \cos m\theta - b \sin m\theta \\ a \sin m\theta + b \cos m\theta \end{pmatrix}$$
#
# A dot product depends on lengths and on the angle between the two vectors, and on nothing else.
#
# **Before you run:** turn a query at position $m$ and a key at position $n$. For which of the pairs $(m, n)$ below
# will the scores be equal?


# %%
def turn(pair, angle):
    a, b = pair
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()])


q, k, theta = torch.tensor([1.0, 0.5]), torch.tensor([0.3, 1.0]), torch.tensor(0.4)
for m, n in ((0, 0), (5, 2), (5, 3), (25, 22), (25, 23)):
    score = turn(q, m * theta) @ turn(k, n * theta)
    print(f"query at {m:2}, key at {n:2}, distance {m - n}: score {score:.4f}")

# %% [markdown]
# Distance 3 gives one score, distance 2 another, wherever the pair stands. In a formula, $(R_m q)^\top (R_n k) =
# q^\top R_{n-m}\, k$: the score knows $m - n$ only.
#
# A head has more than two features: SmolLM2's have $d = 64$, so 32 pairs. Pair $i$ gets its own speed $\theta_i =
# \text{base}^{-2i/d}$ radians a position, $i = 0, \dots, 31$: the first pair is a second hand, the last one a slow
# hour hand. And which two features make a pair? Here, feature $i$ and feature $i + d/2$.
#
# **Exercise.** Turn all pairs at once.


# %%
def rope(x, positions, base):
    """x (..., time, d), positions (time,): feature i and i + d/2 turned by positions * base^(-2i/d); (..., time, d)."""
    raise NotImplementedError


# %%
check.rope(rope)

# %%
check.rope.hint()

# %%
check.rope.solution()


# %% [markdown]
# The version for our model, with SmolLM2's base of 100,000:


# %%
def rotate(x, positions, base=100_000.0):  # (..., time, d)
    half = x.shape[-1] // 2
    speeds = base ** (-torch.arange(half, device=x.device) / half)  # radians a position, (half,)
    angles = positions[:, None] * speeds  # (time, half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)


q, k = torch.randn(2, 64, generator=lab.generator(), dtype=torch.float64)
for m, n in ((5, 2), (105, 102), (1005, 1002), (5, 3), (1005, 1003)):
    at_m, at_n = (torch.tensor([p], dtype=torch.float64) for p in (m, n))
    score = rotate(q[None], at_m)[0] @ rotate(k[None], at_n)[0]
    print(f"query at {m:4}, key at {n:4}, distance {m - n}: score {score:.4f}")
turned = rotate(q[None], torch.tensor([1005.0]))[0]
print("length kept:", torch.allclose(turned.norm(), q.norm()))

# %%
at = torch.arange(48)
scores = rotate(q.expand(48, 64), at) @ rotate(k.expand(48, 64), at).T
pairs = torch.arange(32)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained", width_ratios=[1, 1.25])
picture = left.imshow(scores, cmap="viridis")
left.set(title="scores of one q and one k", xlabel="position n of the key", ylabel="position m of the query")
fig.colorbar(picture, ax=left, label="score")
for base, colour in ((10_000, ORANGE), (100_000, BLUE)):
    period = 2 * torch.pi * base ** (pairs / 32)
    right.semilogy(pairs, period, ".-", color=colour, label=f"base {base:,}")
right.axhline(8192, color="0.5", lw=1, ls="--")
right.text(0, 9500, "SmolLM2's context, 8,192", color="0.3", fontsize=9)
right.set(title="one full turn of each pair", xlabel="pair i", ylabel="positions for one turn")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# Left: the same query and the same key at every pair of positions. The map is constant along its diagonals: only the
# distance counts. Right: how many positions each pair needs for one full turn. The fast pairs tell neighbours apart;
# a pair that does not come round within the context tells near from far. The larger base keeps more of the pairs
# slow, which is what a longer context asks for.
#
# Values are not turned. A position decides *which* tokens are looked at; what is taken from them stays as it is.
#
# ## 4 · SwiGLU: a feed-forward network with a gate
#
# GPT-2's ffn is $W_2\, \text{gelu}(W_1 x)$, where $\text{gelu}(z)$ is $z$ times the probability that a standard normal
# variable lies below $z$. SwiGLU computes two projections and lets one decide how much of the other passes:
#
# $$\text{ffn}(x) = W_{\text{down}} \big( \text{silu}(W_{\text{gate}}\, x) \odot W_{\text{up}}\, x \big), \qquad \text{silu}(z) = \frac{z}{1 + e^{-z}}$$
#
# with $\odot$ the product feature by feature.
#
# **Before you run:** GPT-2's two matrices take $d$ to $4d$ and back. There are three matrices now. Which width
# $d_{\text{ff}}$ in place of $4d$ gives the same number of weights, for $d = 576$?


# %%
class SwiGLU(nn.Module):
    def __init__(self, d, d_ff):
        super().__init__()
        self.gate, self.up = nn.Linear(d, d_ff, bias=False), nn.Linear(d, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d, bias=False)

    def forward(self, x):  # (..., d), each position alone
        return self.down(F.silu(self.gate(x)) * self.up(x))


ours = SwiGLU(576, 1536)
print("SwiGLU, width 1536:    ", f"{sum(p.numel() for p in ours.parameters()):,} weights")
print("GELU, width 4 x 576:   ", f"{2 * 576 * 4 * 576:,} weights")
theirs = LabSwiGLU(DecoderConfig.llama(**sizes, d_ff=1536))  # arlab keeps gate and up in one matrix
theirs.gate_up.weight.data = torch.cat([ours.gate.weight, ours.up.weight]).detach()
theirs.down.weight = ours.down.weight
print("equal to arlab's:      ", torch.allclose(ours(x), theirs(x), atol=1e-5))

# %% [markdown]
# $3 \cdot d \cdot d_{\text{ff}} = 2 \cdot d \cdot 4d$ gives $d_{\text{ff}} = \tfrac{8}{3} d = 1536$: the same size to
# the last weight.

# %%
z = torch.linspace(-5, 5, 201)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
left.plot(z, F.gelu(z), color=ORANGE, label="gelu")
left.plot(z, F.silu(z), color=BLUE, ls="--", label="silu")
left.set(title="GELU and SiLU", xlabel="z", ylabel="output", ylim=(-5, 5))
for up, colour in ((1.0, BLUE), (0.3, GREEN), (-0.7, PINK)):
    right.plot(z, F.silu(z) * up, color=colour, label=f"up = {up}")
right.set(title="one hidden unit of SwiGLU", xlabel="gate")
for ax in (left, right):
    ax.axhline(0, color="0.85", lw=0.8, zorder=0)
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The two bends look alike. The difference is the product: a hidden unit of SwiGLU can be shut by its gate, whatever
# "up" says, and with the gate open it passes "up" with its sign. Why this trains better is not well understood; the
# paper that proposed it says so openly, and reports that it does.
#
# ## 5 · Grouped-query attention: a smaller cache
#
# While a model writes, it keeps the keys and values of all tokens so far (the **cache**), so that it need not compute
# them again. That memory grows with every token:
#
# $$\text{bytes a token} = 2 \cdot \text{layers} \cdot \text{key/value heads} \cdot d_{\text{head}} \cdot \text{bytes a number}$$
#
# The 2 stands for keys and values. SmolLM2 has 30 layers and $d_{\text{head}} = 64$.
#
# **Before you run:** with 9 key/value heads in float32, how much memory does a full context of 8,192 tokens need:
# more or less than the model's own 538 MB (134.5 million weights of 4 bytes)?

# %%
for kv_heads in (9, 3, 1):
    per_token = 2 * 30 * kv_heads * 64 * 4
    print(
        f"{kv_heads} key/value heads: {per_token:>7,} bytes a token, {per_token * 8192 / 1e6:>7.1f} MB for 8,192 tokens"
    )

# %% [markdown]
# With 9 heads the cache would be twice the model. SmolLM2 has 9 query heads and **3** key/value heads: query heads 0,
# 1, 2 share the first, 3, 4, 5 the second, 6, 7, 8 the third. Query head $h$ uses key/value head $\lfloor h / 3
# \rfloor$.

# %%
tokens = torch.arange(0, 8193, 64)
fig, ax = plt.subplots(figsize=(7.5, 3.3), layout="constrained")
for kv_heads, colour, name in (
    (9, ORANGE, "9: one for each query head"),
    (3, BLUE, "3: SmolLM2"),
    (1, GREEN, "1: all share"),
):
    ax.plot(tokens, 2 * 30 * kv_heads * 64 * 4 * tokens / 1e6, color=colour, label=name)
ax.axhline(538, color="0.5", lw=1, ls="--")
ax.text(100, 552, "the model's weights, 538 MB", color="0.3", fontsize=9)
ax.set(xlabel="tokens in the cache", ylabel="cache in MB (float32)", xlim=(0, 8192), ylim=(0, 1200))
ax.legend(frameon=False, title="key/value heads", loc="upper left", bbox_to_anchor=(0.02, 0.95))
plt.show()

# %% [markdown]
# The cache against the number of tokens, a line for each number of key/value heads. With three, the cache stays below
# the weights over the whole context.
#
# **Exercise.** To use the attention function of notebook 03 we need as many key heads as query heads. Repeat each key
# head `group` times, in the right order.


# %%
def repeat_kv(k, group):
    """k (rows, kv_heads, time, d) -> (rows, kv_heads * group, time, d): query head h gets key head h // group."""
    raise NotImplementedError


# %%
check.repeat_kv(repeat_kv)

# %%
check.repeat_kv.hint()

# %%
check.repeat_kv.solution()

# %% [markdown]
# Copies cost memory, which was to be saved. Another way copies nothing: give the queries an axis of their own for the
# group, `(rows, kv_heads, group, time, d)`, and let one key head broadcast over it. Both give the same numbers:

# %%
q = torch.randn(2, 9, 5, 64, generator=lab.generator())
k, v = torch.randn(2, 2, 3, 5, 64, generator=lab.generator(1))  # (rows, kv_heads, time, d) each
copied, _ = attention(q, k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1))
shared, _ = attention(q.unflatten(1, (3, 3)), k[:, :, None], v[:, :, None])
print("queries, grouped:", tuple(q.unflatten(1, (3, 3)).shape), " keys:", tuple(k[:, :, None].shape))
print("same result:", torch.allclose(copied, shared.flatten(1, 2), atol=1e-6))


# %% [markdown]
# ## 6 · Your model, in some sixty lines
#
# The attention layer, with its grouped heads, its rotation, and the causal mask from notebook 04:


# %%
class Attention(nn.Module):
    rotate = staticmethod(rotate)  # section 7 puts wrong ones here

    def __init__(self, d, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.d_head = heads, kv_heads, d // heads
        self.q = nn.Linear(d, heads * self.d_head, bias=False)
        self.k = nn.Linear(d, kv_heads * self.d_head, bias=False)
        self.v = nn.Linear(d, kv_heads * self.d_head, bias=False)
        self.out = nn.Linear(heads * self.d_head, d, bias=False)

    def forward(self, x):  # (rows, time, d)
        rows, time, _ = x.shape
        q, k, v = (
            project(x).view(rows, time, self.kv_heads, -1, self.d_head).permute(0, 2, 3, 1, 4)
            for project in (self.q, self.k, self.v)
        )  # q: (rows, kv_heads, group, time, d_head); k and v have a group of 1, which broadcasts
        positions = torch.arange(time, device=x.device)
        scores = self.rotate(q, positions) @ self.rotate(k, positions).transpose(-2, -1) / self.d_head**0.5
        future = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(diagonal=1)
        weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
        z = weights @ v  # (rows, kv_heads, group, time, d_head)
        return self.out(z.permute(0, 3, 1, 2, 4).reshape(rows, time, -1))


# %% [markdown]
# The block, and the model around it. The output matrix is the embedding matrix itself (the two are **tied**): a
# token's logit is the dot product of the final state with that token's embedding.


# %%
class Block(nn.Module):
    def __init__(self, d, heads, kv_heads, d_ff):
        super().__init__()
        self.norm1, self.attn = RMSNorm(d), Attention(d, heads, kv_heads)
        self.norm2, self.ffn = RMSNorm(d), SwiGLU(d, d_ff)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Llama(nn.Module):
    def __init__(self, vocab_size, d, layers, heads, kv_heads, d_ff):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, d)
        self.blocks = nn.ModuleList(Block(d, heads, kv_heads, d_ff) for _ in range(layers))
        self.norm = RMSNorm(d)

    def logits(self, x):  # from the stream to the vocabulary
        return self.norm(x) @ self.embed_tokens.weight.T

    def forward(self, ids):  # (rows, time)
        x = self.embed_tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.logits(x)  # (rows, time, vocab)


# %% [markdown]
# Now the weights. `smollm2()` reads the file into arlab's own model. Its tensors have names and shapes:

# %% tags=["nbval-ignore-output"]
model, tokenizer = smollm2(device=lab.device)

# %%
for name, tensor in list(model.state_dict().items())[:8]:
    print(f"{name:28} {tuple(tensor.shape)}")
print("tensors:", len(model.state_dict()))


# %% [markdown]
# Two of them hold several matrices, stacked by rows, for one large product is quicker than three small ones:
# `attn.qkv` is $[W_Q; W_K; W_V]$ with $9 \cdot 64 + 3 \cdot 64 + 3 \cdot 64 = 960$ rows, and `ffn.gate_up` is
# $[W_{\text{gate}}; W_{\text{up}}]$. Cut them apart and hand each piece its place. Nothing is copied: the pieces are
# views of the same memory.


# %%
def for_my_classes(state):
    mine = {}
    for name, weight in state.items():
        stem = name.rpartition(".")[0].rpartition(".")[0]  # "blocks.0.attn.qkv.weight" -> "blocks.0.attn"
        if name.endswith("attn.qkv.weight"):
            pieces = zip("qkv", weight.split([9 * 64, 3 * 64, 3 * 64]), strict=True)
        elif name.endswith("ffn.gate_up.weight"):
            pieces = zip(("gate", "up"), weight.chunk(2), strict=True)
        else:
            mine[name] = weight
            continue
        mine |= {f"{stem}.{piece}.weight": rows for piece, rows in pieces}
    del mine["head.weight"]  # tied: it is the embedding once more
    return mine


with torch.device("meta"):  # shapes without memory: the real weights come right after
    mine = Llama(vocab_size=49152, d=576, layers=30, heads=9, kv_heads=3, d_ff=1536)
print(mine.load_state_dict(for_my_classes(model.state_dict()), assign=True))
mine = mine.eval().requires_grad_(False)

# %% [markdown]
# Every name found its place. That proves the shapes, and nothing more: a wrong formula would load just as well.
#
# **Before you run:** the same prompt goes through your model and through arlab's. How close will the logits be?

# %%
prompt = "The capital of France is"
ids = torch.tensor([tokenizer.encode(prompt)], device=lab.device)
with torch.no_grad():
    ours, theirs = mine(ids), model(ids)
print("logits compared:", ours.numel())
print("largest difference < 1e-3:", (ours - theirs).abs().max().item() < 1e-3)
p = ours[0, -1].softmax(dim=-1)
for token in p.topk(3).indices.tolist():
    print(f"{tokenizer.decode([token])!r:10} {p[token]:.4f}")

# %% [markdown]
# All 245,760 logits agree. The model you wrote is SmolLM2. It can do what every decoder of this course asks of a
# language model: `Recompute` wraps any module that turns ids into logits (it has no cache, so it reads the whole text
# again for each token).

# %%
writer = Recompute(mine, vocab_size=49152, context_length=8192)
start = "Once upon a time, there was a"
new = greedy(writer, tokenizer.encode(start), max_new_tokens=12)
print(start + tokenizer.decode(new.tokens()))

# %% [markdown]
# ## 7 · Four mistakes that load without an error
#
# Weights carry no note about the formulas they were trained with. Each change below leaves every shape as it is.
#
# 1. Pair neighbouring features $(0, 1), (2, 3), \dots$ in the rotation, instead of $(i, i + 32)$. Both are called RoPE.
# 2. Turn the other way, by $-m\theta$.
# 3. Count the positions from 1 instead of 0.
# 4. Swap gate and up.
#
# **Before you run:** one of the four does not change the logits. Which? And how badly will the others do: on the
# prompt, and on a longer passage?


# %%
def neighbours(x, positions, base=100_000.0):
    """The same rotation, for features paired as (0, 1), (2, 3), ..."""
    halves = torch.cat([x[..., ::2], x[..., 1::2]], dim=-1)  # bring the pairs into halves,
    turned = rotate(halves, positions, base)
    return torch.stack(turned.chunk(2, dim=-1), dim=-1).flatten(-2)  # and back


# %%
def report(name, candidate):
    logits = candidate(ids)[0, -1]
    changed = bool((logits - right).abs().max() > 1e-2)
    best, p = int(logits.argmax()), logits.softmax(dim=-1)
    loss = F.cross_entropy(candidate(passage)[0, :-1], passage[0, 1:])  # mean of -log p(next token)
    print(f"{name:20} changed: {changed!s:5}  top: {tokenizer.decode([best])!r:8} {p[best]:.4f}  passage: {loss:.2f}")


text = (
    "The tram stopped at the edge of the harbour and the driver switched off the lights. Two gulls stood on the wall "
    "as if they had been waiting for it. An old woman got out, put down her basket, and looked at the water for a while."
)
passage = torch.tensor([tokenizer.encode(text)], device=lab.device)
right = mine(ids)[0, -1]

# %%
report("as it should be", mine)
for name, wrong in (
    ("neighbours paired", neighbours),
    ("turned backwards", lambda x, positions: rotate(x, -positions)),
    ("positions from 1", lambda x, positions: rotate(x, positions + 1)),
):
    Attention.rotate = staticmethod(wrong)
    report(name, mine)
Attention.rotate = staticmethod(rotate)
for name in ("gate and up swapped", "swapped back"):
    for block in mine.blocks:
        block.ffn.gate, block.ffn.up = block.ffn.up, block.ffn.gate
    report(name, mine)

# %% [markdown]
# Counting from 1 changes nothing: scores know distances only, and shifting everybody by one leaves distances alone.
# The other three are wrong, and none of them raises an error. Two of them even answer " Paris", so a prompt that you
# happen to try proves little; the loss on the passage, in nats a token, gives them away. This is why the equality in
# section 6 had to be measured.
#
# The first one deserves a closer look, for it is the mistake people really make. Code and weights must agree on the
# pairing, and files do not all use the same: SmolLM2's GGUF file holds the rows of $W_Q$ and $W_K$ in the order for
# neighbours, and arlab reorders them for halves while loading. Reorder them back, and the "wrong" rotation is right:

# %%
order = torch.arange(64, device=lab.device).view(2, 32).T.flatten()  # 0, 32, 1, 33, ...: each pair side by side
state = for_my_classes(model.state_dict())
for name in state:
    if name.endswith(("attn.q.weight", "attn.k.weight")):
        state[name] = state[name].view(-1, 64, 576)[:, order].reshape(-1, 576)
with torch.device("meta"):
    reordered = Llama(vocab_size=49152, d=576, layers=30, heads=9, kv_heads=3, d_ff=1536)
reordered.load_state_dict(state, assign=True)
reordered.requires_grad_(False)
Attention.rotate = staticmethod(neighbours)
report("rows reordered too", reordered)
Attention.rotate = staticmethod(rotate)
del reordered, state

# %% [markdown]
# Reordering the features of queries and keys alike changes no dot product. Either convention is fine; mixing them is
# not.
#
# ## 8 · Where the parameters sit
#
# **Before you run:** the vocabulary has 49,152 tokens of 576 numbers each, and there are 30 blocks. Which part is the
# largest: embedding, attention, or feed-forward?

# %%
groups = {
    "embedding (and output, tied)": "embed_tokens",
    "attention": ".attn.",
    "feed-forward": ".ffn.",
    "norms": "norm",
}
counts = {part: sum(p.numel() for n, p in mine.named_parameters() if key in n) for part, key in groups.items()}
total = sum(counts.values())
for part, count in counts.items():
    print(f"{part:29} {count:>11,}  {100 * count / total:5.1f} %")
print(f"{'all':29} {total:>11,}  checked: {total == sum(p.numel() for p in mine.parameters())}")
print(f"{'with an output of its own':29} {total + 49152 * 576:>11,}")

# %%
fig, ax = plt.subplots(figsize=(8.5, 1.9), layout="constrained")
start = 0
for (part, count), colour in zip(counts.items(), (ORANGE, BLUE, GREEN, PINK), strict=True):
    ax.barh(0, count / 1e6, left=start / 1e6, color=colour, label=f"{part}, {count / 1e6:.2f} M")
    start += count
ax.set(yticks=[], xlabel="parameters (millions)", xlim=(0, total / 1e6))
ax.legend(ncols=2, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
ax.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# One bar, 134.5 million long. The feed-forward networks hold more than half of it; the norms (pink, at the right
# edge) are too few to see. The embedding is a fifth of the model, and would be there twice if it were not tied: small
# models tie, large ones can afford not to.
#
# ## 9 · The file: 4 bits a weight
#
# In float32 these parameters take 538 MB. The file that was fetched has 98 MB. It is in the GGUF format: named
# tensors, the tokenizer and the settings in one file, with most weights **quantised**.

# %%
reader = gguf.GGUFReader(assets.path("smollm2"))
tensors = {tensor.name: tensor for tensor in reader.tensors}
for kind in ("Q4_1", "Q8_0", "F32"):
    group = [t for t in tensors.values() if t.tensor_type.name == kind]
    weights, size = sum(int(t.n_elements) for t in group), sum(int(t.n_bytes) for t in group)
    print(
        f"{kind:5} {len(group):3} tensors {weights / 1e6:7.2f} M weights {size / 1e6:6.2f} MB {8 * size / weights:5.1f} bits each"
    )
print(f"whole file: {assets.path('smollm2').stat().st_size / 1e6:.1f} MB; in float32: {4 * total / 1e6:.1f} MB")
print("stored as Q8_0:", [name for name, t in tensors.items() if t.tensor_type.name == "Q8_0"])

# %% [markdown]
# The matrices of the blocks are in **Q4_1**. It cuts each row into blocks of 32 weights and spends 20 bytes on a
# block: a scale $d$ and a minimum $m$ (2 bytes each), and 32 numbers $q$ of 4 bits, each from 0 to 15. The weight is
#
# $$w = d \cdot q + m .$$
#
# That makes 5 bits a weight, all told. Within a block only 16 values are possible, evenly spaced between its own
# smallest and largest. The embedding is kept finer, in Q8_0 (8 bits and a scale). Here is one block, by hand: the
# first 32 weights of $W_V$ in layer 0.

# %%
row = tensors["blk.0.attn_v.weight"].data[0]  # one row of W_V: 576 weights in 18 blocks of 20 bytes
block = np.array(row[:20])
d, m = block[:4].view(np.float16).astype(np.float32)
q = np.concatenate([block[4:] & 15, block[4:] >> 4])  # low halves of the bytes are weights 0-15, high halves 16-31
by_hand = d * q + m
print("bytes in the row:", len(row), " d =", f"{d:.6f}", " m =", f"{m:.6f}")
print("q =", q.tolist())
print("w =", *(f"{w:.4f}" for w in by_hand[:8]), "...")

# %%
library = model.state_dict()["blocks.0.attn.qkv.weight"][(9 + 3) * 64, :32].cpu()  # the first row of W_V
print("equal to the library's numbers:", torch.equal(torch.from_numpy(by_hand), library))

# %%
fig, ax = plt.subplots(figsize=(8.5, 3), layout="constrained")
for level in range(16):
    ax.axhline(d * level + m, color="0.88", lw=0.8, zorder=0)
ax.vlines(range(32), 0, by_hand, color=BLUE, lw=1)
ax.plot(range(32), by_hand, "o", color=BLUE, ms=5)
ax.axhline(0, color="0.3", lw=0.8)
ax.set(xlabel="weight in the block", ylabel="value", title="32 weights on the 16 levels of their block")
plt.show()

# %% [markdown]
# Each dot is a weight, each grey line one of the 16 values it may take. Quantisation rounds: the weights that were
# trained lay between the lines. We have the rounded ones only, so "equal logits" in this notebook means equal to what
# this file holds.
#
# ## 10 · Its tokenizer, and how to ask it something
#
# **Before you run:** how many tokens is "2024"? Is "Paris" the same token at the start of a text and after a space?

# %%
for text in ("2024", "Paris", " Paris", "Paris is nice", "unbelievable", " naïve café"):
    ids = tokenizer.encode(text)
    print(f"{text!r:16} {len(ids)} tokens: {[tokenizer.token_strings()[i] for i in ids]}")

# %% [markdown]
# Digits stand alone: "2024" is four tokens, so that numbers are spelled the same way wherever they occur. A leading
# space belongs to the word, and " Paris" and "Paris" are two tokens with two embeddings that have nothing in common
# but their training. That is why a prompt should not end in a space: the next word would bring its own.
#
# The vocabulary also has **special tokens**, which no ordinary text contains:

# %%
print("special tokens:", len(tokenizer.special_ids))
for i in sorted(tokenizer.special_ids)[:4]:
    print(i, tokenizer.token_strings()[i])
print(
    "one token:",
    tokenizer.encode("<|im_start|>"),
    " tokens as ordinary text:",
    len(tokenizer.encode("<|im_start|>", allow_special=False)),
)

# %% [markdown]
# Written in a text, a special token's name becomes that one token, so text from strangers is best encoded with
# `allow_special=False`.
#
# The model was first trained on plain text, and then tuned on conversations. In these, `<|im_start|>` and
# `<|im_end|>` mark who speaks. The **chat template** that came with the file writes a question in this form:

# %%
chat = tokenizer.chat([{"role": "user", "content": "What is the capital of France?"}])
print(tokenizer.decode(chat))

# %% [markdown]
# The text ends where the assistant begins to speak. So an answer is a continuation like any other, of a text that
# leaves no doubt about what comes next; and it is over when the model predicts `<|im_end|>`.
#
# **Before you run:** the same sentences once as a plain text to continue and once as a question in the template, both
# decoded greedily. What will the model do with the plain ones?

# %%
for question in ("What is the capital of France?", "Name three primary colours."):
    plain = greedy(model, tokenizer.encode(question), max_new_tokens=20)
    asked = tokenizer.chat([{"role": "user", "content": question}])
    answer = greedy(model, asked, max_new_tokens=24, eos_id=tokenizer.eos_id)
    print(question)
    print("   continued:", repr(tokenizer.decode(plain.tokens())))
    print("   answered: ", repr(tokenizer.decode(answer.tokens())))
    print("   ended by itself:", bool(answer.finished[0, 0]))

# %% [markdown]
# Left to itself the second sentence becomes the beginning of some text about colour. The first one is so much a
# question that the model writes the markup itself, ends the turn that never began, and answers as the assistant: it
# has seen this form very often. In the template both get an answer; the first ends by itself, the second is cut by
# our limit of 24 tokens.
#
# ## 11 · Attention maps
#
# All 270 heads of the model (30 layers, 9 heads each) on one text. Choose a layer and a head, then point at a token
# to see where it looks; layers and heads are counted from 0. Look first at layer 16, head 0, then at layer 17, head
# 5.

# %% tags=["nbval-ignore-output"]
story = "The cat sat on the mat because it was tired. The dog did not sit on the mat."
explorer = AttentionExplorer(model, tokenizer, story, layer=16, head=0)
explorer

# %% [markdown]
# 1. What does head 0 of layer 16 do, whatever the words?
# 2. In layer 17, head 5, point at the *second* " on", " the" and " mat". Which tokens do they look at, and what stood
#    before those the first time? Then point at " sit", a word that has not occurred before. What does it look at?
# 3. Find heads that put nearly everything on the first token. Are they in the early or in the late layers?
# 4. In layer 13, head 8, point at " it". Then replace "tired" by "dirty", so that it means the mat, and look again.
#    Why could you have known the result without looking?
#
# The same in numbers. `record_attention` gives the maps that the explorer shows, `(layers, heads, queries, keys)`:

# %%
ids = torch.tensor([tokenizer.encode(story)], device=lab.device)
with torch.no_grad(), record_attention(model) as maps:
    model(ids)
weights = maps.stack()[:, 0].cpu()
words = [tokenizer.decode([i]) for i in ids[0].tolist()]
previous = weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)  # (layers, heads)
first = weights[:, :, 1:, 0].mean(dim=-1)
again = words.index(" the", 5)  # the second " the"; the first stands before " mat"
before = words.index(" the")
print(
    "layer 16, head 0, weight on the previous token:", f"{previous[16, 0]:.4f}; mean of all heads {previous.mean():.4f}"
)
print(f"layer 17, head 5, from {words[again]!r} to {words[before + 1]!r}: {weights[17, 5, again, before + 1]:.4f}")
sit, on = words.index(" sit"), words.index(" on")
print(f"layer 17, head 5, from {words[sit]!r} to {words[on]!r}: {weights[17, 5, sit, on]:.4f}")
it, cat = words.index(" it"), words.index(" cat")
print(f"layer 13, head 8, from {words[it]!r} to {words[cat]!r}: {weights[13, 8, it, cat]:.4f}")
print(f"weight on the first token: layers 0-9 {first[:10].mean():.4f}, layers 20-29 {first[20:].mean():.4f}")

# %%
dirty = torch.tensor([tokenizer.encode(story.replace("tired", "dirty"))], device=lab.device)
with torch.no_grad(), record_attention(model) as maps:
    model(dirty)
changed = (maps.stack()[:, 0].cpu() - weights).abs().amax(dim=(0, 1, 3)) > 1e-3  # for each query, over all heads
print("tokens whose rows change:", [word for word, c in zip(words, changed.tolist(), strict=True) if c])

# %% [markdown]
# Layer 16, head 0 looks one token back. One layer later, a head looks from the second " the" to " mat", the word that
# *followed* " the" the first time: together they let the model continue a text as it went before. The second kind is
# called an **induction head**. A word need not be the same to be found: " sit" looks at " on", which followed " sat".
# When "tired" becomes "dirty", no head changes what " it" looks at: the causal mask
# lets a token see only what came before, and the word that settles the question comes after.
#
# And much of all the weight lies on the first token, more so in late layers. A row of weights must sum to 1, so a
# head that finds nothing of interest has to put it somewhere: an **attention sink**.
#
# A map tells where a head takes its values from. It does not tell what these values then do: a head may look at a
# word and contribute nothing, and the reason for a prediction may lie in other heads or in the feed-forward networks.
# " it" looking at " cat" in one head of 270 is no proof that the model has worked out who was tired. Maps give ideas;
# only an intervention, such as changing the word or removing the head, tests them.
#
# ## 12 · A prediction forms, layer by layer
#
# Each block adds to the stream $x$. Only the last state is trained to be read by the output matrix. But nothing keeps
# us from reading an earlier one *as if it were the last*: normalise it, compare it with every embedding. This is the
# **logit lens**. Your own model makes it easy, for its blocks are a plain list.
#
# **Before you run:** after how many of the 30 blocks will " Paris" be on top?


# %%
def states(text):
    """The stream at the last position before the first block and after each one: (31, d)."""
    x = mine.embed_tokens(torch.tensor([tokenizer.encode(text)], device=lab.device))
    seen = [x]
    for block in mine.blocks:
        seen.append(block(seen[-1]))
    return torch.cat(seen)  # (31, time, d)


prompts = (
    "The capital of France is",
    "The first president of the United States was George",
    "Paris is in France. Rome is in Italy. Tokyo is in",
)
streams = [states(text) for text in prompts]
lenses = [mine.logits(stream[:, -1]).cpu() for stream in streams]  # (31, vocab) each
for n in (0, 5, 10, 15, 20, 24, 25, 26, 27, 28, 29, 30):
    tops = [lens[n].softmax(dim=-1).max(dim=-1) for lens in lenses]
    print(f"after {n:2}", *(f"{tokenizer.decode([int(top.indices)])!r:>14} {top.values:.2f}" for top in tops))

# %%
fig, ax = plt.subplots(figsize=(8.5, 3.5), layout="constrained")
for lens, colour, marker in zip(lenses, (ORANGE, BLUE, GREEN), "osv", strict=True):
    final = int(lens[-1].argmax())
    rank = (lens > lens[:, final : final + 1]).sum(dim=-1) + 1  # 1 = on top
    ax.semilogy(range(31), rank, marker=marker, ms=4, color=colour, label=repr(tokenizer.decode([final])))
ax.set(xlabel="blocks passed", ylabel="rank among 49,152 tokens", title="where the final answer stands, read early")
ax.set_yticks([1, 10, 100, 1000, 10000], ["1", "10", "100", "1,000", "10,000"])
ax.invert_yaxis()
ax.legend(frameon=False, title="final answer")
plt.show()

# %% [markdown]
# The figure shows the rank of the token that wins in the end, 1 at the top, for the three prompts. Read this way, the
# answer climbs in the last seven blocks, and in all three it is on top only after the very last one. After "George",
# the table passes " C" and " W" before " Washington": it reads as if the first letter were settled before the word.
#
# Be careful with such sentences. The lens shows what the *final* norm and the output matrix would make of a state
# they were never trained on. That " Paris" cannot be read after block 20 does not mean that it is not there: it may
# be written in directions that this reader does not look at. And the top token early on is mostly punctuation or "
# the", which tells more about the reader than about the model's mind. What one may say: the last blocks bring the
# state into the form that the output matrix reads.
#
# One thing more can be measured on the same states: their length.

# %%
lengths = streams[0].norm(dim=-1).cpu()  # (31, time)
for n in (0, 10, 11, 12, 20, 29, 30):
    a, b = (float(f"{length:.3g}") for length in (lengths[n, 0], lengths[n, -1]))  # three digits
    print(f"after {n:2}: first token {a:>7g}   last token {b:>5g}")
cosine = F.cosine_similarity(streams[0][12], streams[0][28], dim=-1)  # of the directions after 12 and 28 blocks
print(f"direction after 12 and after 28 blocks, cosine: first token {cosine[0]:.4f}, last token {cosine[-1]:.4f}")

# %% [markdown]
# One block, the twelfth, makes the first token's state more than a hundred times longer, and it stays long to the
# end. RMSNorm takes the length away before any head or ffn sees it. What remains is a direction that hardly changes
# any more (cosine 0.999): what the sixteen blocks in between add is too little to turn it. That is the attention sink
# from the other side, a constant place to look at.
#
# ## 13 · Memory and speed: float32 and bfloat16
#
# bfloat16 keeps float32's range in half the memory and has 8 bits of precision in place of 24. There are two ways to
# use a model, and they are slow for different reasons. *Writing* a token with a cache reads every weight once and does
# little with it: half the bytes could mean twice the speed. *Reading* a text in one pass uses each weight for all of
# its tokens: what counts is how fast the processor multiplies.
#
# **Before you run:** which format is faster on your machine at writing, and at reading? Will the most probable token
# change?

# %% tags=["nbval-ignore-output"]
half = copy.deepcopy(model).to(torch.bfloat16)
for name, candidate in (("float32", model), ("bfloat16", half)):
    greedy(candidate, tokenizer.encode(prompt), max_new_tokens=2)  # warm up
    begin = time.perf_counter()
    greedy(candidate, tokenizer.encode(prompt), max_new_tokens=24)
    written = time.perf_counter()
    greedy(candidate, passage[0], max_new_tokens=1)  # one pass over all of the passage
    read = time.perf_counter()
    print(
        f"{name:9} writes {24 / (written - begin):5.1f}, reads {passage.numel() / (read - written):5.0f} tokens a second"
    )

# %%
ids = torch.tensor([tokenizer.encode(prompt)], device=lab.device)
with torch.no_grad():
    p32, p16 = (m(ids)[0, -1].float().softmax(dim=-1) for m in (model, half))
for name, m in (("float32", model), ("bfloat16", half)):
    print(f"{name:9} {sum(p.numel() * p.element_size() for p in m.parameters()) / 1e6:.1f} MB of weights")
print("same top token:", int(p32.argmax()) == int(p16.argmax()))
moved = (p32 - p16).abs().max()
print("a probability moved:", bool(moved > 1e-4), " by less than 0.1:", bool(moved < 0.1))
cache = model.new_cache(rows=1, capacity=8192)
print(f"cache for 8,192 tokens: {(cache.k.numel() + cache.v.numel()) * cache.k.element_size() / 1e6:.1f} MB in float32")

# %% [markdown]
# Half the memory, the same first choice, and probabilities that move enough to see it. Whether it is faster depends
# on the machine and on the routine that multiplies. On a server CPU with instructions for bfloat16, reading went
# nearly twice as fast, and writing no faster: there arlab's float32 takes a product that keeps up with the memory,
# and PyTorch's bfloat16 one does not. A laptop without such instructions may be slower at both, a GPU faster. The
# last line is the cache of section 5, measured: 377.5 MB, as the formula said.
#
# ## Test yourself
#
# <details><summary>1. A model has d = 1024, 16 query heads and 4 key/value heads. What are the shapes of K and V for 10 tokens, and of the output Z before the last matrix?</summary>
#
# Each head has 1024 / 16 = 64 features. K and V are 4 heads x 10 x 64; Z has a row for each query head, 16 x 10 x 64,
# that is 10 x 1024 side by side.
# </details>
#
# <details><summary>2. You shift all positions of a RoPE model by 1,000. What changes? And in GPT-2?</summary>
#
# In the RoPE model nothing, up to rounding: scores depend on differences. GPT-2 adds another learned vector to each
# embedding and computes something else; past the end of its table there is no vector at all.
# </details>
#
# <details><summary>3. Why are the values not rotated?</summary>
#
# The rotations cancel in the dot product of query and key and leave the distance. Values are added up, no dot product
# undoes their turning: the output would depend on absolute positions.
# </details>
#
# <details><summary>4. Your loaded model gives fluent nonsense. Every tensor fitted. Name three things to check.</summary>
#
# The pairing of the rotary features, the order of stacked matrices (Q, K, V; gate, up), the order of the grouped
# heads; also the norm's epsilon, the rotary base, and whether the output matrix is tied. Then compare logits with a
# reference, layer by layer if need be.
# </details>
#
# <details><summary>5. Q4_1 stores 4 bits a weight. Why does it cost 5?</summary>
#
# Each 32 weights share a scale and a minimum of 2 bytes each: 32 bits for 32 weights, one bit more for each.
# </details>
#
# <details><summary>6. In the logit lens " Paris" is on top only after the last block. Has the model found the answer there?</summary>
#
# One cannot tell from this. The lens tells when the output matrix can read it. Earlier blocks may hold it in another
# form; to find out one would have to change a state and see what happens to the answer.
# </details>
#
# ## What to try next
#
# - Put your own `rms_norm` and `rope` from the exercises into the classes of section 6. Do the logits still agree?
# - Quantise a row of the embedding to 4 bits yourself (32 weights at a time: minimum, scale, round). How far do the
#   logits move?
# - Ask the model something in the template with a system message of your own: `{"role": "system", "content": "..."}`
#   first.
# - Give the logit lens a prompt that the model gets wrong.
# - Go on with [09_sampling](09_sampling.ipynb): greedy is the dullest thing one can do with these distributions.
#
# ## Where the ideas come from
#
# GPT-2: Radford and others (2019). RMSNorm: Zhang and Sennrich (2019). Rotary positions: Su and others (2021).
# SwiGLU: Shazeer (2020). One key/value head for all: Shazeer (2019); grouped queries: Ainslie and others (2023).
# Llama: Touvron and others (2023). SmolLM2: Allal and others (2025). Tied embeddings: Press and Wolf (2017). The GGUF
# file and Q4_1: the llama.cpp project, Gerganov and others (2023). Induction heads: Olsson and others (2022).
# Attention sinks: Xiao and others (2023); the long first state: Sun and others (2024). The logit lens: nostalgebraist
# (2020). Maps as explanations: Jain and Wallace (2019), Wiegreffe and Pinter (2019).
