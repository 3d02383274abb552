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
# # 03 · Attention
#
# A token's vector, fresh from the embedding table, knows nothing of its neighbours: *it* is *it*, whatever came before.
# Attention is the step in which tokens look at one another and fetch what they need. You will build it in five lines,
# take it apart, and then watch 270 of its heads at work in a real language model.
#
# **You will be able to**
#
# - give the shapes of $Q$, $K$, $V$, the weights $A$ and the output $Z$ for any layer;
# - compute attention by hand for a seven-token sentence, and predict who attends to whom;
# - show by measurement what $1/\sqrt{d_k}$ saves you from;
# - split a model into heads, let them attend, and put them together again;
# - read the attention maps of a language model, and say what they do *not* tell you.
#
# **Time** 75 minutes. **Before this** matrix products, softmax, a little PyTorch ([00](00_start_here.ipynb)).
# **Follows** lecture 002 (attention in detail) and lecture 004 (multi-head attention).
#
# [← 02 Tokens and batches](02_tokens_and_batches.ipynb) · [04 Causal masking →](04_causal_masking.ipynb)

# %% tags=["nbval-ignore-output"]
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import arlab
from arlab.exercises import attention as check
from arlab.nn.attention import MultiHeadAttention, attention, record_attention
from arlab.nn.cache import Layout
from arlab.nn.decoder import DecoderConfig
from arlab.nn.pretrained import smollm2
from arlab.views import AttentionExplorer, AttentionWorkbench

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by colour-blind readers too
torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)
lab = arlab.setup(seed=0)

# %% [markdown]
# ## 1 · Three matrices from one
#
# A sequence of $T$ tokens enters as a matrix $X$ of size $T \times d_m$: one row for each token, and $d_m$, the model's
# width, numbers in each row. Attention never compares these rows directly. It makes three new matrices out of them,
# each with learned weights:
#
# $$Q = XW^Q \qquad K = XW^K \qquad V = XW^V$$
#
# - a **query** $q_t$ (row $t$ of $Q$) says what token $t$ is looking for;
# - a **key** $k_s$ says what token $s$ can be found by;
# - a **value** $v_s$ is what token $s$ hands over when it is found.
#
# The lecture asks: there are 10 tokens and $d_m = 512$. $Q$ is $10 \times 64$ and $V$ is $10 \times 128$.
#
# **Before you run the next cells:** write down the size of $X$, of $W^Q$, of $K$, and of the final output $Z$.

# %%
T, d_m, d_k, d_v = 10, 512, 64, 128
generator = lab.generator()


def random_matrix(rows, columns):
    """Scaled so that a product with a row of X has entries of about 1."""
    return torch.randn(rows, columns, generator=generator) / math.sqrt(rows)


X = torch.randn(T, d_m, generator=generator)  # in a model: rows of the embedding table
W_Q, W_V = random_matrix(d_m, d_k), random_matrix(d_m, d_v)
Q, V = X @ W_Q, X @ W_V
print("X", tuple(X.shape), "  W_Q", tuple(W_Q.shape), "  Q", tuple(Q.shape), "  V", tuple(V.shape))

# %% [markdown]
# Each query is compared with each key by a dot product, and all of these at once are one matrix product, $QK^\top$.
# That product decides how wide a key has to be. Try three widths:

# %%
for width in (32, 64, 128):
    K = X @ random_matrix(d_m, width)
    try:
        print(f"K is {T} x {width}: scores {tuple((Q @ K.T).shape)}")
    except RuntimeError as error:
        print(f"K is {T} x {width}: {error}")

# %% [markdown]
# A key must be exactly as wide as a query: $K$ is $10 \times 64$, and the scores are $10 \times 10$, one number for
# each (query, key) pair. The width of the values is free, for they never meet a query. Now the whole formula:
#
# $$A = \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right) \qquad Z = AV$$
#
# The softmax runs along each row: $\operatorname{softmax}(s)_j = e^{s_j} / \sum_i e^{s_i}$. Row $t$ of $A$ holds the
# **attention weights** of query $t$: how it divides its attention among all the tokens.

# %%
K = X @ random_matrix(d_m, d_k)
scores = Q @ K.T / math.sqrt(d_k)
A = scores.softmax(dim=-1)
Z = A @ V
print("K", tuple(K.shape), "  scores", tuple(scores.shape), "  A", tuple(A.shape), "  Z", tuple(Z.shape))
print("row sums of A:", A.sum(dim=-1))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(11, 2.9))
left = 0
for name, matrix in (("Q", Q), ("Kᵀ", K.T), ("A", A), ("V", V), ("Z = AV", Z)):
    rows, columns = matrix.shape
    colours = {"cmap": "Blues"} if name == "A" else {"cmap": "PuOr", "vmin": -3, "vmax": 3}
    ax.imshow(matrix, extent=(left, left + columns, -rows, 0), interpolation="nearest", **colours)
    ax.text(left + columns / 2, 3, f"{name}\n{rows} × {columns}", ha="center", va="bottom", fontsize=10)
    left += max(columns, 22) + 12
ax.set(xlim=(-2, left - 10), ylim=(-66, 22))
ax.axis("off")
fig.tight_layout()
plt.show()

# %% [markdown]
# *The matrices drawn to scale, each small square a number. The 64 columns of Q meet the 64 rows of Kᵀ and disappear;
# what is left is a small square A, tokens by tokens. Z has a row for each query and the width of a value.*
#
# $d_k$ appears nowhere in the output, and neither does $d_m$: with $Z$ of size $10 \times 128$ you cannot tell how wide
# the keys were.

# %% [markdown]
# ## 2 · A sentence that you can compute by hand
#
# In a trained model the weights are learned and the features have no names. Here they have: each token is described by
# four numbers that say what *kind* of word it is, and we choose the matrices ourselves.
#
# - **Keys**: a name and an animal can be found as *living* (2); an animal also as *animal* (2).
# - **Queries**: a verb looks for something *living* (3): its subject. A pronoun looks for an *animal* (4).
# - **Values**: a name hands over *person*, an animal hands over *animal*. Other words hand over nothing.

# %%
tokens = ["Ann", "fed", "the", "cat", "and", "it", "slept"]
name, animal, verb, pronoun, other = torch.eye(5)[:, :4]  # `other` is all zeros
x = torch.stack([name, verb, other, animal, other, pronoun, verb])
# one row for each kind (name, animal, verb, pronoun); columns of W_K and W_Q: living, animal
W_K = torch.tensor([[2.0, 0.0], [2.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
W_Q = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
W_V = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])  # columns: person, animal
q, k, v = x @ W_Q, x @ W_K, x @ W_V
print("query of 'it' ", q[5].tolist(), "  key of 'cat'", k[3].tolist(), "  value of 'cat'", v[3].tolist())

# %% [markdown]
# **Before you run the next cell:** whom does *it* attend to? How does *slept* divide its attention? And *the*, whose
# query is zero: what can a token do that looks for nothing?


# %%
def show(matrix, columns, rows=tokens):
    print(" " * 6 + "".join(f"{c:>8}" for c in columns))
    for row, numbers in zip(rows, matrix.tolist(), strict=True):
        print(f"{row:<6}" + "".join(f"{n:8.4f}" for n in numbers))


A = (q @ k.T / math.sqrt(2)).softmax(dim=-1)
show(A, tokens)

# %% [markdown]
# *it* puts .9795 on *cat*. *slept* and *fed* want something living and find two: .4827 each, and a little for everyone
# else, for a score of 0 still counts as $e^0 = 1$. *the* attends to all seven alike, $1/7 = .1429$: **a softmax cannot
# abstain.** Its row has to sum to 1; section 7 shows what a trained model does about that.
#
# By hand, for *it* and *cat*: $q \cdot k = 0 \cdot 2 + 4 \cdot 2 = 8$, and $8 / \sqrt 2 = 5.657$. The other six scores
# of the row are 0. So the weight is $e^{5.657} / (e^{5.657} + 6) = 286.3 / 292.3 = .9795$.
#
# The output is $Z = AV$. Row $t$ is $z_t = \sum_s A_{ts} v_s$: the values, averaged with the weights of query $t$.

# %%
Z = A @ v
show(Z, ["person", "animal"])

# %% [markdown]
# Read the row of *it*: almost wholly *animal*. The pronoun has found out what it stands for. *slept* is still torn
# between *Ann* and *cat*.
#
# A weighted mean never leaves the range of what it averages. Check that, and do one row as a loop:

# %%
z_slept = sum(A[6, s] * v[s] for s in range(7))
print("loop equals row 6 of AV:", torch.allclose(z_slept, Z[6]))
print("row sums of A:          ", A.sum(dim=-1))
print("min(v) <= z <= max(v):  ", bool(((Z >= v.amin(0)) & (Z <= v.amax(0))).all()))

# %% [markdown]
# The workbench below takes the same sentence apart, number by number. Choose a query and a key; switch the scale off;
# move *stretch*, which multiplies all queries, as training may do.

# %% tags=["nbval-ignore-output"]
AttentionWorkbench(q, k, v, tokens, causal=False, query=5, key=3)

# %% [markdown]
# **Questions to answer by moving it**
#
# 1. Query *it*: how small must *stretch* become before *cat* gets less than half of the attention?
# 2. Query *slept*: set *stretch* to 30. Does *slept* ever decide between *Ann* and *cat*? Which change to `W_Q` would
#    make it?
# 3. Query *the*: which of the controls changes its row?
#
# <details><summary>Answers</summary>
#
# 1. *cat* needs $e^{s} = 6$, so $s = 1.79$ instead of $5.66$: a stretch of about .32.
# 2. Never: equal scores stay equal whatever multiplies them. Its query would need a part in the *animal* direction too,
#    such as `[3, 1]`, which only *cat* answers.
# 3. Neither scale nor stretch: a zero query stays zero. Only *causal* does, by hiding some keys; that is notebook 04.
#
# </details>

# %% [markdown]
# ### Exercise 1 · `attention_weights`
#
# Write the weights for any shapes: `q` is `(..., queries, d_k)`, `k` is `(..., keys, d_k)`; the dots stand for any
# number of leading dimensions, such as rows of a batch or heads. Return `(..., queries, keys)`.


# %%
def attention_weights(q, k):
    """softmax(q k^T / sqrt(d_k)), each row summing to 1."""
    raise NotImplementedError


check.attention_weights(attention_weights)

# %%
check.attention_weights.hint()

# %%
check.attention_weights.solution()

# %% [markdown]
# ## 3 · Why the square root
#
# A dot product is a sum of $d_k$ products. If the entries of $q$ and $k$ are independent, with mean 0 and variance 1,
# each product has mean 0 and variance 1 as well, and the variances add up.
#
# **Before you run the next cell:** what are the variance and the typical size (standard deviation) of $q \cdot k$ for
# $d_k = 64$? For $d_k = 1024$?

# %%
generator = lab.generator()
drawn = {}
print("  d_k   variance of q.k   of q.k / sqrt(d_k)")
for width in (1, 4, 16, 64, 256, 1024):
    queries = torch.randn(1000, 1, width, generator=generator)
    keys = torch.randn(1000, 10, width, generator=generator)
    drawn[width] = (queries @ keys.mT).squeeze(1)  # 1,000 queries, each with scores for 10 keys of its own
    print(f"{width:5d}   {drawn[width].var():15.1f}   {(drawn[width] / math.sqrt(width)).var():18.2f}")

# %% [markdown]
# The variance is $d_k$, so a typical score has size $\sqrt{d_k}$: 8 at width 64, 32 at width 1,024. Dividing by
# $\sqrt{d_k}$ brings every width back to 1. Why does it matter how large scores are? Softmax turns *differences* of
# scores into *ratios* of weights: a lead of 10 is a ratio of $e^{10} \approx 22{,}000$. One weight is then nearly 1,
# the others nearly 0: the softmax is **saturated**.
#
# Saturated means that it no longer reacts. Its derivative is $\partial a_i / \partial s_j = a_i(\delta_{ij} - a_j)$,
# with $\delta_{ij}$ equal to 1 for $i = j$ and 0 otherwise. When one $a$ is 1 and the rest are 0, every entry is 0.
# First see that the formula is what autograd computes. As the size of all these entries together we take the root of
# the sum of their squares.


# %%
def softmax_jacobian(a):
    """(..., n) weights -> (..., n, n): entry ij is the derivative of weight i by score j."""
    return torch.diag_embed(a) - a.unsqueeze(-1) * a.unsqueeze(-2)


s = torch.tensor([2.0, 1.0, 0.0])
by_autograd = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), s)
print("formula equals autograd:", torch.allclose(softmax_jacobian(s.softmax(-1)), by_autograd))
for stretch in (1, 4, 16):
    a = (stretch * s).softmax(-1)
    print(f"scores x {stretch:2d}: weights {a.tolist()[0]:.4f} {a.tolist()[1]:.4f} {a.tolist()[2]:.4f}", end="   ")
    print(f"size of the derivative {softmax_jacobian(a).norm():.4f}")

# %% [markdown]
# **Before you run the next cell:** 10 keys, random queries and keys. At $d_k = 1024$, how large is the largest weight
# on average without the scale? And the derivative, in the middle (median) query?

# %%
rows = []
for width, raw in drawn.items():
    row = [width]
    for scores in (raw, raw / math.sqrt(width)):
        a = scores.softmax(dim=-1)
        size = softmax_jacobian(a).norm(dim=(-2, -1))
        row += [a.amax(-1).mean().item(), size.median().item(), (size < 0.001).float().mean().item()]
    rows.append(row)
print("        ------ without the scale ------   ------- with the scale -------")
print("  d_k   largest  derivative  below .001   largest  derivative  below .001")
for width, *numbers in rows:
    print(f"{width:5d}" + "".join(f"{a:10.4f}{b:12.1e}{c:12.3f}" for a, b, c in (numbers[:3], numbers[3:])))

# %% tags=["nbval-ignore-output"]
widths, largest, slope, _, largest_scaled, slope_scaled, _ = zip(*rows, strict=True)
fig, (top, grad) = plt.subplots(1, 2, figsize=(10, 3.4))
top.plot(widths, largest, "o-", color=ORANGE, label="without the scale")
top.plot(widths, largest_scaled, "s-", color=BLUE, label="divided by $\\sqrt{d_k}$")
top.axhline(0.1, color="grey", linestyle=":", label="all ten alike")
top.set(xscale="log", xlabel="$d_k$ (numbers in a key)", ylabel="largest weight (mean)", ylim=(0, 1.03))
grad.plot(widths, slope, "o-", color=ORANGE)
grad.plot(widths, slope_scaled, "s-", color=BLUE)
grad.set(xscale="log", yscale="log", xlabel="$d_k$ (numbers in a key)", ylabel="size of the derivative (median)")
top.legend(frameon=False)
fig.tight_layout()
plt.show()

# %% [markdown]
# *Left: without the scale the largest of ten weights climbs from .27 to .97 as keys get wider; with it, it stays
# near .3. Right: the derivative of the softmax, on a logarithmic axis. With the scale it stays near .35; without it, it
# falls to some millionths.*
#
# Without the scale the typical query of width 1,024 gets hardly any gradient: it attends to one key, chosen by the accident of
# its first weights, and cannot learn to attend to another. The column *below .001* gives the share of queries in that
# state. The others are those for which two keys happen to be nearly level. With the scale no query is stuck, at any
# width.

# %% [markdown]
# ### Exercise 2 · `one_head`
#
# Now everything together. `x` is `(..., time, d_m)`, `W_Q` and `W_K` are `(d_m, d_k)`, `W_V` is `(d_m, d_v)`. Return
# $Z$, `(..., time, d_v)`.


# %%
def one_head(x, W_Q, W_K, W_V):
    """Project three times, take the weights, average the values."""
    raise NotImplementedError


check.one_head(one_head)

# %%
check.one_head.hint()

# %%
check.one_head.solution()

# %% [markdown]
# ## 4 · Several heads
#
# One row of $A$ sums to 1, so a head that attends to two things must share. *it* would like to know two things: which
# animal it stands for, **and** what is being done. Give it two heads. The first is the one you know; in the second,
# names, animals and pronouns look for a *verb*, and verbs hand over *action*.

# %%
# rows: name, animal, verb, pronoun
W_K2 = torch.stack([torch.zeros(2), torch.zeros(2), torch.tensor([2.0, 0.0]), torch.zeros(2)])
W_Q2 = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
W_V2 = torch.tensor([[0.0], [0.0], [1.0], [0.0]])
A2 = ((x @ W_Q2) @ (x @ W_K2).T / math.sqrt(2)).softmax(dim=-1)
both = torch.cat([Z, A2 @ (x @ W_V2)], dim=-1)  # the heads' outputs side by side
show(both, ["person", "animal", "action"])

# %% [markdown]
# The row of *it* now says *animal* and *action* at once, at nearly full strength. One head could only have had half of
# each. The heads do not see each other: each computes its own $A$, and the results are written side by side
# (**concatenated**).
#
# A real layer gives each of $h$ heads $d_m / h$ dimensions, and computes all projections in one wide product. Then it
# **splits** the result: the first $d_m/h$ columns belong to head 0, the next to head 1, and so on. In code that is a
# reshape and a transpose:


# %%
def split_heads(x, heads):
    """(rows, time, heads * d_head) -> (rows, heads, time, d_head)"""
    rows, time, width = x.shape
    return x.view(rows, time, heads, width // heads).transpose(1, 2)


generator = lab.generator()
rows, time, d_m, heads = 2, 6, 12, 3
x = torch.randn(rows, time, d_m, generator=generator)
W_Q, W_K, W_V, W_O = (random_matrix(d_m, d_m) for _ in range(4))
q, k, v = (split_heads(x @ W, heads) for W in (W_Q, W_K, W_V))
print("x", tuple(x.shape), "-> q", tuple(q.shape), "(rows, heads, time, d_head)")
print("head 1 of q comes from columns 4 to 7 of W_Q:", torch.allclose(q[:, 1], x @ W_Q[:, 4:8], atol=1e-6))

# %% [markdown]
# All heads attend at once: the matrix products run over the last two dimensions and leave `rows` and `heads` alone.
# After that the heads are laid side by side again, and a last learned matrix $W^O$ mixes what they found:
#
# $$Z = \operatorname{concat}(Z_1, \dots, Z_h)\, W^O$$

# %%
A = (q @ k.transpose(-2, -1) / math.sqrt(d_m // heads)).softmax(dim=-1)
z = A @ v
concatenated = torch.cat([z[:, head] for head in range(heads)], dim=-1)
out = concatenated @ W_O
print(
    "A", tuple(A.shape), "  z", tuple(z.shape), "  concatenated", tuple(concatenated.shape), "  out", tuple(out.shape)
)

# Each head has its own rows of W_O, and the layer's output is the sum of what the heads contribute.
contributions = [z[:, head] @ W_O[4 * head : 4 * head + 4] for head in range(heads)]
print("sum of the heads' contributions equals out:", torch.allclose(sum(contributions), out, atol=1e-6))

# %% [markdown]
# **Before you open it:** does a layer with 3 heads of width 4 have more weights than one with a single head of width
# 12? Does it compute more scores?
#
# <details><summary>Answer</summary>
#
# The matrices are the same size, $12 \times 12$ each: as many weights. But each head has a score for every pair of
# tokens, so there are $3\,T^2$ scores instead of $T^2$ (each a shorter dot product, so the multiplications are the
# same).
#
# </details>

# %% [markdown]
# ### Exercise 3 · `merge_heads`
#
# Undo the split without a loop: `z` is `(rows, heads, time, d_head)`; return `(rows, time, heads * d_head)`, where row
# $t$ reads: head 0's output for token $t$, then head 1's, and so on.


# %%
def merge_heads(z):
    """The heads of each token side by side."""
    raise NotImplementedError


check.merge_heads(merge_heads)

# %%
check.merge_heads.hint()

# %%
check.merge_heads.solution()

# %% [markdown]
# ## 5 · The same numbers from the library
#
# Three other ways to get what you have just built: `arlab`'s readable function, PyTorch's fused kernel, which never
# stores $A$, and the layer that every model in this course uses, with your matrices as its weights.

# %%
z_arlab, A_arlab = attention(q, k, v)
z_torch = F.scaled_dot_product_attention(q, k, v)

config = DecoderConfig(
    vocab_size=1, context_length=16, d_model=12, layers=1, heads=3, bias=False, positions="none", causal=False
)
layer = MultiHeadAttention(config)
with torch.no_grad():
    layer.qkv.weight.copy_(torch.cat([W_Q, W_K, W_V], dim=1).T)  # nn.Linear keeps its matrix transposed
    layer.out.weight.copy_(W_O.T)
    layout = Layout(past=(0, 0), time=time, device=x.device)  # two rows, no tokens before these
    with record_attention(layer) as maps:  # the explicit formula, and its weights kept
        out_recorded = layer(x, layout)
    out_fast = layer(x, layout)  # the fused kernel

comparisons = {
    "attention(): z": (z_arlab, z),
    "attention(): A": (A_arlab, A),
    "scaled_dot_product_attention": (z_torch, z),
    "MultiHeadAttention, recorded": (out_recorded, out),
    "MultiHeadAttention, fused": (out_fast, out),
    "its maps": (maps[0], A),
}
for what, (theirs, ours) in comparisons.items():
    print(f"{what:30s} equal: {torch.allclose(theirs, ours, atol=1e-5)}")

# %% [markdown]
# From here on the notebook uses these. `record_attention(model)` works for any model of the course: inside the block
# the maps of the last forward pass are kept, `maps[layer]` of shape `(rows, heads, queries, keys)`.

# %% [markdown]
# ## 6 · Attention does not know the order
#
# Look again at the sentence of section 2: *fed* and *slept* got the same row, although one stands second and the other
# last.
#
# **Before you run the next cell:** shuffle the tokens before the layer. What happens to its outputs?

# %%
shuffle = torch.tensor([3, 0, 5, 1, 4, 2])
with torch.no_grad():
    shuffled = layer(x[:, shuffle], layout)
print("outputs unchanged:              ", torch.allclose(shuffled, out_fast, atol=1e-5))
print("outputs shuffled in the same way:", torch.allclose(shuffled, out_fast[:, shuffle], atol=1e-5))

# %% [markdown]
# Each token gets exactly the output it had before, at its new place. To this layer *Ann fed the cat* and *the cat fed
# Ann* are the same set of four vectors. Where a token stands has to be put in from outside: by position vectors or
# rotations ([notebook 05](05_transformer_block.ipynb)), and, for a decoder, by the mask (notebook 04).

# %% [markdown]
# ## 7 · The heads of a real model
#
# SmolLM2 has 30 layers with 9 heads each. Its mask lets a token see only itself and what came before it, so the maps
# are triangles: rows are queries, columns are keys. Choose a layer and a head, and point at a token to see where it
# looks.

# %% tags=["nbval-ignore-output"]
model, tokenizer = smollm2()
model = model.to(lab.device)
text = "When Mary and John went to the store, John gave a drink to Mary."
AttentionExplorer(model, tokenizer, text, layer=18, head=4)

# %% [markdown]
# **Questions to answer by moving it**
#
# 1. In how many heads of layer 18 does nearly everything go to the very first token?
# 2. Find a head whose map is a line just below the diagonal: every token looks at the one before it.
# 3. Layer 17, head 4, and the *second* "John": which token does it look at? And what followed the *first* "John"?
#
# Then measure what you have seen. For each of the 270 heads: the mean weight on the previous token, and on the first
# one.

# %%
ids = torch.tensor([tokenizer.encode(text)], device=lab.device)
with torch.no_grad(), record_attention(model) as maps:
    model(ids)
maps = maps.stack()[:, 0].cpu()  # (layers, heads, queries, keys)
words = [tokenizer.token_strings()[i] for i in ids[0].tolist()]
previous = maps.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)  # entry (t, t - 1)
first = maps[:, :, 1:, 0].mean(-1)  # query 0 has nobody else to look at
for what, figure in (("previous token", previous), ("first token", first)):
    best = figure.flatten().argmax().item()
    print(f"{what}: layer {best // 9}, head {best % 9} gives it {figure.max():.4f} of its weight")
print(
    f"first token: {first.mean():.4f} on average over all 270 heads; {(first > 0.5).sum()} heads give it more than half"
)
print("layer 18: heads with more than .95 on the first token:", (first[18] > 0.95).nonzero().flatten().tolist())
after = words.index(" John") + 1
second = len(words) - 1 - words[::-1].index(" John")
print(f"layer 17, head 4: {words[second]!r} (second) looks at {words[after]!r} with {maps[17, 4, second, after]:.4f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(12, 4.6))
for ax, (layer_index, head, title) in zip(
    axes, ((16, 0, "previous token"), (18, 8, "first token"), (17, 4, "what came next last time")), strict=True
):
    ax.imshow(maps[layer_index, head], cmap="Blues", vmin=0, vmax=1)
    ax.set_title(f"layer {layer_index}, head {head}: {title}", fontsize=10)
    ax.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
    ax.set_yticks(range(len(words)), words, fontsize=8)
    ax.set(xlabel="key: looked at", ylabel="query: looks" if head == 0 else "")
fig.tight_layout()
plt.show()

# %% [markdown]
# *Three heads, dark = much weight. Left, a line just below the diagonal. Middle, a single dark column: the first token.
# Right, mostly the first column too, but the second "John" looks at "went", which followed the first "John", and the
# second "Mary" at "and".*
#
# The dark column is how a softmax abstains after all. A head that finds nothing puts its weight on the first token, an
# **attention sink**, and the model learns to keep that token's value small. The right-hand head is an *induction head*:
# it looks for the last time the same token stood there, and at what came after it.

# %% [markdown]
# ## 8 · A map is not an explanation
#
# Layer 18, head 8 has the most striking map of all: weight 1 on the first token, from everywhere. Is it important? A
# weight says where a head takes its values from. How much then arrives depends on the values, and what it does to the
# prediction on all that follows. Both can be measured. First, the length of the value that this head takes so much of:

# %%
kept = {}  # a forward hook is called with what a module got and gave; this one keeps what it gave
hook = model.blocks[18].attn.qkv.register_forward_hook(lambda module, inputs, output: kept.update(qkv=output[0]))
with torch.no_grad():
    model(ids)
hook.remove()
# 9 query heads share 3 value heads (notebook 08); head 8 uses the last of them, the last columns
d_head = model.config.head_dim  # 64
length = kept["qkv"][:, -d_head:].norm(dim=-1).cpu()
print(f"length of the first token's value {length[0]:.4f}, of the others' on average {length[1:].mean():.4f}")

# %% [markdown]
# All the weight, and a value less than a tenth as long as the others: the head hands on next to nothing.
#
# Second, remove a head (its output set to 0) and see how far each next-token distribution moves, from $p$ to $p'$. The
# Kullback-Leibler divergence $\sum_i p_i \ln(p_i / p'_i)$ measures that in nats: 0 means that nothing has changed.
#
# **Before you run the next cell:** rank these four heads by how much their loss will hurt: the sink (18, 8), the
# previous-token head (16, 0), the induction head (17, 4), and (1, 5), whose map you have not noticed.


# %%
@torch.no_grad()
def harm_without(layer, head):
    """Mean KL divergence, in nats, of the next-token distributions with and without one head."""

    def silence(module, inputs):
        z = inputs[0].clone()
        z[..., d_head * head : d_head * (head + 1)] = 0
        return (z,)

    intact = model(ids).log_softmax(-1)
    hook = model.blocks[layer].attn.out.register_forward_pre_hook(silence)
    maimed = model(ids).log_softmax(-1)
    hook.remove()
    return (intact.exp() * (intact - maimed)).sum(-1).mean().item()


for layer_index, head in ((18, 8), (16, 0), (17, 4), (1, 5)):
    striking = maps[layer_index, head].amax(-1).mean()
    harm = harm_without(layer_index, head)
    print(f"layer {layer_index:2d}, head {head}: largest weight {striking:.2f} on average, harm {harm:.4f} nats")

# %% [markdown]
# The head with the most striking map hardly matters; the one that matters most has an unremarkable map. So: use maps to
# form a guess, and an intervention such as this one to test it. One sentence and one head at a time is still a small
# test: heads stand in for each other, and another text may need another head.

# %% [markdown]
# ## Check yourself
#
# These follow the self-assessment of lecture 002 and the multi-head part of lecture 004. Answer first, then unfold.
#
# **1.** A sequence has 10 tokens and the model is 512 wide. What is the size of $X$? Which part of it changes for a
# text twice as long?
#
# <details><summary>Answer</summary>
#
# $10 \times 512$; a text twice as long has 20 rows. The width, and with it every weight matrix, stays as it is (section
# 1).
#
# </details>
#
# **2.** $Q$ is $10 \times 64$ and $V$ is $10 \times 128$. What are the sizes of $K$, $W^K$, $A$ and $Z$? Which would
# change if the keys came from *another* text of 7 tokens?
#
# <details><summary>Answer</summary>
#
# $K$ is $10 \times 64$: one row a token, as wide as a query. $W^K$ is $512 \times 64$, $A$ is $10 \times 10$, $Z$ is
# $10 \times 128$. With 7 keys from elsewhere $K$ is $7 \times 64$, $V$ is $7 \times 128$ and $A$ is $10 \times 7$; $Z$
# stays $10 \times 128$. That is cross-attention, notebook 15.
#
# </details>
#
# **3.** What does $\sqrt{d_k}$ do, and which trouble would you see without it?
#
# <details><summary>Answer</summary>
#
# The variance of a dot product grows with the number of its terms, $d_k$. Dividing by $\sqrt{d_k}$ keeps scores at a
# size of about 1 for every width. Without it the softmax saturates: one weight near 1 and a derivative near 0, so the
# typical query gets hardly any gradient (section 3: at $d_k = 1024$ some millionths instead of .35).
#
# </details>
#
# **4.** In which sense is $z_t$ a mean, and of what? Can a number in $z_t$ be larger than every number in that column
# of $V$?
#
# <details><summary>Answer</summary>
#
# It is the mean of the value vectors with row $t$ of $A$ as weights; they are at least 0 and sum to 1. So no, it stays
# between the smallest and the largest (section 2 checks it). $W^O$ afterwards can take it anywhere.
#
# </details>
#
# **5.** Why are the heads' outputs concatenated and not averaged? What does $W^O$ add?
#
# <details><summary>Answer</summary>
#
# An average would mix what the heads found before anything could tell them apart. Side by side each keeps its own
# columns, and its own rows of $W^O$ decide where in the model's $d_m$ dimensions its findings go (section 4: the output
# is the sum of the heads' contributions).
#
# </details>
#
# The first question of lecture 002 (methodology against architecture) belongs to
# [notebook 01](01_autoregression.ipynb), the fifth (why a causal mask) to notebook 04.

# %% [markdown]
# ## What to try next
#
# - In section 2, change one row of `W_Q` so that *slept* prefers *cat* to *Ann*.
# - In section 3 the derivative is taken by the *scores*. Multiply the Jacobian by the keys (and by $1/\sqrt{d_k}$ where
#   you scale) to get the derivative by the *query*. At which width does the scale begin to pay?
# - In section 8, loop over all 270 heads. Do heads with a strong sink do less harm when removed? In which layers are
#   the heads that this sentence cannot do without?
# - Give the explorer a sentence in another language, a line of code, or the same word ten times.
#
# ## Where the idea comes from
#
# - Attention in a translation model: Bahdanau, Cho and Bengio, *Neural machine translation by jointly learning to align
#   and translate* (2015).
# - Queries, keys, values, the scale and the heads: Vaswani and others, *Attention is all you need* (2017); footnote 4
#   is our section 3.
# - Reading the heads of a trained model: Clark and others, *What does BERT look at?* (2019).
# - Induction heads: Elhage and others, *A mathematical framework for transformer circuits* (2021); Olsson and others
#   (2022).
# - Attention sinks: Xiao and others, *Efficient streaming language models with attention sinks* (2023).
# - Maps and explanations: Jain and Wallace, *Attention is not explanation* (2019); Wiegreffe and Pinter, *Attention is
#   not not explanation* (2019); weights times the length of values: Kobayashi and others, *Attention is not only a
#   weight* (2020).
#
# [04 Causal masking →](04_causal_masking.ipynb) hides the future, and everything that depends on it begins to work.
