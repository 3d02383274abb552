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
# # 10 · Top-k and nucleus: cutting off the tail
#
# Sampling derails because a long tail of improbable tokens carries, all together, a few percent of the mass (notebook 09). The remedy is to
# cut the tail off, share its mass among what is left, and draw from there. But where to cut? After a fixed number of tokens (**top-k**),
# after a fixed share of the mass (**top-p**, the nucleus), or at a fixed fraction of the best token (**min-p**)?
#
# **You will be able to**
#
# - build the three filters, and get their edges right (ties, the boundary token, p = 1);
# - show with numbers why one k is too tight on a flat distribution and too loose on a sharp one, and how the nucleus adapts;
# - put temperature, top-k and top-p in a row, and say when their order matters;
# - fill in the lecture's table (greedy, top-k, top-p) with figures you measured;
# - say what the p of top-p is not.
#
# **Time** 60 minutes. **Before this** notebook 09. **Follows** lecture 000 (decoding strategies), lecture 004 (truncated sampling).
#
# [← 09 Sampling](09_sampling.ipynb) · [11 Beam search →](11_beam_search.ipynb)

# %% tags=["nbval-ignore-output"]
import math
from statistics import median

import matplotlib.pyplot as plt
import torch

import arlab
from arlab.decoding import MinP, Temperature, TopK, TopP, filters, sample, sample_steps
from arlab.exercises import top_k_and_nucleus as check
from arlab.nn.language_model import last_logits
from arlab.nn.pretrained import smollm2
from arlab.views import NextToken, Pipeline

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # safe for the colour-blind

# %% [markdown]
# The lectures' questions, and where below you see the answer:
#
# | question | section |
# |---|---|
# | Top-k: which k to choose? What does a small one do, what a large one? | 2, 3 |
# | Why may one k be wrong for different next-word distributions? | 3 |
# | Top-p: how is the set chosen, and how many tokens is that? | 4, 5 |
# | How are temperature and truncation combined? Does the order matter? | 6 |
# | The table: greedy, top-k, top-p by determinism, candidate set, advantage, disadvantage | 9 |
# | A story or a factual summary: which strategy? | 9 |

# %%
model, tokenizer = smollm2(device=lab.device)
strings = tokenizer.token_strings()
V = model.vocab_size


def next_token_logits(text):
    """The logits (vocab,) after a text, float32 as the model gives them, on the CPU."""
    ids = torch.tensor([tokenizer.encode(text)], device=lab.device)
    return model(ids)[0, -1].float().cpu()


print(f"{V:,} tokens")

# %% [markdown]
# ## 1. A sharp and a flat distribution
#
# Two prompts: after the first there is little to say, after the second a great deal.
#
# **Before you run:** how many tokens does it take, the most probable first, to collect 90 % of the mass after each?

# %%
sharp, flat = next_token_logits("The capital of France is"), next_token_logits("The cat sat on the")
for name, z in (("sharp", sharp), ("flat", flat)):
    p, order = z.double().softmax(-1).sort(descending=True)  # probabilities, most probable first
    needed = int((p.cumsum(-1) < 0.9).sum()) + 1
    entropy = torch.special.entr(p).sum() / math.log(2)
    print(f"{name:5}: " + ", ".join(f"{strings[i]!r} {q:.3f}" for q, i in zip(p[:5], order[:5], strict=True)))
    print(f"       {needed} tokens carry 90 %; entropy {entropy:.4f} bits")

# %%
fig, axes = plt.subplots(2, 2, figsize=(9, 5.4), layout="constrained")
both = ((sharp, "The capital of France is", BLUE), (flat, "The cat sat on the", ORANGE))
for column, (z, title, colour) in enumerate(both):
    p, order = z.double().softmax(-1).sort(descending=True)
    head, curve = axes[0, column], axes[1, column]
    head.barh([strings[i].replace(" ", "␣") for i in order[:10]], p[:10], color=colour)
    head.invert_yaxis()
    head.set(title=title, xlim=(0, 0.8), xlabel="probability")
    curve.plot(range(1, V + 1), p.cumsum(-1), color=colour)
    curve.axhline(0.9, color=GREY, ls="--", lw=1)
    curve.axvline(int((p.cumsum(-1) < 0.9).sum()) + 1, color=GREY, ls="--", lw=1)
    curve.set(xscale="log", ylim=(0, 1.02), xlabel="tokens, most probable first", ylabel="cumulative probability")
plt.show()

# %% [markdown]
# *Figure: above, the ten most probable tokens (same scale; ␣ is a space); below, the mass collected by the first n tokens (n logarithmic), with dashed lines where it reaches 90 %. The sharp
# curve starts at .77 and gets there with its 10th token, the flat one starts at .07 and needs 533.*
#
# ## 2. Top-k: a fixed number of tokens
#
# Keep the $k$ most probable tokens, the set $V_k$, and renormalise:
#
# $$P_k(v) = \frac{P(v)}{\sum_{w \in V_k} P(w)} \quad \text{for } v \in V_k, \qquad 0 \text{ otherwise.}$$
#
# In logits this is one line: removed tokens get $-\infty$, the others keep their logit. The softmax that follows divides by the sum of what
# is left, so it renormalises by itself.

# %%
z = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
kept = torch.zeros(5, dtype=torch.bool).scatter(-1, z.topk(2).indices, True)  # True at the two largest
cut = z.masked_fill(~kept, -math.inf)
p = z.softmax(-1)
print("before     ", [round(x, 4) for x in p.tolist()])
print("top-k, k=2 ", [round(x, 4) for x in cut.softmax(-1).tolist()])
print("by formula ", [round(x, 4) for x in (p * kept / p[kept].sum()).tolist()])
print(f"the ratio of the two: {p[0] / p[1]:.4f} before, {cut.softmax(-1)[0] / cut.softmax(-1)[1]:.4f} after")

# %% [markdown]
# Truncation leaves the ratios between kept tokens alone. Temperature changes all ratios and removes nothing. That is the difference
# between the two.
#
# ### Exercise 1: top-k
#
# Mind the edges: several rows at once, equal logits at the border, a $k$ larger than the vocabulary.


# %%
def top_k_filter(logits, k):
    """Keep exactly the k largest logits of each row; the others become -inf.

    logits: (..., vocab), left untouched. k: an int >= 1; a k above the vocabulary keeps everything. Among equal
    logits the lowest ids are kept.
    """
    raise NotImplementedError


# %%
check.top_k_filter(top_k_filter)

# %%
check.top_k_filter.hint()

# %%
check.top_k_filter.solution()

# %% [markdown]
# `arlab.decoding.filters.top_k` does the same. Ties do occur: a model in bfloat16 has few different logits.

# %%
tied = torch.tensor([2.0, 1.0, 1.0, 0.0])
print("k = 2 of [2, 1, 1, 0] ->", filters.top_k(tied, 2).tolist())
print("k = 9 of four tokens  ->", filters.top_k(tied, 9).tolist())
print("different logits in float32:  more than 40,000:", flat.unique().numel() > 40_000)
print("different logits in bfloat16: fewer than 3,000:", flat.bfloat16().unique().numel() < 3_000)

# %% [markdown]
# ## 3. One k for all?
#
# The usual $k$ is 50. **Before you run:** what will $k = 50$ do after "The capital of France is", and what after "The cat sat on the"?

# %%
for name, z in (("sharp", sharp), ("flat", flat)):
    p, order = z.double().softmax(-1).sort(descending=True)
    print(f"{name}: k = 50 keeps {p[:50].sum():.4f} of the mass")
    print("   just inside, ranks 36-50:", " ".join(strings[i].strip() for i in order[35:50]))
    print("   just outside, ranks 51-65:", " ".join(strings[i].strip() for i in order[50:65]))

# %% [markdown]
# On the sharp distribution 50 is **too loose**: at rank 40 there is nothing left to say about the capital of France, and such tokens can still be drawn. On the
# flat one it is **too tight**: a throne, a barrel or a horse would do for a cat, and with them 44 % of the model's mass is thrown away.
#
# Two prompts prove little. Here are 24, from nearly certain to wide open, in one batch.

# %%
listed = """The capital of France is|The chemical symbol for gold is|The author of Hamlet is William|Once upon a time|
1, 2, 3, 4,|The quick brown fox jumps over the lazy|Monday, Tuesday, Wednesday,|The best way to learn is|Water freezes at|
for i in range(|The opposite of hot is|The capital of Australia is|Two plus two equals|She opened the door and saw|
Thank you very|The largest planet in our solar system is|I would like to|In my opinion, the most|The meaning of life is|
The weather today is|My favourite food is|Once upon a time there was a|Barack Obama was born in|The cat sat on the"""
prompts = [prompt.strip() for prompt in listed.split("|")]
rows = [tokenizer.encode(prompt) for prompt in prompts]
lengths = [len(row) for row in rows]
padded = torch.tensor([row + [0] * (max(lengths) - len(row)) for row in rows], device=lab.device)
many = last_logits(model, padded, lengths=lengths).float().cpu()  # (24, vocab): after the last real token of each row

p = many.double().softmax(-1).sort(-1, descending=True).values  # most probable first, (24, vocab)
mass = p.cumsum(-1)
mass_of_50 = mass[:, 49]
entropy = torch.special.entr(p).sum(-1) / math.log(2)
print(f"{len(prompts)} prompts; share of the mass that k = 50 keeps:")
print(f"{mass_of_50.min():.4f} to {mass_of_50.max():.4f}, median {mass_of_50.median():.4f}")

# %%
tokens_for_90 = (mass < 0.9).sum(-1) + 1
for k in (1, 10, 50, 500, 5000):
    kept_mass = mass[:, k - 1]
    tight, loose = int((kept_mass < 0.8).sum()), int((k > 10 * tokens_for_90).sum())
    print(f"k = {k:4}: under 80 % of the mass on {tight:2} prompts; over 10 times what 90 % needs on {loose:2}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.scatter(entropy, mass_of_50, color=BLUE)
left.set(xlabel="entropy (bits)", ylabel="mass that k = 50 keeps", ylim=(0.5, 1.02))
right.scatter(entropy, tokens_for_90, color=ORANGE)
right.axhline(50, color=BLUE, ls="--", label="k = 50")
right.set(yscale="log", xlabel="entropy (bits)", ylabel="tokens that carry 90 %")
right.legend()
plt.show()

# %% [markdown]
# *Figure: a dot for each of the 24 prompts. Left: the flatter the distribution, the less of it 50 tokens hold. Right: the number of tokens that carry 90 % runs from 1 to nearly 600; the dashed line at 50 fits hardly any.*
#
# No $k$ suits all: a small one is too tight for many prompts, a large one too loose for many, and 50 is each of the two for some. And in the text itself?
#
# **Before you run:** $k = 2$ and $k = 5{,}000$: which text will be safe and dull, which odd?
#
# One batch holds all strategies of this notebook: a filter is a function on logits, so it may treat each row in its own way.

# %% tags=["nbval-ignore-output"]
TEXTS = 6  # of each strategy
strategies = {
    "greedy": [TopK(1)],
    "top-k, k = 2": [TopK(2)],
    "top-k, k = 50": [TopK(50)],
    "top-k, k = 5,000": [TopK(5000)],
    "top-p, p = .9": [TopP(0.9)],
    "T = .7, then top-p .9": [Temperature(0.7), TopP(0.9)],
}


def each_its_own(logits):
    """Six rows for each strategy."""
    groups = logits.split(TEXTS)
    return torch.cat([filters.apply(chain, group) for chain, group in zip(strategies.values(), groups, strict=True)])


start = "Once upon a time there was a"
batch = [tokenizer.encode(start)] * (TEXTS * len(strategies))
length = lab.scale(cpu=34, gpu=68)
records = []
for step in sample_steps(model, batch, max_new_tokens=length, filters=[each_its_own], generator=lab.generator(2)):
    records.append((step.chosen.cpu(), step.kept.sum(-1).cpu(), step.logprob.cpu()))
chosen, kept_counts, logprobs = (torch.stack(record, dim=-1) for record in zip(*records, strict=True))  # (rows, steps)


# %% tags=["nbval-ignore-output"]
def show_texts(name, count):
    for row in chosen[TEXTS * list(strategies).index(name) :][:count]:
        print(f"{name}: {tokenizer.decode(row)!r}\n")


show_texts("greedy", 1)
show_texts("top-k, k = 2", 3)
show_texts("top-k, k = 5,000", 3)

# %% [markdown]
# (Texts drawn at random may differ on another processor, see notebook 09; change the seed to see others.) Small $k$: **generic and safe**; the three texts of $k = 2$ are cousins of the greedy one, small towns and all. Large $k$:
# **diverse, and possibly degenerate**; with 5,000 tokens to choose from we are nearly back at plain sampling.
#
# ## 4. Top-p: a fixed share of the mass
#
# The **nucleus** is the smallest set of most probable tokens that together have at least the mass $p$. Sort, add up, stop when $p$ is reached:
#
# $$V^{(p)} = \{v_1, \dots, v_n\}, \qquad n = \min\Big\{m : \sum_{i=1}^{m} P(v_i) \ge p\Big\}, \qquad P(v_1) \ge P(v_2) \ge \dots$$
#
# Said of a single token: it stays while the mass **before** it is below $p$. So the first one always stays.


# %%
def nucleus(logits, p):
    """Ids of the nucleus of one row of logits (vocab,), most probable first."""
    probabilities, order = logits.double().softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    return order[before < p]


for name, z in (("sharp", sharp), ("flat", flat)):
    sizes = {q: len(nucleus(z, q)) for q in (0.5, 0.8, 0.9, 0.95)}
    print(f"{name:5}", "  ".join(f"p = {q}: {n:5,}" for q, n in sizes.items()))
print("the nucleus of the sharp one at .9:", [strings[i] for i in nucleus(sharp, 0.9)])

# %% [markdown]
# The same $p = .9$ means 10 tokens here and 533 there: **the size of the set follows the model's confidence.**
#
# ### The token on the border
#
# **Before you run:** the probabilities are .5, .25, .125, .125 and $p = .5$. One token has exactly the mass .5. Is the nucleus one token, or two?


# %%
def reaches(probabilities, p):  # the paper: smallest set with mass >= p
    before = probabilities.cumsum(-1) - probabilities
    return int((before < p).sum())


def exceeds(probabilities, p):  # the lectures' words: the mass "just exceeds p", "until > p"
    before = probabilities.cumsum(-1) - probabilities
    return int((before <= p).sum())


powers = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)  # sums of these are exact
for q in (0.5, 0.6, 0.75, 1.0):
    print(f"p = {q:4}: mass >= p keeps {reaches(powers, q)}, mass > p keeps {exceeds(powers, q)}")
differ = sum(reaches(row, q) != exceeds(row, q) for row in p for q in (0.5, 0.9, 0.99))
print(f"on the model's {len(p)} distributions, at p = .5, .9, .99, they differ {differ} times")

# %% [markdown]
# The paper that introduced the nucleus says "at least $p$": one token. The wording "exceeds $p$" of lectures 000 and 004 keeps two. They differ only when a sum hits $p$ exactly, which hardly happens with a model's numbers, but does
# with the round ones of an exam. The lab follows the paper. Three more edges:

# %%
equal = torch.zeros(4)  # four tokens of probability 1/4
print("p = 1 changes nothing:      ", torch.equal(filters.top_p(flat, 1.0), flat))
print("p tiny keeps one:           ", int(filters.top_p(flat, 1e-9).isfinite().sum()))
print("four equal tokens, p = .5:  ", filters.top_p(equal, 0.5).tolist())
try:
    filters.top_p(flat, 0)
except ValueError as error:
    print("p = 0:                      ", error)

# %% [markdown]
# ### Adding up 49,152 small numbers
#
# `filters.top_p` adds in float64, even where the model works in float32. Is that pedantry? We count the tokens that a plain float32 sum, from the largest token down, keeps more or fewer.
#
# **Before you run:** float32 has about 7 digits. Will it matter at $p = .9$? At .99? At .9999?

# %% tags=["nbval-ignore-output"]
p32 = many.softmax(-1).sort(-1, descending=True).values
upwards = many.sort(-1).values.softmax(-1).cumsum(-1)  # from the smallest token up, as transformers does it
for q in (0.9, 0.95, 0.99, 0.999, 0.9999):
    exact = filters.top_p(many, q).isfinite().sum(-1)
    down = ((p32.cumsum(-1) - p32) < q).sum(-1) - exact
    up = (upwards > 1 - q).sum(-1) - exact
    print(f"p = {q:<6}: largest first: {int((down != 0).sum()):2} of {len(many)} prompts differ,", end=" ")
    print(f"by up to {int(down.abs().max()):3} tokens; smallest first: {int((up != 0).sum())} differ")

# %%
by_hand = [len(nucleus(row, q)) for row in many for q in (0.5, 0.9, 0.95)]
by_lab = [int(filters.top_p(row, q).isfinite().sum()) for row in many for q in (0.5, 0.9, 0.95)]
worst = (((p32.cumsum(-1) - p32) < 0.9999).sum(-1) - filters.top_p(many, 0.9999).isfinite().sum(-1)).abs().max()
print("our float64 nucleus = arlab's, 72 times:", by_hand == by_lab)
print("float32 misplaces the border of p = .9999 by more than a hundred tokens somewhere:", bool(worst > 100))

# %% [markdown]
# An honest result: at .9 it does not matter, at .99 the border moves by a token or two out of thousands, which no reader would notice; close to 1 it moves by hundreds. Adding the small numbers first
# loses less. A float64 sum costs nothing worth mentioning, so the lab need not argue.
#
# ### Exercise 2: the nucleus
#
# `nucleus` above gave ids in order of probability, for one row. A filter must give logits in the order of the ids, for any number of rows.


# %%
def nucleus_filter(logits, p):
    """Keep each row's nucleus; the other logits become -inf.

    logits: (..., vocab), left untouched. p: 0 < p <= 1. The nucleus is the smallest set of most probable tokens with
    mass >= p; among equal logits the lowest ids come first. At least one token stays.
    """
    raise NotImplementedError


# %%
check.nucleus_filter(nucleus_filter)

# %%
check.nucleus_filter.hint()

# %%
check.nucleus_filter.solution()

# %% [markdown]
# ## 5. The nucleus along a text
#
# At each step of the top-p row above we kept the number of tokens that could have been drawn.
#
# **Before you run:** the text stored here goes on about a noble "born on a patch ...", near something "called a ...". How many tokens will the nucleus hold after "a patch"? After "called a"?

# %% tags=["nbval-ignore-output"]
row = TEXTS * list(strategies).index("top-p, p = .9")  # the first of its rows
pieces = [strings[i].replace("\n", "\\n").replace(" ", "␣") for i in chosen[row].tolist()]
counts = kept_counts[row].tolist()
fig, ax = plt.subplots(figsize=(9.5, 3.2), layout="constrained")
ax.bar(range(len(counts)), counts, color=[BLUE if n <= 50 else ORANGE for n in counts])
ax.axhline(50, color=GREY, ls="--", lw=1, label="k = 50")
ax.set_xticks(range(len(pieces)), pieces, rotation=60, ha="right", fontsize=8, parse_math=False)
ax.set(yscale="log", ylim=(0.7, None), ylabel="tokens in the nucleus", title=f"{start} ...")
ax.legend()
plt.show()

# %% [markdown]
# *Figure: a bar for each token of the text, as high as the number of candidates it was drawn from (logarithmic); blue up to 50, orange above. The bars jump between 1 and hundreds from token to token.*

# %% tags=["nbval-ignore-output"]
everywhere = kept_counts[row : row + TEXTS].flatten().tolist()
print(f"{TEXTS} texts, {len(everywhere)} steps")
print(f"nucleus of {min(everywhere)} to {max(everywhere):,} tokens, median {median(everywhere):.0f}")
print(f"steps with one candidate: {everywhere.count(1)}, with more than 50: {sum(n > 50 for n in everywhere)}")

# %% [markdown]
# After "a patch" only " of" is left, and the step is greedy; after "called a" there are more than a thousand. Where grammar leaves no choice the nucleus is a token or two, where a new idea begins it is hundreds. A fixed $k$ draws the dashed line through all of them.
#
# ## 6. The pipeline
#
# In practice the filters stand in a row: raw logits → temperature → top-k → top-p → draw. In the lab a decoder takes them as a list and applies them **in the order written**.
# The step records keep every stage:

# %%
chain = [Temperature(0.8), TopK(50), TopP(0.9)]
cat = tokenizer.encode("The cat sat on the")
step = next(sample_steps(model, cat, max_new_tokens=1, filters=chain, generator=lab.generator()))
print(f"{'raw':22} {V:6,} tokens, the best has {step.logits.softmax(-1).max():.4f}")
for filter_, logits in step.stages:
    print(f"{filter_!s:22} {int(logits.isfinite().sum()):6,} tokens, the best has {logits.softmax(-1).max():.4f}")

# %% [markdown]
# Each stage renormalises what the one before it left. The view below shows the stages side by side. Move a slider and follow its effect to the right; then change the order with the arrows above the panels.

# %% tags=["nbval-ignore-output"]
Pipeline(model, tokenizer, "The cat sat on the", temperature=0.8, top_k=50, top_p=0.9)

# %% [markdown]
# Find out by moving:
#
# 1. Which slider changes the ratios between the bars, and which only remove bars and make the others longer?
# 2. Set top-p to .9 and top-k to off. Now move the temperature from .5 to 2: what happens to the number of tokens that top-p keeps? Move top-p in front of the temperature and do it again.
# 3. Does it matter whether temperature or top-k comes first?
# 4. Change the prompt to "The capital of France is" and find settings under which only " Paris" can be drawn: one with each slider.
#
# <details><summary>What to look for</summary>
#
# 1. Temperature changes all ratios; top-k and top-p keep the ratios of what they leave.
# 2. With the temperature first, the nucleus grows from about twenty tokens to ten thousand; with top-p first it stays at 533 whatever the temperature.
# 3. No: temperature keeps the order of tokens, and top-k looks at nothing else.
# 4. Temperature 0 (or small enough that rounding leaves nothing else), top-k 1, top-p at or below .77.
#
# </details>
#
# ### When the order matters
#
# By hand, on the probabilities .5, .25, .15, .1, with $T = 2$ and $p = .7$. **Before you run:** which order keeps more tokens?


# %%
def show(name, probabilities, chain):
    result = filters.apply(chain, probabilities.log()).softmax(-1)
    print(f"{name:20} keeps {int((result > 0).sum())}: {[round(x, 3) for x in result.tolist()]}")


four = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
show("T = 2, then p = .7", four, [Temperature(2), TopP(0.7)])
show("p = .7, then T = 2", four, [TopP(0.7), Temperature(2)])
falling = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
show("k = 3, then p = .75", falling, [TopK(3), TopP(0.75)])
show("p = .75, then k = 3", falling, [TopP(0.75), TopK(3)])
show("T = 2, then k = 2", four, [Temperature(2), TopK(2)])
show("k = 2, then T = 2", four, [TopK(2), Temperature(2)])

# %% [markdown]
# Heat first: at $T = 2$ the first two tokens hold only .63, so a third is needed. Cut first: they hold .75, enough. Top-k before top-p makes the nucleus smaller too, since its $p$ is then a
# share of what top-k left (.7 of .9 is .78). Temperature and top-k may swap. On the real model:


# %%
def sizes(*chain):
    """How many tokens the chain leaves of the sharp and the flat distribution; from 1,000 on to the nearest hundred."""
    counts = [int(filters.apply(chain, z).isfinite().sum()) for z in (sharp, flat)]
    return "".join(f"{n if n < 1000 else round(n, -2):10,}" for n in counts)


print("tokens kept             sharp      flat")
for t in (0.7, 1.0, 1.5, 2.0):
    print(f"T = {t}, then p = .9 {sizes(Temperature(t), TopP(0.9))}")
    print(f"p = .9, then T = {t} {sizes(TopP(0.9), Temperature(t))}")

# %% [markdown]
# A cool temperature before top-p makes the nucleus small, a hot one undoes the cut: at $T = 2$ after "The capital of France is" over thirteen thousand tokens come back. `transformers` and most servers apply the temperature first.
# A common choice is $T$ around .7 to 1 with $p$ around .9.
#
# ## 7. Min-p: measured against the best token
#
# A third rule: keep a token if it is at least $p_{\min}$ times as probable as the most probable one, $P(v) \ge p_{\min} \max_w P(w)$. It needs no sorting and no sum.
# In logits: $z_v - \max_w z_w \ge \ln p_{\min}$.


# %%
def by_ratio(logits, p):
    return logits.masked_fill(logits - logits.amax(-1, keepdim=True) < math.log(p), -math.inf)


print("the same as arlab's:", torch.equal(by_ratio(many, 0.1), filters.min_p(many, 0.1)))
print("tokens kept                  sharp      flat")
for t in (1.0, 1.5, 2.0):
    for rule in (TopP(0.9), MinP(0.05)):
        print(f"T = {t}, then {rule!s:12} {sizes(Temperature(t), rule)}")

# %% [markdown]
# It adapts as the nucleus does (2 against 53 tokens), and it withstands heat: where top-p lets ten thousand tokens in, min-p keeps tens or hundreds. Its price is the mirror image: on a flat distribution at $T = 1$ it is much
# tighter than the nucleus.
#
# ### Exercise 3: min-p


# %%
def min_p_filter(logits, p):
    """Keep the tokens whose probability is at least p times that of the most probable token of their row.

    logits: (..., vocab), left untouched. p: 0 < p <= 1. Removed tokens become -inf.
    """
    raise NotImplementedError


# %%
check.min_p_filter(min_p_filter)

# %%
check.min_p_filter.hint()

# %%
check.min_p_filter.solution()

# %% [markdown]
# ## 8. What p is not
#
# "With $p = .9$ the answer is right with probability .9" is a common mistake. The mass is the *model's* opinion. We can count, on nine prompts with a known answer.
#
# **Before you run:** under top-p .9, how often will the drawn token be the right one, on average?

# %%
facts = {
    "The capital of France is": " Paris", "The capital of Australia is": " Canberra", "The capital of Canada is": " Ottawa",
    "The chemical symbol for gold is": " Au", "The opposite of hot is": " cold", "Two plus two equals": " four",
    "The author of Hamlet is William": " Shakespeare", "Monday, Tuesday, Wednesday,": " Thursday",
    "The largest planet in our solar system is": " Jupiter",
}  # fmt: skip
chances, after_facts, right_by_greedy = [], [], 0
for prompt, answer in facts.items():
    z = next_token_logits(prompt)
    after = filters.top_p(z, 0.9).softmax(-1)
    best, truth = int(z.argmax()), tokenizer.encode(answer)[0]
    chances.append(float(after[truth]))
    after_facts.append((z, truth))
    right_by_greedy += best == truth
    favourite = f"{strings[best]!r} {after[best]:.4f}"
    print(f"{prompt:41} {int((after > 0).sum()):3} kept, best {favourite:21} P({answer!r}) = {chances[-1]:.4f}")
print(f"mean chance of the right token under top-p .9: {sum(chances) / len(chances):.4f}")
print(f"greedy: {right_by_greedy} of {len(facts)} right")

# %% [markdown]
# The set holds 90 % of the model's belief, whatever the belief is worth. (Not every miss is an error: "and" is a fair way to go on after "Wednesday,".) It believes in Sydney a little more than in Canberra, and in five
# for two plus two. No truncation mends that: greedy is wrong there with certainty, sampling is right now and then.
#
# **Before you run:** which settings give the right token most often on these nine: wide ones, narrow ones, or greedy?

# %%
for chain in ([], [TopK(50)], [TopP(0.9)], [Temperature(0.7), TopP(0.9)], [Temperature(0.1)], [TopK(1)]):
    right = [float(filters.apply(chain, z).softmax(-1)[truth]) for z, truth in after_facts]
    name = ", then ".join(map(str, chain)) or "the whole distribution"
    print(f"{name:37} mean chance of the right token {sum(right) / len(right):.4f}")

# %% [markdown]
# The narrower the better, where one answer is right: a draw that leaves the best token more often loses than gains. (Greedy falls behind $T = .1$ here only because Sydney beats Canberra by a hair, and five beats
# four; .1 still gives the second its chance.)
#
# ## 9. The lecture's table, measured
#
# **Before you run:** fill in the table yourself: greedy, top-k (k = 50), top-p (p = .9); deterministic or not; how the candidate set is chosen; one advantage; one disadvantage.


# %%
def spread(values, form):
    values = sorted(float(v) for v in values)
    return " / ".join(format(v, form) for v in (values[0], median(values), values[-1]))


nucleus_sizes = filters.top_p(many, 0.9).isfinite().sum(-1)
nucleus_mass = mass.gather(-1, nucleus_sizes[:, None] - 1)[:, 0]
print("min / median / max over the 24 prompts")
print(f"greedy         candidates {spread([1] * 24, '.0f'):14} mass kept {spread(mass[:, 0], '.2f')}")
print(f"top-k, k = 50  candidates {spread([50] * 24, '.0f'):14} mass kept {spread(mass_of_50, '.2f')}")
print(f"top-p, p = .9  candidates {spread(nucleus_sizes, '.0f'):14} mass kept {spread(nucleus_mass, '.2f')}")


# %% tags=["nbval-ignore-output"]
def repeated(ids, n=3):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


print(f"{TEXTS} texts each, {chosen.size(-1)} tokens")
for i, name in enumerate(strategies):
    of_it = slice(TEXTS * i, TEXTS * (i + 1))
    texts = chosen[of_it].tolist()
    vocabulary = len({token for text in texts for token in text})
    print(f"{name:22} different texts {len(set(map(tuple, texts)))}, different tokens {vocabulary:3},", end=" ")
    print(f"repeated 3-grams {sum(map(repeated, texts)) / TEXTS:.2f}, mean log p {logprobs[of_it].mean():.2f}")

# %%
print("greedy's six rows are one text:", len(set(map(tuple, chosen[:TEXTS].tolist()))) == 1)
print("top-p's six rows are six:      ", len(set(map(tuple, chosen[row : row + TEXTS].tolist()))) == TEXTS)
print("its number of candidates takes more than 20 values:", kept_counts[row : row + TEXTS].unique().numel() > 20)

# %% [markdown]
# | | greedy | top-k | top-p (nucleus) |
# |---|---|---|---|
# | determinism | deterministic: six rows, one text | random: six rows, six texts (the same seed gives the same text) | random, likewise |
# | candidate set | the argmax: 1 token | the k most probable: always 50 | smallest set with mass p: 1 to 588, median 32 |
# | mass kept on the 24 prompts | .07 to .96 | .56 to 1.00 | .90 to .96 |
# | key advantage | cheap, repeatable, follows the model's first choice | cuts the tail; a known number of candidates | adapts: one candidate where the model is sure, hundreds where it is not |
# | key disadvantage | repeats itself (notebook 09); locally best only; no diversity | one k is too tight on flat and too loose on sharp distributions | p is to be tuned, depends on the task; wide on flat distributions; needs a sort |
#
# The larger $k$, the more different tokens and the less likely the texts: generic and safe on one side, diverse and less coherent on the other. The nucleus lies where $k = 50$ does, without a fixed $k$.
#
# And the lecture's last question, **a story or a factual summary**? First read how the stories of the nucleus begin, beside those of $k = 2$ and $k = 5{,}000$ in section 3.

# %% tags=["nbval-ignore-output"]
show_texts("top-p, p = .9", 3)
show_texts("T = .7, then top-p .9", 3)

# %% [markdown]
# For a story one wants variety without nonsense: begin with top-p around .9, perhaps with $T$ of .7 to 1. Its texts differ and repeat little, and they derail less than those of $k = 5{,}000$; the cooler ones hold together best. For a factual summary there is little to vary, and every draw is a
# risk, as section 8 counted: begin with greedy, a low temperature, or a small beam (notebook 11), and watch out for repetition. None of them makes the model know more. Notebook 14 measures all strategies on both kinds of task.
#
# ## 10. Move it yourself
#
# The explorer has all four sliders. The curve shows the cumulative mass, with the cut; the figures below the sliders are computed over all 49,152 tokens.

# %% tags=["nbval-ignore-output"]
NextToken(model, tokenizer, "The cat sat on the", temperature=1.0, top_p=0.9)

# %% [markdown]
# 1. Read off the nucleus sizes at $p$ = .5, .9 and .99. Then change the prompt to "The capital of France is" and read them again.
# 2. Which top-k keeps the same tokens as top-p .9, here and there?
# 3. Go to $T = 2$ with top-p .9 and draw a hundred. Now min-p .05 instead of top-p. Which hundred would you rather read?
# 4. Append the drawn token a few times and watch the number of kept tokens jump.
# 5. Find a prompt of your own where top-p .9 keeps a single token, and one where it keeps more than a thousand. (Try "He".)
#
# <details><summary>What to look for</summary>
#
# 1. 37, 533 and about 3,700 tokens after the cat; 1, 10 and about 600 after the capital.
# 2. $k = 533$ and $k = 10$: any nucleus is a top-k for some k; the point is that k changes from step to step.
# 3. Min-p: it keeps tokens by comparison with the best one, and heat does not let the far tail in.
# 4. One or two inside names and fixed phrases, hundreds at the start of something new.
# 5. "The chemical symbol for gold is" keeps one; "He" more than a thousand.
#
# </details>
#
# At last, filters and decoder together: the decoder draws only from what its filters left, here checked at every step of a text.

# %%
allowed = []
settings = {"max_new_tokens": 10, "filters": [TopK(40), TopP(0.8)]}
for step in sample_steps(model, cat, **settings, generator=lab.generator()):
    mine = nucleus(filters.top_k(step.logits[0].float().cpu(), 40), 0.8)
    allowed.append(int(step.chosen) in mine.tolist() and len(mine) == int(step.kept.sum()))
print("each of 10 tokens came from the set that we computed by hand:", all(allowed))
first, second = (sample(model, cat, **settings, generator=lab.generator(4)).tokens() for _ in range(2))
print("same seed, same text:", first == second)

# %% [markdown]
# ## Check yourself
#
# **1. Compare greedy, top-k and top-p by determinism, candidate set, one advantage and one disadvantage.**
#
# <details><summary>Answer</summary>
# The table of section 9, with its figures: 1 candidate, always 50, and 1 to 588.
# </details>
#
# **2. Which k should one choose?**
#
# <details><summary>Answer</summary>
# None fits everywhere. Small k: generic and safe; large k: diverse, may degenerate. k = 50 kept 95 % of the mass after "The capital of France is", with dozens of senseless candidates, and 56 % after "The cat sat on the", where it cut off good ones (section 3).
# </details>
#
# **3. Why does the nucleus adapt, and to what?**
#
# <details><summary>Answer</summary>
# It fixes the mass, so the number of tokens follows from the shape of the distribution: 10 after a sharp one, 533 after a flat one, 1 to several hundred along one text (sections 4 and 5). It adapts to the model's confidence, not to its correctness.
# </details>
#
# **4. Probabilities .4, .3, .2, .1 and p = .7: which tokens are kept? What do the lecture's words "just exceeds" give?**
#
# <details><summary>Answer</summary>
# Smallest set with mass at least .7: the first two. "Exceeds .7" takes the third as well. Renormalised: 4/7 and 3/7, or 4/9, 3/9, 2/9.
# </details>
#
# **5. Does the order of temperature and top-p matter? Of temperature and top-k?**
#
# <details><summary>Answer</summary>
# Top-p: yes. T = 2 before p = .9 keeps over ten thousand tokens after the cat, p = .9 first keeps 533 (section 6). Top-k: no, since temperature keeps the ranks.
# </details>
#
# **6. How does truncation differ from a low temperature?**
#
# <details><summary>Answer</summary>
# Temperature changes the ratio of every two tokens and removes none; truncation removes the tail and leaves the ratios of the rest alone.
# </details>
#
# **7. A story, or a factual summary: what do you start with?**
#
# <details><summary>Answer</summary>
# Story: top-p about .9 with a temperature of .7 to 1: texts that differ and hold together (section 9). Summary: greedy, a low temperature or a small beam: on the nine facts a draw from the nucleus was right .52 of the time, at T = .1 .74 (section 8).
# </details>
#
# ## What to try next
#
# - Find the smallest $p$ at which the 24 prompts give no nucleus of one token only. Would you want to sample there?
# - Write a filter that keeps tokens above a fixed probability, say .001. On which prompts does it fail? (It must keep at least one.)
# - Run section 3 with the texts of another language: is the model flatter there?
#
# ## Where the idea comes from
#
# - Top-k: Fan, Lewis and Dauphin, *Hierarchical Neural Story Generation*, 2018.
# - Nucleus: Holtzman, Buys, Du, Forbes and Choi, *The Curious Case of Neural Text Degeneration*, 2020.
# - Min-p: Nguyen and others, *Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs*, 2024.
#
# [← 09 Sampling](09_sampling.ipynb) · [11 Beam search →](11_beam_search.ipynb)
