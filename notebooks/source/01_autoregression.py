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
# # 01 · Autoregression: one token after another
#
# The probability of a whole text seems out of reach: there are more texts of fifty characters than atoms in the visible
# universe. But it is a product of small steps, each of which asks only what comes next. This notebook takes that one
# idea and runs it with tables, counts, a small network, a recurrent one and a transformer, on the same text and with
# the same loop.
#
# **You will be able to**
#
# - split the probability of a sequence into conditionals, and say what this assumes (nothing);
# - explain why counting is maximum likelihood, and why pure counts fail on a new text;
# - compute the log-probability of a text, and say why not its probability;
# - tell the method (autoregression) from the architecture that computes its conditionals;
# - show why the shorter sentence wins where there is no end symbol, and what an end symbol changes.
#
# **Time** 75 minutes. **Before this** [00](00_start_here.ipynb). **Follows** lecture 000 (the objective), lecture 001
# (autoregressive and bidirectional), lecture 002 (methodology and architecture), lecture 003 (the static condition),
# lecture 004 (generation as classification, start and end symbols).
#
# [← 00 Start here](00_start_here.ipynb) · [02 Tokens and batches →](02_tokens_and_batches.ipynb)

# %% tags=["nbval-ignore-output"]
import math
from collections import Counter
from itertools import product

import matplotlib.pyplot as plt
import torch

import arlab
from arlab import recipes
from arlab.decoding import sample
from arlab.exercises import autoregression as check
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.fixed_window import FixedWindowLM
from arlab.nn.leaks import leak_map
from arlab.nn.ngram import NGramLM
from arlab.nn.rnn import RecurrentLM
from arlab.recipes import autoregression as recipe
from arlab.text.batches import IGNORE, Batch, ordered_windows, random_windows
from arlab.text.corpora import tiny_shakespeare
from arlab.text.splits import split_stream
from arlab.text.tokenizers import CharTokenizer
from arlab.training import recordings
from arlab.training.loop import evaluate, fit, train
from arlab.views import NextToken, SequenceTree, TrainingCurves
from arlab.worlds import TreeLM

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # safe for the colour-blind

# %% [markdown]
# The questions that the lectures ask about this part, and where below you see the answer:
#
# | question | section |
# |---|---|
# | What does the chain rule say, and what does it assume? | 2 |
# | What is maximised in maximum likelihood? | 3 |
# | A condition that is static, and one that is not: what is the difference? | 6 |
# | What is a methodology, what an architecture? | 7 |
# | Which is more likely: "The", or "The program has been implemented"? | 8 |
# | Autoregressive or bidirectional: what does each know? | 9 |
# | How large is the output space, and how does it become classification? | 10 |
#
# ## 1. Warm-up: three things used all the time
#
# **Softmax** turns any numbers (*logits*) into probabilities; **log-softmax** gives their logarithms directly; and
# logits have the **shape** (rows, time, vocab), so the softmax goes over the last axis.
#
# **Before you run:** two texts of three tokens, a vocabulary of four. How many distributions is that? What becomes of a
# softmax when 100 is added to all its logits?

# %%
logits = torch.arange(24.0).view(2, 3, 4) % 5  # (rows, time, vocab)
p = logits.softmax(-1)
print("shape", tuple(p.shape), "->", p[..., 0].numel(), "distributions")
print("each sums to 1:", torch.allclose(p.sum(-1), torch.ones(2, 3)))
print("100 more on every logit changes nothing:", torch.allclose((logits + 100).softmax(-1), p))
three = p[0, [0, 1, 2], [1, 3, 0]]  # one probability from each position of text 0
print(
    f"product {three.prod():.4f} = exp of the sum of logs {logits.log_softmax(-1)[0, [0, 1, 2], [1, 3, 0]].sum().exp():.4f}"
)

# %% [markdown]
# That last line is used throughout: the logarithm of a product of probabilities is the sum of their logarithms.
#
# ## 2. The chain rule: a joint probability as a product
#
# Let $x = (x_1, \dots, x_T)$ be a sequence of tokens. One data point is the whole sequence. Its probability can always
# be written as
#
# $$P(x_1, \dots, x_T) = \prod_{t=1}^{T} P(x_t \mid x_1, \dots, x_{t-1}) = \prod_{t=1}^{T} P(x_t \mid x_{<t}) .$$
#
# Take a world in which one can check it: three days, each sunny (0) or rainy (1). Below are the probabilities of the
# eight possible stretches of weather, chosen at will.
#
# A conditional is a quotient: $P(x_t \mid x_{<t}) = P(x_1 \dots x_t) / P(x_1 \dots x_{t-1})$, where the probability of
# a beginning is the sum over all sequences that begin so (and must not be 0: after what never happens there is nothing
# to predict).
#
# **Before you run:** eight numbers that sum to 1 leave seven to choose freely. How many are there in the conditionals,
# one distribution for each prefix (the beginning of a sequence, the empty one included)?

# %%
days = list(product((0, 1), repeat=3))  # 000, 001, ..., 111
joint = dict(zip(days, torch.tensor([4, 1, 1, 2, 1, 1, 2, 4]).div(16).tolist(), strict=True))


def begins(prefix):
    """P of all sequences that begin with this prefix."""
    return sum(p for x, p in joint.items() if x[: len(prefix)] == prefix)


prefixes = [x for n in range(3) for x in product((0, 1), repeat=n)]
conditionals = {x: [begins((*x, token)) / begins(x) for token in (0, 1)] for x in prefixes}
for prefix, row in conditionals.items():
    print(f"after {prefix!s:7} sun {row[0]:.4f}, rain {row[1]:.4f}")
print("free numbers:", len(conditionals))

# %% [markdown]
# Seven again: $1 + 2 + 4$. Nothing was lost and nothing assumed. Multiply the conditionals, and the joint probabilities
# come back. A table like this, prefix → distribution, is a language model: `arlab.worlds.TreeLM`.

# %%
weather = TreeLM(conditionals, max_length=3, names=["sun", "rain"])
for x, p in weather.enumerate():
    steps = [conditionals[x[:t]][x[t]] for t in range(3)]
    print(x, " · ".join(f"{s:.4f}" for s in steps), f"= {p:.4f}   joint {joint[x]:.4f}")
print("sum over all sequences:", sum(p for _, p in weather.enumerate()))

# %% [markdown]
# Look at it as a tree. Click a node, or walk with the arrow keys: the product grows by one factor at each step, and its
# logarithm by one term. Open the list to see all eight sequences.

# %% tags=["nbval-ignore-output"]
SequenceTree(weather, path=[1, 1], show_list=True)

# %% [markdown]
# 1. Can a longer path have a larger probability than the path it continues?
# 2. Add up the probabilities at the ends of all branches below "sun". Where in the tree do you find that number?
# 3. Which step of sun, sun, rain costs most, that is, has the most negative logarithm?
#
# <details><summary>What to look for</summary>
#
# 1. No: each factor is at most 1.
# 2. At the node "sun" itself, .5: what goes into a node comes out of it.
# 3. The last one: rain after two sunny days has probability .2, a log of −1.61.
#
# </details>
#
# The order is a choice too. Predict day 3 first, then day 2, then day 1, and the product is the same. Left to right is
# a habit, and a good one for text (notebook 17 has a task where it is not).


# %%
def ends(suffix):
    """P of all sequences that end with this suffix."""
    return sum(p for x, p in joint.items() if x[len(x) - len(suffix) :] == suffix)


backwards = {x: math.prod(ends(x[t:]) / ends(x[t + 1 :]) for t in (2, 1, 0)) for x in days}
print("right to left gives the same joint:", all(abs(backwards[x] - joint[x]) < 1e-12 for x in days))

# %% [markdown]
# ## 3. Maximum likelihood is counting
#
# Real text has no given table; it has to be estimated. **Maximum likelihood** asks for the parameters $\theta$ under
# which the data is most probable:
#
# $$\hat\theta = \arg\max_\theta P_\theta(x) = \arg\max_\theta \sum_{t} \log P_\theta(x_t \mid x_{<t}) .$$
#
# Begin with the simplest condition: only the last token, $P(x_t \mid x_{<t}) = \theta_{x_{t-1}, x_t}$, a **bigram**
# model. With $n_{ab}$ the number of times that $b$ follows $a$, the log-likelihood is
# $\sum_{ab} n_{ab} \log \theta_{ab}$ (natural logarithms: the unit is the **nat**), each row of $\theta$ summing to 1.
# Its maximum is
#
# $$\hat\theta_{ab} = \frac{n_{ab}}{\sum_{b'} n_{ab'}} ,$$
#
# the relative frequencies. Why: for any other $\theta$ the log-likelihood is lower by
# $\sum_a n_a \, \mathrm{KL}(\hat\theta_a \Vert \theta_a)$, where $n_a = \sum_b n_{ab}$ and
# $\mathrm{KL}(p \Vert q) = \sum_b p_b \log (p_b / q_b)$, and a KL divergence is 0 for $p = q$ and positive otherwise.
#
# The text is Shakespeare, character by character; nine tenths to count on, the last tenth held out.

# %%
text = tiny_shakespeare()
tokenizer = CharTokenizer(text)
V = tokenizer.vocab_size
train_ids, validation_ids, _ = split_stream(torch.tensor(tokenizer.encode(text)), (0.9, 0.1, 0))
print(f"{len(train_ids):,} characters to count, {len(validation_ids):,} held out, vocabulary {V}")

counts = torch.bincount(train_ids[:-1] * V + train_ids[1:], minlength=V * V).view(V, V).double()  # n_ab
theta = counts / counts.sum(1, keepdim=True).clamp(min=1)


def log_likelihood(table):
    """Of the training text, in nats; 0 log 0 counts as 0."""
    return torch.xlogy(counts, table).sum()


print(f"log-likelihood {log_likelihood(theta):,.0f} nats, {log_likelihood(theta) / counts.sum():.4f} per character")

# %% [markdown]
# **Before you run:** six times the table is pushed into a random direction, forwards and backwards:
# $\theta_{ab} \propto \hat\theta_{ab}\, e^{\varepsilon z_{ab}}$ with random numbers $z$. How many of the six will find
# a better table?

# %%
noise = torch.randn(6, V, V, dtype=torch.float64, generator=lab.generator())
pushes = torch.linspace(-0.5, 0.5, 21, dtype=torch.float64)


def pushed(direction, size):
    table = theta * (size * direction).exp()
    return table / table.sum(1, keepdim=True).clamp(min=1e-300)


curves = torch.stack([torch.stack([log_likelihood(pushed(z, e)) for e in pushes]) for z in noise]) / counts.sum()
print("the best push in each direction:", [round(float(pushes[row.argmax()]), 2) + 0.0 for row in curves])

other = pushed(noise[0], 0.5)
kl = torch.xlogy(theta, theta / other.clamp(min=1e-300)).sum(1)  # one number for each row
drop = log_likelihood(theta) - log_likelihood(other)
print(f"lost by a push of 0.5: {drop:,.4f} nats = sum of n_a KL(a): {(counts.sum(1) * kl).sum():,.4f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.8))
for row in curves:
    ax.plot(pushes, row, color=BLUE, lw=1)
ax.axvline(0, color=GREY, ls="--")
ax.set(xlabel="push ε away from the counts, in six random directions", ylabel="log-likelihood\nper character (nats)")
plt.show()

# %% [markdown]
# *Figure: the log-likelihood of the training text against the size of the push, six directions: every curve has its top
# at 0, the counts themselves.*
#
# None. Training by cross-entropy looks for the same point. Take the logits of a bigram table as parameters: at the
# logarithms of the counts the gradient of the loss vanishes.

# %%
for name, start in (("all zeros", torch.zeros(V, V).double()), ("log counts", counts.clamp(min=1e-30).log())):
    table = start.clone().requires_grad_()
    loss = -(counts * table.log_softmax(-1)).sum() / counts.sum()  # cross-entropy of all pairs of the text at once
    loss.backward()
    print(f"logits {name:10}  loss {loss:.4f}  largest gradient {table.grad.abs().max():.6f}")

# %% [markdown]
# The first loss is $\ln 65 = 4.17$, that of knowing nothing; the second is the log-likelihood per character from above
# with its sign turned.
#
# ### Exercise 1: count
#
# Write the table yourself. A token that nothing ever followed gets a uniform row.


# %%
def bigram_table(ids, vocab_size):
    """ids: (time,) int64. Returns (vocab_size, vocab_size): row a holds P(next | a), the relative frequencies."""
    raise NotImplementedError


# %%
check.bigram_table(bigram_table)

# %%
check.bigram_table.hint()

# %%
check.bigram_table.solution()

# %% [markdown]
# ## 4. A real text needs logarithms
#
# **Before you run:** the bigram model gives each character of its own training text $e^{-2.45} = .086$ in the geometric
# mean. After how many characters is the product too small for a float32, whose smallest number is about $10^{-45}$?

# %%
p = theta[train_ids[:1000], train_ids[1:1001]]  # P(each character | the one before), the text's first thousand
running = {"float32": p.float().cumprod(0), "float64": p.cumprod(0)}
for name, values in running.items():
    print(
        f"{name}: the product is {float(values[-1])} at the end, and 0 from character {int((values == 0).nonzero()[0]) + 1}"
    )
print(f"the sum of the logs: {p.log().sum():.2f}")
print(f"perplexity, exp of the mean of -log p: {(-p.log().mean()).exp():.2f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.8))
ax.plot(p.log().cumsum(0) / math.log(10), color=GREY, lw=6, alpha=0.6, label="sum of logs")
ax.plot(running["float64"].log10(), color=BLUE, lw=3, label="log of the float64 product")  # log of 0 is not drawn
ax.plot(running["float32"].log10(), color=ORANGE, lw=2, label="log of the float32 product")
ax.set(xlabel="characters", ylabel="log10 of P(text so far)", xlim=(-10, 420), ylim=(-460, 20))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the logarithm of the probability of the text so far. The sum of logs goes on; the product ends near character
# 40 in float32 and near 300 in float64.*
#
# So a text's probability is always handled as $\log P$, and compared per token: $-\frac{1}{T} \log P(x)$ is the mean
# **negative log-likelihood** (NLL, in nats a token), the loss of every model in this course. Its exponential, the
# **perplexity**, says among how many equally likely characters one would be as uncertain.
#
# ### Exercise 2: log P of a text, for any model
#
# Every model of the course maps ids (rows, time) to logits (rows, time, vocab), and its `bos_id` is the start symbol
# that stands before the first token. Row $t$ of the logits has read tokens up to $t$ and speaks about the next one.


# %%
def text_logprob(model, ids):
    """log P(ids): the sum of log P(ids[t] | start, ids[:t]). ids: a list of ints, without the start symbol."""
    raise NotImplementedError


# %%
check.text_logprob(text_logprob)

# %%
check.text_logprob.hint()

# %%
check.text_logprob.solution()

# %% [markdown]
# ## 5. A longer memory: n-grams
#
# An **n-gram** model conditions on the last $n - 1$ tokens:
# $P(x_t \mid x_{<t}) \approx P(x_t \mid x_{t-n+1} \dots x_{t-1})$. Here an approximation is made: what lies further
# back is ignored. Counting stays the same.


# %%
def followers(text, k):
    """For each context of k characters, what followed it and how often."""
    after = {}
    for gram, n in Counter(text[i : i + k + 1] for i in range(len(text) - k)).items():
        after.setdefault(gram[:-1], {})[gram[-1]] = n
    return after


train_text, validation_text = tokenizer.decode(train_ids.tolist()), tokenizer.decode(validation_ids.tolist())
after = [followers(train_text, k) for k in range(4)]
for context in ("q", "th", "the"):
    table = after[len(context)][context]
    best = sorted(table.items(), key=lambda item: -item[1])[:4]
    print(
        f"after {context!r}: {len(table)} kinds, most often",
        ", ".join(f"{c!r} {n / sum(table.values()):.4f}" for c, n in best),
    )

# %% [markdown]
# What about a context or a continuation that was never seen? A pure count says 0, and one single 0 makes the whole text
# impossible: the NLL is infinite. **Smoothing** takes some mass away from what was seen. The simplest kind adds a
# little to every count (add-$k$). A better one asks the shorter context. Witten and Bell's rule, for a context $c$ that
# was followed by $\text{total}(c)$ tokens of $\text{types}(c)$ different kinds:
#
# $$P(w \mid c) = \frac{n(c, w) + \text{types}(c)\, P(w \mid \text{shorter } c)}{\text{total}(c) + \text{types}(c)} .$$
#
# The more kinds followed a context, the likelier is yet another one. Below the empty context stands the uniform
# distribution.


# %%
def p_next(char, context):
    """Witten and Bell's P(char | context), with the tables above."""
    shorter = p_next(char, context[1:]) if context else 1 / V
    seen = after[len(context)].get(context)
    if seen is None:
        return shorter
    total, types = sum(seen.values()), len(seen)
    return (seen.get(char, 0) + types * shorter) / (total + types)


for char in " nz":
    row = [p_next(char, "the"[3 - k :]) for k in range(4)]
    print(f"P({char!r} | last 0, 1, 2, 3 letters of 'the')", " ".join(f"{p:.1e}" for p in row))

# %% [markdown]
# "thez" never occurs in the text, and yet its probability is not 0. The library's `NGramLM` does the same with sorted
# tables instead of dictionaries, for any order, and speaks the language-model protocol:

# %%
some = validation_text[:2000]
by_hand = [math.log(p_next(some[t], some[max(0, t - 3) : t])) for t in range(len(some))]
lm = NGramLM(order=4, vocab_size=V).fit(train_ids)
print(
    f"log P of 2,000 held-out characters: by hand {sum(by_hand):.4f}, NGramLM {lm.logprobs(validation_ids[:2000]).sum():.4f}"
)
print("logits", tuple(lm(validation_ids[None, :10]).shape), "each row sums to 1 within 1e-12:", end=" ")
print(bool((lm(validation_ids[None, :10]).exp().sum(-1) - 1).abs().max() < 1e-12))

# %% [markdown]
# ### Exercise 3: Witten and Bell, for a whole row at once
#
# `counts` holds what followed a context, `shorter` the distribution that the shorter context gives. Rows of a batch are
# contexts, each with its own total and types. A context that never occurred returns `shorter`.


# %%
def witten_bell(counts, shorter):
    """counts (..., vocab), shorter (..., vocab) -> probabilities (..., vocab)."""
    raise NotImplementedError


# %%
check.witten_bell(witten_bell)

# %%
check.witten_bell.hint()

# %%
check.witten_bell.solution()

# %% [markdown]
# **Before you run:** orders 1 to 8, each counted on a million characters and asked about the held-out tenth. Which
# order is best with add-0.1 smoothing? With Witten and Bell's? What do pure counts give?

# %%
results = []  # (order, training NLL of pure counts, share of impossible characters, add-0.1, Witten-Bell)
models = {}
print("order   pure counts: training NLL, held out, impossible   add 0.1   Witten-Bell")
for order in range(1, 9):
    models[order] = lm = NGramLM(order, V).fit(train_ids)
    nll = {}
    for smoothing in (None, 0.1, "witten_bell"):
        lm.smoothing = smoothing  # the counts are the same, the rule differs
        nll[smoothing] = -lm.logprobs(validation_ids)
        if smoothing is None:
            own = float(-lm.logprobs(train_ids[:100_000]).mean())
    impossible = float(nll[None].isinf().double().mean())
    results.append((order, own, impossible, float(nll[0.1].mean()), float(nll["witten_bell"].mean())))
    pure = float(nll[None].mean())
    print(f"{order:5}   {own:25.4f} {pure:9.4f} {impossible:11.1%} {results[-1][3]:9.4f} {results[-1][4]:13.4f}")

# %%
orders, own, impossible, added, wb = zip(*results, strict=True)
fig, ax = plt.subplots(figsize=(8, 3.4))
ax.plot(orders, own, "s:", color=GREY, label="pure counts, on the text they counted")
ax.plot(orders, added, "^--", color=ORANGE, label="add 0.1, held out")
ax.plot(orders, wb, "o-", color=BLUE, label="Witten-Bell, held out")
for order, share in zip(orders[1:], impossible[1:], strict=True):
    ax.text(order, 4.3, f"∞\n{share:.1%}", ha="center", va="bottom", fontsize=9)
ax.axhline(math.log(V), color="black", lw=0.8)
ax.text(8.3, math.log(V) - 0.05, "ln 65: knowing nothing", ha="right", va="top", fontsize=9)
ax.set(xlabel="order n", ylabel="NLL (nats per character)", ylim=(0, 5.2))
ax.legend(frameon=False, loc="lower left", fontsize=9)
plt.show()

# %% [markdown]
# *Figure: NLL against the order. On their own text pure counts get better without end (grey); held out they are
# infinite from order 2 on (∞ at the top, with the share of characters they call impossible). Add-0.1 turns upwards
# after order 4; Witten-Bell is best at order 5 and lower at every order from 4 on.*
#
# The grey curve is learning by heart: a context of seven characters has mostly been seen once, so its continuation is
# "certain". The same trade-off between memory and evidence returns with every model. Here are texts from five of them.
#
# **Before you run:** which order gives the first readable words? Which begins to copy?


# %%
def copied(made, length=16):
    """Share of the stretches of 16 characters that stand in the training text word for word."""
    stretches = [made[i : i + length] for i in range(0, len(made) - length, 4)]
    return sum(s in train_text for s in stretches) / len(stretches)


share = {}
for order in (1, 2, 3, 5, 8):
    drawn = sample(models[order], tokenizer.encode("\n"), max_new_tokens=300, generator=lab.generator()).tokens()
    made = tokenizer.decode(drawn)
    share[order] = copied(made)
    print(f"--- order {order}, copied {share[order]:.2f}\n{made[:110].strip()}")

# %% [markdown]
# Short words at order 3, mostly words at order 5, and from there on stretches of 16 characters that stand in the
# training text as they are: some of the fluency is memory.
#
# Why the texts differ can be seen at a single step:

# %%
fig, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained", sharey=True)
for ax, order in zip(axes, (1, 2, 3, 5, 8), strict=True):
    row = models[order].distribution(tokenizer.encode("to be or not t"))
    best = row.topk(6)
    ax.bar(
        [repr(tokenizer.decode([i]))[1:-1].replace(" ", "␣") for i in best.indices.tolist()], best.values, color=BLUE
    )
    ax.set(title=f"order {order}", ylim=(0, 1))
axes[0].set_ylabel("P(next | 'to be or not t')")
plt.show()

# %% [markdown]
# *Figure: the six most probable next characters after "to be or not t", for five orders. The last letter leaves many
# candidates, the last two leave "h" and "o"; what stands before changes how these two share.*
#
# Move it yourself: type a beginning and append characters. Take one that Shakespeare wrote, then one that nobody writes
# ("zjx"), and watch the entropy: after an unseen context the model falls back to shorter ones.

# %% tags=["nbval-ignore-output"]
NextToken(models[5], tokenizer, "to be or not t")

# %% [markdown]
# 1. After which of your beginnings is the entropy lowest? How many characters of it does the model read?
# 2. Change the first letter of a beginning of ten letters. Does any bar move? Why not?
# 3. After "zjx", which model is answering in effect?
#
# <details><summary>What to look for</summary>
#
# 1. Inside a frequent word, or a speaker's name. It reads the last four.
# 2. No bar moves: the fifth letter from the end and all before it are outside the condition.
# 3. The bigram: "jx" was never seen, "x" was, and it alone is asked.
#
# </details>
#
# ## 6. A static condition, and one that is not
#
# A table knows "the king" and "the queen" as two different contexts that have nothing to do with each other. Bengio's
# network of 2003 gives each token a vector $e$ and computes the distribution from the last $w$ of them:
#
# $$h_t = \tanh\big(H\,[e_{t-w+1}; \dots; e_t] + b\big), \qquad z_t = U h_t + d,\qquad P(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(z_t) .$$
#
# $[\,;\,]$ puts vectors end to end; the matrices $H, U$ and the vectors $b, d$ are learned. Its condition is
# **static**: the same $w$ places in every sentence. A recurrent network carries a state instead,
# $h_t = \tanh(W e_t + b + R\, h_{t-1} + c)$ with learned $W, R, b, c$, which has read everything; and in a transformer
# (built in notebooks 03 to 08) position $t$ attends to all positions before it. Here are the first two by hand, and the
# library's, with the same weights:

# %%
architectures = recipe.architectures(V)  # name -> a function that builds the model
ids = train_ids[None, :12]

lm = architectures["window of 8"]()
e = torch.cat([lm.start.expand(7, -1), lm.embed_tokens.weight[ids[0]]])  # a start vector where there is no text yet
by_hand = [lm.head(torch.tanh(lm.hidden(e[t : t + 8].flatten()))) for t in range(12)]
print("fixed window, same logits:", torch.allclose(torch.stack(by_hand), lm(ids)[0], atol=1e-5))

lm = architectures["RNN"]()
cell, h, by_hand = lm.cell, torch.zeros(176), []  # a state of 176 numbers, 0 before the text
for x in lm.embed_tokens.weight[ids[0]]:
    h = torch.tanh(cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0)
    by_hand.append(lm.head(h))
print("RNN, same logits:", torch.allclose(torch.stack(by_hand), lm(ids)[0], atol=1e-5))
for name, build in architectures.items():
    print(f"{name:12} {sum(p.numel() for p in build().parameters()):,} parameters")

# %% [markdown]
# Three models of 50,000 parameters, the same batches in the same order, 150 steps. (The loop is notebook 06's; here it
# only has to run.) Beside them stand **recorded** runs with thirteen times that budget, made by
# `python -m arlab.recipes record_01_autoregression`; set `RUN_IT = True` to make them again (a few minutes). The level
# lines are what counting reached, and a transformer of sixteen times the size that the course ships; all of it on the
# same first 20,000 held-out characters, which are a little easier than the rest.
#
# **Before you run:** which of the three learns fastest in the first 300,000 characters? Will any of them beat the
# 5-gram table?

# %%
RUN_IT = False
if RUN_IT:
    recipe.record()
recorded, about = recordings.load(recipe.RECORDING)
held_out = ordered_windows(validation_ids[: recipe.HELD_OUT + 1], recipe.CONTEXT, 64)  # the same targets for all
five_gram = evaluate(models[5], held_out)
print(f"5-gram on the {recipe.HELD_OUT:,} held-out targets, in the same windows: {five_gram:.2f}")
for name, steps in recorded.items():
    print(f"{name:12} recorded, {steps[-1].tokens:,} characters: {steps[-1].validation_loss:.2f}")
strong, _ = recipes.load("shakespeare_strong")  # trained on the same nine tenths, and shipped with the course
n, strong_loss = sum(p.numel() for p in strong.parameters()), evaluate(strong, held_out)
print(f"a transformer of {n:,} parameters: {strong_loss:.2f}")

# %% tags=["nbval-ignore-output"]
STEPS = lab.scale(cpu=150, gpu=2000)
curves = TrainingCurves(total=STEPS, title="One text, three architectures", x="tokens", log_x=True)
curves.line("5-gram table", five_gram)
curves.line("larger transformer", strong_loss)
curves.line("ln 65", math.log(V))
for name, steps in recorded.items():
    curves.add(f"{name}, {about['steps']:,} steps", steps)
display(curves)

trained, last = {}, {}
for name, build in architectures.items():
    trained[name] = build().to(lab.device)
    batches = random_windows(train_ids, recipe.CONTEXT, recipe.ROWS, lab.generator())
    steps = train(trained[name], batches, steps=STEPS, validation=held_out, **recipe.SETTINGS)
    *_, last[name] = curves.follow(steps, name=name)  # run to the end, keep the last record

# %%
if STEPS == 150:
    for (name, step), bound in zip(last.items(), (2.35, 2.2, 2.5), strict=True):
        print(f"{name:12} {step.tokens:,} characters: held out below {bound}: {step.validation_loss < bound}")
long = {name: steps[-1].validation_loss for name, steps in recorded.items()}
print("live, the RNN is ahead of the window:", last["RNN"].validation_loss < last["window of 8"].validation_loss)
lead = long["window of 8"] - long["transformer"]
level = abs(long["RNN"] - long["transformer"])
print(f"recorded, transformer and RNN are level within 0.01: {level < 0.01}, ahead of the window: {lead > 0.03}")
print("recorded, counting is still ahead of all three:", five_gram < min(long.values()))

# %% [markdown]
# Read it off the curves:
#
# 1. Against tokens: where does the recorded transformer pass the window? And the RNN?
# 2. Set "Against" to seconds. Which architecture makes most of a second on a CPU?
# 3. Hide all but the recorded transformer. Do its training loss (line) and its validation loss (marks) drift apart?
#
# <details><summary>What to look for</summary>
#
# 1. Near 2.4 million characters, and near 3.7 million.
# 2. The window: its steps took half as long as the transformer's (27 s against 55 s for the recorded runs), so the
#    transformer catches up later there.
# 3. By about .1 at the end: the held-out tenth is other scenes, and a little of the rest is learnt by heart.
#
# </details>
#
# At this budget a table of counts beats three networks, and the transformer is the slowest to start: it has to *learn*
# that neighbours matter, which the other two have built in. After thirteen times as many steps it has passed the window
# and drawn level with the RNN, and the gap to the table has shrunk from .86 to .13. The larger one, trained longer, is
# below the table (1.46 against 1.58). A longer table is no way to follow it: on this text all orders above 5 got worse.
#
# Now see what no budget gives to the window: which earlier characters does each prediction depend on?

# %%
reach = {name: leak_map(model.cpu(), train_ids[None, 100:124]) for name, model in trained.items()}
for name, r in reach.items():
    furthest = max(t - s for t, s in r.nonzero().tolist())
    print(f"{name:12} listens to tokens up to {furthest} places back, to the future: {bool(r.triu(1).any())}")

# %%
fig, axes = plt.subplots(1, len(reach), figsize=(3 * len(reach), 3.1), layout="constrained")
for ax, (name, r) in zip(axes, reach.items(), strict=True):
    shown = ax.imshow(r.clamp(min=1e-6).log10(), cmap="viridis", vmin=-4, vmax=1)
    ax.set(title=name, xlabel="depends on input at s")
axes[0].set_ylabel("prediction at t")
fig.colorbar(shown, ax=axes, label="log10 |d logits(t) / d input(s)|")
plt.show()

# %% [markdown]
# *Figure: how strongly the prediction at t (row) depends on the input at s (column). The window is a band of eight and
# exactly nothing beside it; the RNN fades with distance; the transformer fills the whole triangle below the diagonal.*
#
# **Before you run:** a task in which that matters. A name (one of 8) is followed by some noise, then a question mark;
# the answer is the name. Four models, 200 steps each, with 0 to 24 noise tokens between. How will accuracy depend on
# that number?

# %%
NAMES, NOISE, ASK = 8, 4, 12  # ids 0-7 are names, 8-11 noise, 12 the question mark


def recall(rows, gap, generator):
    """[name, noise x gap, ?] -> name, asked at the last position alone."""
    name = torch.randint(NAMES, (rows, 1), generator=generator)
    noise = torch.randint(NAMES, NAMES + NOISE, (rows, gap), generator=generator)
    inputs = torch.cat([name, noise, torch.full((rows, 1), ASK)], dim=1)
    targets = torch.full_like(inputs, IGNORE)
    targets[:, -1] = name[:, 0]
    return Batch(inputs, targets)


def practice(generator):
    while True:
        yield recall(64, int(torch.randint(25, (), generator=generator)), generator)


@torch.no_grad()
def accuracy(model, gap):
    inputs, targets = recall(400, gap, lab.generator(gap))
    return float((model(inputs)[:, -1].argmax(-1) == targets[:, -1]).double().mean())


# %%
small = DecoderConfig.gpt2(vocab_size=13, context_length=26, d_model=32, layers=1, heads=2)
readers = {
    "window of 8": FixedWindowLM(13, window=8, d_model=16, d_hidden=128, seed=0),
    "plain RNN": RecurrentLM(13, d_model=16, d_hidden=64, seed=0),
    "gated RNN (GRU)": RecurrentLM(13, d_model=16, d_hidden=48, kind="gru", seed=0),
    "transformer": DecoderLM(small, seed=0),
}
remembered = {}
for name, model in readers.items():
    fit(model, practice(lab.generator()), steps=200, lr=3e-3 if name == "plain RNN" else 1e-2, warmup=20)
    remembered[name] = [accuracy(model, gap) for gap in range(0, 25, 2)]
for name in ("window of 8", "gated RNN (GRU)", "transformer"):
    near, far = remembered[name][:4], remembered[name][4:]
    print(f"{name:16} up to 6 noise tokens: right {min(near) > 0.9}, from 8 on: right {min(far) > 0.9}")
print("the window, from 8 on, is near chance (1/8):", max(remembered["window of 8"][4:]) < 0.25)

# %%
fig, ax = plt.subplots(figsize=(7, 2.9))
styles = zip(remembered.items(), (BLUE, GREY, GREEN, ORANGE), ("o-", "v:", "s--", "^-"), strict=True)
for (name, values), colour, style in styles:
    ax.plot(range(0, 25, 2), values, style, color=colour, label=name)
ax.axhline(1 / NAMES, color="black", lw=0.8)
ax.set(xlabel="noise tokens between the name and the question", ylabel="accuracy", ylim=(0, 1.05))
ax.legend(frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1, 0.7))
plt.show()

# %% [markdown]
# *Figure: accuracy against the distance. The window is perfect as long as the name lies inside it (name, 6 noise tokens
# and the question mark are eight) and guesses beyond (black line: 1/8). The plain RNN could, but after 200 steps it has
# not learnt to hold on; with gates it has; the transformer looks back directly.*
#
# ## 7. The method and the architecture
#
# *Autoregression* is a method: factor the probability by the chain rule, then predict, choose, append. It says nothing
# about what computes $P(x_t \mid x_{<t})$. A transformer is an architecture that computes it; so is a recurrent
# network, a window, a table of counts, a tree. **Before you run:** what has to change in the loop from one model to the
# next?


# %%
def generate(model, ids, steps, generator):
    """Predict, choose, append: the whole of autoregressive generation."""
    ids = list(ids)
    for _ in range(steps):
        logits = model(torch.tensor([ids[-recipe.CONTEXT :]]))[0, -1]  # predict (this transformer's context is 64)
        ids.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))  # choose, append
    return ids


writers = {"5-gram": models[5], **trained}
passages = {}
for name, model in writers.items():
    passages[name] = tokenizer.decode(generate(model, tokenizer.encode("ROMEO:"), 80, lab.generator()))
drawn = generate(weather, [weather.bos_id], 3, lab.generator())[1:]
print("a tree of three days:", [weather.names[i] for i in drawn])
print("the same function, unchanged, ran", len(passages) + 1, "kinds of models")

# %% tags=["nbval-ignore-output"]
for name, passage in passages.items():
    print(f"--- {name}\n{passage}")

# %% [markdown]
# The same random numbers, four models. Nothing in the loop changed. The library's decoders are this loop too, with a
# cache for each architecture: what is kept of the past is a few tokens for the window, one vector for the RNN, and a
# key and a value for every position in every layer for the transformer.

# %%
for name, model in trained.items():
    cache, seen = model.new_cache(1, 41), model(train_ids[None, :41])[0]
    stepwise = torch.cat([model(train_ids[None, t : t + 1], cache)[0] for t in range(41)])
    print(f"{name:12} token by token = in one pass: {torch.allclose(stepwise, seen, atol=1e-4)}")
state = trained["RNN"].new_cache(1, 41).state[0].numel()
keys = 2 * 2 * 48  # K and V, two layers, d_model numbers each
print(f"numbers kept after 41 tokens: window {7 * 16} (7 vectors of 16), RNN {state}, transformer {41 * keys:,}")

# %%
fig, ax = plt.subplots(figsize=(6, 2.6))
lengths = range(1, 65)
for name, sizes, style in (
    ("window of 8", [112] * 64, "-"),
    ("RNN", [state] * 64, "--"),
    ("transformer", [n * keys for n in lengths], "-"),
):
    ax.plot(lengths, sizes, style, label=name, color={"window of 8": BLUE, "RNN": GREEN, "transformer": ORANGE}[name])
ax.set(xlabel="tokens read", ylabel="numbers kept of the past", yscale="log")
ax.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# *Figure: what each architecture keeps of the past while it generates. The transformer's memory grows with the text;
# that is its price and its strength.*
#
# ## 8. Where does a sentence end?
#
# Lecture 004 asks: which is more probable, "The", or "The program has been implemented"? **Before you run:** decide.
# Here is a small world of sentences to check with. Its last token, `</s>`, is an **end symbol**.

# %%
words = ["The", "program", "has", "been", "implemented", "works", "</s>"]
THE, PROGRAM, HAS, BEEN, DONE, WORKS, END = range(7)


def row(**p):  # only the positive probabilities are written down
    return [p.get(w, 0.0) for w in ("The", "program", "has", "been", "implemented", "works", "end")]


sentences = TreeLM(
    {
        (): row(The=0.9, program=0.1),
        (THE,): row(program=0.98, end=0.02),
        (PROGRAM,): row(works=0.9, end=0.1),
        (PROGRAM, WORKS): row(end=1.0),
        (THE, PROGRAM): row(has=0.6, works=0.3, end=0.1),
        (THE, PROGRAM, WORKS): row(end=1.0),
        (THE, PROGRAM, HAS): row(been=0.95, end=0.05),
        (THE, PROGRAM, HAS, BEEN): row(implemented=0.95, end=0.05),
        (THE, PROGRAM, HAS, BEEN, DONE): row(end=1.0),
    },
    max_length=6,
    eos_id=END,
    names=words,
)
print("all sentences with their end symbol sum to", round(sum(p for _, p in sentences.enumerate()), 12))

# %%
full = [THE, PROGRAM, HAS, BEEN, DONE]
p_prefix = [math.exp(sentences.logprob(full[:n])) for n in range(1, 6)]
p_ended = [math.exp(sentences.logprob([*full[:n], END])) for n in range(1, 6)]
for n in range(5):
    print(f"{' '.join(words[i] for i in full[: n + 1]):36} without end {p_prefix[n]:.4f}   with </s> {p_ended[n]:.4f}")

# %% [markdown]
# Without an end symbol the short one wins, always:
# $P(\text{The program}) = P(\text{The}) \cdot P(\text{program} \mid \text{The}) \le P(\text{The})$. The model does not
# prefer short sentences: $P(\text{The})$ is the probability of *beginning* with "The", and everything that begins so is
# counted in it. $P(\text{The} \;\text{</s>})$ is the probability that the sentence *is* "The", and the five-word
# sentence beats it by far.
#
# Walk the tree to both ends, and compare them in the list of all sentences.

# %% tags=["nbval-ignore-output"]
SequenceTree(sentences, path=[*full, END], show_list=True)

# %% [markdown]
# Sums show it as well. **Before you run:** without an end symbol, what is the sum of the probabilities of all sequences
# of one word? Of two? Of all of one, two, three, four and five words?


# %%
def without_end(prefix):
    """The same rows without </s>, renormalised; where only </s> was left, any word may follow."""
    r = torch.tensor(sentences.table.get(prefix, row(end=1.0)), dtype=torch.float64)[:END]
    return (r / r.sum() if r.sum() > 0 else torch.full((END,), 1 / END, dtype=torch.float64)).tolist()


table = {prefix: without_end(prefix) for prefix in sentences.table}
endless = [TreeLM(table, max_length=n, default=[1 / END] * END, names=words[:END]) for n in range(1, 6)]
by_length = [sum(p for _, p in world.enumerate()) for world in endless]
ended = [sum(p for x, p in sentences.enumerate() if len(x) <= n) for n in range(2, 7)]
for n in range(5):
    print(
        f"{n + 1} words: without end {by_length[n]:.4f}, so far {sum(by_length[: n + 1]):.4f};  with </s> so far {ended[n]:.4f}"
    )

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
left.plot(range(1, 6), p_prefix, "o--", color=ORANGE, label="without end symbol")
left.plot(range(1, 6), p_ended, "o-", color=BLUE, label="with </s>")
left.set_xticks(range(1, 6), [words[i] for i in full], rotation=20)
left.set(ylabel="probability up to this word")
right.plot(range(1, 6), torch.tensor(by_length).cumsum(0), "o--", color=ORANGE)
right.plot(range(1, 6), ended, "o-", color=BLUE)
right.set(xlabel="words", ylabel="sum over all sequences so far", ylim=(0, 5.3), xticks=range(1, 6))
left.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# *Figure: left, without an end symbol each further word can only lower the probability, with one the complete sentence
# stands out; right, without an end symbol each length has a whole 1 to itself and the sum grows without bound, with one
# the sentences of all lengths share a single 1.*
#
# So a model without an end symbol is a distribution over sequences *of one given length*, one for each length;
# sequences of different lengths cannot be compared. With `</s>` the length is part of what is predicted. Now on real
# data: the lines of Shakespeare, each between a start symbol (read, never predicted) and an end symbol (predicted like
# any other).
#
# **Before you run:** of all beginnings of "First Citizen:", which is the most probable as a *complete* line?

# %%
lines = [line for line in train_text.split("\n") if line][:12_000]
EOS, BOS = V, V + 1  # ids 65 and 66; the vocabulary that is predicted has 66 entries, the end symbol among them
line_lm = NGramLM(6, V + 1, bos_id=BOS, eos_id=EOS).fit([tokenizer.encode(line) for line in lines])
line = tokenizer.encode("First Citizen:")
start = line_lm.logprobs(line).cumsum(0)
whole = [float(line_lm.logprobs([*line[:n], EOS]).sum()) for n in range(1, len(line) + 1)]
for n in (1, 5, 13, 14):
    print(
        f"{tokenizer.decode(line[:n])!r:17} log P(begins so) {start[n - 1]:.4f}   log P(is the line) {whole[n - 1]:.4f}"
    )
best = max(range(len(line)), key=lambda n: whole[n])
print("the most probable complete line of them:", repr(tokenizer.decode(line[: best + 1])))

# %%
drawn = sample(line_lm, [[BOS]] * 400, max_new_tokens=90, eos_id=EOS, generator=lab.generator())
drawn_lengths = drawn.lengths[:, 0].tolist()
real_lengths = [len(line) + 1 for line in lines]
print(
    f"mean length, </s> counted: real lines {sum(real_lengths) / len(lines):.1f}, drawn {sum(drawn_lengths) / 400:.0f}"
)
over = [sum(n > 72 for n in lengths) for lengths in (real_lengths, drawn_lengths)]
print(f"longer than 72: real {over[0]} of {len(lines):,}, drawn {over[1]} of 400", end=", ")
print("cut at 90 without </s>:", int((~drawn.finished).sum()))

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
left.plot(start, "o--", color=ORANGE, label="begins so")
left.plot(whole, "o-", color=BLUE, label="is the whole line")
left.set_xticks(range(len(line)), ["␣" if c == " " else c for c in "First Citizen:"])
left.set(ylabel="log P (nats)")
left.legend(frameon=False, fontsize=9, loc="lower left")
bins = range(0, 75, 4)
right.hist(real_lengths, bins, density=True, color=GREY, label="real lines")
right.hist(drawn_lengths, bins, density=True, histtype="step", color=BLUE, lw=2, label="drawn lines")
right.set(xlabel="characters, </s> counted", ylabel="density")
right.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# *Figure: left, the probability of beginning so only falls, that of being the whole line is highest at the colon, where
# a line may end; right, the lengths of real lines (speakers' names around 12, verse around 45) and of drawn ones.*
#
# The end symbol is predicted like any other token, and the mean length comes out about right. The shape does not: there
# are too few drawn lines of verse length, and some that would not end, since a memory of five characters cannot know
# how long the line already is.
#
# ## 9. Looking to both sides
#
# Not every model of text is autoregressive. BERT-like models fill a gap and see **both sides** of it. How much is that
# worth? Count again: predict the character in the middle from its neighbours, once from one side only, once from both
# sides, with the same number of neighbours (below, "1 + 1" is one before and one after).
#
# **Before you run:** guess the middle letter from the two before it, or from the one before and the one after. Which is
# easier, and by how much? And from the two *after* it?


# %%
def neighbours(ids, offsets):
    """A number for each context (the characters at these offsets from the middle), and the middle characters."""
    t = torch.arange(4, len(ids) - 4)
    key = torch.zeros_like(t)
    for offset in offsets:
        key = key * V + ids[t + offset]
    return key, ids[t]


def fill_in(offsets, k=0.05):
    """NLL of the middle character on the held-out text, by counting on the training text with add-k smoothing."""
    (seen, middle), (asked, truth) = neighbours(train_ids, offsets), neighbours(validation_ids, offsets)
    kinds, n = torch.cat([seen * V + middle, asked * V + truth]).unique(return_inverse=True)
    contexts, c = torch.cat([seen, asked]).unique(return_inverse=True)
    pair, total = (torch.bincount(x[: len(seen)], minlength=len(u)) for x, u in ((n, kinds), (c, contexts)))
    p = (pair[n[len(seen) :]] + k) / (total[c[len(seen) :]] + k * V)
    return float(-p.log().mean())


views = {
    "2 before": (-2, -1),
    "2 after": (1, 2),
    "1 + 1": (-1, 1),
    "4 before": (-4, -3, -2, -1),
    "4 after": (1, 2, 3, 4),
    "2 + 2": (-2, -1, 1, 2),
}
gap = {name: fill_in(offsets) for name, offsets in views.items()}
for name, nll in gap.items():
    print(f"{name:9} NLL {nll:.4f} nats, like a choice among {math.exp(nll):.1f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.6))
colours = [ORANGE, ORANGE, BLUE] * 2
ax.bar(gap.keys(), gap.values(), color=colours, hatch=["", "", "//"] * 2, edgecolor="white")
ax.set(ylabel="NLL of the middle\ncharacter (nats)", xlabel="characters that may be seen")
plt.show()

# %% [markdown]
# *Figure: orange, one side only; blue and hatched, both sides. With as many characters in sight, both sides know far
# more.*
#
# Two observations. Before and after cost the same to four decimals: the chain rule holds in both directions, and either
# way the factors are quotients of the same counts (with two neighbours: of three characters over those of two). And
# both sides win clearly: where the whole text is *given*, seeing all of it is better. So why not generate with such a
# model? Because its conditionals $P(x_t \mid x_{<t}, x_{>t})$ are not the factors of a product. Multiply them over the
# three-day world of section 2:


# %%
def given_the_rest(x, t):
    """P(day t | the other two days)."""
    return joint[x] / sum(joint[(*x[:t], token, *x[t + 1 :])] for token in (0, 1))


products = {x: math.prod(given_the_rest(x, t) for t in range(3)) for x in days}
print(
    f"sum over all sequences: left to right {sum(joint.values()):.4f}, each day given the rest {sum(products.values()):.4f}"
)

# %% [markdown]
# Not a distribution. To generate with such a model, one would need tokens on both sides of each gap before there are
# any; notebook 17 shows what can be done about it (start from blanks, and fill in several times). An autoregressive
# model pays with half of the sight and gets a true $P(x)$, and a way to draw from it.
#
# ## 10. A sequence of classifications
#
# A classifier maps a text to one of a few classes. A generator maps it to a whole *sequence*: with a vocabulary of $V$
# tokens and $T$ steps, $V^T$ possible outputs. The chain rule turns one choice among $V^T$ into $T$ choices among $V$,
# each an ordinary classification: input, everything so far; class, the next token.

# %%
so_far = "First Ci"
for _ in range(4):
    logits = line_lm(torch.tensor([[BOS, *tokenizer.encode(so_far)]]))[0, -1]  # one number for each class
    choice = int(logits.argmax())
    print(f"input {so_far!r:14} -> class {choice} of {len(logits)}, {tokenizer.decode([choice])!r}")
    so_far += tokenizer.decode([choice])
for name, v, t in (("sentiment", 2, 1), ("50 characters", 65, 50), ("20 tokens of SmolLM2", 49_152, 20)):
    print(f"{name:21} V^T = 10^{t * math.log10(v):.1f}, computed as {t} x {v:,} = {t * v:,} numbers")

# %%
fig, ax = plt.subplots(figsize=(7, 2.8))
steps = torch.arange(1, 51)
for v, colour, style in ((49_152, ORANGE, "-"), (65, BLUE, "--"), (2, GREEN, ":")):
    ax.plot(steps, steps * math.log10(v), style, color=colour, label=f"V = {v:,}")
ax.axhline(80, color="black", lw=0.8)
ax.text(50, 97, "atoms in the visible universe", ha="right", fontsize=9)
ax.set(xlabel="length T", ylabel="log10 of V^T")
ax.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# *Figure: the number of possible outputs against their length, as a power of ten. With a real vocabulary it passes the
# number of atoms after 18 tokens.*
#
# What the chain rule does not give is the *best* of those $V^T$ sequences: $T$ best classes need not be the best
# sequence. That search is notebooks 09 and 11.
#
# ## Check yourself
#
# **1. (Lecture 002) Is autoregression a methodology or an architecture? And a transformer? Say what sets the two words
# apart.**
#
# <details><summary>Answer</summary>
# A methodology says how the probability of the data is taken apart and how one draws from it: autoregression takes it
# apart by the chain rule and draws one token after another. An architecture is what computes the parts: a transformer
# maps a prefix to the distribution of the next token, and so does a recurrent network, a window or a table. Section 7
# ran one loop with all of them.
# </details>
#
# **2. Does the chain rule assume that the next word depends on the last few words?**
#
# <details><summary>Answer</summary>
# No. It holds for every distribution (section 2: seven free numbers on either side, and in either direction). The
# n-gram and the window assume it; that is an approximation on top.
# </details>
#
# **3. Why are pure counts the best table for the training text, and useless for another one?**
#
# <details><summary>Answer</summary>
# Relative frequencies maximise the likelihood of the text they were counted on: any other table loses n·KL. What did
# not occur gets probability 0, and one such character makes a new text impossible: the NLL was infinite at every order
# from 2 on.
# </details>
#
# **4. Why is the sum of logs used and not the product?**
#
# <details><summary>Answer</summary>
# The product of a few dozen probabilities leaves the range of float32, that of a few hundred leaves float64 (section
# 4), and 0 has no logarithm. The sum has no such limit, and training needs its gradient anyway.
# </details>
#
# **5. A friend's model without an end symbol says that "The" is likelier than "The program has been implemented". Is it
# a bad model?**
#
# <details><summary>Answer</summary>
# No, that holds for every model: P(The) is the probability of all sentences beginning so. To compare complete sentences
# they need an end symbol: .0180 against .4776 in section 8.
# </details>
#
# **6. Lecture 003 calls the condition of a (fixed-window) neural language model static. What is it in an attention
# model?**
#
# <details><summary>Answer</summary>
# Everything read so far, up to the context length, and each position weighs it anew according to what stands there. The
# window looks at the same places in every sentence: what lies one token outside does not exist for it, after any
# training (section 6).
# </details>
#
# **7. A bidirectional model predicts gaps better. Why is it not used to write?**
#
# <details><summary>Answer</summary>
# It needs both sides of the gap, which do not exist yet while writing, and its conditionals do not multiply to a
# distribution: the sum was not 1 (section 9).
# </details>
#
# **8. How can a choice among $65^{50}$ outputs be made at all?**
#
# <details><summary>Answer</summary>
# As 50 choices among 65, each given those made before. That is exact for scoring and for drawing. Finding the most
# probable sequence stays hard.
# </details>
#
# ## What to try next
#
# - Count words instead of characters. At which order do most contexts of the held-out text become unknown?
# - In section 6, add `architectures["window of 4"] = lambda: FixedWindowLM(V, 4, d_model=16, d_hidden=256, seed=0)`,
#   and one of 16. Does the NLL follow the n-gram curve?
# - In the world of section 8, let "The program" stop with probability .5 and share the rest as before. Which complete
#   sentence wins now?
# - In section 9, let the left side have four characters and the right side one. How many characters on the left is one
#   on the right worth?
#
# ## Where the idea comes from
#
# - Letters and words drawn from n-gram counts: Shannon, *A Mathematical Theory of Communication* (1948); the chain of
#   letters in a poem, counted by hand: Markov (1913).
# - Smoothing by the number of kinds seen: Witten and Bell, *The Zero-Frequency Problem* (1991); compared with many
#   others by Chen and Goodman (1999).
# - The fixed window of embeddings: Bengio, Ducharme, Vincent and Jauvin, *A Neural Probabilistic Language Model*
#   (2003).
# - Recurrent language models: Elman, *Finding Structure in Time* (1990); Mikolov and others (2010). Gates: Hochreiter
#   and Schmidhuber (1997), Cho and others (2014).
# - The transformer: Vaswani and others, *Attention Is All You Need* (2017). Both sides: Devlin and others, *BERT*
#   (2019).
#
# [← 00 Start here](00_start_here.ipynb) · [02 Tokens and batches →](02_tokens_and_batches.ipynb)
