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
# # 09 · Sampling: from a distribution to a text
#
# A language model never says a word. It gives, for every token of its vocabulary, the probability that this token comes next.
# Somebody has to choose. This notebook builds the loop that turns those probabilities into text, and the three simplest ways to
# choose: always the most probable token, a random draw, and a random draw at a temperature.
#
# **You will be able to**
#
# - write the generation loop (predict, choose, append) and say what each position of the model's output is used for;
# - explain why greedy decoding repeats itself, and why it need not find the most probable sequence;
# - draw a token from a distribution with one random number, and show that sampling follows the model's law exactly;
# - say what a temperature of 0.1, 1 and 100 does to a distribution, with numbers;
# - decide whether one should simply sample, if the model were perfect.
#
# **Time** 75 minutes. **Before this** softmax and log-probabilities ([00](00_start_here.ipynb)); the causal mask (04) and
# the model from inside (08) help, but you can do without.
# **Follows** lecture 000 (inference), lecture 003 (generation step by step), lecture 004 (decoding).
#
# [← 08 A real language model](08_real_llm.ipynb) · [10 Top-k and nucleus →](10_top_k_and_nucleus.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import time
from itertools import product

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import arlab
from arlab.decoding import Temperature, greedy, greedy_steps, sample, sample_steps
from arlab.exercises import sampling as check
from arlab.nn.pretrained import smollm2
from arlab.views import NextToken
from arlab.worlds import TreeLM, rank_flip

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # safe for the colour-blind

# %% [markdown]
# The questions that the lectures ask about this part, and where below you see the answer:
#
# | question | section |
# |---|---|
# | Which output position makes the next token? What are the others for? | 2 |
# | Is the next input a vector that the model predicted? | 2 |
# | Greedy decoding: what is good about it, what goes wrong? | 3 |
# | Why not search for the most probable sequence of all? | 3 |
# | When does generation stop? | 4 |
# | What does drawing from the whole distribution give? | 5 |
# | If the model were perfect, should one just sample? | 6 |
# | Temperature 0.1? 100? Towards 0, towards infinity? Does it change ranks? | 7 |

# %%
model, tokenizer = smollm2(device=lab.device)
strings = tokenizer.token_strings()  # the text of each of the tokens


def next_token_logits(text):
    """The logits (vocab,) after a text; on the CPU, in float64, so that tiny probabilities keep their digits."""
    ids = torch.tensor([tokenizer.encode(text)], device=lab.device)  # (rows = 1, time)
    return model(ids)[0, -1].cpu().double()


print(f"vocabulary V = {model.vocab_size:,}, context = {model.context_length:,} tokens")

# %% [markdown]
# ## 1. Predict, choose, append
#
# The model maps token ids $x_1, \dots, x_T$ to **logits**, one real number for each token of the vocabulary. The softmax turns the logits
# $z$ into the distribution of the next token,
#
# $$\hat y_v = P_\theta(x_{T+1} = v \mid x_1, \dots, x_T) = \frac{e^{z_v}}{\sum_{w=1}^{V} e^{z_w}} .$$
#
# **Before you run:** the prompt below has five tokens. What shape will the logits have?

# %%
prompt = "The capital of France is"
ids = torch.tensor([tokenizer.encode(prompt)], device=lab.device)
print("ids", tuple(ids.shape), "-> logits", tuple(model(ids).shape))

probabilities = next_token_logits(prompt).softmax(-1)
for i in probabilities.topk(5).indices.tolist():
    print(f"{strings[i]!r:10} {probabilities[i]:.4f}")

# %% [markdown]
# One row of 49,152 logits for *each* position. We use the last row, and come back to the others in section 2.
#
# Here is the whole of generation: **predict** the distribution, **choose** a token by some rule, **append** it, and start again with the
# longer text. The rule is a function, so that we can swap it.


# %%
def generate(ids, choose, steps):
    """ids: a list of token ids. choose: logits (vocab,) -> the next id. Returns the longer list."""
    ids = list(ids)
    for _ in range(steps):
        logits = model(torch.tensor([ids], device=lab.device))  # predict: (1, time, vocab)
        ids.append(int(choose(logits[0, -1])))  # choose and append
    return ids


def most_probable(logits):
    return logits.argmax(-1)


ids = tokenizer.encode(prompt)
for step in range(6):
    new = generate(ids, most_probable, steps=1)
    print(f"step {step + 1}: read {len(ids):2} tokens, chose {strings[new[-1]]!r}")
    ids = new
print(repr(tokenizer.decode(ids)))

# %% [markdown]
# The model read 5 tokens, then 6, then 7: its own output has become its input. That is what *autoregressive* means.
#
# ### Exercise 1: the loop
#
# Write the loop yourself, for any model that maps ids (1, time) to logits (1, time, vocab). Always choose the most probable token. Stop
# after `max_new_tokens`, or right after an end symbol `eos_id` if one is given.


# %%
def next_token_loop(model, ids, max_new_tokens, eos_id=None):
    """Greedy generation.

    model: ids (1, time) int64 -> logits (1, time, vocab). ids: a list of ints, the prompt.
    Returns the list of NEW ids, without the prompt; the end symbol, if chosen, is the last of them.
    """
    raise NotImplementedError


# %%
check.next_token_loop(next_token_loop)

# %%
check.next_token_loop.hint()

# %%
check.next_token_loop.solution()

# %% [markdown]
# ## 2. Only the last position speaks
#
# A pass over a sentence gives a distribution at every position. Row $t$ is the model's opinion on token $t+1$, given tokens $1 \dots t$
# (the causal mask of notebook 04 sees to it that it looks no further).
#
# **Before you run:** the sentence is "The capital of France is Paris, and the capital of Italy is Rome". At which of its words will the model be
# nearly certain, at which least? Which of the rows would you use to go on with the sentence?

# %%
sentence = "The capital of France is Paris, and the capital of Italy is Rome"
ids = tokenizer.encode(sentence)
logits = model(torch.tensor([ids], device=lab.device))[0].cpu().double()  # (time, vocab)
conditional = logits.softmax(-1)  # row t: P(token t + 1 | tokens up to t)

print("row  token read   its best guess      p(guess)   token that follows   p(it)")
for t, row in enumerate(conditional):
    best = int(row.argmax())
    line = f"{t:3}  {strings[ids[t]]!r:12} {strings[best]!r:16} {row[best]:10.4f}   "
    if t + 1 < len(ids):
        print(line + f"{strings[ids[t + 1]]!r:18}   {row[ids[t + 1]]:.4f}")
    else:
        print(line + "?  <- nothing stands there yet")

# %% [markdown]
# The last column holds the **conditional probabilities** $P(x_{t+1} \mid x_1, \dots, x_t)$ of the sentence's own tokens. Their product is the
# probability of the sentence (given its first token), and their mean negative log is the training loss.

# %%
rows = torch.arange(len(ids) - 1)
own = conditional[rows, torch.tensor(ids[1:])]  # p of each token that really follows
fig, ax = plt.subplots(figsize=(8, 2.8))
ax.bar(range(len(own)), own, color=BLUE)
for x, p in enumerate(own.tolist()):
    ax.text(x, p, f"{p:.2f}", ha="center", va="bottom", fontsize=9)
ax.set_xticks(range(len(own)), [strings[i].strip() for i in ids[1:]], rotation=30)
ax.set(ylabel="P(token | all before it)", ylim=(0, 1.1))
plt.show()

# %% [markdown]
# *Figure: one bar for each token, its probability given all tokens before it. The first "capital" is a surprise, the second is expected; "is" after
# "the capital of Italy" is nearly certain, and "Rome" likely, because of everything that stands before them.*

# %%
loss = F.cross_entropy(logits[:-1], torch.tensor(ids[1:]))  # what training minimises
print(f"product of the bars          {own.prod():.3e}")
print(f"exp(-number of bars x loss)  {math.exp(-len(own) * loss):.3e}")
print(f"mean of -log p {-own.log().mean():.4f}, cross-entropy loss {loss:.4f}")

# %% [markdown]
# **Training uses every row**: the token that follows is known at each position, so one pass gives as many predictions to learn from as there
# are tokens. **Generation uses the last row alone**: the others predict tokens that stand there already. Nor do they get better when the
# text grows, because of the causal mask:

# %%
longer = generate(ids, most_probable, steps=3)
after = model(torch.tensor([longer], device=lab.device))[0].cpu().double()
print("three tokens later, the old rows are the same:", torch.allclose(after[: len(ids)], logits, atol=1e-3))

# %% [markdown]
# So they need not be computed again. A **key/value cache** (notebook 04) keeps what the old positions offer to attention, and each step runs
# the new token alone. `arlab.decoding.greedy` does this, and asks for the last row only.
#
# **Before you run:** what will the first block of the network receive at step 2: the vector that came out of the network at step 1, or
# something else? And at which position?

# %%
received = []  # (positions, last input vector) of each pass, caught at the door of the first block
door = model.blocks[0].register_forward_pre_hook(lambda _, args: received.append((args[1].positions, args[0][0, -1])))
made = greedy(model, tokenizer.encode(prompt), max_new_tokens=4).tokens()
door.remove()

for step, (where, vector) in enumerate(received):
    last_read = (tokenizer.encode(prompt) + made)[where.stop - 1]
    looked_up = torch.equal(vector, model.embed_tokens.weight[last_read])
    print(f"step {step + 1}: positions {where.start}..{where.stop - 1}, last token {strings[last_read]!r:9}", end=" ")
    print(f"its vector is row {last_read:4} of the embedding table: {looked_up}")

# %%
fig, ax = plt.subplots(figsize=(9, 2.4))
for step in range(4):
    text = tokenizer.encode(prompt) + made[: step + 1]
    for position, token in enumerate(text):
        from_end = len(text) - position  # 1: the new token, 2: the last one read
        colour = {1: ORANGE, 2: BLUE}.get(from_end, "#E0E0E0")
        shown = strings[token].replace("\n", "\\n").replace(" ", "␣")
        box = {"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.35"}
        ax.text(position, -step, shown, ha="center", va="center", color="black" if from_end > 2 else "white", bbox=box)
ax.set(xlim=(-0.6, 8.6), ylim=(-3.6, 0.6), xticks=range(9), xlabel="position")
ax.set_yticks([0, -1, -2, -3], ["step 1", "step 2", "step 3", "step 4"])
ax.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: four steps of the loop, a row each. Blue: the last token read, whose position makes the prediction. Orange: the token chosen, which is the last one read in
# the row below, one position further. Grey: read as well (the blue one attends to them), their own predictions unused.*
#
# Each step takes the next position (SmolLM2 turns queries and keys by it, notebook 08; GPT-2 adds a position vector here). And the input is a
# **looked-up embedding of the chosen token**. Lecture 003 writes a hat on it, $\hat x_t$, as for an estimate; it is a row of a table.
#
# What does leave the network is a hidden vector $h$. The logits compare it with the embedding of every token, $z = E h$:

# %%
caught = []
door = model.norm.register_forward_hook(lambda module, args, output: caught.append(output[0, -1]))
z = model(torch.tensor([tokenizer.encode(prompt)], device=lab.device))[0, -1]
door.remove()

h, table = caught[0], model.embed_tokens.weight  # (d_model,), (vocab, d_model)
paris = tokenizer.encode(" Paris")[0]
print("logits = table @ h:", torch.allclose(table @ h, z, atol=1e-3))
print(f"cosine of h with the embedding of ' Paris': {F.cosine_similarity(h, table[paris], dim=0):.4f}")
loss = -z.log_softmax(-1)[paris]
print(f"argmax is ' Paris': {int(z.argmax()) == paris}, and yet the loss with target ' Paris' is {loss:.4f}")

# %% [markdown]
# $h$ is far from being the embedding of " Paris": the two vectors are nearly at right angles. It only has a larger product with it than with any other
# row. And the guess is right, but the **loss is not zero**: it is made from the logits, $-\log \hat y_{\text{Paris}}$, not from the argmax.
# An argmax is right or wrong and has no slope to learn from.
#
# ### The context is the limit
#
# Unlike an n-gram model, whose condition has a fixed width, the condition here is everything in the context. Cut the context and the
# probabilities change. Below, the model sees only the last $n$ tokens of a text that begins with a name and ends by asking for it.
#
# **Before you run:** at which $n$ will the probability of " Maria" jump?

# %%
story = (
    "My name is Maria and I have lived in Lisbon for ten years. Every morning I walk to the river and drink a coffee."
    " Yesterday a stranger asked who I was. I said: My name is"
)
story_ids, maria = tokenizer.encode(story), tokenizer.encode(" Maria")[0]
p_maria = {}
for n in (3, 6, 12, 20, 30, 37, 38, 39, 40, 41):
    logits = model(torch.tensor([story_ids[-n:]], device=lab.device))[0, -1]
    p_maria[n] = float(logits.softmax(-1)[maria])
    print(f"last {n:2} tokens, from {strings[story_ids[-n]]!r:8}: P(' Maria') = {p_maria[n]:.4f}")

# %%
fig, ax = plt.subplots(figsize=(8, 2.6))
ax.plot(p_maria.keys(), p_maria.values(), color=BLUE, marker="o")
ax.set(xlabel="tokens of context that the model sees", ylabel="P(' Maria')", ylim=(0, 1))
plt.show()

# %% [markdown]
# *Figure: the probability of " Maria" against the length of the context: near zero until the first sentence comes into view.*
#
# What lies outside the context does not exist for the model. SmolLM2's limit is 8,192 tokens, and the lab does not pass it in silence:

# %%
try:
    greedy(model, [paris] * 8190, max_new_tokens=5)
except ValueError as error:
    print(error)

# %% [markdown]
# ## 3. Greedy: always the most probable token
#
# $$\hat x_{t+1} = \arg\max_{v} P_\theta(v \mid x_1, \dots, x_t)$$
#
# Your loop above is greedy decoding. The library's is the same, with a cache:

# %% tags=["nbval-ignore-output"]
start = time.perf_counter()
by_hand = generate(tokenizer.encode(prompt), most_probable, steps=18)
middle = time.perf_counter()
by_lab = greedy(model, tokenizer.encode(prompt), max_new_tokens=18).tokens()
print(f"by hand {middle - start:.2f} s, with the cache {time.perf_counter() - middle:.2f} s")

# %%
print("the same 18 tokens:", by_hand[5:] == by_lab)

# %% [markdown]
# Greedy is cheap and **deterministic**: no random number occurs in it, so the same prompt gives the same text every time.
#
# **Before you run:** greedy takes the best token at each step. Will eighty best tokens make a good story?

# %%
beginning = "The little girl walked into the forest. She"
steps = [step.keep(top=1) for step in greedy_steps(model, tokenizer.encode(beginning), max_new_tokens=80)]
forest = [int(step.chosen) for step in steps]
print(beginning + tokenizer.decode(forest))


# %%
def repeated(ids, n=4):
    """The share of n-grams (runs of n tokens) that have occurred before in the same text."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


again = greedy(model, tokenizer.encode(beginning), max_new_tokens=20).tokens()
print("a second run gives the same tokens:", again == forest[:20])
print(f"4-grams seen before: greedy's forest {repeated(forest):.2f}, the text on Maria {repeated(story_ids):.2f}")

# %%
fig, ax = plt.subplots(figsize=(8, 2.6))
ax.plot(range(1, 81), [math.exp(float(step.logprob)) for step in steps], color=ORANGE, lw=1)
ax.set(xlabel="step", ylabel="p(chosen token)", ylim=(0, 1.02), title="Greedy grows surer with every repetition")
plt.show()

# %% [markdown]
# *Figure: the probability of the token that greedy chose, at each of 80 steps. It starts low and uneven; each time the sentence comes back, its
# tokens are more probable than the time before.*
#
# The loop feeds itself: a sentence that has occurred twice is the best prediction for what comes third, and each round makes the model surer.
# No single step is wrong. The rule is.
#
# ### Locally best is not best
#
# Here is a world small enough to write down: two drinks, then one of three ways to take each. `TreeLM` holds the distribution after each
# prefix, satisfies the same protocol as SmolLM2, and lists every sequence with its probability.
#
# **Before you run:** which first word does greedy choose? Can it still reach the best sequence then?

# %%
words = ["tea", "coffee", "black", "sweet", "cold"]
drinks = TreeLM(
    {(): [0.6, 0.4, 0, 0, 0], (0,): [0, 0, 0.4, 0.3, 0.3], (1,): [0, 0, 0.9, 0.05, 0.05]}, max_length=2, names=words
)
greedy_pair = greedy(drinks, [drinks.bos_id], max_new_tokens=2).tokens()
print("greedy:", " ".join(words[i] for i in greedy_pair), f"p = {math.exp(drinks.logprob(greedy_pair)):.2f}")
for sequence, p in drinks.enumerate():
    print(f"   {' '.join(words[i] for i in sequence):13} {p:.2f}")

# %%
best = drinks.enumerate()[0][0]
heights = {(): 2.5, (0,): 4, (1,): 1, (0, 2): 5, (0, 3): 4, (0, 4): 3, (1, 2): 2, (1, 3): 1, (1, 4): 0}
fig, ax = plt.subplots(figsize=(7, 3))
for node, y in heights.items():
    if node:
        x, parent, p = len(node), node[:-1], drinks.distribution(node[:-1])[node[-1]]
        colour = ORANGE if node == tuple(greedy_pair[:x]) else BLUE if node == best[:x] else GREY
        ax.plot([x - 1, x], [heights[parent], y], color=colour, lw=1 if colour == GREY else 3, zorder=0)
        ax.text(
            x - 0.45, (heights[parent] + y) / 2, f"{p:g}", ha="center", va="center", backgroundcolor="white", fontsize=9
        )
        ending = f"  ({math.exp(drinks.logprob(node)):.2f})" if x == 2 else ""
        side, up = ("left", 0) if x == 2 else ("center", 0.6)
        ax.text(x + 0.03, y + up, words[node[-1]] + ending, ha=side, va="center")
ax.set(xlim=(-0.1, 2.6), ylim=(-0.5, 5.5))
ax.axis("off")
plt.show()

# %% [markdown]
# *Figure: the tree of the world; on the edges the conditional probabilities, in brackets those of the sequences. Orange: greedy's path. Blue: the best one, behind the edge of .4 that greedy did not take.*
#
# Greedy takes "tea" (.6 against .4) and is stuck with .24; "coffee black" has .36. The same happens in SmolLM2. Take the prompt "Once upon
# a time there was a" and ask for the best *two* tokens. Since $P(a, b) = P(a)\,P(b \mid a) \le P(a)$, a first token whose own probability is below the best pair found so far
# cannot win, so very few have to be tried for an exact answer.

# %%
start_ids = tokenizer.encode("Once upon a time there was a")
first = next_token_logits("Once upon a time there was a").softmax(-1)
tried = first.topk(8).indices.tolist()
batch = torch.tensor([[*start_ids, a] for a in tried], device=lab.device)
second = model(batch)[:, -1].cpu().double().softmax(-1)  # (8, vocab)
pairs = []
for a, row in zip(tried, second, strict=True):
    pairs.append((float(first[a] * row.max()), strings[a] + strings[int(row.argmax())]))
for p, text in pairs[:4]:
    print(f"{text!r:16} {p:.4f}")
best_p, best_pair = max(pairs)
print("greedy's pair:", repr(pairs[0][1]), " the best pair:", repr(best_pair))
print(f"first tokens not tried have p <= {first.topk(9).values[-1]:.4f}, below {best_p:.4f}:")
print(f"so this is the best of all {model.vocab_size**2:,} pairs")

# %% [markdown]
# Two tokens can be searched. The lecture's $\hat y = \arg\max_{y} P(y)$ over whole sequences cannot: there are $V^T$ of them.

# %%
for length in (1, 2, 5, 20):
    digits = length * math.log10(model.vocab_size)
    print(f"T = {length:2}: V^T = 10^{digits:.1f} sequences, {10 ** (digits - 9):.1e} seconds at a billion a second")

# %% [markdown]
# A year has $3.2 \cdot 10^7$ seconds. So every decoder is an approximation, and greedy is the first one. Beam search (notebook 11) keeps several beginnings alive; for now note that
# the goal itself is doubtful: the loop above *is* a very probable text.
#
# ## 4. When to stop
#
# A model that was trained with an end symbol predicts it like any other token. The loop ends a row when that token is chosen, or at a limit.
# In a batch each row ends by itself; afterwards it is filled with padding.

# %%
questions = ["What is the capital of France?", "Name three colours.", "Write one sentence about the sea."]
chats = [tokenizer.chat([{"role": "user", "content": question}]) for question in questions]
print("prompt lengths", [len(chat) for chat in chats], " end symbol", repr(strings[tokenizer.eos_id]))

answers = greedy(model, chats, max_new_tokens=34, eos_id=tokenizer.eos_id)  # rows of unequal length: padded inside
for row in range(3):
    length, ended = int(answers.lengths[row, 0]), bool(answers.finished[row, 0])
    print(f"{length:2} tokens, ended: {ended!s:5} {tokenizer.decode(answers.tokens(row))!r}")

# %% [markdown]
# The second answer ran into the limit, the others ended by themselves. **Before you run:** what happens to the first answer if nobody looks for the end symbol?

# %%
on_and_on = greedy(model, chats[0], max_new_tokens=30).tokens()
print(repr(tokenizer.decode(on_and_on)))
print("up to its end symbol, alone as in the batch:", on_and_on[: int(answers.lengths[0, 0])] == answers.tokens(0))

# %% [markdown]
# It writes the user's next question too. The end symbol does not switch the model off; the loop has to watch for it. The second line is the promise
# that a batch keeps in this lab: a prompt beside longer neighbours gives what it gives alone (positions and masks leave the padding out).

# %% [markdown]
# ## 5. Ancestral sampling: draw from the whole distribution
#
# $$\hat x_{t+1} \sim \mathrm{Categorical}(\hat y)$$
#
# One random number is enough. Lay the tokens side by side on the line from 0 to 1, each as wide as its probability; throw a number $u$
# uniformly onto the line; take the token it falls on. A token with probability .07 is hit 7 times in 100.

# %%
head = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
edges = head.cumsum(-1)  # the right end of each token
fig, ax = plt.subplots(figsize=(8, 1.5))
colours = [BLUE, ORANGE, GREEN, PURPLE]
for name, right, width, colour in zip("ABCD", edges.tolist(), head.tolist(), colours, strict=True):
    ax.barh(0, width, left=right - width, color=colour, edgecolor="white")
    ax.text(right - width / 2, 0, f"{name}  {width}", ha="center", va="center", color="white", weight="bold")
for u in (0.31, 0.82):
    ax.annotate(f"u = {u}", (u, 0.4), (u, 0.75), ha="center", arrowprops={"arrowstyle": "->"})
ax.set(xlim=(0, 1), ylim=(-0.4, 1.0), yticks=[], xlabel="u")
plt.show()

# %% [markdown]
# *Figure: four tokens as segments of the unit interval. The number .31 falls on A, the number .82 on C.*
#
# ### Exercise 2: one draw
#
# `u` is given, so your function is deterministic and can be checked exactly. The weights may sum to less than 1 (when tokens have been
# removed, notebook 10): then the line is only as long as their sum, and `u` must be scaled to it.


# %%
def draw_one(weights, u):
    """Draw one token by inverting the cumulative distribution.

    weights: (vocab,) float64, none negative, not all 0, of any sum. u: a float with 0 <= u < 1.
    Returns the id, an int, of the token on which u falls. A token owns its left end: at u = 0 the first token with a
    positive weight is drawn. Tokens lie in the order of their ids.
    """
    raise NotImplementedError


# %%
check.draw_one(draw_one)

# %%
check.draw_one.hint()

# %%
check.draw_one.solution()

# %% [markdown]
# The library's `sample` draws in just this way, with one float64 number for each row and each step. So we can do its work by hand from the same seed:


# %%
def by_inversion(logits, generator):
    u = torch.rand(1, generator=generator, dtype=torch.float64)
    edges = logits.cpu().double().softmax(-1).cumsum(-1)
    return torch.searchsorted(edges, u, right=True)


numbers = lab.generator()
hand = generate(tokenizer.encode(prompt), lambda logits: by_inversion(logits, numbers), steps=6)
lib = sample(model, tokenizer.encode(prompt), max_new_tokens=6, generator=lab.generator()).tokens()
print("the same draws by hand and by arlab.decoding.sample:", hand[5:] == lib)

# %% [markdown]
# ### Sampling follows the model's law, exactly
#
# By the chain rule the probability of drawing $x_1$, then $x_2$ given $x_1$, and so on, is $\prod_t P(x_t \mid x_{<t})$: the model's probability of the whole
# sequence. No other decoder has this property. We check it in a world with 3 tokens, one of which ends the sequence, at most 3 long.
#
# **Before you run:** with $N = 10{,}000$ draws, how far may the share of a sequence with probability .2 stray from .2? (Its standard error is $\sqrt{p(1-p)/N}$.)

# %%
world = TreeLM.random(3, 3, lab.generator(74), eos_id=2, sharp=0.7)
law = dict(world.enumerate())  # sequence -> exact probability
N = 10_000
drawn = sample(world, [world.bos_id], max_new_tokens=3, n=N, eos_id=2, generator=lab.generator())
counts = dict.fromkeys(law, 0)
for n in range(N):
    counts[tuple(drawn.tokens(0, n))] += 1

worst = max(abs(counts[s] / N - p) / math.sqrt(p * (1 - p) / N) for s, p in law.items())
print(f"{len(law)} sequences, their probabilities sum to {sum(law.values()):.4f}")
print(f"largest deviation of a share from its probability: {worst:.2f} standard errors")

# %%
fig, ax = plt.subplots(figsize=(8, 2.8))
labels = ["".join("AB."[i] for i in s) for s in law]
ax.bar(labels, law.values(), color=BLUE, alpha=0.5, label="enumerated")
ax.plot(labels, [counts[s] / N for s in law], "o", color=ORANGE, ms=5, label=f"share of {N:,} draws")
ax.set(ylabel="probability", xlabel="sequence (a dot ends it)")
ax.tick_params(axis="x", rotation=45)
ax.legend()
plt.show()

# %% [markdown]
# *Figure: bars for the exact probability of each sequence, dots for its share among the draws; the dots sit on the bars.*
#
# With 15 sequences, a deviation above 4 standard errors would turn up about once in a thousand seeds, if sampling is right.
#
# ### On the real model
#
# **Before you run:** a random draw breaks greedy's loop. Will the stories be better?

# %% tags=["nbval-ignore-output"]
tale = "Once upon a time there was a"
tail, ranks, tale_ids = [], [], []  # each step, each row: mass outside the 1,000 best, rank of the drawn token, its id
for step in sample_steps(model, [tokenizer.encode(tale)] * 3, max_new_tokens=40, generator=lab.generator()):
    p = step.logits.cpu().double().softmax(-1)
    tail.append(1 - p.topk(1000).values.sum(-1))
    ranks.append((p > p.gather(-1, step.chosen.cpu()[:, None])).sum(-1) + 1)
    tale_ids.append(step.chosen.cpu())
tail, ranks, tale_ids = torch.stack(tail), torch.stack(ranks), torch.stack(tale_ids)  # (steps, rows)
for row in range(3):
    print(f"{tale}{tokenizer.decode(tale_ids[:, row])}\n")

# %% [markdown]
# (On another processor these texts may differ: the last digits of the logits do, and a number that falls next to an edge then hits the neighbour.)
#
# Each begins well and derails; after an odd word the model has to go on from that odd word. Where do odd words come from? A single token of the tail is hardly
# ever drawn, but the tail is long: here is the mass of all tokens *outside the thousand most probable*, and what it does over forty draws.

# %% tags=["nbval-ignore-output"]
print(f"mean mass outside the 1,000 most probable tokens: {tail.mean():.3f} a step")
print(f"chance that 40 draws never land there: {(1 - tail).prod(dim=0).mean():.2f}")
print("drawn from there, (rank, token):")
print([(int(r), strings[i]) for r, i in zip(ranks.flatten(), tale_ids.flatten(), strict=True) if r > 1000])
print(f"4-grams that occurred before: {sum(repeated(tale_ids[:, row].tolist()) for row in range(3)) / 3:.2f}")

# %%
p = next_token_logits(tale).softmax(-1).sort(descending=True).values
for n in (10, 100, 1000, 10_000):
    print(f"{len(p) - n:,} tokens behind rank {n:,}: together {p[n:].sum():.4f}, each {p[n:].mean():.1e} on average")

# %% [markdown]
# A few percent a step is a small mistake of the model. Forty steps make a derailed text of it.
#
# ## 6. If the model were perfect, should one just sample?
#
# Lecture 004 asks this. We can test it, in a world where the truth is known. The **truth** has six letters; after each prefix two of them are
# allowed, with probabilities .7 and .3, and every other continuation is nonsense. The **model** is the truth with a small flat tail: it moves a share $\varepsilon$ of
# its mass to all six letters alike. Everything is enumerated: no draws.
#
# **Before you run:** with $\varepsilon = .05$ and five letters, what share of the sampled sequences is nonsense?

# %%
coin, LETTERS, LENGTH = lab.generator(), 6, 5
prefixes = [prefix for t in range(LENGTH) for prefix in product(range(LETTERS), repeat=t)]
truth_table = {}
for prefix in prefixes:
    first, second = torch.randperm(LETTERS, generator=coin)[:2].tolist()
    truth_table[prefix] = torch.zeros(LETTERS, dtype=torch.float64)
    truth_table[prefix][first], truth_table[prefix][second] = 0.7, 0.3


def law_of(change):
    """The law of sampled sequences when `change` is applied to every next-letter distribution."""
    changed = {prefix: change(row).tolist() for prefix, row in truth_table.items()}
    return dict(TreeLM(changed, max_length=LENGTH).enumerate())


def compare(law, truth):
    """(mass of nonsense, total variation distance: half the sum of absolute differences)."""
    nonsense = sum(p for s, p in law.items() if s not in truth)
    return nonsense, sum(abs(law.get(s, 0) - truth.get(s, 0)) for s in law.keys() | truth.keys()) / 2


truth = law_of(lambda row: row)
print(f"{len(truth)} sequences are possible, {LETTERS**LENGTH - len(truth):,} are nonsense")


# %%
def with_tail(row, eps=0.05):
    return (1 - eps) * row + eps / LETTERS


def without_small(row, floor=0.05):  # cut what is below the floor, share the rest out again
    kept = row * (row >= floor)
    return kept / kept.sum()


def tempered(row, t=0.5):
    return row ** (1 / t) / (row ** (1 / t)).sum()  # what a temperature t does to probabilities: see section 7


# %%
cases = {
    "perfect model, sampled": lambda row: row,
    "perfect model, T = .5": tempered,
    "perfect model, greedy": lambda row: F.one_hot(row.argmax(), LETTERS).double(),
    "model with a tail, sampled": with_tail,
    "model with a tail, T = .5": lambda row: tempered(with_tail(row)),
    "model with a tail, tail cut": lambda row: without_small(with_tail(row)),
}
results = {name: compare(law_of(change), truth) for name, change in cases.items()}
print("                             nonsense   distance to the truth")
for name, (nonsense, distance) in results.items():
    print(f"{name:28} {nonsense:8.4f} {distance:15.4f}")

# %%
fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
places = list(range(len(results)))
ax.barh(
    [y - 0.2 for y in places],
    [nonsense for nonsense, _ in results.values()],
    0.4,
    color=ORANGE,
    label="mass of nonsense",
)
ax.barh(
    [y + 0.2 for y in places],
    [distance for _, distance in results.values()],
    0.4,
    color=BLUE,
    label="distance to the truth",
)
ax.set_yticks(places, results.keys())
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="0: none, 1: everything")
ax.legend()
plt.show()

# %% [markdown]
# *Figure: for each way to draw, the mass of impossible sequences and the total variation distance from the true law; both bars are zero for the perfect model, sampled.*
#
# So: **a perfect model should just be sampled**, if you want texts that are like the data. The distance is 0, and every change to the distribution, the greedy one most of
# all, makes it worse. A nearly perfect model is another matter: 3 % of nonsense at a step ($\varepsilon \cdot 4/6$) has become 16 % of the sequences in five steps (and would be
# $1 - .967^{100} \approx 97\,\%$ in a hundred). There, cutting the tail before drawing brings the sampled law *closer* to the truth (.156 → .007). Cooling it also removes most of the nonsense
# (.003), but it pulls the law away from the truth on the other side. That is the reason for the rest of this notebook and for the next. And if you want the one most probable answer rather than a typical one, you would not sample even from a perfect model.
#
# ## 7. Temperature
#
# Divide the logits by a **temperature** $\tau > 0$ before the softmax (lecture 000 writes $\tau$, lecture 004 writes $T$):
#
# $$\hat y = \operatorname{softmax}\!\left(\frac{z}{\tau}\right), \qquad \hat y_v \propto e^{z_v / \tau} = \left(e^{z_v}\right)^{1/\tau} .$$
#
# Ratios between probabilities are raised to the power $1/\tau$: a token twice as probable is four times as probable at $\tau = .5$, and only 1.41 times at $\tau = 2$.
#
# **Before you run:** at $T = 100$, is " Paris" still the most probable token? What will its probability be: .77, .1, or something like 1/49,152?
# And at $T = .1$?

# %%
z = next_token_logits(prompt)
best = z.topk(4).indices
print("T      " + "".join(f"{strings[i]!r:>12}" for i in best) + "    entropy (bits)   argmax")
for t in (0.1, 0.5, 1, 2, 100):
    p = (z / t).softmax(-1)
    entropy = torch.special.entr(p).sum() / math.log(2)
    print(f"{t:<7}" + "".join(f"{p[i]:12.6f}" for i in best) + f"{entropy:14.4f}      {strings[int(p.argmax())]!r}")
V = model.vocab_size
print(f"uniform: 1/V = {1 / V:.6f}, log2 V = {math.log2(V):.4f} bits (ln V = {math.log(V):.4f} nats)")
cat = [float((next_token_logits("The cat sat on the") / t).softmax(-1).max()) for t in (1, 0.1)]
print(f"'The cat sat on the': the best token ' cat' has {cat[0]:.4f} at T = 1 and {cat[1]:.4f} at T = .1")

# %% [markdown]
# At .1 the distribution is a point on " Paris": sampling from it *is* greedy decoding, to all digits shown. Where the model is undecided, .1 is not yet 0:
# " cat" gets .97, so that about one draw in forty takes another token. At 100 the distribution is all but uniform, every token near 1/V, and yet " Paris" still leads. The **entropy** $H = -\sum_v \hat y_v \log_2 \hat y_v$ measures how undecided the distribution is, in bits: 0 when one token is certain, $\log_2 V$ when all are equal.

# %%
grid = torch.logspace(-1.3, 2.3, 60, dtype=torch.float64)
fig, ax = plt.subplots(figsize=(8, 3))
for text, colour in ((prompt, BLUE), ("The cat sat on the", ORANGE)):
    z_text = next_token_logits(text)
    entropies = [torch.special.entr((z_text / t).softmax(-1)).sum() / math.log(2) for t in grid]
    ax.plot(grid, entropies, color=colour, label=text)
    print(f"{text!r}: entropy grows with T: {all(a < b for a, b in zip(entropies, entropies[1:], strict=False))}")
ax.axhline(math.log2(model.vocab_size), color=GREY, ls="--", label="log2 V: uniform")
ax.axvline(1, color=GREY, lw=0.8)
ax.set(xscale="log", xlabel="temperature", ylabel="entropy (bits)")
ax.legend()
plt.show()

# %% [markdown]
# *Figure: entropy against temperature (logarithmic). Both curves start at 0 bits on the left, where only the argmax is left, rise through T = 1, and flatten out at
# the entropy of the uniform distribution on the right.*
#
# The two limits: as $T \to 0$ all mass goes to the most probable token (argmax; shared where several tie), and as $T \to \infty$ every token gets $1/V$.
#
# ### Does it change the ranks?
#
# Of tokens never: $z \mapsto z/T$ keeps every order. Of whole sequences? **Before you run:** in the world `rank_flip` the first token is A (.6) or B (.4). After A come ten
# equally probable tokens, after B always the same one. Which sequence is the most probable at $T = 1$? And at $T = .1$?

# %%
order = z.argsort(descending=True, stable=True)
for t in (0.1, 100):
    same = torch.equal((z / t).argsort(descending=True, stable=True), order)
    print(f"T = {t}: the {len(order):,} tokens in the same order:", same)

flip, heights = rank_flip(), {}
for t in (1, 0.1):
    rows = {prefix: tempered(torch.tensor(row).double(), t).tolist() for prefix, row in flip.table.items()}
    laws = dict(TreeLM(rows, max_length=2).enumerate())
    winner, heights[t] = "AB"[max(laws, key=laws.get)[0]], (laws[0, 0], laws[1, 0])
    print(f"T = {t}: P(A A) = {laws[0, 0]:.3f}, P(B A) = {laws[1, 0]:.3f}, the best begins with {winner}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for ax, (t, pair) in zip(axes, heights.items(), strict=True):
    ax.bar(["A A (one of ten)", "B A"], pair, color=[BLUE, ORANGE])
    ax.set(title=f"T = {t}", ylabel="probability of the sequence")
plt.show()

# %% [markdown]
# *Figure: the two sequences at T = 1, where B A is far ahead, and at T = .1, where A A is (mind the scales).*
#
# **The ranks of tokens never change, the ranks of sequences can.** At $T = .1$ the first step becomes $.6^{10} : .4^{10}$, that is .983 to .017, while the ten children of A stay equal: $.983 \cdot .1 = .098$ beats
# $.017 \cdot 1$. The reason is that each step is normalised anew, after its own prefix. Had we raised the probability of the *whole* sequence to the power $1/T$ and normalised once, no rank would change; but nobody
# can sum over $V^T$ sequences.
#
# ### Exercise 3: temperature, the edges included


# %%
def apply_temperature(logits, t):
    """New logits whose softmax is the distribution at temperature t.

    logits: (..., vocab), left untouched. t: a number >= 0; 0 means argmax: the most probable token (the lowest id
    among equals) gets all the probability. A negative t raises ValueError.
    """
    raise NotImplementedError


# %%
check.apply_temperature(apply_temperature)

# %%
check.apply_temperature.hint()

# %%
check.apply_temperature.solution()

# %% [markdown]
# In the library: `arlab.decoding.filters.temperature(logits, t)`, or `Temperature(t)` in the list of filters that `sample` takes. $T = 0$ is greedy:

# %%
cold = sample(model, tokenizer.encode(prompt), max_new_tokens=12, filters=[Temperature(0)], generator=lab.generator())
print("T = 0 equals greedy:", cold.tokens() == by_lab[:12])

# %% [markdown]
# A filter is any function on logits. So one batch can try several temperatures at once, one for each row.
#
# **Before you run:** at which of these temperatures will you want to read on?

# %% tags=["nbval-ignore-output"]
temperatures = torch.tensor([0.1, 0.7, 1.0, 1.5, 100.0], device=lab.device)
per_row = temperatures.repeat_interleave(2)[:, None]  # two rows each, (rows, 1)
texts = sample(
    model,
    [tokenizer.encode(beginning)] * 10,
    max_new_tokens=lab.scale(cpu=30, gpu=60),
    filters=[lambda logits: logits / per_row],
    generator=lab.generator(),
)
mean_logprob = (texts.scores / texts.lengths).view(-1, 2).mean(-1).tolist()
repeats = [sum(repeated(texts.tokens(2 * i + j)) for j in (0, 1)) / 2 for i in range(len(temperatures))]
for i, t in enumerate(temperatures.tolist()):
    print(f"T = {t:.1f}   mean log p {mean_logprob[i]:.2f}   repeated 4-grams {repeats[i]:.2f}")
    print(f"   {tokenizer.decode(texts.tokens(2 * i))!r}\n")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
names = ["0.1", "0.7", "1", "1.5", "100"]
left.plot(names, mean_logprob, "o-", color=BLUE)
left.set(xlabel="temperature", ylabel="mean log p of its tokens", title="how likely the text is")
right.plot(names, repeats, "o-", color=ORANGE)
right.set(xlabel="temperature", ylabel="repeated 4-grams (share)", title="how much it repeats itself")
plt.show()

# %% [markdown]
# *Figure: left, the mean log-probability per token falls as the temperature rises; right, so does repetition.*

# %%
print("colder texts are likelier:", mean_logprob[0] > mean_logprob[2] > mean_logprob[4])
print("the coldest repeats itself more than the hottest:", repeats[0] > repeats[-1])

# %% [markdown]
# The trade in one picture: cold texts are likely and repeat themselves, hot texts are new at every word and mean nothing. Temperatures between .5 and 1 are common. Note what temperature
# cannot do: to weaken the tail it must also sharpen the head. Notebook 10 cuts the tail off and leaves the head alone.
#
# ## 8. Move it yourself
#
# Drag **temperature** slowly from 0 to the right end and watch the bars, the entropy and the effective choices (2 to the power of the entropy: how many equally likely tokens would be as
# uncertain). Then press the buttons for one draw and for a hundred.

# %% tags=["nbval-ignore-output"]
NextToken(model, tokenizer, "The cat sat on the", temperature=1.0)

# %% [markdown]
# Find out by moving:
#
# 1. At which temperature does the most probable token pass 50 %? What is the entropy there?
# 2. Set the temperature to 1 and draw a hundred. How many different tokens came, and how many of them make sense?
# 3. Can you find any temperature at which the order of the bars changes?
# 4. Change the prompt to "The capital of France is". To get the same entropy as "The cat sat on the" has at 1, how hot must it be? Draw a hundred there. Why are the draws worse?
# 5. Go to temperature 0 and append the chosen token ten times. Which decoder is this?
#
# <details><summary>What to look for</summary>
#
# 1. A little below .4; the entropy is about 2.6 bits then, down from 8.2.
# 2. Most of a hundred draws are different words; a handful come from far down the list.
# 3. None: dividing all logits by the same number keeps their order.
# 4. About 1.45. The entropy is equal, but here it comes from thousands of senseless tokens beside one answer, there from hundreds of plausible words. Entropy does not know sense.
# 5. Greedy decoding.
#
# </details>
#
# ## 9. Seeds, rows and batches
#
# A draw is random, an experiment should not be. The generator is an argument; the same seed gives the same text. Each row takes one number a step:


# %%
def draw_three(seed):
    return sample(model, tokenizer.encode(prompt), max_new_tokens=5, n=3, generator=lab.generator(seed)).ids


print("the same seed twice:", torch.equal(draw_three(1), draw_three(1)))
print("another seed:", torch.equal(draw_three(1), draw_three(2)))

used, counted = lab.generator(), lab.generator()
sample(model, tokenizer.encode(prompt), max_new_tokens=5, n=3, generator=used)
torch.rand(5 * 3, generator=counted, dtype=torch.float64)  # five steps, three rows
print("5 steps x 3 rows took 15 numbers:", torch.equal(torch.rand(4, generator=used), torch.rand(4, generator=counted)))

# %% [markdown]
# Prompts of unequal length may share a batch. Their distributions are those that each has alone:

# %%
ragged = [tokenizer.encode(text) for text in ("He", prompt, story)]
together = next(sample_steps(model, ragged, max_new_tokens=1, generator=lab.generator())).logits
for row, row_ids in enumerate(ragged):
    lone = model(torch.tensor([row_ids], device=lab.device))[0, -1]
    print(f"{len(row_ids):2} tokens: same logits as alone: {torch.allclose(together[row], lone, atol=1e-3)}")

# %% [markdown]
# ## Check yourself
#
# **1. In generation, why is only the last position's distribution used, and why are all of them used in training?**
#
# <details><summary>Answer</summary>
# The earlier rows predict tokens that are already there; only the last one says something new, and thanks to the causal mask the earlier ones do not change when the text grows (section 2). In
# training the tokens that follow are known, so each row is a prediction with a known answer: one pass, as many terms in the loss as tokens.
# </details>
#
# **2. Is the embedding that enters at the next step predicted by the network?**
#
# <details><summary>Answer</summary>
# No. It is the embedding-table row of the chosen token. What the network predicts is a hidden vector whose products with all rows are the logits (section 2). The loss is made from the logits.
# </details>
#
# **3. Name two merits and two faults of greedy decoding.**
#
# <details><summary>Answer</summary>
# Cheap and deterministic. It repeats itself (.87 of the 4-grams of the forest story had occurred before), and the best token at each step need not lead to the best sequence ("tea black" .24 against "coffee black" .36;
# " small town" against " woman named").
# </details>
#
# **4. What happens to the distribution at a temperature of 100? Of 0.1? In the limits?**
#
# <details><summary>Answer</summary>
# At 100 it is nearly uniform: " Paris" fell from .77 to .000025, just above 1/V, entropy 15.58 of 15.58 bits, draws are random tokens. At .1 it is nearly a point: " Paris" has 1.000000, and even " cat", .07 at T = 1, has .97; sampling is all but greedy. T → 0 is the
# argmax, T → ∞ is uniform over the vocabulary.
# </details>
#
# **5. Does temperature change which token, and which sequence, is the most probable?**
#
# <details><summary>Answer</summary>
# Tokens keep their order at every temperature. Sequences may swap, because every step is normalised on its own: .4 against .06 at T = 1, .017 against .098 at T = .1 (section 7).
# </details>
#
# **6. Somebody says: if the model has learnt p perfectly, just sample. Right?**
#
# <details><summary>Answer</summary>
# For texts that are distributed like the data, yes: the distance to the truth was 0 and every change made it larger. A real model has a wrong tail, and small errors at each step add up over a text; then truncating before
# sampling comes closer to the truth. And for a task with one right answer a typical draw is not what one wants.
# </details>
#
# **7. When does generation stop?**
#
# <details><summary>Answer</summary>
# When the end symbol is chosen, for each row by itself, or at the limit of new tokens or of the context. The model alone never stops (section 4).
# </details>
#
# ## What to try next
#
# - Write a story prompt of your own and find the temperature at which greedy's loop breaks. Does the loop come back in a longer text?
# - In section 6, let $\varepsilon$ shrink to .005 and the length grow to 6. Which matters more?
# - Raise $T$ *and* cut the tail: that is notebook 10.
#
# ## Where the idea comes from
#
# - Temperature in a softmax of scores: Ackley, Hinton and Sejnowski, *A Learning Algorithm for Boltzmann Machines*, 1985.
# - Repetition under greedy and beam search, and the unreliable tail: Holtzman, Buys, Du, Forbes and Choi, *The Curious Case of Neural Text Degeneration*, 2020.
# - Likely texts that people find poor: Zhang, Duckworth, Ippolito and Neelakantan, *Trading Off Diversity and Quality in Natural Language Generation*, 2021.
#
# [← 08 A real language model](08_real_llm.ipynb) · [10 Top-k and nucleus →](10_top_k_and_nucleus.ipynb)
