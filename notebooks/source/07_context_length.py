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
# # 07 · Context length: what it buys, and what it costs
#
# A language model conditions on the tokens in front of it, as many as fit. More of them help the prediction, and every
# one of them has to be paid for, in time and in memory. This notebook measures both sides: what the hundredth token of
# context is worth, and why twice the context can cost four times as much.
#
# **You will be able to**
#
# - measure the loss by the number of tokens seen, and by the position in a window, and say why they are one curve;
# - say what happens to a model beyond the length it was trained on, and what a sliding window forgets;
# - predict the time and the memory of attention before you measure them, with and without a fused kernel;
# - trade batch size against length at a fixed memory;
# - count what one new token costs with and without a cache, and explain why writing is slow on fast hardware.
#
# **Time** 90 minutes. **Before this** the causal mask ([04](04_causal_masking.ipynb)), the block
# ([05](05_transformer_block.ipynb)), teacher forcing ([06](06_teacher_forcing.ipynb)). **Follows** lecture 001 (input
# context, challenges), lecture 003 (conditional probabilities and context), lecture 004 (what an encoder costs).
#
# [← 06 Teacher forcing](06_teacher_forcing.ipynb) · [08 A real language model →](08_real_llm.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import time
import timeit
import weakref
from dataclasses import replace
from functools import partial
from unittest import mock

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import arlab
from arlab.exercises import context_length as check
from arlab.nn import costs
from arlab.nn.attention import record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.leaks import leak_map
from arlab.nn.pretrained import smollm2
from arlab.recipes import context_length as recipe
from arlab.recipes import load
from arlab.text.corpora import tiny_shakespeare
from arlab.training import recordings
from arlab.views import CostExplorer

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # safe for the colour-blind
torch.set_grad_enabled(False)  # nothing is trained here; section 7 switches it on where it counts
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.dpi": 78})
plt.rcParams["axes.formatter.min_exponent"] = 3  # write 400, not 4 x 10^2


def length_axis(ax):
    """A logarithmic axis for numbers of tokens, in powers of two."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:,.0f}")


# %% [markdown]
# Lecture 001 names what makes autoregressive training hard. Where it is measured:
#
# | challenge | where |
# |---|---|
# | long-range dependence | 1, 2, 3 |
# | context windows, and what lies beyond them | 4, 5 |
# | training efficiency: time and memory against the length, and the batch | 6, 7 |
# | sequential, token-by-token prediction; hardware | 8, 9 |
# | exposure bias | notebook 16 |
# | data: languages, skew, tokenisation | [notebook 02](02_tokens_and_batches.ipynb) |
#
# ## 1. How far back does a text reach?
#
# Take a text that says something in its first sentence and needs it in its last. SmolLM2 has to complete *"the password
# is"*. It is shown the last $k$ tokens only.
#
# **Before you run:** the text has 94 tokens, and the password stands in the first six. Sketch the probability of the
# right word against $k$. Does it rise steadily?

# %%
model, tokenizer = smollm2(device=lab.device)
fact = "The password is swordfish."
filler = (
    " The road ran along the river, past the old mill and the field where the horses were. It had rained in the night,"
    " and the grass was still wet. We walked for a long time without a word. At noon we sat down under a tree, ate"
    " bread and cheese, and looked at the clouds. In the afternoon the sun came out."
)
question = " In the evening he asked me for it, and I said: the password is"
text_ids = torch.tensor([tokenizer.encode(fact + filler + question)], device=lab.device)  # (1, time)
answer_ids = tokenizer.encode(" swordfish")
n = text_ids.size(1)
print(f"{n} tokens; the answer is {[tokenizer.decode([i]) for i in answer_ids]}; we ask for its first token")


def p_answer(seen):
    return model.last_logits(text_ids[:, -seen:])[0].softmax(-1)[answer_ids[0]].item()


reach = {seen: p_answer(seen) for seen in (1, 16, 64, n - 6, n - 2, n)}
for seen in reach:
    print(f"last {seen:2d} tokens seen: p(right word) = {reach[seen]:.4f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 2.8))
ax.plot(list(reach), list(reach.values()), "o-", color=BLUE)
ax.axvspan(n - 6, n, color=ORANGE, alpha=0.25)
ax.text(n - 7, 0.5, "the sentence with\nthe password", ha="right", color=ORANGE)
ax.set(xlabel="number of tokens seen, counted from the end", ylabel="p(right word)", ylim=(-0.02, 0.8))
fig.tight_layout()
plt.show()

# %% [markdown]
# *The probability of the right word against the number of tokens seen: nothing, for ninety tokens, and then a step.*
#
# A **long-range dependence** is like that: the tokens between do not help at all, and the few that matter lie far away.
# With 92 tokens the model reads "is swordfish." and still cannot tell *what* is swordfish. A model whose window ends
# one sentence too early does not know a little less; it does not know.
#
# Most tokens are not of this kind. Here is each token of the last sentence and of the answer, with the probability that
# the model gives it when it sees everything before it, and when it sees the last 8 tokens.

# %%
whole = torch.cat([text_ids, torch.tensor([answer_ids], device=lab.device)], dim=1)
last = len(tokenizer.encode(question)) + len(answer_ids)
targets = whole[0, -last:]
logits_all = model(whole[:, :-1])[0, -last:]
windows_of_8 = whole[0, :-1].unfold(0, 8, 1)[-last:]  # row by row, the 8 tokens before each target
logits_8 = model.last_logits(windows_of_8)
seen_all, seen_8 = (F.cross_entropy(z, targets, reduction="none").cpu() for z in (logits_all, logits_8))
print("token        -ln p, all seen   -ln p, 8 seen")
for token, a, b in zip(targets.tolist(), seen_all, seen_8, strict=True):
    print(f"{tokenizer.decode([token])!r:12} {a:13.2f} {b:15.2f}")
print(f"{'sum':12} {seen_all.sum():13.2f} {seen_8.sum():15.2f}   = -ln p of all these tokens, by the chain rule")

# %% tags=["nbval-ignore-output"]
words = [tokenizer.decode([i]).strip() for i in targets.tolist()]
fig, ax = plt.subplots(figsize=(9, 3))
place = torch.arange(last)
ax.bar(place - 0.2, seen_all, 0.4, color=BLUE, label="all tokens before it seen")
ax.bar(place + 0.2, seen_8, 0.4, color=ORANGE, label="the last 8 seen")
ax.set_xticks(place, words, rotation=60)
ax.set(ylabel="-ln p (nats)")
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Blue and orange bars are of like height for many tokens; "sword" towers in orange. A mean over all tokens hides such
# a word.*
#
# **Questions.** "sword" stands within the window when "fish" is predicted. Why does "fish" still cost more in orange?
# And "me" costs *less* with 8 tokens than with all: can that be?
#
# <details><summary>Answers</summary>
#
# "The password is sword" may go on in many ways; that the word was "swordfish" is said in the first sentence alone. And
# yes, it can be: more context makes the predictions of a good model better *on average*; a single token may come as
# more of a surprise to the one who knows more.
#
# </details>

# %% [markdown]
# ## 2. What is the next token of context worth?
#
# Now over many targets. Take the **same** characters of the held-out Shakespeare, and let a model see the last 1, 2, 4,
# ... 256 characters before each. The small model is the course's own (four layers, trained with windows of 256
# characters); the measurement is three lines.

# %%
small, characters = load("shakespeare_strong")
small = small.to(lab.device)
C = small.context_length
text = tiny_shakespeare()
held_out = torch.tensor(characters.encode(text[int(0.9 * len(text)) :]))
N = lab.scale(cpu=320, gpu=4096)
PART = lab.scale(cpu=16, gpu=256)  # rows in one pass: few enough for the processor's own caches
starts = torch.linspace(0, len(held_out) - C - 1, N).long()
stretches = held_out[starts[:, None] + torch.arange(C + 1)].to(lab.device)  # (N, C + 1): the last one is the target


def seeing(k):
    """Logits for each stretch's last character, when only the k characters before it are given."""
    return torch.cat([small.last_logits(part[:, -1 - k : -1]) for part in stretches.split(PART)])


powers = [2**i for i in range(int(math.log2(C)) + 1)]
logits_by_context = {k: seeing(k) for k in powers}
target = stretches[:, -1]
by_context = {k: F.cross_entropy(z, target, reduction="none").cpu() for k, z in logits_by_context.items()}
accuracy = {k: (z.argmax(-1) == target).double().mean().item() for k, z in logits_by_context.items()}
print(f"{N} targets, each predicted from its last {powers[0]}, {powers[1]}, ... {powers[-1]} characters")

# %% [markdown]
# **Before you run:** from 1 character to 2, and from 128 to 256, the context doubles. Guess both gains, in nats per
# character.


# %%
def table(losses, unit):
    """Mean loss for each number of tokens seen, and what the last doubling gained, with its standard error."""
    print(f"{unit} seen   mean loss   gained by doubling")
    for k, loss in losses.items():
        line = f"{k:10d} {loss.mean():11.2f}"
        if k // 2 in losses:
            gain = losses[k // 2] - loss  # the same targets: their difference is much surer than either mean
            line += f"{gain.mean():12.2f} ± {gain.std() / len(gain) ** 0.5:.2f}"
        print(line)


table(by_context, "characters")
print("right at the first guess:", ", ".join(f"{accuracy[k]:.0%} with {k}" for k in (1, 4, 16, C)))

# %% [markdown]
# The first doublings gain a lot and the last ones next to nothing. Is that a law of language, or the small model's
# fault? Ask SmolLM2, which is much larger and has a window of 8,192 tokens. Its run takes some minutes and is therefore
# **recorded**: `python -m arlab.recipes record_07_context_length` makes the file, and `RUN_IT = True` runs it here.

# %%
RUN_IT = False
if RUN_IT:
    recipe.record(recipe.FILE)
_, recorded = recordings.load(recipe.FILE)
real = {k: torch.tensor(losses) for k, losses in zip(recorded["seen"], recorded["loss_by_context"], strict=True)}
print(f"recorded: {recorded['model']}, {recorded['targets']} targets from {recorded['text']}")
table(real, "tokens")
per_token = recorded["characters_per_token"]
in_characters = real[256].mean() / per_token
print(f"a token is {per_token:.2f} characters long here: with 256 seen, {in_characters:.2f} nats a character")
ratio = sum(costs.parameters(model.config).values()) / sum(costs.parameters(small.config).values())
print(f"SmolLM2 has {ratio:.0f} times the small model's parameters")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
panels = ((by_context, "the small model, live", "characters"), (real, "SmolLM2, recorded", "tokens"))
for ax, (losses, title, unit), colour in zip(axes, panels, (BLUE, PURPLE), strict=True):
    mean = torch.tensor([loss.mean() for loss in losses.values()])
    error = torch.tensor([loss.std() / len(loss) ** 0.5 for loss in losses.values()])
    ax.fill_between(list(losses), mean - error, mean + error, color=colour, alpha=0.2)
    ax.plot(list(losses), mean, "o-", color=colour)
    length_axis(ax)
    ax.set(title=title, xlabel=f"{unit} seen", ylabel=f"loss (nats per {unit[:-1]})", ylim=(0, None))
fig.tight_layout()
plt.show()

# %% [markdown]
# *Loss at the same targets against the number of tokens seen (logarithmic), with a band of one standard error. Left the
# small model, right SmolLM2. Both fall steeply at first; the large model goes on gaining for longer.*
#
# (Do not read the two as a race: plays of Shakespeare are all over the web, and SmolLM2 has very likely been trained on
# this text.)
#
# A long window pays where the text has something to say far back **and** the model has learned to use it. Lecture 001
# puts it as a trade: a short window is cheap and enough for spelling and grammar, a story or a summary needs more.

# %% [markdown]
# ## 3. Loss by position
#
# Training never cuts windows like that. It reads one window of $T$ tokens and predicts at every position at once;
# position $t$ sees $t$ tokens. So one pass over each stretch gives a loss for every length of context, at *different*
# targets.
#
# **Before you run:** will the loss by position be the curve of section 2?


# %%
def losses_at_every_position(model, windows):
    """(rows, time): -ln p of every token but the first."""
    parts = [F.cross_entropy(model(p[:, :-1]).transpose(1, 2), p[:, 1:], reduction="none") for p in windows.split(PART)]
    return torch.cat(parts).cpu()


by_position = losses_at_every_position(small, stretches)  # (N, C)
print(
    "the last position is section 2's case of all seen:", torch.allclose(by_position[:, -1], by_context[C], atol=1e-4)
)
print("   positions  mean loss   section 2, at the larger of the two, and its standard error")
for k in powers[1:]:
    span = f"{k // 2 + 1} to {k}" if k > 2 else "2"
    error = by_context[k].std() / N**0.5
    print(f"{span:>12} {by_position[:, k // 2 : k].mean():11.2f} {by_context[k].mean():14.2f} ± {error:.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2))
t = torch.arange(1, C + 1)
ax.plot(t, by_position.mean(0), ".", color=GREY, markersize=4, label=f"each position, mean of {N} windows")
binned = [by_position[:, k // 2 : k].mean() for k in powers[1:]]
ax.plot([0.75 * k + 0.5 for k in powers[1:]], binned, "o-", color=BLUE, label="positions in groups")
ax.plot(powers, [by_context[k].mean() for k in powers], "s--", color=ORANGE, label="section 2: same targets, k seen")
length_axis(ax)
ax.set(xlabel="position in the window = characters seen", ylabel="loss (nats per character)")
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Grey dots: single positions, noisy because each has its own targets. Blue: groups of positions. Orange: section 2.
# One curve, within the noise.*
#
# Two consequences. A model's reported loss depends on the window it was measured with, for each window begins with
# positions that know little:

# %%
print(f"mean over all {C} positions:          {by_position.mean():.2f}")
print(f"mean over the first 32:              {by_position[:, :32].mean():.2f}")
print(f"mean over the second half alone:     {by_position[:, C // 2 :].mean():.2f}")

# %% [markdown]
# And the same model "with a context of 32" scores worse than "with a context of 256", though no weight differs. Compare
# losses only when they were measured with the same windows.
#
# ### Exercise 1: `loss_by_position`
#
# Logits `(rows, time, vocab)` and targets `(rows, time)`. Texts end early: a target of -100 marks a place without one.
# Return the mean loss at each position, `(time,)`, over the targets that count.


# %%
def loss_by_position(logits, targets):
    """(time,): mean -ln p at each position, in nats; targets of -100 are left out."""
    raise NotImplementedError


check.loss_by_position(loss_by_position)

# %%
check.loss_by_position.hint()

# %%
check.loss_by_position.solution()

# %% [markdown]
# ## 4. The windows of well-known models
#
# The number of tokens a model can be given, as its makers published it:

# %%
WINDOWS = [  # name, year, tokens
    ("GPT", 2018, 512), ("BERT", 2018, 512), ("GPT-2", 2019, 1_024), ("GPT-3", 2020, 2_048),
    ("LLaMA", 2023, 2_048), ("Llama 2", 2023, 4_096), ("GPT-4", 2023, 8_192), ("GPT-4 Turbo", 2023, 128_000),
    ("Claude 2.1", 2023, 200_000), ("Llama 3", 2024, 8_192), ("Llama 3.1", 2024, 131_072),
    ("Gemini 1.5 Pro", 2024, 1_000_000), ("SmolLM2", 2024, 8_192),
]  # fmt: skip
first, largest = WINDOWS[0], max(WINDOWS, key=lambda row: row[2])
print(f"from {first[0]} ({first[1]}) to {largest[0]} ({largest[1]}): {largest[2] / first[2]:,.0f} times as many tokens")
pages = 4.2 * 1_000_000 / 1_800  # characters of English a token, and on a page, roughly
print(f"a million tokens is about {round(pages, -2):,.0f} pages")
print("SmolLM2's window, read from the model itself:", f"{model.context_length:,}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(9, 4))
drawn = {}
for name, year, tokens in WINDOWS:
    same_place = drawn.get((year, tokens), 0)
    drawn[year, tokens] = same_place + 1
    ax.plot(year, tokens, "o", color=PURPLE if name == "SmolLM2" else BLUE)
    left = name in ("LLaMA", "Llama 2", "GPT-4", "GPT-4 Turbo", "Claude 2.1")
    label = f"{name}  " if left else f"  {name}"
    ax.text(year, tokens * 1.55**same_place, label, ha="right" if left else "left", va="center", fontsize=9)
ax.set_yscale("log", base=2)
ax.set_yticks([2**i for i in (9, 11, 13, 15, 17, 20)], ["512", "2 k", "8 k", "32 k", "128 k", "1 M"])
ax.set(xlabel="year", ylabel="context window (tokens)", xlim=(2017.6, 2025.2))
fig.tight_layout()
plt.show()

# %% [markdown]
# *Context windows by year, on a logarithmic axis: doubling about once a year at first, then a leap of a hundredfold and
# more in 2023 and 2024.*
#
# What a window *admits* is not what a model *uses*: a fact in the middle of a long window is found less reliably than
# at either end ("Lost in the middle", 2023). And each token in it is paid for, whether it helps or not. Few-shot
# examples live in the same window (notebook 18). The rest of this notebook is the bill,
# and how kernels and caches brought it down.

# %% [markdown]
# ## 5. Beyond the context
#
# What if a text is longer than the window? It depends on how the model knows positions. **Learned** positions are a
# table with one row for each, and there is no row beyond the last:

# %%
sizes = {"vocab_size": characters.vocab_size, "context_length": 8, "d_model": 16, "layers": 1, "heads": 2}
learned = DecoderLM(DecoderConfig.gpt2(**sizes), seed=0)
print("rows in the table of positions:", learned.embed_positions.weight.size(0))
try:
    learned(torch.zeros(1, 9, dtype=torch.long))
except ValueError as error:
    print("9 tokens:", error)

# %% [markdown]
# **Rotary** positions are angles, and an angle can be computed for any position. The small Shakespeare model has them.
# Its weights do not depend on the context length, so they fit a model that is allowed 1,024 positions. It was trained
# on 256.
#
# **Before you run:** it has never seen position 300. Does its loss stay, rise a little, or break down?

# %%
longer = DecoderLM(replace(small.config, context_length=1024)).eval()
longer.load_state_dict(small.state_dict())
longer = longer.to(lab.device)
rows = lab.scale(cpu=16, gpu=256)
starts = torch.linspace(0, len(held_out) - 1025, rows).long()
long_rows = held_out[starts[:, None] + torch.arange(1025)].to(lab.device)
beyond_rows = torch.cat([losses_at_every_position(longer, part) for part in long_rows.split(4)])  # (rows, 1024)
beyond = beyond_rows.mean(0)
INSIDE, BEYOND = slice(64, 256), slice(512, 1024)
print(f"mean loss at positions 65 to 256: {beyond[INSIDE].mean():.2f}, at 513 to 1,024: {beyond[BEYOND].mean():.2f}")

# %% [markdown]
# It never saw such angles, nor so many keys to divide its attention among. No error, no warning: just a worse model.
#
# The simple way out is a **sliding window**: at each step give the model the last 64 tokens only, and count positions
# from the window's start. Here for every 32nd target beyond the trained length, and the same targets for both:

# %%
w = 64
places = torch.arange(C, 1024, 32)  # input positions; the target is the next character
last_w = torch.stack([long_rows[:, p - w + 1 : p + 2] for p in places.tolist()], dim=1).flatten(0, 1)
logits = torch.cat([small.last_logits(part[:, :-1]) for part in last_w.split(PART)])
slid = F.cross_entropy(logits, last_w[:, -1], reduction="none").cpu()
all_seen = beyond_rows[:, places].flatten()
gain = all_seen - slid
print(f"{len(slid)} targets: all tokens seen {all_seen.mean():.2f}, the last {w} seen {slid.mean():.2f};", end=" ")
print(f"gained {gain.mean():.2f} ± {gain.std() / len(gain) ** 0.5:.2f}")

# %% [markdown]
# Another way out is to slow the hands of the clock down. The base of the rotations, 10,000 here, sets how slowly the
# slower pairs of features turn (notebook 05). With a base of 40,000 the slowest pair takes nearly four times as long:
# at position 900 it stands where it used to stand at 245.
#
# **Before you run:** nothing is trained. What will that cost inside the window, and what will it gain beyond?

# %%
slower = DecoderLM(replace(longer.config, rotary_base=40_000.0)).eval()
slower.load_state_dict(small.state_dict())
slower = slower.to(lab.device)
slow = torch.cat([losses_at_every_position(slower, part) for part in long_rows.split(4)]).mean(0)
slower_by = 4 ** (1 - 2 / small.config.head_dim)  # the last pair's share of the base
print(f"the slowest pair turns {slower_by:.2f} times more slowly: {900 / slower_by:.0f} before, 900 now")
for name, span in (("65 to 256", INSIDE), ("513 to 1,024", BEYOND)):
    print(f"positions {name}: base 10,000 {beyond[span].mean():.2f}, base 40,000 {slow[span].mean():.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2))
groups = beyond.view(-1, 32).mean(1)
ax.plot(torch.arange(16, 1024, 32), groups, "o-", color=ORANGE, markersize=4, label="all tokens, rotary positions")
ax.plot(torch.arange(16, 1024, 32), slow.view(-1, 32).mean(1), "o-", color=GREEN, markersize=4, label="slowed down")
ax.hlines(slid.mean(), C, 1024, color=BLUE, label=f"sliding window of {w}, mean")
ax.axvline(C, color=GREY, linestyle=":", label="trained up to here")
ax.set(xlabel="position", ylabel="loss (nats per character)")
ax.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="white")
fig.tight_layout()
plt.show()

# %% [markdown]
# *Loss in groups of 32 positions, for a model trained on 256 positions and run on 1,024. Orange: as it is. Green: with
# slower rotations. Blue: as it is, behind a sliding window.*
#
# A window of 64 loses next to nothing here (section 2), and it **forgets**: what has left it is gone. Section 1 showed
# it: behind a window of 64 tokens the password is as unlikely as any odd word. Slower angles forget nothing, and with
# some more training on long texts they are how models such as Llama 3.1 came to their windows (position interpolation
# slows all pairs alike, a larger base the slow ones most; both 2023).

# %% [markdown]
# ## 6. The price in time: counting
#
# The attention of one head over $T$ tokens multiplies $Q$ $(T, d_k)$ by $K^\top$, and the $T \times T$ weights $A$ by
# $V$. A product of an $a \times b$ and a $b \times c$ matrix takes $abc$ multiplications with their additions: $2abc$
# **FLOPs**. So with $H$ heads
#
# $$\text{FLOPs} = H \cdot 2 \cdot 2\,T^2 d_k = 4\,T^2 H d_k .$$
#
# Here are two ways to compute it. `explicit` writes the formula down, map and all; it takes the same arguments as
# PyTorch's own function, so that it can stand in for it later. `fused` is that function: one **kernel** (a single
# program for the processor; the idea is known as Flash Attention) that goes through the keys block by block, keeps a
# running softmax, and never stores a map.


# %%
def explicit(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True):
    """Causal softmax(QK^T / sqrt(d_k)) V with every step a tensor of its own; q, k, v (rows, heads, time, d_k)."""
    T = q.size(-2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (rows, heads, T, T)
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)  # (rows, heads, T, T)
    return weights @ v


fused = partial(F.scaled_dot_product_attention, is_causal=True)
H, d_k = 4, 64


def qkv(T):
    generator = lab.generator()
    return [torch.randn(1, H, T, d_k, generator=generator).to(lab.device) for _ in range(3)]


print("the same output:", torch.allclose(explicit(*qkv(200)), fused(*qkv(200)), atol=1e-5))

# %% [markdown]
# **Before you run:** from $T = 256$ to $T = 512$, by which factor do attention's FLOPs grow? And those of a
# feed-forward net, which works at each position alone? PyTorch can count: `FlopCounterMode` watches every matrix
# product.

# %%
W_up, W_down = torch.empty(256, 1024, device="meta"), torch.empty(1024, 256, device="meta")


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


print("   T   attention        4 T² H d_k    feed-forward")
for T in (128, 256, 512, 1024):
    on_paper = torch.empty(1, H, T, d_k, device="meta")  # a shape without numbers: enough to count
    counted = flops(lambda x=on_paper: explicit(x, x, x))
    ffn = flops(lambda T=T: torch.empty(T, 256, device="meta") @ W_up @ W_down)
    print(f"{T:4d} {counted:13,d} {4 * T * T * H * d_k:15,d} {ffn:15,d}")

# %% [markdown]
# Four times against twice. In a whole model the linear parts are large, so the square takes its time to show.
# `costs.forward_flops(config, T)` counts a model from its config (a test compares it with the counter).
#
# **Before you run:** at its full window of 8,192 tokens, which share of SmolLM2's FLOPs is the $T^2$ part?

# %%
config = model.config
lengths = [2**i for i in range(4, 17)]
parts = {T: costs.forward_flops(config, T) for T in lengths}
shares = {T: (p["scores"] + p["mix"]) / sum(p.values()) for T, p in parts.items()}
for T in (128, 1024, 8192, 65536):
    print(
        f"T = {T:6,d}: {sum(parts[T].values()) / T / 1e6:7,.0f} MFLOP a token, attention's square {shares[T]:.0%} of it"
    )
linear = sum(costs.forward_flops(config, 1).values()) - 4 * config.layers * config.heads * config.head_dim
print(f"half at T = {math.ceil(linear / (4 * config.layers * config.heads * config.head_dim)):,d}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2))
labels = {"logits": "logits", "ffn": "feed-forward", "qkv": "Q, K, V and $W^O$", "scores": "QKᵀ and AV"}
heights = {
    "logits": [parts[T]["logits"] / T for T in lengths],
    "ffn": [parts[T]["ffn"] / T for T in lengths],
    "qkv": [(parts[T]["qkv"] + parts[T]["out"]) / T for T in lengths],
    "scores": [(parts[T]["scores"] + parts[T]["mix"]) / T for T in lengths],
}
ax.stackplot(
    lengths,
    *([h / 1e6 for h in v] for v in heights.values()),
    labels=labels.values(),
    colors=[GREY, GREEN, BLUE, ORANGE],
)
ax.axvline(config.context_length, color="black", linestyle=":")
length_axis(ax)
ax.set_xlim(16, 2**15)
ax.set_ylim(0, 2600)
ax.set(xlabel="T", ylabel="MFLOP for each token", title="SmolLM2, one pass over T tokens (dotted: its window)")
ax.legend(loc="upper left")
fig.tight_layout()
plt.show()

# %% [markdown]
# *FLOPs for each token of one pass, by part. Everything but the orange part is the same for each token, however long
# the text. Orange grows with $T$.*
#
# ## The price in time: the clock
#
# Counted is not measured. Time both versions, and predict: fix the curve at a single point, $T = 1024$, and let it grow
# with $T^2$.
#
# **Before you run:** will the fused kernel grow more slowly than $T^2$, or only be faster by some factor?

# %% tags=["nbval-ignore-output"]
ONE_THREAD = lab.device.type == "cpu" and torch.get_num_threads() == 1
TIMER = time.process_time if ONE_THREAD else time.perf_counter  # the processor's own time, where it can be told apart


def seconds(run, repeats=3):
    """The best of a few runs, the first of which warms up: whatever else the machine does can only add to it."""

    def finished():
        run()
        if lab.device.type == "cuda":
            torch.cuda.synchronize()

    return min(timeit.repeat(finished, number=1, repeat=repeats, timer=TIMER))


TS = [64, 128, 256, 512, 1024, 2048]
clock = {name: {T: seconds(partial(f, *qkv(T))) for T in TS} for name, f in (("explicit", explicit), ("fused", fused))}
for T in TS:
    a, b = clock["explicit"][T], clock["fused"][T]
    print(f"T = {T:4d}: explicit {1e3 * a:8.2f} ms, fused {1e3 * b:7.2f} ms, {a / b:4.1f} times as fast", end=" ")
    print(f"({4 * T * T * H * d_k / b / 1e9:.0f} GFLOP/s, the full square counted)")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.6))
for (name, times), colour in zip(clock.items(), (ORANGE, BLUE), strict=True):
    curve = [times[1024] * (T / 1024) ** 2 * 1e3 for T in TS]
    ax.plot(TS, curve, "--", color=colour, label=f"{name}: predicted, T² through T = 1,024")
    ax.plot(TS, [1e3 * s for s in times.values()], "o", color=colour, label=f"{name}: measured")
length_axis(ax)
ax.set_yscale("log")
ax.set(xlabel="T", ylabel="milliseconds", title=f"causal attention, {H} heads of {d_k}")
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Measured points near the predicted lines: a slope of two on doubly logarithmic axes. At small $T$ points tend to lie
# above, for a call costs something however small. At $T = 2048$ the explicit version may lie above its line too: a map
# of 2,048 × 2,048 for each head no longer fits the processor's own caches.*
#
# Both are quadratic. The fused kernel wins by a factor: it skips the blocks above the diagonal (half of the square),
# and it does not carry maps to memory and back. It does not repeal the $T^2$.

# %% [markdown]
# ## 7. The price in memory
#
# Memory is where the two really differ. To measure it honestly, watch every operation: whenever a tensor with new
# memory appears, add its bytes; when that memory is given back, subtract them; remember the highest level. PyTorch lets
# us stand between it and its operations:


# %%
class PeakBytes(TorchDispatchMode):
    """The most bytes of tensors, made inside the block, that were alive at once. A kernel's own scratch is not seen."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage._cdata)
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        return result

    def freed(self, key, nbytes):
        self.known.discard(key)
        self.alive -= nbytes


def peak(run):
    with PeakBytes() as counter:
        run()
    return counter.peak


with PeakBytes() as one:
    a = torch.zeros(1000)  # 4,000 bytes
    b = a + 1
    del a
    c = b * 2
print("three vectors of 4,000 bytes, at most two at a time:", one.peak)

# %% [markdown]
# **Before you run:** attention over $T$ tokens with 4 heads in float32. How many maps of $4 \cdot T^2$ numbers does
# `explicit` hold at the worst moment? How much does `fused` need at $T = 2048$?

# %%
memory = {"explicit": {}, "fused": {}}
print("   T    explicit, bytes   in maps of H T² numbers      fused, bytes   in tensors of H T d_k numbers")
for T in TS:
    for name, form in (("explicit", explicit), ("fused", fused)):
        memory[name][T] = peak(partial(form, *qkv(T)))
    a, b = memory["explicit"][T], memory["fused"][T]
    print(f"{T:4d} {a:18,d} {a / (4 * H * T * T):18.3f} {b:24,d} {b / (4 * H * T * d_k):18.3f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.4))
ax.plot(TS, [3 * 4 * H * T * T / 1e6 for T in TS], "--", color=ORANGE, label="predicted: 3 maps, 3 · 4 H T² bytes")
ax.plot(TS, [memory["explicit"][T] / 1e6 for T in TS], "o", color=ORANGE, label="explicit: measured")
ax.plot(TS, [4 * H * T * d_k / 1e6 for T in TS], "--", color=BLUE, label="predicted: the output, 4 H T d_k bytes")
ax.plot(TS, [memory["fused"][T] / 1e6 for T in TS], "o", color=BLUE, label="fused: measured")
length_axis(ax)
ax.set_yscale("log")
ax.set(xlabel="T", ylabel="peak memory (MB)", title=f"causal attention, {H} heads of {d_k}, float32, one row")
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Peak memory against $T$. Explicit: slope 2, three maps at a time (the scores, the masked scores, the weights; a
# little more where $T$ is as small as $d_k$, and other tensors count). Fused: slope 1, the output and one number for
# each query.*
#
# So with the fused kernel the **time** is quadratic and the **memory** linear. Lecture 001's $O(n^2)$ of memory holds
# for attention as it is written in the formula, and was the rule when the long windows of section 4 were out of reach.
#
# ### Training keeps everything
#
# When a model writes, each map can be thrown away after use. In training the backward pass needs the intermediate
# results, the **activations**: they all stay until it has used them, in every layer at once. `saved_tensors_hooks`
# shows each tensor that is kept.
#
# **Before you run:** `explicit` made three maps for each head. How many of them must stay for the backward pass?


# %%
def kept_for_backward(model, ids):
    """Bytes that a training step on these ids keeps for its backward pass, the weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()  # several views of one memory count once
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    del loss
    return sum(kept.values())


# %% [markdown]
# The model stays the same; only the function that it calls for its attention is exchanged.


# %%
def without_the_fused_kernel():
    """The same model, its attention computed by `explicit`."""
    return mock.patch.object(F, "scaled_dot_product_attention", explicit)


shape = DecoderConfig.gpt2(vocab_size=65, context_length=2048, d_model=128, layers=4, heads=4)
learner = DecoderLM(shape, seed=0).to(lab.device)
activations = {"fused": {}, "explicit": {}}
for T in (64, 128, 256, 512):
    ids = torch.zeros(1, T, dtype=torch.long, device=lab.device)
    activations["fused"][T] = kept_for_backward(learner, ids)
    with without_the_fused_kernel():
        activations["explicit"][T] = kept_for_backward(learner, ids)
    more = activations["explicit"][T] - activations["fused"][T]
    print(f"T = {T:3d}: fused {activations['fused'][T] / T:8.1f} bytes a token; explicit keeps", end=" ")
    print(f"{more / costs.attention_weight_bytes(shape, rows=1, time=T):.3f} times the bytes of all its maps more")

# %% [markdown]
# With the fused kernel a token costs the same number of bytes at every length: memory is linear. The explicit form
# keeps one of the three maps, the weights, in all $L$ layers on top of that: $L \cdot H \cdot T^2 \cdot 4$ bytes for
# each row. (The five or six per cent more are the mask, a byte for each pair.)
#
# ### Exercise 2: `attention_bytes`
#
# Write that number down for any model. `config` has `.layers`, `.heads`, `.n_kv_heads`, `.head_dim`, `.d_model`.


# %%
def attention_bytes(config, rows, time, itemsize=4):
    """Bytes of all attention maps of a batch, every layer and head; itemsize bytes for each number."""
    raise NotImplementedError


check.attention_bytes(attention_bytes)

# %%
check.attention_bytes.hint()

# %%
check.attention_bytes.solution()

# %% [markdown]
# ### Batch size against length
#
# What fills the memory in training: the **weights**, their **gradients** (as many), the optimiser's two averages for
# each weight (AdamW), and the **activations**, which alone depend on the batch. Per row, activations are $aT$ with the
# fused kernel and $aT + bT^2$ without. Take $a$ from one measurement, at $T = 64$, and $b$ from the formula; do they
# predict the others?

# %%
weights = sum(costs.parameters(shape).values()) * 4
a = activations["fused"][64] / 64
b = costs.attention_weight_bytes(shape, 1, 1)


def row_bytes(T, kernel):
    return a * T + (b * T * T if kernel == "explicit" else 0)


for kernel, measured in activations.items():
    off = max(abs(row_bytes(T, kernel) / measured[T] - 1) for T in measured)
    print(f"{kernel:8s} predicted within {off:.1%}")

BUDGET = 256e6  # bytes


def rows_that_fit(T, kernel, budget=BUDGET):
    return int((budget - 4 * weights) / row_bytes(T, kernel))


print(f"weights {weights / 1e6:.1f} MB, with gradients and optimiser {4 * weights / 1e6:.1f} MB of {BUDGET / 1e6:.0f}")
print("    T   rows, explicit   rows, fused   tokens in the batch, explicit and fused")
for T in (64, 256, 1024, 2048):
    rows_a, rows_b = rows_that_fit(T, "explicit"), rows_that_fit(T, "fused")
    print(f"{T:5d} {rows_a:12d} {rows_b:14d} {rows_a * T:18,d} {rows_b * T:14,d}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3))
left, right = axes
T_axis = [2**i for i in range(6, 12)]
for kernel, colour in (("explicit", ORANGE), ("fused", BLUE)):
    left.plot(T_axis, [row_bytes(T, kernel) / 1e6 for T in T_axis], "--", color=colour, label=f"{kernel}: predicted")
    left.plot(list(activations[kernel]), [m / 1e6 for m in activations[kernel].values()], "o", color=colour)
    right.plot(T_axis, [rows_that_fit(T, kernel) or math.nan for T in T_axis], "o-", color=colour, label=kernel)
left.set(xlabel="T", ylabel="activations of one row (MB)", yscale="log")
right.set(xlabel="T", ylabel="rows that fit", yscale="log", title=f"training in {BUDGET / 1e6:.0f} MB")
for ax in axes:
    length_axis(ax)
    ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Left: activations of one row, predicted (dashed) and measured (dots). Right: the largest batch in a fixed memory.
# With the fused kernel twice the length is half the rows: the number of tokens in a batch stays. Without it, twice the
# length costs more than half of the rows, in the end three quarters, and of 2,048 tokens not one row fits.*
#
# That is lecture 001's batch-size trade-off, and the reason why training runs are described by *tokens* per batch. Does
# the prediction hold? Fill a small budget to the brim:

# %%
small_budget, T = 48e6, 256
fits = rows_that_fit(T, "fused", small_budget)
for rows in (fits, fits + 1):
    ids = torch.zeros(rows, T, dtype=torch.long, device=lab.device)
    total = 4 * weights + kept_for_backward(learner, ids)
    print(
        f"rows {'that fit' if rows == fits else '+ 1':8s}: within {small_budget / 1e6:.0f} MB: {total <= small_budget}"
    )

# %% [markdown]
# ### Paying less: local attention (may wait for a second reading)
#
# One way out of the square is to let each token attend to the last $w$ tokens only, in every layer: $T \cdot w$ instead
# of $T^2$, and a cache that never holds more than $w$ tokens.
#
# **Before you run:** with $w = 4$ (itself and three before it) and 3 layers, how far back can the last token be
# influenced from? The leak detector of notebook 04 measures it: by derivatives.


# %%
def windowed(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True, w=4):
    T = q.size(-2)
    near = torch.ones(T, T, dtype=torch.bool).tril().triu(1 - w)  # s <= t, and t - s < w
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).masked_fill(~near, -torch.inf)
    return scores.softmax(-1) @ v


reached = []
some_ids = torch.randint(65, (1, 24), generator=lab.generator())
for layers in (1, 2, 3, 4):
    deep = DecoderLM(replace(shape, d_model=32, layers=layers), seed=1)
    with mock.patch.object(F, "scaled_dot_product_attention", windowed), torch.enable_grad():
        influence = leak_map(deep, some_ids) > 0  # (output position, input position)
    reached.append(influence)
    print(f"layers: {layers}; the last token depends on itself and on {int(influence[-1].sum()) - 1} tokens before it")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 4, figsize=(11, 3))
for ax, layers, influence in zip(axes, (1, 2, 3, 4), reached, strict=True):
    ax.imshow(influence.float(), cmap="Blues", vmin=0, vmax=1.3)
    ax.set(
        title=f"{layers} layer{'s' if layers > 1 else ''}",
        xlabel="input position",
        ylabel="output position" if layers == 1 else "",
    )
fig.tight_layout()
plt.show()

# %% [markdown]
# *Blue: which inputs (columns) an output (row) depends on. The band is three wider with each layer.*
#
# Layers $\times (w-1)$: what a token has gathered is passed on by the layer above. Mistral 7B (2023) used $w = 4096$ in
# 32 layers. A far-off fact has to survive all the steps in between, and some models therefore mix local layers with a
# few that see everything.

# %% [markdown]
# ## 8. One new token: with and without the cache
#
# A model that writes asks for one more token at a time. Without a cache it reads everything again: $t + 1$ tokens
# through all layers. With it, one token runs through the layers, and meets the $t$ kept keys and values (notebook 04).
# Two costs, then: FLOPs, and the memory of the cache.
#
# ### Exercise 3: `cache_bytes`
#
# A key and a value, of `head_dim` numbers each, for every layer, row, token and **key/value head**.


# %%
def cache_bytes(config, rows, time, itemsize=4):
    """Bytes of the keys and values of `time` tokens in `rows` rows."""
    raise NotImplementedError


check.cache_bytes(cache_bytes)

# %%
check.cache_bytes.hint()

# %%
check.cache_bytes.solution()

# %% [markdown]
# For five published models, at their full window, in 2 bytes a number. The parameter count tells that the configs are
# right.
#
# **Before you run:** GPT-3 with its 2,048 tokens, Llama 3.1 8B with its 131,072: which cache is larger for one text?

# %%
PUBLISHED = {
    "GPT-2, 124M": DecoderConfig.gpt2(vocab_size=50257, context_length=1024, d_model=768, layers=12, heads=12),
    "GPT-3, 175B": DecoderConfig.gpt2(vocab_size=50257, context_length=2048, d_model=12288, layers=96, heads=96),
    "Llama 2 7B": DecoderConfig.llama(
        vocab_size=32000, context_length=4096, d_model=4096, layers=32, heads=32, d_ff=11008, tied=False
    ),
    "Llama 3.1 8B": DecoderConfig.llama(
        vocab_size=128256, context_length=131072, d_model=4096, layers=32, heads=32, kv_heads=8, d_ff=14336, tied=False
    ),
    "SmolLM2": model.config,
}
print("                parameters    window   weights      cache for one text   its maps, if kept")
for name, c in PUBLISHED.items():
    T, size = c.context_length, sum(costs.parameters(c).values())
    cache, maps = costs.kv_cache_bytes(c, 1, T, 2), costs.attention_weight_bytes(c, 1, T, 2)
    print(f"{name:13s} {size / 1e9:10.3f} G {T:9,d} {2 * size / 1e9:8.2f} GB", end=" ")
    print(f"{cache / 1e9:14.3f} GB {maps / 1e9:18,.1f} GB")
real_cache = model.new_cache(rows=1, capacity=100)
print("SmolLM2, 100 tokens, counted on the cache itself:", real_cache.k.nbytes + real_cache.v.nbytes, end=" = ")
print(costs.kv_cache_bytes(model.config, 1, 100))

# %% [markdown]
# The cache is linear in $T$, and for a long window it still rivals the weights, *for each text that is being written*.
# Four query heads to each key/value head have made Llama 3.1's four times smaller. The last column is why nobody keeps
# maps: 35 TB for one text.
#
# ### Exercise 4: `token_flops`
#
# The FLOPs to get the logits of one more token after `past` tokens, with the cache and without it, for a GPT-2 kind of
# model ($Q, K, V, W^O$ of $d \times d$, a feed-forward net $d \to$ `n_ff` $\to d$, full square of scores). Only the
# last position's logits are computed.


# %%
def token_flops(config, past, cached):
    """FLOPs of the next token's logits: with the cache one position is new, without it all past + 1."""
    raise NotImplementedError


check.token_flops(token_flops)

# %%
check.token_flops.hint()

# %%
check.token_flops.solution()

# %% [markdown]
# The counter agrees with the formula, on the small model:


# %%
def two_products(q, k, v, **_):
    """Attention without its mask: the same matrix products, in a form that the counter can see."""
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


demo_ids = torch.zeros(1, 201, dtype=torch.long, device=lab.device)
cache = small.new_cache(rows=1, capacity=201)
small.last_logits(demo_ids[:, :200], cache)
with mock.patch.object(F, "scaled_dot_product_attention", two_products):
    with_cache = flops(lambda: small.last_logits(demo_ids[:, 200:], cache))
    without_cache = flops(lambda: small.last_logits(demo_ids))
print("with the cache:   ", f"{with_cache:11,d}", with_cache == sum(costs.forward_flops(small.config, 1, 200).values()))
predicted = sum(costs.forward_flops(small.config, 201, last_only=True).values())
print("without the cache:", f"{without_cache:11,d}", without_cache == predicted)
print(f"ratio after 200 tokens: {without_cache / with_cache:.0f}")

# %% [markdown]
# **Before you run:** the FLOPs say that the cache saves a factor of about $t$. Now the clock, on SmolLM2, at $t$ = 1,
# 4, 16, 64 and 256 tokens. Will the time of a token *with* the cache grow? Will the time *without* it be in proportion
# to $t$ from the start?

# %% tags=["nbval-ignore-output"]
PASTS = [1, 4, 16, 64, 256]
stretch = torch.tensor([tokenizer.encode(text[:2000])[:257]], device=lab.device)
cache = model.new_cache(rows=1, capacity=257)
model.last_logits(stretch[:, :256], cache)
cached_s, uncached_s = {}, {}
for past in reversed(PASTS):
    cache.truncate([past])

    def one_more(past=past):
        model.last_logits(stretch[:, past : past + 1], cache)
        cache.truncate([past])  # forget it again, so that the next run meets the same past

    cached_s[past] = seconds(one_more)
    repeats = 3 if past < 64 else lab.scale(cpu=1, gpu=3)
    uncached_s[past] = seconds(lambda past=past: model.last_logits(stretch[:, : past + 1]), repeats)
for past in PASTS:
    print(f"t = {past:3d}: with the cache {1e3 * cached_s[past]:6.1f} ms, without {1e3 * uncached_s[past]:7.1f} ms")

# %% [markdown]
# With the cache the time hardly grows. Without it, it stays much the same at first and then grows (on a GPU perhaps
# only later than 256). The reason is that a processor does two things: it **computes**, and it **fetches** weights from
# memory. Even when it does both at once, a pass takes at least as long as the slower of the two,
#
# $$\text{time} \ge \max\left(\frac{\text{FLOPs}}{\text{FLOPs a second}}, \frac{\text{bytes read}}{\text{bytes a second}}\right),$$
#
# the **roofline**, a bound. One token needs each of SmolLM2's weights once, for two FLOPs: fetching decides. Measure
# both rates on a single large matrix, and predict SmolLM2's times from them.

# %% tags=["nbval-ignore-output"]
big = torch.randn(8192, 4096, device=lab.device)  # 134 MB: too large for the processor's own caches
many = torch.randn(4096, 256, device=lab.device)
bandwidth = big.nbytes / seconds(lambda: big.sum())  # reads every number once and does next to nothing with it
rate = 2 * big.numel() * 256 / seconds(lambda: big @ many)
print(f"this machine fetches {bandwidth / 1e9:.1f} GB and computes {rate / 1e9:.0f} GFLOP a second")
shared = rate / bandwidth * 4 / 2  # 4 bytes and 2 FLOPs for each weight and token
print(f"fetching a weight takes as long as using it for {shared:.0f} tokens")
weight_bytes = sum(costs.parameters(model.config).values()) * 4
print(f"all of SmolLM2's weights, {weight_bytes / 1e6:.0f} MB, are fetched in {1e3 * weight_bytes / bandwidth:.0f} ms")


def predicted_seconds(new, past):
    total = sum(costs.forward_flops(model.config, new, past, last_only=True).values())
    read = weight_bytes + costs.kv_cache_bytes(model.config, 1, new + past)
    return max(total / rate, read / bandwidth)


fig, ax = plt.subplots(figsize=(8, 3.6))
smooth = list(range(1, 257, 3))
for name, times, colour in (("with the cache", cached_s, BLUE), ("without", uncached_s, ORANGE)):
    curve = [predicted_seconds(1, t) if times is cached_s else predicted_seconds(t + 1, 0) for t in smooth]
    ax.plot(smooth, [1e3 * s for s in curve], "--", color=colour, label=f"{name}: predicted")
    ax.plot(PASTS, [1e3 * times[t] for t in PASTS], "o", color=colour, label=f"{name}: measured")
ax.set(xlabel="tokens before the new one", ylabel="milliseconds for the new one", title="SmolLM2")
length_axis(ax)
ax.set_yscale("log")
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Time of one new token against the tokens before it. Dashed: the roofline, from two rates measured on one matrix and
# the counts of `costs`. The points have its shape and mostly lie above it: a real pass seldom does either thing at full
# speed.*
#
# The two curves leave each other where computing overtakes fetching: at the number of tokens printed above, of the
# order of ten on one CPU core; on a large GPU a few hundred, with the bfloat16 that it is made for. Below that a cache
# saves FLOPs and little time. (Measured, the orange points may start above the blue ones: for a pass with a cache
# `arlab` chooses matrix products that read weights faster, see `arlab/nn/straight.py`.) Over a whole text the
# difference adds up:

# %%
c = model.config
print("tokens written   TFLOP with the cache     without   times as much")
for length in (16, 256, 8192):
    cached = sum(sum(costs.forward_flops(c, 1, t).values()) for t in range(length)) / 1e12
    uncached = sum(sum(costs.forward_flops(c, t + 1, last_only=True).values()) for t in range(length)) / 1e12
    print(f"{length:14,d} {cached:22.3f} {uncached:11,.2f} {uncached / cached:15,.0f}")

# %% [markdown]
# ## 9. Why writing is slow
#
# Lecture 001 counts the sequential computation among the challenges, and calls for accelerators. More FLOPs a second
# alone do not help: reading 256 tokens and writing 256 tokens take nearly the same number of them.

# %%
reading = sum(costs.forward_flops(c, 256).values())
writing = sum(sum(costs.forward_flops(c, 1, t).values()) for t in range(256))
once, again = weight_bytes / 1e9, 256 * weight_bytes / 1e9
print(f"one pass over 256 tokens: {reading / 1e9:6.1f} GFLOP,   1 pass,     {once:6.1f} GB of weights read")
print(f"256 tokens, one by one:   {writing / 1e9:6.1f} GFLOP, 256 passes, {again:6.1f} GB of weights read")
print(f"FLOPs for each byte: {reading / weight_bytes:.0f} and {writing / (256 * weight_bytes):.1f}")

# %% [markdown]
# In training every position of a window shares one reading of the weights (teacher forcing). In writing the next input
# does not exist before the last output, so each token pays for its own. The times of section 8, once more, as time for
# each token of a pass:

# %% tags=["nbval-ignore-output"]
in_pass = {1: cached_s[1]} | {past + 1: uncached_s[past] for past in PASTS}
batch = stretch[0, :16][:, None]  # 16 texts of one token each: one pass for all of them
batch_cache = model.new_cache(rows=16, capacity=2)
rows_16 = seconds(lambda: (model.last_logits(batch, batch_cache), batch_cache.truncate([0] * 16)))
fig, ax = plt.subplots(figsize=(8, 3.3))
ax.plot(smooth, [1e3 * predicted_seconds(t, 0) / t for t in smooth], "--", color=GREY, label="predicted (roofline)")
ax.plot(list(in_pass), [1e3 * s / t for t, s in in_pass.items()], "o", color=BLUE, label="t tokens of one text")
ax.plot(16, 1e3 * rows_16 / 16, "s", color=ORANGE, label="16 texts, one token each")
ax.set(xlabel="tokens that share a pass", ylabel="ms for each token", title="SmolLM2", yscale="log")
length_axis(ax)
ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Milliseconds for each token against the number of tokens that share a pass. Sharing pays until computing is the
# bottleneck.*
#
# Whatever puts more tokens into a pass makes better use of the machine: several texts at once (the square), or checking
# several drafted tokens at once (notebook 13). And smaller numbers (bfloat16, 4 bits) are fetched sooner.
#
# **Before you run:** a 70-billion-parameter model in 2-byte numbers, on one machine that reads 3.35 TB a second (an
# H100 card's figure): how many tokens a second can it write for one reader, at best? Does a card with twice the FLOPs
# help?

# %%
reading_all = 2 * 70e9 / 3.35e12  # seconds
print(f"{1e3 * reading_all:.0f} ms for each reading of the weights: at most {1 / reading_all:.0f} tokens a second")

# %% [markdown]
# <details><summary>Answer</summary>
#
# At most 24, and twice the FLOPs change nothing: the limit is the reading. (The weights, 140 GB, do not fit such a
# card's 80 GB either; in practice they are split over several, which read at the same time.) Training and reading a
# prompt do profit from FLOPs, for there many tokens share a pass.
#
# </details>

# %% [markdown]
# ## 10. Which encoder is cheapest?
#
# Lecture 004 asks which of three building blocks is simplest in terms of computation: a multilayer perceptron at each
# position, a recurrent network, or self-attention. Build one layer of each, of width $d$, on $T$ tokens.

# %%
d = 128
W = torch.randn(8, d, d, generator=lab.generator()).to(lab.device) / d**0.5


def mlp(x):
    """Each position alone: two matrices."""
    return (x @ W[0]).relu() @ W[1]


def rnn(x):
    """h_t = tanh(x_t W + h_(t-1) U): each step waits for the one before."""
    h, states = torch.zeros(1, d, device=x.device), []
    inputs = x @ W[0]  # all positions at once; the recurrence cannot be
    for x_t in inputs.split(1):
        h = torch.tanh(x_t + h @ W[1])
        states.append(h)
    return torch.cat(states)


def self_attention(x):
    """Every position meets every other: Q, K, V, one head, and W^O."""
    q, k, v = x @ W[2], x @ W[3], x @ W[4]
    return (q @ k.T / d**0.5).softmax(-1) @ v @ W[5]


# %%
ENCODERS = {"MLP": mlp, "RNN": rnn, "self-attention": self_attention}
FORMULA = {
    "MLP": lambda T: 4 * T * d * d,
    "RNN": lambda T: 4 * T * d * d,
    "self-attention": lambda T: 8 * T * d * d + 4 * T * T * d,
}
print("                  T = 64: FLOPs   as the formula   T = 1024: FLOPs   as the formula")
for name, run in ENCODERS.items():
    counted = [flops(lambda T=T, run=run: run(torch.randn(T, d, device=lab.device))) for T in (64, 1024)]
    agree = [count == FORMULA[name](T) for count, T in zip(counted, (64, 1024), strict=True)]
    print(f"{name:15s} {counted[0]:14,d} {agree[0]!s:>14} {counted[1]:18,d} {agree[1]!s:>14}")

# %% [markdown]
# **Before you run:** MLP and RNN have equally many FLOPs, self-attention has more at every $T$. Which is the slowest at
# $T = 256$? And at $T = 2048$?

# %% tags=["nbval-ignore-output"]
LENGTHS = [16, 64, 256, 1024, 2048]
encoder_s = {}
for name, run in ENCODERS.items():
    encoder_s[name] = {T: seconds(partial(run, torch.randn(T, d, device=lab.device)), 2) for T in LENGTHS}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for (name, times), colour in zip(encoder_s.items(), (GREEN, PURPLE, BLUE), strict=True):
    style, width = ("--", 1.5) if name == "RNN" else ("-", 3 if name == "MLP" else 1.5)
    axes[0].plot(LENGTHS, [FORMULA[name](T) / 1e6 for T in LENGTHS], style, color=colour, label=name, lw=width)
    axes[1].plot(LENGTHS, [1e3 * s for s in times.values()], "o" + style, color=colour, label=name)
axes[0].set(xlabel="T", ylabel="MFLOP", title="counted")
axes[1].set(xlabel="T", ylabel="milliseconds", title="timed")
for ax in axes:
    length_axis(ax)
    ax.set_yscale("log")
    ax.legend()
fig.tight_layout()
plt.show()

# %% [markdown]
# *Left FLOPs, right time. The MLP and the RNN share a line on the left and lie far apart on the right.*
#
# At $T = 256$ it is the RNN, whose every step is a call of its own. Where self-attention's square overtakes it depends
# on the machine: near a thousand tokens on one CPU core, much later where many cores share the square.
#
# | | FLOPs | steps that must wait for each other | steps between the first token and the last |
# |---|---|---|---|
# | MLP | $4Td^2$ | 1 | they never meet |
# | RNN | $4Td^2$ | $T$ | $T - 1$ |
# | self-attention | $8Td^2 + 4T^2d$ | 1 | 1 |
#
# "Simplest" depends on what is counted. The MLP is cheapest and mixes nothing. The RNN computes little, one step at a
# time; its path between distant tokens is long, which is also why its gradient vanishes (notebook
# 15). Self-attention computes most, all at once, with a path of 1; its price is the square.
# Whether there is a path at all can be tested: how many outputs move when the *first* token changes?

# %%
x = torch.randn(64, d, generator=lab.generator()).to(lab.device)
other = x.clone()
other[0] += 1.0
for name, run in ENCODERS.items():
    moved = (run(x) != run(other)).any(-1)
    print(f"{name:15s} outputs that see the first token: {int(moved.sum()):2d} of 64, the last one: {bool(moved[-1])}")

# %% [markdown]
# ## 11. The bill for any model
#
# The explorer draws all of these curves for SmolLM2, and for other models by a click. Laid over them are points
# measured in this notebook (grey while you look at other sizes): the maps of section 1's text, real caches, and the
# times of section 8, placed at the rate of FLOPs that this machine reached there: a point above its line waited for
# memory. Move $T$ first and watch which curve is the steepest; then the number of key/value heads, and see which curves
# move.

# %% tags=["nbval-ignore-output"]
with record_attention(model) as maps:
    model(text_ids)
map_bytes = [(n, sum(layer.nbytes for layer in maps))]
caches = [(T, model.new_cache(rows=1, capacity=T)) for T in (64, 1024)]
CostExplorer(
    "SmolLM2-135M",
    measured={"attention maps": map_bytes, "KV cache": [(T, kept.k.nbytes + kept.v.nbytes) for T, kept in caches]},
    seconds={
        "with cache": [(t, cached_s[t]) for t in PASTS if t >= 8],
        "without cache": [(t, uncached_s[t]) for t in PASTS if t >= 8],
    },
    rate=rate / 1e9,  # GFLOP a second
)

# %% [markdown]
# **Questions to answer by moving it**
#
# 1. Choose *small GPT* and double `d_model`. Which curves double, which quadruple, which stay?
# 2. SmolLM2 again: at which $T$ do the attention maps of one row outweigh the weights? With 3 heads instead of 9, will
#    it be three times as far?
# 3. Which single change makes SmolLM2's cache three times smaller and leaves the weights nearly as they are?
#
# <details><summary>Answers</summary>
#
# 1. The cache doubles (as many heads, each twice as wide). The weights nearly quadruple: each matrix of a block does,
#    the tables of tokens and positions only double. So do the FLOPs at small $T$; at large $T$, where attention's
#    $4T^2 H d_k$ decides, they come nearer to double. The attention maps stay: a map holds one number for a pair of
#    tokens, whatever the width.
# 2. At $T = 706$. A third of the heads makes a third of the maps, but these grow with $T^2$: the crossing moves by
#    about $\sqrt 3$ only, to 1,223 (1,282 if the key/value heads stay three: wider ones, which make the weights
#    larger).
# 3. One key/value head instead of three. Only $W_K$ and $W_V$ shrink with it.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Lecture 001 asks no questions at its end; these are on its parts on context, memory and hardware, and on lectures 003
# and 004.
#
# **1.** What does a longer context improve, and for which tokens? What does it cost?
#
# <details><summary>Answer</summary>
#
# The few tokens that depend on something far back improve a lot (section 1), the average a little less with each
# doubling (section 2). It costs time in proportion to $T^2$ in the attention, memory in proportion to $T$ (or $T^2$
# where maps are kept), and a smaller batch.
#
# </details>
#
# **2.** Lecture 003 names the context size as the limit of the conditional probabilities. What exactly is limited?
#
# <details><summary>Answer</summary>
#
# $p(x_t \mid x_{<t})$ becomes $p(x_t \mid x_{t-k}, \dots, x_{t-1})$: what lies further back cannot change the
# prediction at all. The chain rule still holds; its factors know less.
#
# </details>
#
# **3.** Memory "scales as $O(n^2)$": of what, and when is it not so?
#
# <details><summary>Answer</summary>
#
# Of the attention maps: one number for each pair of tokens, in each layer and head. Weights, other activations, the
# cache and the optimiser do not depend on the square. A fused kernel never stores a map, and all memory is linear in
# $n$; the time stays quadratic (sections 6 and 7).
#
# </details>
#
# **4.** You train with 32 rows of 512 tokens and want 2,048 tokens. How many rows fit in the same memory?
#
# <details><summary>Answer</summary>
#
# With a fused kernel about 8: the tokens in a batch stay. With stored maps, and where these dominate, 2: a sixteenth.
#
# </details>
#
# **5.** Does the cache make a token cheaper in FLOPs, in memory, in time?
#
# <details><summary>Answer</summary>
#
# In FLOPs by a factor of about $t$. It costs memory, linear in $t$. In time it saves little as long as fetching the
# weights decides, say up to $t_0$ tokens; beyond, the pass without a cache grows with $t$ and the token with it does
# not, so that the factor is about $t / t_0$ (section 8).
#
# </details>
#
# **6.** Training is parallel and generation is sequential. Which of the two uses fast hardware better, and why?
#
# <details><summary>Answer</summary>
#
# Training: all positions of all rows share each weight that is fetched. A single text that is being written fetches
# every weight for each token, and computing units wait (section 9).
#
# </details>
#
# **7.** Which encoder is the simplest?
#
# <details><summary>Answer</summary>
#
# By FLOPs the MLP and the RNN; by steps in sequence the MLP and self-attention; by the path between two tokens
# self-attention; see the table in section 10.
#
# </details>
#
# **8.** A colleague evaluates model A with windows of 128 and model B with windows of 1,024 and finds B better by .05
# nats. What do you ask?
#
# <details><summary>Answer</summary>
#
# For both with the same windows, or with the positions that have little context left out: the first positions of each
# window alone make such a difference (section 3).
#
# </details>
#
# ## What to try next
#
# - Move the password sentence into the middle of the text, or put two passwords in. Which one does the model take?
# - Plot section 1's curve for a name, a number, a colour. Are all facts carried equally far?
# - Try other bases in section 5, from 20,000 to 1,000,000. Is there a best one for 1,024 positions? For 512?
# - Run `record_07_context_length` with 1,024 tokens (`recipe.record(path, most=1024)`). Does SmolLM2 still gain?
# - On a GPU, run section 8 again. Where do the two curves part?
#
# ## Where the idea comes from
#
# - The table of section 10: Vaswani and others, *Attention is all you need* (2017), table 1.
# - The fused kernel: Dao and others, *FlashAttention* (2022); the running softmax: Milakov and Gimelshein (2018).
# - How much context language models use: Khandelwal and others, *Sharp nearby, fuzzy far away* (2018).
# - *Lost in the middle*: Liu and others (2023). Position interpolation: Chen and others (2023).
# - Local attention: Child and others, *Sparse Transformers* (2019); Beltagy and others, *Longformer* (2020); Jiang and
#   others, *Mistral 7B* (2023).
# - Grouped queries: Ainslie and others, *GQA* (2023). The roofline: Williams, Waterman and Patterson (2009).
#
# [← 06 Teacher forcing](06_teacher_forcing.ipynb) · [08 A real language model →](08_real_llm.ipynb)
