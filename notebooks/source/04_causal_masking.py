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
# # 04 · Causal masking
#
# A language model is trained to say what comes next. Plain attention lets every token look at every other one, the next
# one included: the answer lies open beside the question. The causal mask covers it. It is one triangle of $-\infty$,
# and this notebook shows how much hangs on it: honest training, one pass instead of many, and the cache that makes
# generation fast.
#
# **You will be able to**
#
# - build the mask, put it where it belongs (before the softmax), and say why it does not work after it;
# - settle what "depends on $1 \dots t-1$" and "may see itself" mean, though both lectures are right;
# - show that one masked pass gives the same predictions as $T$ separate ones;
# - recognise a model that cheats, by its loss, its text and its gradients;
# - handle left padding and a key/value cache without an error of one position.
#
# **Time** 90 minutes. **Before this** attention ([03](03_attention.ipynb)).
# **Follows** lectures 001 and 002 (causal masking), 003 (masking in the decoder) and 004 (decoder masking).
#
# [← 03 Attention](03_attention.ipynb) · [05 The transformer block →](05_transformer_block.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import arlab
from arlab import assets
from arlab.decoding import greedy
from arlab.exercises import causal_masking as check
from arlab.nn import masks
from arlab.nn.attention import attention, record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.nn.leaks import find_leaks, leak_map
from arlab.nn.pretrained import smollm2
from arlab.text.tokenizers import CharTokenizer
from arlab.views import MaskWorkbench

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by colour-blind readers too
torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)
lab = arlab.setup(seed=0)

# %% [markdown]
# ## 1 · A triangle of minus infinity
#
# Let $S = QK^\top/\sqrt{d_k}$ be the scores of a sequence of $T$ tokens, one row for each query and one column for each
# key. Column $s$ of row $t$ lies in the future when $s > t$: that is the **upper triangle**. The mask sets it to
# $-\infty$:
#
# $$S_{ts} \leftarrow -\infty \quad\text{for } s > t, \qquad A = \operatorname{softmax}(S)$$
#
# Since $e^{-\infty} = 0$, these keys get a weight of 0, and the softmax divides what is left among the others.
#
# **Before you run the next cell:** what will the first row of $A$ be, whatever the scores?

# %%
T, d_k = 5, 8
generator = lab.generator()
q, k, v = (torch.randn(T, d_k, generator=generator) for _ in range(3))
scores = q @ k.T / math.sqrt(d_k)
may_attend = torch.ones(T, T, dtype=torch.bool).tril()  # True on and below the diagonal
masked = scores.masked_fill(~may_attend, -torch.inf)
A = masked.softmax(dim=-1)
print("scores, masked\n", masked)
print("weights\n", A)

# %% [markdown]
# Row 0 is $1, 0, 0, 0, 0$: the first token has nobody but itself. Down the rows, one more key joins in each time.

# %%
print("rows sum to 1:              ", torch.allclose(A.sum(-1), torch.ones(T)))
print("future weights exactly 0:   ", bool((A[~may_attend] == 0).all()))
added = torch.zeros(T, T).masked_fill(~may_attend, -torch.inf)  # lecture 004 writes the mask like this, and adds it
print("added form, same weights:   ", torch.equal((scores + added).softmax(-1), A))
print("arlab's mask and attention: ", torch.equal(masks.causal_mask(T), may_attend), end=", ")
print(torch.allclose(attention(q, k, v, masks.causal_mask(T))[1], A))

# %% [markdown]
# *Exactly* 0, not nearly: with a weight of 0 nothing of that token's value gets through, and no gradient flows back.
# Throughout this course a mask is boolean, and **True means "may attend"**.
#
# ## 2 · Why not simply erase the future afterwards?
#
# One could take the softmax of all scores first and then set the upper triangle to 0. It looks the same: zeros above
# the diagonal. Look at the row sums.

# %%
erased = scores.softmax(dim=-1) * may_attend
print(erased)
print("row sums:", erased.sum(-1))

# %% [markdown]
# The future has taken its share before it was erased. Worse, how much it took depends on what it *says*.
#
# **Before you run the next cell:** the last token's key is doubled. Which rows of the right weights change? Which rows
# of the erased ones?

# %%
k_other = k.clone()
k_other[-1] *= 2
scores_other = q @ k_other.T / math.sqrt(d_k)
A_other = scores_other.masked_fill(~may_attend, -torch.inf).softmax(-1)
erased_other = scores_other.softmax(-1) * may_attend
print("rows that change, masked before the softmax:", (A_other != A).any(-1).nonzero().flatten().tolist())
print("rows that change, erased after the softmax: ", (erased_other != erased).any(-1).nonzero().flatten().tolist())

# %% [markdown]
# Erasing leaks: token 0 can tell from the size of its own weight what comes four places later. Dividing each row by its
# sum mends that on paper, for then the future's share cancels. In floating-point numbers it does not always:

# %%
renormalised = erased / erased.sum(-1, keepdim=True)
print("renormalised equals masked:", torch.allclose(renormalised, A))
towering = scores.clone()
towering[0, 4] = 200.0  # a future score far above the rest
late = towering.softmax(-1) * may_attend
print("row 0, renormalised:", (late / late.sum(-1, keepdim=True))[0].tolist())
print("row 0, masked:      ", towering.masked_fill(~may_attend, -torch.inf).softmax(-1)[0].tolist())

# %% [markdown]
# Row 0 kept about $e^{-200}$ of its weight, which float32 rounds to 0, and $0/0$ is not a number. Mask **before** the
# softmax.
#
# In the workbench, click cells of the mask and follow them into the scores and the weights. Try the presets
# *left padding* and *no diagonal*, and read the remarks below the tables.

# %% tags=["nbval-ignore-output"]
MaskWorkbench(8, tokens=["Ann", "fed", "the", "cat", "and", "it", "slept", "."])

# %% [markdown]
# **Questions to answer by clicking**
#
# 1. Hide *cat* from *it*, and from nobody else. Which rows of the weights change?
# 2. *no diagonal* hides each token from itself too. What becomes of row 0?
# 3. Which single cell must you click to let exactly one token cheat?
#
# <details><summary>Answers</summary>
#
# 1. Only the row of *it*. Each row is normalised on its own, so its other weights grow to fill the gap.
# 2. It may attend to nothing. A plain softmax would give 0/0; here, and in `arlab`, its weights are all 0.
# 3. The cell to the right of the diagonal, in any row: that query now sees the token it has to predict.
#
# </details>

# %% [markdown]
# ### Exercise 1 · `causal_mask`
#
# Write the mask for any number of queries and keys. With `queries == keys` it is the lower triangle. With fewer queries
# than keys, the queries are the **last** positions: the earlier ones lie in a cache (section 9). So `causal_mask(2, 5)`
# is
#
# ```
# True True True True False
# True True True True True
# ```


# %%
def causal_mask(queries, keys):
    """(queries, keys) booleans, True = may attend; the queries are the last of the keys."""
    raise NotImplementedError


check.causal_mask(causal_mask)

# %%
check.causal_mask.hint()

# %%
check.causal_mask.solution()

# %% [markdown]
# ### Exercise 2 · `apply_mask`
#
# From scores `(..., queries, keys)` and a boolean mask to weights. Masked weights are exactly 0, each row sums to 1,
# and a row in which nothing may be attended to is all 0. Leave `scores` as they are.


# %%
def apply_mask(scores, mask):
    """Softmax over the keys that each query may attend to."""
    raise NotImplementedError


check.apply_mask(apply_mask)

# %%
check.apply_mask.hint()

# %%
check.apply_mask.solution()

# %% [markdown]
# ## 3 · The masked matrix of a real model
#
# SmolLM2 masks in all of its 30 layers. Its weights can also be run *without* the mask: switch it off for a moment and
# compare one head of the first layer, where both versions see the same inputs.

# %%
model, bpe = smollm2()
model = model.to(lab.device)
sentence = "The cat sat on the mat because it was tired"
ids = torch.tensor([bpe.encode(sentence)], device=lab.device)
words = [bpe.token_strings()[i].strip() for i in ids[0].tolist()]


def first_layer(causal):
    for block in model.blocks:
        block.attn.causal = causal
    with torch.no_grad(), record_attention(model) as maps:
        model(ids)
    for block in model.blocks:
        block.attn.causal = True
    return maps[0][0].cpu()  # (heads, queries, keys) of layer 0


with_mask, without = first_layer(causal=True), first_layer(causal=False)
lower = without.tril()
print("weight on the future, mean over heads: ", f"{without.triu(1).sum(-1).mean():.4f}", "without the mask,", end=" ")
print(f"{with_mask.triu(1).sum(-1).mean():.4f} with it")
print("lower triangle, rows rescaled to sum to 1, equals the masked weights:", end=" ")
print(torch.allclose(lower / lower.sum(-1, keepdim=True), with_mask, atol=1e-5))

# %% tags=["nbval-ignore-output"]
head = 5
fig, axes = plt.subplots(1, 2, figsize=(10, 4.8))
for ax, weights, title in zip(axes, (without, with_mask), ("without the mask", "with the mask"), strict=True):
    shown = weights[head].masked_fill(weights[head] == 0, torch.nan)  # exactly 0 is left grey
    ax.set_facecolor("0.85")
    ax.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    for t, s in (weights[head] > 0.005).nonzero().tolist():
        weight = weights[head, t, s].item()
        label, colour = f"{weight:.2f}".lstrip("0"), "white" if weight > 0.6 else "black"
        ax.text(s, t, label, ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(len(words)), words, rotation=60)
    ax.set_yticks(range(len(words)), words)
    ax.set(title=f"layer 0, head {head}, {title}", xlabel="key", ylabel="query")
fig.tight_layout()
plt.show()

# %% [markdown]
# *Left, all cells are filled. Right, the upper triangle is grey: exactly 0. In each row the remaining weights have
# grown so that they sum to 1 again.*

# %% [markdown]
# ## 4 · Does position t see itself?
#
# Lecture 000 says that the prediction at position $t$ depends on positions $1$ to $t-1$. Lecture 003 says that a token
# may attend to the tokens before it *or itself*. One counts **predicted** positions, the other **input** positions. The
# output at input position $t$ is the prediction of token $t+1$:

# %%
with torch.no_grad():
    probabilities = model(ids)[0].softmax(-1).cpu()
print("input t   reads     may see inputs   predicts token   namely    model's probability of it")
for t in range(len(words) - 1):
    p = probabilities[t, ids[0, t + 1].item()]
    print(f"{t + 1:^7d}   {words[t]:<8}  1 .. {t + 1:<11d}  {t + 2:<13d}    {words[t + 1]:<8}  {p:.4f}")

# %% [markdown]
# In the line that predicts token 5, inputs 1 to 4 are used: that is lecture 000's sentence ($t = 5$, it depends on 1 to
# 4). It is made at input position 4, which sees itself: that is lecture 003's. Both are right, and the diagonal belongs
# to the lower triangle: masking it would hide the last word read from the one who has to go on from it.
#
# **Question.** Which line of the table is the first to use the word *because*: the one that predicts it, or the next?
#
# <details><summary>Answer</summary>
#
# The next one, input position 7. It reads *because* and predicts *it*; the line before must guess *because* without it.
#
# </details>
#
# ## 5 · One pass instead of T
#
# Suppose you give the model the first word alone, then the first two words, and so on: $T$ passes, and from each you
# take the last position's prediction.
#
# **Before you run the next cell:** will they be the same numbers as the $T$ rows of a single pass? How many tokens does
# the model have to process in each case?

# %%
passes, tokens_seen = 0, 0


def count(module, inputs):
    global passes, tokens_seen
    passes, tokens_seen = passes + 1, tokens_seen + inputs[0].numel()


hook = model.register_forward_pre_hook(count)
T = ids.size(1)
with torch.no_grad():
    together = model(ids)[0]
    print(f"one pass:         {passes:2d} pass,   {tokens_seen:2d} tokens processed, {len(together)} predictions")
    passes, tokens_seen = 0, 0
    apart = torch.stack([model(ids[:, : t + 1])[0, -1] for t in range(T)])
    print(f"separate passes:  {passes:2d} passes, {tokens_seen:2d} tokens processed, {len(apart)} predictions")
hook.remove()
print("the same predictions:", torch.allclose(together, apart, atol=1e-3))

# %% [markdown]
# Training needs exactly these predictions, one for every position, each compared with the token that did follow. The
# mask makes it possible to get all of them from one pass: no position could have used what it should not know. It
# *looks* like reading word by word, and it is one matrix product. (Lecture 001 describes the pass token by token; the
# counter says one.)
#
# ## 6 · A model that cheats
#
# Now leave the mask out and train. Two small models of one layer read Shakespeare, character by character, in windows
# of 32. They start from the same weights and see the same text; only `causal` differs. The loop below is all that
# training is; [notebook 06](06_teacher_forcing.ipynb) explains each line. The loss is the mean of
# $-\ln p(\text{next character})$, in nats.

# %%
text = assets.path("tiny_shakespeare").read_text(encoding="utf-8")
characters = CharTokenizer(text)
data = torch.tensor(characters.encode(text))
train, held_out = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
context, steps = 32, 300


def windows(data, rows, generator):
    start = torch.randint(len(data) - context, (rows, 1), generator=generator)
    window = data[start + torch.arange(context + 1)].to(lab.device)
    return window[:, :-1], window[:, 1:]  # the input, and the same text one character later


def trained(causal):
    config = DecoderConfig.gpt2(
        vocab_size=characters.vocab_size, context_length=context, d_model=64, layers=1, heads=4, causal=causal
    )
    model = DecoderLM(config, seed=0).to(lab.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, losses = lab.generator(), []
    for _ in range(steps):
        inputs, targets = windows(train, 32, generator)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


# %% [markdown]
# **Before you run the next cell:** which of the two will have the lower loss, and how low can it get?

# %%
honest, honest_losses = trained(causal=True)
cheat, cheat_losses = trained(causal=False)
print("with the mask, loss between 2.0 and 2.6:", 2.0 < sum(honest_losses[-20:]) / 20 < 2.6)
print("without it, loss below 0.15:            ", sum(cheat_losses[-20:]) / 20 < 0.15)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 3.2))
ax.plot(honest_losses, color=BLUE, label=f"with the mask: {sum(honest_losses[-20:]) / 20:.2f} at the end")
ax.plot(cheat_losses, color=ORANGE, label=f"without: {sum(cheat_losses[-20:]) / 20:.3f} at the end")
ax.axhline(
    math.log(characters.vocab_size),
    color="grey",
    linestyle=":",
    label=f"guessing among {characters.vocab_size} characters",
)
ax.set(xlabel="training step", ylabel="loss (nats per character)", ylim=(0, 4.4))
ax.legend(frameon=False)
fig.tight_layout()
plt.show()

# %% [markdown]
# *For a while the two losses fall together. Then the model without a mask finds out that the answer is in its input,
# and its loss drops to nearly nothing.*
#
# A loss of a tenth of a nat would mean that Shakespeare can be foretold almost letter for letter. When a loss looks too
# good, look for a leak. But note that it stops short of 0.
#
# **Question.** Where does the rest come from? Think of the 32 positions of a window, then run the next cells.


# %%
@torch.no_grad()
def loss_by_position(model):
    inputs, targets = windows(held_out, 1000, lab.generator())
    return F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").mean(0).cpu()


by_position = {"with the mask": loss_by_position(honest), "without": loss_by_position(cheat)}
cheated = by_position["without"]
print("positions 1 to 31, without the mask, below 0.05:", bool(cheated[:-1].mean() < 0.05))
print("position 32, without the mask, above 2.4:       ", bool(cheated[-1] > 2.4))
print("position 32 makes up more than 3/4 of the total:", bool(cheated[-1] / cheated.sum() > 0.75))

# %% tags=["nbval-ignore-output"]
with torch.no_grad(), record_attention(cheat) as maps:
    cheat(windows(held_out, 64, lab.generator())[0])
fig, (bars, picture) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=[2, 1])
for shift, (name, losses), colour in zip((-0.2, 0.2), by_position.items(), (BLUE, ORANGE), strict=True):
    bars.bar(torch.arange(1, context + 1) + shift, losses, width=0.4, color=colour, label=name)
bars.set(
    xlabel="input position",
    ylabel="loss (nats)",
    title=f"without the mask: {cheated[-1]:.2f} at the last position; {cheated[-1]:.2f} / 32 = {cheated[-1] / 32:.3f}",
)
bars.legend(frameon=False)
where = maps[0].mean(0).amax(0).cpu()
picture.imshow(where, cmap="Blues", vmin=0, vmax=1, extent=(0.5, context + 0.5, context + 0.5, 0.5))
picture.set(title="where the cheat looks", xlabel="key position", ylabel="query position")
fig.tight_layout()
plt.show()

# %% [markdown]
# *Left: with the mask every position has about the same loss (the first ones know less); without it the loss is nearly
# 0 everywhere but at the last position. Right: the cheat's attention, the strongest of its four heads for each pair: a
# line just above the diagonal. Each position looks at the next one and copies it.*
#
# The last position cannot cheat: its answer lies outside the window. That is the floor: its loss, divided by 32. And
# the last position is the only one that counts when a model writes: there, no next character exists yet.
#
# **Before you run the next cell:** what will the cheat's text look like?


# %%
@torch.no_grad()
def write(model, prompt, length):
    ids = torch.tensor([characters.encode(prompt)])
    generator = lab.generator()
    for _ in range(length):
        logits = model(ids[:, -context:].to(lab.device))[:, -1].cpu()  # the last position alone
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1, generator=generator)], dim=1)
    return characters.decode(ids[0, len(prompt) :].tolist())


prompt = characters.decode(held_out[:context].tolist())
texts = {"with the mask": write(honest, prompt, 300), "without": write(cheat, prompt, 300)}

# %% tags=["nbval-ignore-output"]
for name, written in texts.items():
    print(f"--- {name}\n{prompt}|{written}\n")

# %% [markdown]
# After 300 steps neither is Shakespeare. But one writes lines of things like words, and the other stammers. To
# put a number on it, let a judge that neither of them is count pairs of letters: how surprising is each next letter,
# given the one before, to a table of all pairs in the corpus?

# %%
pairs = torch.ones(characters.vocab_size, characters.vocab_size)  # each pair counted once more than it occurs
pairs.index_put_((data[:-1], data[1:]), torch.ones(()), accumulate=True)
log_p = (pairs / pairs.sum(1, keepdim=True)).log()
surprise = {}
for name, written in {**texts, "Shakespeare": text[:10_000]}.items():
    letters = torch.tensor(characters.encode(written))
    surprise[name] = -log_p[letters[:-1], letters[1:]].mean().item()
print("Shakespeare himself, 2.4 to 2.5 nats per letter:", 2.4 <= surprise["Shakespeare"] <= 2.5)
near = abs(surprise["with the mask"] - surprise["Shakespeare"]) < 0.3
print("with the mask, within 0.3 of him:               ", near)
print("without it, at least 0.4 above him:             ", surprise["without"] > surprise["Shakespeare"] + 0.4)

# %% [markdown]
# A low loss and useless text: **without the mask the training loss does not measure what you want.**
#
# ## 7 · A leak detector
#
# Loss and text show a gross leak. A small one, one position too far in one layer of thirty, may go unnoticed for long.
# So do not trust the mask, measure what the outputs depend on: the derivative of the logits at position $t$ by the
# embedding at position $s$. For $s > t$ it has to be exactly 0.
#
# Here is a model just large enough to leak, with its mask as a setting: `offset` 0 is right.


# %%
class Tiny(nn.Module):
    """One attention head between an embedding and an output matrix. offset: the diagonal up to which one may look."""

    def __init__(self, offset, vocab_size=20, d=16):
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(vocab_size, d)
        self.qkv, self.head = nn.Linear(d, 3 * d), nn.Linear(d, vocab_size)
        self.offset = offset

    def forward(self, ids):
        return self.forward_embeddings(self.embed_tokens(ids))

    def forward_embeddings(self, x):
        T = x.size(1)
        mask = torch.ones(T, T, dtype=torch.bool).tril(self.offset)
        z, _ = attention(*self.qkv(x).chunk(3, dim=-1), mask)
        return self.head(x + z)  # the residual connection: attention adds to what was there


variants = {"right": Tiny(0), "one too far": Tiny(1), "no mask": Tiny(8), "diagonal masked": Tiny(-1)}

# %% [markdown]
# The logits at $t$ are many numbers. Multiply them with one random vector $u$, so that a single backward pass gives the
# derivative of $u \cdot \text{logits}_t$ by *all* embeddings. Numbers that are not 0 would have to cancel to hide a
# leak, and with a random $u$ they do so with probability 0.
#
# **Before you run the next cell:** sketch the four maps, with row $t$ and column $s$ filled where $t$ depends on $s$.
# Take care with *diagonal masked*.


# %%
def dependence(model, ids):
    """(T, T): how strongly the logits at t (row) react to the embedding at s (column)."""
    x = model.embed_tokens(ids).detach().requires_grad_()
    logits = model.forward_embeddings(x)[0]
    u = torch.randn(logits.size(-1), generator=torch.Generator().manual_seed(1))
    return torch.stack([torch.autograd.grad(row @ u, x, retain_graph=True)[0][0].norm(dim=-1) for row in logits])


tiny_ids = torch.tensor([[3, 14, 1, 5, 9, 2, 6, 7]])
maps = {name: dependence(variant, tiny_ids) for name, variant in variants.items()}
for name, found in maps.items():
    print(f"{name:16s} cells above the diagonal that are not 0: {int((found.triu(1) > 0).sum()):2d} of 28,", end="  ")
    print(f"on the diagonal: {int((found.diagonal() > 0).sum())} of 8")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 4, figsize=(12, 3.1))
for ax, (name, found) in zip(axes, maps.items(), strict=True):
    ax.set_facecolor("0.85")
    image = ax.imshow(found.masked_fill(found == 0, torch.nan).log10(), cmap="Blues", vmin=-2, vmax=0.5)
    ax.plot([-0.5, 7.5], [-0.5, 7.5], color=ORANGE, linewidth=1)
    ax.set(title=name, xlabel="input s", ylabel="output t" if ax is axes[0] else "")
fig.colorbar(image, ax=axes, label="log10 of the derivative")
plt.show()

# %% [markdown]
# *Grey is exactly 0, the orange line is the diagonal. Only the first and the last map keep the upper triangle grey.*
#
# *One too far* fills just the cells beside the diagonal, and that is all a model needs to copy the answer. In *diagonal
# masked* the diagonal is filled nevertheless: attention may not look at token $t$, but the residual connection carries
# it past the attention. The mask is not the only way from an input to an output, which is why one measures.
#
# `arlab.nn.leaks` does the same for any model; `find_leaks` lists the pairs with $s > t$.

# %%
print("the same cells as leak_map:", all(torch.equal(leak_map(variants[n], tiny_ids) > 0, maps[n] > 0) for n in maps))
window = windows(held_out, 1, lab.generator())[0]
print("honest:        ", len(find_leaks(honest, window)), "leaks in a window of 32")
print("cheat:         ", len(find_leaks(cheat, window)), "leaks, of", 32 * 31 // 2, "pairs with s > t")
print("SmolLM2:       ", len(find_leaks(model, ids, projections=1)), "leaks in 30 layers")

# %% [markdown]
# The workbench shows the same measurement; this one is of the model that looks one too far. Change `variants["one too
# far"]` to another variant, to `honest` or `cheat` with `ids=window`, or to a model of your own.

# %% tags=["nbval-ignore-output"]
MaskWorkbench(8, model=variants["one too far"], ids=tiny_ids)

# %% [markdown]
# **Question.** How does a leak grow when layers are stacked? If every layer looks one position too far, how far does a
# model of 30 layers see?
#
# <details><summary>Answer</summary>
#
# Up to 30 positions into the future: each layer passes on what the one below has brought.
#
# </details>
#
# A derivative has a blind spot: a step that has none, such as an argmax. So use the other test as well: change a token,
# and see which logits move.

# %%
changed = ids.clone()
changed[0, 6] = ids[0, 0]  # position 6, counted from 0, now reads something else
with torch.no_grad():
    moved = (model(changed) != model(ids)).any(-1)[0]
print("positions whose logits change:", moved.nonzero().flatten().tolist())

# %% [markdown]
# ## 8 · Padding
#
# A batch is a rectangle, texts are not. When a model writes on, short prompts are filled up on the **left**, so that
# all rows end together. Padding must not be seen, and must not be counted: the first real token stands at position 0.
#
# To have mask and positions in hand, write the one-layer model out. This is `honest(ids)`, line by line:


# %%
def spelled_out(model, ids, positions, mask):
    """A one-layer DecoderLM with the positions and the mask as arguments."""
    block, heads = model.blocks[0], model.config.heads
    x = model.embed_tokens(ids) + model.embed_positions.weight[positions]
    rows, time, width = x.shape
    qkv = block.attn.qkv(block.norm1(x)).view(rows, time, 3 * heads, width // heads).transpose(1, 2)
    z, _ = attention(*qkv.chunk(3, dim=1), mask)
    x = x + block.attn.out(z.transpose(1, 2).reshape(rows, time, width))
    x = x + block.ffn(block.norm2(x))
    return model.head(model.norm(x))


honest = honest.cpu().eval()  # small enough; the comparison below needs no GPU
with torch.no_grad():
    same = torch.allclose(
        spelled_out(honest, window.cpu(), torch.arange(32), masks.causal_mask(32)), honest(window.cpu()), atol=1e-5
    )
print("spelled out equals the model:", same)

# %%
short, long = "ROMEO:", "To be, or not"
width = len(long)
pad = [characters.encode(" ")[0]] * (width - len(short))  # any id will do, if it is neither seen nor counted
batch = torch.tensor([pad + characters.encode(short), characters.encode(long)])
real = torch.arange(width) >= torch.tensor([[len(pad)], [0]])  # (rows, time): True = a real token
print(real.int())

# %% [markdown]
# There are two things to get right, so there are four ways to do it.
#
# **Before you run the next cell:** in which of them is the prediction after `ROMEO:` the same as for `ROMEO:` alone?
# Does each mistake, on its own, move any probability by more than .01?

# %%
slots = torch.arange(width).expand(2, width)
counted = (real.cumsum(-1) - 1).clamp(min=0)  # how many real tokens lie before this one
causal = masks.causal_mask(width)
unpadded = causal & real[:, None, None, :]  # (rows, 1, queries, keys): the padded keys are nobody's
with torch.no_grad():
    alone = honest(torch.tensor([characters.encode(short)]))[0, -1].softmax(-1)
    for what_mask, mask in (("padding seen,  ", causal), ("padding masked,", unpadded)):
        for what_positions, positions in (("slots counted      ", slots), ("real tokens counted", counted)):
            p = spelled_out(honest, batch, positions, mask)[0, -1].softmax(-1)
            print(what_mask, what_positions, "  as alone:", torch.allclose(p, alone, atol=1e-5), end="   ")
            print("one moved by more than .01:", bool((p - alone).abs().max() > 0.01))

# %% [markdown]
# Only with both right is the padded row the same as the row alone. The others raise no error; the text is just worse,
# for the short prompts of a batch.
#
# One more trap. The padding's own rows may attend to nothing: no key is both real and in their past. What does the
# softmax make of such a row, $-\infty$ throughout?

# %%
nothing = torch.full((1, 3), -torch.inf)
print("plain softmax:    ", nothing.softmax(-1).tolist()[0])
print("0 times NaN:      ", (0.0 * nothing.softmax(-1)).tolist()[0])
values = torch.randn(3, 2, generator=lab.generator(), requires_grad=True)
z, weights = attention(torch.ones(1, 2), torch.ones(3, 2), values, mask=torch.zeros(1, 3, dtype=torch.bool))
z.sum().backward()
print("arlab's attention:", weights.tolist()[0], "  output", z.tolist()[0])
print("gradient finite:  ", bool(values.grad.isfinite().all()))

# %% [markdown]
# NaN spreads: in the next layer these rows are keys, with a weight of 0, and $0 \cdot \text{NaN}$ is NaN. A row that
# may attend to nothing should get weights of 0. (Filling with $-10^9$ instead of $-\infty$ gives no NaN, but such a row
# then attends to everything it should not see, padding included.)
#
# `arlab.decoding` takes left-padded batches with their mask, and returns the same text as for each prompt alone:

# %%
together = greedy(honest, batch, mask=real, max_new_tokens=12)
for row, prompt in enumerate((short, long)):
    single = greedy(honest, characters.encode(prompt), max_new_tokens=12)
    print(f"{prompt!r} in the batch as alone:", together.tokens(row) == single.tokens())

# %% [markdown]
# ### Exercise 3 · `token_positions`
#
# `real` is `(rows, time)`, boolean, with all padding on the left. Return integer positions of the same shape: 0, 1, 2,
# ... for each row's real tokens. What padding gets does not matter, as long as a table with `time` rows has it.


# %%
def token_positions(real):
    """(rows, time) booleans -> (rows, time) positions of the real tokens."""
    raise NotImplementedError


check.token_positions(token_positions)

# %%
check.token_positions.hint()

# %%
check.token_positions.solution()

# %% [markdown]
# ## 9 · The cache: what the mask makes possible
#
# When a model writes, it adds one token at a time. Without the mask every new token would change what all earlier ones
# see, and everything would have to be computed anew. With the mask nothing reaches back: the keys and values of the
# past **never change**. So keep them, and compute only the new token's.
#
# Look at the values in the last of SmolLM2's 30 layers: for three tokens alone, and for the same three followed by
# seven more.


# %%
def last_layer_qkv(ids, causal=True):
    """What the projections of the last layer give, for each token."""
    for block in model.blocks:
        block.attn.causal = causal
    kept = {}
    hook = model.blocks[-1].attn.qkv.register_forward_hook(lambda module, inputs, output: kept.update(qkv=output[0]))
    with torch.no_grad():
        model(ids)
    hook.remove()
    for block in model.blocks:
        block.attn.causal = True
    return kept["qkv"]


for causal in (True, False):
    before, after = last_layer_qkv(ids[:, :3], causal), last_layer_qkv(ids, causal)[:3]
    print(f"causal={causal!s:5s}  tokens 0 to 2 keep their keys and values:", torch.allclose(before, after, atol=1e-3))

# %% [markdown]
# Now use it. `model.new_cache(rows, capacity)` makes room; `model(new_ids, cache)` computes the new tokens only and
# appends their keys and values. Five tokens, three at first and then two:

# %%
five = ids[:, :5]
with torch.no_grad():
    one_pass = model(five)
    cache = model.new_cache(rows=1, capacity=5)
    first_three = model(five[:, :3], cache)
    print("tokens in the cache:", cache.lengths, end=" ")
    next_two = model(five[:, 3:], cache)
    print("then", cache.lengths)
print("3 + 2 equals one pass of 5:", torch.allclose(torch.cat([first_three, next_two], 1), one_pass, atol=1e-3))

# %% [markdown]
# In the second step there are 2 queries and 5 keys, and the mask is no longer square. The queries are the *last* two
# positions: the first of them stands at position 3 and sees 4 keys. The triangle has to be aligned at the **bottom
# right**.
#
# PyTorch's fast function takes `is_causal=True`. **Before you run the next cell:** one new query, five keys. How many
# keys will it see?

# %%
q, k = (torch.randn(n, 8, generator=lab.generator(n)) for n in (5, 6))
k, values = k[:5], torch.eye(5)  # with the identity as values, the output shows the weights themselves
for new in (1, 2):
    by_torch = F.scaled_dot_product_attention(q[None, -new:], k[None], values[None], is_causal=True)[0]
    by_mask = F.scaled_dot_product_attention(
        q[None, -new:], k[None], values[None], attn_mask=masks.causal_mask(new, 5)
    )[0]
    print(f"{new} new, is_causal=True\n{by_torch}")
    print(f"{new} new, causal_mask({new}, 5)\n{by_mask}")

# %% [markdown]
# `is_causal=True` aligns the triangle at the top left: the newest token sees the very first one and nothing else, not
# even itself. There is no error and no warning. It is right only when there are as many queries as keys. Find both
# alignments among the presets of the workbench in section 2.
#
# ## 10 · Three ways to say the same
#
# Lecture 004 asks how to repair the decoder's attention, and remarks that changing keys and values suffices. Indeed: to
# ask query $t$ about the past, hand it only the past, $K_{0..t}$ and $V_{0..t}$, and there is nothing to mask. That is
# **slicing**. Masking is the same for all queries at once, and the cache is slicing as time goes on: at step $t$ it
# holds just that slice.

# %%
q, k, v = (torch.randn(6, 8, generator=lab.generator(seed)) for seed in (1, 2, 3))
masked, _ = attention(q, k, v, masks.causal_mask(6))
sliced = torch.cat([attention(q[t : t + 1], k[: t + 1], v[: t + 1])[0] for t in range(6)])

kept_k, kept_v, outputs = torch.empty(0, 8), torch.empty(0, 8), []
for t in range(6):
    kept_k, kept_v = torch.cat([kept_k, k[t : t + 1]]), torch.cat([kept_v, v[t : t + 1]])  # the cache grows by one row
    outputs.append(attention(q[t : t + 1], kept_k, kept_v)[0])
print("masked equals sliced:", torch.allclose(masked, sliced, atol=1e-6))
print("sliced equals cached:", torch.equal(sliced, torch.cat(outputs)))

# %% [markdown]
# Training uses the mask, since all positions are known at once; writing uses the cache, since they are not. How much
# time does the cache save? Twenty new tokens, with and without it:

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 1.6))
for name, runner, colour in (("with the cache", model, BLUE), ("without", Recompute(model), ORANGE)):
    start = time.perf_counter()
    greedy(runner, ids[0], max_new_tokens=20)
    seconds = time.perf_counter() - start
    ax.barh(name, seconds, color=colour)
    ax.text(seconds, name, f"  {seconds:.1f} s", va="center")
ax.set(xlabel="seconds for 20 tokens")
ax.spines[["top", "right"]].set_visible(False)
fig.tight_layout()
plt.show()

# %% [markdown]
# *The time for the same twenty tokens of SmolLM2, with and without a cache. The longer the text, the larger the
# difference; [notebook 07](07_context_length.ipynb) measures it.*

# %% [markdown]
# ## Check yourself
#
# These follow the last self-assessment question of lecture 002 and the parts on masking of lectures 000, 001, 003 and
# 004.
#
# **1.** Why does an autoregressive transformer need a causal mask, and how does it work?
#
# <details><summary>Answer</summary>
#
# It models $p(x_t \mid x_{<t})$, so nothing from $t$ on may enter that prediction. Attention alone would let it in, and
# training would reward copying (section 6). The mask sets the scores of future keys to $-\infty$ before the softmax;
# their weights are then exactly 0, and no value and no gradient passes (sections 1 and 7).
#
# </details>
#
# **2.** Lecture 001 describes the mask as a triangle. Which one is $-\infty$, and does the diagonal belong to it?
#
# <details><summary>Answer</summary>
#
# The upper one: row = query, column = key, $s > t$. The diagonal does not: at input position $t$ the token $x_t$ is
# known, and $x_{t+1}$ is asked for (section 4).
#
# </details>
#
# **3.** "Position $t$ depends on $1 \dots t-1$" and "a token attends to those before it or itself": can both be true?
#
# <details><summary>Answer</summary>
#
# Yes. The first counts the token that is predicted, the second the input position where the prediction is made, which
# is one less.
#
# </details>
#
# **4.** The computation seems to run word by word. Where does it happen in parallel, and when is it really sequential?
#
# <details><summary>Answer</summary>
#
# In training all positions are computed in one pass; the mask makes each row what a pass over its prefix alone would
# have given (section 5). Writing is sequential: the next input does not exist before it has been chosen.
#
# </details>
#
# **5.** A colleague trains with windows of 1,024 tokens and no mask. At which loss will the training settle, if the
# last position is left at about 2.7 nats?
#
# <details><summary>Answer</summary>
#
# Near $2.7 / 1024 \approx 0.003$ nats: all positions but the last can copy. The longer the window, the better the cheat
# looks.
#
# </details>
#
# **6.** Why can the keys and values of a model without a mask not be kept in a cache?
#
# <details><summary>Answer</summary>
#
# From the second layer on they are computed from outputs that have seen the whole text, so each new token changes all
# of them (section 9). With the mask they depend on the past alone.
#
# </details>
#
# ## What to try next
#
# - Give `Tiny` two layers, with *one too far* in only one of them. What does the map look like?
# - Train the cheat with windows of 8 and of 64 characters. Is its floor where you expect it?
# - Train a third model that looks one too far: `block.attn` with your own mask, or `Tiny` on real text. Does the loss
#   give it away?
# - Write a mask for two texts packed into one row, so that neither sees the other. Which positions should the second
#   one get?
#
# ## Where the idea comes from
#
# - The mask in the decoder: Vaswani and others, *Attention is all you need* (2017), section 3.2.3.
# - All conditionals from one pass, by masks in an autoencoder: Germain and others, *MADE* (2015).
# - Training a decoder alone, with a causal mask: Radford and others, *Improving language understanding by generative
#   pre-training* (2018).
# - Telling what an output depends on by its derivatives: Karpathy, *A recipe for training neural networks* (2019), a
#   blog post.
# - Random vectors instead of whole Jacobians: Hutchinson, *A stochastic estimator of the trace of the influence matrix*
#   (1990).
#
# [← 03 Attention](03_attention.ipynb) · [05 The transformer block →](05_transformer_block.ipynb)
