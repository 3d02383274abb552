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
# # 00 · Start here
#
# A language model reads some text and gives every token of its vocabulary a probability of being the next one. In the
# next minute you will move a slider on a real one. After that, this notebook shows how the others work.
#
# You will be able to
#
# - ask a real language model for its next-token distribution, and change the prompt;
# - read the line that every notebook prints about your machine;
# - use the course's checks, hints and solutions;
# - write a softmax that does not overflow, and add up log-probabilities instead of multiplying probabilities;
# - choose a path through the course.
#
# **Time:** 30 minutes. **You need:** Python, and a first acquaintance with PyTorch tensors. **Lecture:** none; this
# is what all five lectures take for granted.
#
# [01 Autoregression →](01_autoregression.ipynb), or [09 Sampling](09_sampling.ipynb) if you came for decoding.
#
# Run a cell with <kbd>Shift</kbd> + <kbd>Enter</kbd>.

# %% tags=["nbval-ignore-output"]
import math

import matplotlib.pyplot as plt
import torch

import arlab
from arlab.exercises import start_here as check
from arlab.nn.pretrained import smollm2
from arlab.views import NextToken

lab = arlab.setup(seed=0)

# %% [markdown]
# ## 1 · A real model, live
#
# The model is SmolLM2-135M-Instruct: 135 million parameters, a vocabulary of 49,152 tokens. On the very first run its
# file (98 MB) is fetched; from then on it lies on your disk and this cell takes a few seconds.

# %% tags=["nbval-ignore-output"]
model, tokenizer = smollm2(device=lab.device)

# %% [markdown]
# **Before you run the next cell:** the prompt is "The capital of France is". What probability would you guess for "
# Paris"? And how many of the 49,152 tokens does the model need to gather nine tenths of its belief?
#
# Then drag *temperature*, from 1 down to 0.2 and up to 2, and watch the bars and the entropy. Drag *top-p* and watch
# which tokens are cut. Change the prompt to one of your own and press <kbd>Enter</kbd>.

# %% tags=["nbval-ignore-output"]
live = NextToken(model, tokenizer, "The capital of France is", top_p=0.9)
live

# %% [markdown]
# Find out by moving the sliders:
#
# 1. Which slider changes every bar and cuts none? Can it change their order?
# 2. With top-p at 0.9, how many tokens are kept after "The capital of France is"? And after "The cat sat on the"?
# 3. At which temperature does " Paris" fall below one half?
# 4. Draw a hundred tokens. Does the most probable one come out as often as its bar says?
#
# <details><summary>What to look for</summary>
#
# 1. Temperature, and it never changes the order.
# 2. 10 and 533.
# 3. About 1.25 with top-p off. With top-p at 0.9 the kept tokens share the mass of those cut, so about 1.3.
# 4. Roughly: at a bar of 86 %, 80 to 92 times is usual.
#
# </details>
#
# You need not know yet what these settings do in detail. Notebooks 09 and 10 build them one by one.
#
# Everything you saw comes from one tensor: the model's **logits**, one number for each token of the vocabulary. A
# softmax (section 3) turns them into probabilities. Here is the head of the same list, without the explorer.

# %%
ids = tokenizer.encode("The capital of France is")
with torch.no_grad():
    logits = model(torch.tensor([ids], device=lab.device))[0, -1].cpu()
probabilities = logits.softmax(dim=-1)
print("tokens in the prompt:", ids)
print("logits:", tuple(logits.shape))
for token in probabilities.topk(5).indices.tolist():
    print(f"{tokenizer.decode([token])!r:10} {probabilities[token]:.4f}")

# %%
mass = probabilities.sort(descending=True).values.cumsum(dim=0)
print("tokens needed to reach nine tenths:", int((mass < 0.9).sum()) + 1)
entropy = torch.special.entr(probabilities).sum().item()
print(f"entropy: {entropy:.4f} nats = {entropy / math.log(2):.4f} bits; at most {math.log2(len(logits)):.4f} bits")

# %% [markdown]
# " Paris" has 0.77, and ten tokens out of 49,152 hold nine tenths of the probability. The space in front of "Paris"
# belongs to the token: most words come with the space before them. The **entropy** says how undecided the
# distribution is: 0 when one token is certain, $\log_2 49{,}152 \approx 15.6$ bits when all are equally probable.
#
# ## 2 · Your machine in one line
#
# The line under the first cell is the **device report**. From left to right: where the course computes (`cpu`, `cuda`
# for an NVIDIA card, `mps` for Apple's), which processor or card and how much of it, the precision that suits it, the
# version of PyTorch, and the seed. `lab` holds the same facts:
#
# - `lab.device`: models and tensors are put there;
# - `lab.scale(cpu=..., gpu=...)`: picks a size, so that the same cell takes a minute on a laptop and does real work
#   on a GPU;
# - `lab.generator()`: a fresh source of random numbers with the seed above. It always lives on the CPU, so that the
#   same seed draws the same numbers on every machine.

# %% tags=["nbval-ignore-output"]
print("device:", lab.device, "| precision that suits it:", lab.dtype)
print("training steps in a notebook that trains:", lab.scale(cpu=300, gpu=5000))

# %% [markdown]
# **Before you run:** will the first two lines show the same numbers? And the third?

# %%
g = lab.generator()
print(torch.randint(100, (6,), generator=g).tolist())
print(torch.randint(100, (6,), generator=g).tolist())
print(torch.randint(100, (6,), generator=lab.generator()).tolist())

# %% [markdown]
# A generator moves on with every draw, so the second line differs. A fresh one starts over, so the third line is the
# first again.
#
# ## 3 · How a notebook works: predict, build, compare, check
#
# Each idea of the course passes through the same four steps. Here they are on a small example, the **softmax**. It
# turns logits $z_1, \dots, z_V$ (any real numbers) into probabilities:
#
# $$p_i = \frac{e^{z_i}}{\sum_{j=1}^{V} e^{z_j}}$$
#
# **Predict.** Add the same constant $c$ to every logit. Each $e^{z_i}$ is multiplied by $e^c$, above and below the
# line. What happens to the probabilities? And what will the computer print for $c = 1000$? Write your guess down
# before you run the cell: a guess that turns out wrong is what you will remember.
#
# **Build.** The formula as it stands:


# %%
def softmax_by_formula(z):
    return z.exp() / z.exp().sum(dim=-1, keepdim=True)


z = torch.tensor([2.0, 1.0, 0.0])
for c in (0, 1, 50, 1000):
    print(f"z + {c:<4} ->", [round(p, 4) for p in softmax_by_formula(z + c).tolist()])

# %% [markdown]
# The mathematics says that nothing changes, and for 0, 1 and 50 nothing does. For 1000 the answer is `nan`, "not a
# number": $e^{1000}$ is larger than any float32 (about $3.4 \times 10^{38}$), so it becomes infinite, and infinity
# divided by infinity is nothing in particular.
#
# **Compare.** PyTorch's own softmax agrees with ours where ours works, and it survives where ours does not.

# %%
print("same on z:", torch.allclose(softmax_by_formula(z), z.softmax(dim=-1)))
print("PyTorch on z + 1000:", [round(p, 4) for p in (z + 1000).softmax(dim=-1).tolist()])

# %% [markdown]
# **Check.** Then it is your turn: an exercise, and a check that tells you what it thinks of your answer.
#
# ## 4 · How a check works
#
# An exercise is a function without its body. Take this one. A model's logits have the shape `(rows, time, vocab)`:
# one row for each text, one position for each token in it, and a number for each token of the vocabulary. To go on
# writing we need the logits of the last position alone, `(rows, vocab)`.
#
# As shipped, the function raises `NotImplementedError`, and the check says that nobody has tried:


# %%
def last_position(logits):
    """(rows, time, vocab) -> (rows, vocab): the logits after each text's last token."""
    raise NotImplementedError


check.last_position(last_position)


# %% [markdown]
# Now a wrong answer, on purpose. It looks plausible: `-1` is the last of something. **Before you run:** of what?


# %%
def last_position(logits):
    return logits[-1]


check.last_position(last_position)


# %% [markdown]
# The check did not only say "wrong", it recognised the mistake. And the right answer:


# %%
def last_position(logits):
    return logits[:, -1]


check.last_position(last_position)

# %% [markdown]
# A check calls your function with several inputs and looks at what comes back. It never reads your code, so every
# correct way of writing it passes. When you are stuck, unfold the hint, and only then a solution. Neither keeps a
# score.

# %%
check.last_position.hint()

# %%
check.last_position.solution()

# %% [markdown]
# ## 5 · Warm-up: softmax without overflow
#
# Softmax does not change when the same constant is added to every logit, so we may pick the constant that suits us.
#
# **Exercise.** Write a softmax over the last axis that gives the right answer for `z + 1000` too, and for logits of
# any shape. Do not call torch's `softmax`. Until you do, the check reports "not attempted" and the notebook goes on.


# %%
def stable_softmax(z):
    """Probabilities over the last axis, (..., n) -> (..., n), for logits of any size."""
    raise NotImplementedError


# %%
check.stable_softmax(stable_softmax)

# %%
check.stable_softmax.hint()

# %%
check.stable_softmax.solution()

# %% [markdown]
# ## 6 · Warm-up: why we add logarithms
#
# The probability of a whole text is a product: each token's probability given the tokens before it. The logarithm
# turns the product into a sum,
#
# $$\log\,(p_1\, p_2 \cdots p_T) = \log p_1 + \log p_2 + \dots + \log p_T ,$$
#
# and with it comes the unit: with the natural logarithm, `log` here and in PyTorch, log-probabilities are in **nats**.
#
# **Before you run:** a text of 400 tokens, each with probability 0.1, has probability $10^{-400}$. What will Python
# print?

# %%
print("0.1 ** 400      =", 0.1**400)
print("400 * log(0.1)  =", round(400 * math.log(0.1), 4))
print("smallest float64 above 0 is about", math.ulp(0.0))
print("in float32, 0.1 ** 46 =", (torch.tensor(0.1) ** 46).item())

# %% [markdown]
# The product is exactly 0: it **underflowed**, since the smallest float64 above zero is about $5 \times 10^{-324}$
# (float32 gives up at the 46th factor already). Its logarithm would be $-\infty$, and every text of that length would
# look equally impossible. The sum of the logs is an ordinary number.
#
# That was made up; here is a real text. The model's probability of each token is read off one forward pass: position
# $t$ predicts token $t+1$.

# %%
text = (
    "The tram stopped at the edge of the harbour and the driver switched off the lights. Two gulls stood on the wall "
    "as if they had been waiting for it. An old woman got out, put down her basket, and looked at the water for a "
    "while. Nobody else was there. Then the rain began, softly at first, and she opened a green umbrella."
)
ids = torch.tensor([tokenizer.encode(text)], device=lab.device)  # (1, time)
with torch.no_grad():
    log_p = model(ids)[:, :-1].log_softmax(dim=-1)  # (1, time - 1, vocab)
log_p = log_p.gather(-1, ids[:, 1:, None])[0, :, 0].cpu()  # of the token that really follows: (time - 1,)
product = log_p.exp().cumprod(dim=0)  # float32
print("tokens predicted:", len(log_p))
print(f"sum of logs: {log_p.sum():.2f} nats")
print("product in float32:", product[-1].item())
print("the product is 0 from token", int((product == 0).nonzero()[0]) + 1, "on")

# %%
steps = range(1, len(log_p) + 1)
fig, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.plot(steps, log_p.cumsum(dim=0) / math.log(10), color="#0072B2", label="sum of the logs")
ax.plot(steps, product.log10(), "o", ms=3.5, color="#D55E00", label="log of the float32 product")
ax.axhline(-45, color="0.5", lw=1, ls="--")
ax.text(1, -44, "smallest float32", color="0.35", va="bottom", fontsize=9)
ax.set(xlabel="tokens of the text", ylabel="log10 of the probability so far")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The line is the sum of the logs, token by token; the dots are the logarithm of the running product in float32. They
# agree until the product passes $10^{-45}$. There the dots end, and the line goes on.
#
# **Exercise.** Given the probability of each step, return the log-probability of the whole sequence, in nats.


# %%
def sequence_logprob(step_probabilities):
    """(time,) probabilities of the steps -> one number, the log-probability of them all."""
    raise NotImplementedError


# %%
check.sequence_logprob(sequence_logprob)

# %%
check.sequence_logprob.hint()

# %%
check.sequence_logprob.solution()

# %% [markdown]
# ## 7 · Warm-up: shapes
#
# Three axes appear everywhere in the course, always in this order:
#
# | axis | name | counts |
# |---|---|---|
# | 0 | rows | the texts that run side by side |
# | 1 | time | the positions (tokens) in a text |
# | 2 | vocab | the tokens that could come next (or features, inside the model) |
#
# **Before you run:** two prompts of five tokens each go in. What is the shape of the logits? Over which axis does the
# softmax go, and how many probability distributions does that make?

# %%
texts = ["The capital of Italy is", "The capital of Japan is"]
batch = torch.tensor([tokenizer.encode(t) for t in texts], device=lab.device)
with torch.no_grad():
    logits = model(batch).cpu()
p = logits.softmax(dim=-1)
print("ids:", tuple(batch.shape), " logits:", tuple(logits.shape))
print(
    "distributions:", p[..., 0].numel(), " each sums to 1:", torch.allclose(p.sum(dim=-1), torch.ones(2, 5), atol=1e-4)
)
for row, t in enumerate(texts):
    best = int(p[row, -1].argmax())
    print(f"{t!r} -> {tokenizer.decode([best])!r} {p[row, -1, best]:.4f}")

# %%
rows = [[tokenizer.decode([int(p[r, t].argmax())]) for t in range(5)] for r in range(2)]
for row in range(2):
    print("reads   ", [tokenizer.decode([i]) for i in batch[row].tolist()])
    print("predicts", rows[row])

# %% [markdown]
# Ten distributions over 49,152 tokens, from one pass: every position predicts the token after it. While writing, only
# the last position is used; while training, all of them are (notebook 04 shows how one pass can do that without
# anybody looking ahead). Up to the third position both rows have read the same, so they predict the same.
#
# ## 8 · Three paths through the course
#
# Each notebook runs on its own; what it builds on stands at its top, under "Before this". Three ways through them:
#
# | path | for whom | notebooks |
# |---|---|---|
# | Decoding in 90 minutes | you want to know what temperature, top-k, top-p and beams do to a text | 00, 01, 09, 10, 11, 14 |
# | Training | you want to build a transformer and train it | 01 to 08, then 16 and 18 |
# | Sequence to sequence | you translate, summarise, or read one thing and write another | 01, 03, 04, 06, 11, 15, 16, 17 |
#
# | notebook | minutes, with the exercises | what you do there |
# |---|---|---|
# | **00** start here | 30 | this one |
# | [**01** autoregression](01_autoregression.ipynb) | 75 | the chain rule; models that count; why the short sentence wins |
# | [**02** tokens and batches](02_tokens_and_batches.ipynb) | 90 | characters, bytes and BPE; splits; the shifted pair; padding and packing |
# | [**03** attention](03_attention.ipynb) | 75 | queries, keys and values; why the scores are scaled; heads |
# | [**04** causal masking](04_causal_masking.ipynb) | 90 | the mask; one parallel pass for all positions; catching a model that cheats |
# | [**05** the transformer block](05_transformer_block.ipynb) | 100 | positions, residuals, norms and where they stand, the feed-forward net |
# | [**06** teacher forcing](06_teacher_forcing.ipynb) | 100 | the loss; training live; label smoothing; the truth or the model's own words |
# | [**07** context length](07_context_length.ipynb) | 90 | what more context is worth, and what it costs in memory and time |
# | [**08** a real language model](08_real_llm.ipynb) | 75 | a Llama-style model of your own, with SmolLM2's weights in it |
# | [**09** sampling](09_sampling.ipynb) | 75 | the generation loop, greedy decoding, sampling, temperature |
# | [**10** top-k and nucleus](10_top_k_and_nucleus.ipynb) | 60 | truncating the distribution, and in which order |
# | [**11** beam search](11_beam_search.ipynb) | 90 | several beginnings at once; length and the end symbol; why likelier is not better |
# | [**12** contrastive decoding](12_contrastive_decoding.ipynb) | 75 | what a strong model likes much better than a weak one |
# | [**13** speculative decoding](13_speculative_decoding.ipynb) | 70 | the same text in fewer calls of the large model, by an exact rule |
# | [**14** choosing a decoder](14_choosing_a_decoder.ipynb) | 75 | all strategies on a story and on facts, measured; what to use for what |
# | [**15** encoder and decoder](15_encoder_decoder.ipynb) | 110 | from one sequence to another: one context for all, attention, the transformer, a translator |
# | [**16** exposure bias](16_exposure_bias.ipynb) | 80 | a model fed its own mistakes; scheduled sampling, noise, rewards for whole sequences |
# | [**17** generation order](17_generation_order.ipynb) | 75 | sums from either end; gaps filled with both sides in view; all at once, and what that breaks |
# | [**18** in-context learning](18_in_context_learning.ipynb) | 75 | examples in the prompt, shuffled labels; a small model that learns to learn |
#
# The 90 minutes of the first path are for reading, predicting and moving the sliders; its exercises come on top.
#
# ## 9 · Where you run it
#
# **Without a network.** Nothing is fetched after the set-up. Two files are fetched beforehand: run `make assets` (or
# `python -m arlab.assets`) once while you have a network. For a room that never has one, the README says how to bring
# them in a folder and point the variable `ARLAB_ASSETS` to it. A file that is missing or damaged gives an error that
# says what to run.
#
# **On a slow laptop.** Every notebook is made for two CPU cores and less than a minute from top to bottom. The model
# takes about 1 GB of memory in each notebook that is open, so shut down the kernels that you have left (*Kernel >
# Shut Down*). Sliders cost the kernel nothing: the page computes them. Prompts are what takes time; keep them short.
#
# **On a GPU node.** `arlab.setup()` takes the GPU by itself, and `lab.scale` picks the larger sizes. To stay on the
# CPU, write `arlab.setup(seed=0, device="cpu")`. The stored outputs come from a CPU; a GPU may differ in the last
# digits. If the node is far away, the sliders are as quick as ever, since they move in your browser.
#
# **Without a kernel.** Reading this on a web page, you see a picture in place of each explorer.
# `live.save_html("page.html")` writes a page with the explorer in it, which moves without Python.
#
# ## 10 · For the teacher
#
# - `make test` on the machine of the lecture runs everything: every notebook from the top, its printed lines compared
#   with the stored ones, the explorers moved in a browser. It needs no attention and ends with what failed.
# - `make notebooks` executes all notebooks and stores them; `make notebooks N=09_sampling` does one. The source of
#   each notebook is a plain script in `notebooks/source/`, which is what to edit.
# - The checks live in `arlab/exercises/`, one file for each notebook, named like it without the number. Each keeps
#   right answers that it must accept and wrong ones that it must name. CONTRIBUTING.md says how to add one.
# - A prediction before a cell is worth a show of hands. The wrong majority is the lesson.
#
# ## Test yourself
#
# <details><summary>1. A colleague adds 7 to every logit before the softmax. What changes in the text that is sampled?</summary>
#
# Nothing. Every $e^{z_i}$ is multiplied by $e^7$, in the numerator and in the denominator. You saw it for 1 and 50.
# </details>
#
# <details><summary>2. Does multiplying every logit by 7 change anything?</summary>
#
# Yes: the differences between logits grow sevenfold, and the distribution gets sharper. It is what a temperature of
# 1/7 does. The order of the tokens stays.
# </details>
#
# <details><summary>3. Two texts have log-probabilities of -310 and -300 nats. How many times more probable is the second?</summary>
#
# $e^{10}$, about 22,000 times. As float32 probabilities both would be 0, and you could not have told.
# </details>
#
# <details><summary>4. Logits have shape (8, 100, 49152). How many next-token distributions are these, and how many do you need to write one more token in each text?</summary>
#
# 800 distributions. You need the 8 at the last positions, `logits[:, -1]`.
# </details>
#
# <details><summary>5. With top-p at 0.9 the explorer kept 10 tokens after one prompt and hundreds after another. Does the model know the answer with 90 % certainty in both cases?</summary>
#
# No. The nine tenths are probability mass that the model puts on those tokens together. Whether one of them is true
# is another matter.
# </details>
#
# ## What to try next
#
# - Give the explorer a prompt in another language, a line of code, and the start of a list (`"1, 2, 3,"`). Where is
#   the distribution sharpest?
# - Append tokens one by one with the explorer until a sentence stands there. Which of them had you not expected?
# - Score two versions of the harbour text, one with a spelling mistake. By how many nats do they differ?
#
# ## Where the ideas come from
#
# The softmax as an output layer: Bridle (1990). Information measured in logarithms: Hartley (1928), Shannon (1948). A
# neural network that predicts the next word: Bengio and others (2003). The model: SmolLM2, Allal and others (2025).
