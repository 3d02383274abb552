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
# # 18 · In-context learning
#
# Write four lines like *Canada => Ottawa* in front of *Norway =>*, and a language model goes on with *Oslo*. Nothing in it has been changed for this task: the examples are text, and it predicts what comes next. This is
# called **in-context learning**. This last notebook measures it: how much 0, 1, 2, 4 and 8 examples help a real model, what exactly they help with, what they cost, and how a small transformer can be trained to do nothing else.
#
# **You will be able to**
#
# - write zero-shot, one-shot and few-shot prompts, and prove that answering them changes no weight;
# - measure accuracy against the number of examples, and say how much of a zero is ignorance and how much is format;
# - tell with shuffled labels whether the examples teach a task or only remind of it;
# - train a transformer that learns linear regression from examples in its context, and compare it with the exact answer;
# - say what an example costs, and what happens when examples fall out of the window or exceed what was trained.
#
# **Time** 75 minutes. **Before this** the real model ([08](08_real_llm.ipynb)), the context window ([07](07_context_length.ipynb)), training ([06](06_teacher_forcing.ipynb)). **Follows** lecture 001 (in-context learning, a look ahead).
#
# [← 17 Generation order](17_generation_order.ipynb) · this is the last one; back to [00 Start here](00_start_here.ipynb)

# %% tags=["nbval-ignore-output"]
from itertools import islice
from statistics import mean

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import arlab
from arlab.decoding import greedy
from arlab.decoding.shots import accuracy, ask
from arlab.exercises import in_context_learning as check
from arlab.nn.pretrained import smollm2
from arlab.recipes import in_context_learning as recipe
from arlab.text.shots import ANTONYMS, CAPITALS, TASKS, draw_examples, shot_prompt, write_prompt
from arlab.training import recordings
from arlab.training.in_context import (
    InContextModel,
    LinearTasks,
    interleave,
    model_weights,
    ridge,
    squared_errors,
    train_in_context,
)
from arlab.views import ShotsView

lab = arlab.setup(seed=0)
# colours that are safe for the colour-blind
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"

# %% [markdown]
# ## 1. Zero, one and few shots
#
# The lecture's three prompts differ in the number of solved examples, called **shots**. A **zero-shot** prompt has a description of the task and the question. A **one-shot** prompt has one solved example between them, a **few-shot** prompt several. In
# code it is no more than joining lines. The prompt ends where the answer has to begin: after the arrow and *without* a space, for a token of this model carries its space in front (notebook 02).


# %%
def few_shot(description, examples, question):
    lines = [description]
    lines += [f"{q} => {a}" for q, a in examples]
    lines.append(f"{question} =>")  # what follows is the model's
    return "\n".join(lines)


shown = draw_examples(CAPITALS, 4, generator=lab.generator())
prompts = {k: few_shot(CAPITALS.description, shown[:k], "Norway") for k in (0, 1, 4)}
for k, prompt in prompts.items():
    print(f"--- {k} shots\n{prompt}\n")
same = all(prompts[k] == write_prompt(CAPITALS, shown[:k], "Norway") for k in prompts)
print("arlab writes the same:", same)

# %% [markdown]
# **Before you run:** SmolLM2 is asked for the capitals of Norway, Kenya and Greece by each of the three prompts. What will it say to the first one, which tells it what to do but shows no example?

# %%
model, tokenizer = smollm2(device=lab.device)
for k in prompts:
    texts = [few_shot(CAPITALS.description, shown[:k], country) for country in ("Norway", "Kenya", "Greece")]
    asked = [tokenizer.encode(text) for text in texts]
    written = greedy(model, asked, max_new_tokens=6, eos_id=tokenizer.eos_id)
    said = [tokenizer.decode(written.tokens(row)) for row in range(len(asked))]
    print(f"{k} shots:", [text.strip().split("\n")[0] for text in said])

# %% [markdown]
# It is told to name the capital, and repeats the country. One example changes little; with four it names capitals.
#
# ## 2. No gradient step
#
# Has it *learned* something? Then we should see where. We add up all weights and their squares, and PyTorch counts how often a tensor was written to: all three before and after many questions. `ask` puts each of 8 countries behind 0, 1, 2, 4 and 8
# examples and lets the model write greedily to the end of the line (`shuffled` comes in section 4).


# %%
@torch.no_grad()
def fingerprint(model):
    """Sums of all weights and of their squares in float64, and how often any of them was written to."""
    weights = list(model.parameters())
    plain = sum(w.cpu().sum(dtype=torch.float64).item() for w in weights)
    squares = sum(w.cpu().square().sum(dtype=torch.float64).item() for w in weights)
    return plain, squares, sum(w._version for w in weights)


before = fingerprint(model)
live = ask(model, tokenizer, CAPITALS, ks=(0, 1, 2, 4, 8), shuffled=(False,), queries=8)
after = fingerprint(model)
print("weights the same before and after:", before == after)
print("gradients:", sum(w.grad is not None for w in model.parameters()), "tensors have one")

# %% [markdown]
# **No gradient step, no changed weight.** What differs between the first and the last answer is the input, and what the layers computed from it: keys and values of every token so far, which the cache holds (notebook 07). That is where the examples live, and
# when the cache goes, they are forgotten.

# %%
size = model.config
per_token = 2 * size.layers * size.n_kv_heads * size.head_dim  # a key and a value in every layer and head
kept = {k: max(r.tokens for r in live if r.k == k) * per_token for k in (0, 1, 2, 4, 8)}
all_weights = sum(w.numel() for w in model.parameters())
print(f"weights                    {all_weights:13,} numbers, unchanged")
for k, count in kept.items():
    print(f"keys and values, {k} shots   {count:13,} numbers, gone with the prompt")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 2.5), layout="constrained")
ax.axhline(all_weights, color=BLUE, label="weights: the same numbers throughout")
ax.plot(list(kept), list(kept.values()), "o", color=ORANGE, label="keys and values of the prompt")
ax.set(xlabel="shots", ylabel="numbers", yscale="log", ylim=(5e4, 2e9), xticks=list(kept))
ax.legend(fontsize=8, loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# *Figure: how many keys and values the longest of the eight prompts leaves behind for each number of shots (orange), and the weights above them (blue), which stay what they are. Logarithmic.*
#
# ## 3. Accuracy against the number of shots
#
# What did it say in those runs? Right is what equals the answer to the letter.
#
# **Before you run:** how many of the eight will be right with 1, 2, 4 and 8 shots?

# %%
real = {k: [r for r in live if r.k == k] for k in (0, 1, 2, 4, 8)}
for k, results in real.items():
    print(f"{k} shots: {[r.said for r in results]}")
right = {k: mean(r.correct for r in results) for k, results in real.items()}
print("none right without examples:", right[0] == 0, "  most right with eight:", right[8] > 0.7)

# %% [markdown]
# Spain's capital is Madrid with one, two and four examples, and Barcelona with eight: one question, or eight, are not a measurement. The full run, **recorded** because it takes minutes: four tasks, 24 questions each, three draws of the examples (`python -m arlab.recipes record_18_in_context_learning` makes the file; `RUN_IT = True` makes it here). Counted to the letter, a few good answers go down as wrong: "soft" as the opposite of "loud", or "Bogotá" with its accent.

# %%
RUN_IT = False
file = recipe.record("18_in_context_learning_again.json") if RUN_IT else recipe.FILE
runs, recorded = recordings.load(file)
draws = [recipe.shot_results(recorded, seed) for seed in recipe.DRAWS]
table = [accuracy(results) for results in draws]  # one for each draw: (task, k, shuffled) -> share right
print(f"recorded: {recorded['model']}")
print("share right, mean of three draws of the examples")
print("shots        " + "".join(f"{k:7d}" for k in recipe.KS) + "     least and most at 8")
for task in TASKS:
    means = [mean(t[task.name, k, False] for t in table) for k in recipe.KS]
    eight = sorted(t[task.name, 8, False] for t in table)
    print(f"{task.name:13}" + "".join(f"{m:7.2f}" for m in means) + f"     {eight[0]:.2f} to {eight[-1]:.2f}")


# %% tags=["nbval-ignore-output"]
def plot_shares(*kinds):
    """The share right against the shots, a panel a task: thin, each draw of the examples; thick, their mean."""
    _, axes = plt.subplots(1, 4, figsize=(11, 2.9), sharey=True, layout="constrained")
    for ax, task in zip(axes, TASKS, strict=True):
        for shuffled, colour, style in kinds:
            curves = [[t[task.name, k, shuffled] for k in recipe.KS] for t in table]
            for curve in curves:
                ax.plot(range(5), curve, color=colour, alpha=0.3, lw=1)
            middle = [mean(column) for column in zip(*curves, strict=True)]
            ax.plot(range(5), middle, style, color=colour, label="shuffled labels" if shuffled else "real labels")
        ax.set(title=task.name, xlabel="shots", ylim=(-0.03, 1.03))
        ax.set_xticks(range(5), recipe.KS)
    axes[0].set_ylabel("share right (24 questions)")
    axes[0].legend(loc="lower right", fontsize=8)
    plt.show()


plot_shares((False, BLUE, "o-"))

# %% [markdown]
# *Figure: the share of right answers against the number of shots, a panel a task. Thin lines are the three draws of the examples, thick ones their mean.*
#
# Every task gains from examples. Where it starts from little, the first one or two bring the most. The antonyms, most of which it gets right from the description alone, can even lose by one or two. The draws differ by several questions: *which* examples you happen to choose matters about as much as whether you give
# two or four. With 24 questions the standard error of a share is up to .10: do not read a single point more finely.
#
# ## 4. Do the examples teach? Shuffled labels as a control
#
# An example says several things at once: what the task is, how an answer looks (one word, capital letter, then a new line), and that *this* question has *this* answer. To take away the last alone, give each example the answer of another one. (Min and
# others, 2022, drew the labels at random; shuffled, they stay the same ones.) Questions, answers and format are all as before; only the pairing is wrong.
#
# ### Exercise 1: shuffle the labels
#
# A shuffled example must not keep its own answer by accident, or the control is milder than it says.


# %%
def shuffle_labels(examples, rng):
    """The same questions in the same order, each with the answer of another one; a new list of pairs.

    examples: a list of at least two pairs (question, answer), the answers all different. rng: a random.Random;
    two calls with the same state of it give the same list. Every answer is used once, and nobody keeps their own.
    """
    raise NotImplementedError


# %%
check.shuffle_labels(shuffle_labels)

# %%
check.shuffle_labels.hint()

# %%
check.shuffle_labels.solution()

# %% [markdown]
# The library does it with a random ring. Here are four examples of antonyms in both versions.

# %%
for shuffled in (False, True):
    print(shot_prompt(ANTONYMS, "young", 4, shuffled=shuffled, generator=lab.generator()), end="\n\n")

# %% [markdown]
# **Before you run:** upper case, plural, capitals, antonyms. For which of the four will wrong labels do the most harm, and for which the least?

# %%
print("8 shots, mean of three draws   share right          p(right answer)")
print("                              real  shuffled         real  shuffled")
everything = [r for results in draws for r in results]
for task in TASKS:
    row = []
    for shuffled in (False, True):
        picked = [r for r in everything if (r.task, r.k, r.shuffled) == (task.name, 8, shuffled)]
        row.append((mean(r.correct for r in picked), mean(r.p_answer for r in picked)))
    (a, p), (b, q) = row
    print(f"{task.name:28}{a:6.2f}{b:10.2f}{p:13.2f}{q:10.2f}")

# %% tags=["nbval-ignore-output"]
plot_shares((False, BLUE, "o-"), (True, ORANGE, "s--"))

# %% [markdown]
# *Figure: the panels of section 3, and in orange the same with shuffled labels. (A single example has no other to swap with: it gets the answer of one that is not shown.)*
#
# For the **capitals** wrong labels cost little: *Japan => Rome* still says that a country is followed by a capital, and which capital belongs to Norway the weights know. Here the examples do not teach, they *point out* what is wanted (Min and others found this on
# many tasks). For the **antonyms** they cost nearly everything, far below what no examples at all achieve: the description still asks for the opposite, but the wrong pairs outweigh it. **Upper case** and **plural** lie between: that capital letters or a plural are wanted shows in the
# answers alone, but not that it is the same word. The probability of the right answer falls by a larger factor than the share: even where the answer survives, the model has become less sure.
#
# So "does it learn from the labels?" has no single answer: it depends on how much of the task can be read from anything else, and on the model; larger ones follow wrong labels more (Wei and others, 2023). (With one shot, wrong capitals come out ahead. That is three examples, too few to conclude anything.)
#
# Every answer of the first draw is below. Move the shots from 0 to 8 and watch what becomes of the most probable first tokens; then shuffle the labels.

# %% tags=["nbval-ignore-output"]
view = ShotsView(draws[0], task="capitals", k=0, model_name="SmolLM2-135M, recorded")
view

# %% [markdown]
# 1. Capitals, Norway: what is the most probable first token with 0 shots, with 1 and with 8? Where is the right one?
# 2. Upper case, 8 shots: find a wrong answer. Does it miss what is wanted, or only fail to do it?
# 3. Antonyms: shuffle the labels at 8 shots. What does it say now, and where do the words come from?
#
# <details><summary>What to look for</summary>
#
# 1. With none, the country itself leads, and Oslo is not among the first. With one, " N" (of "Nederland") leads with 47 %, and " Oslo" is third with 24 %; with eight it leads with 95 %.
# 2. It writes capital letters, but of another word with the same beginning, CANADAS for castle: that capitals are wanted has come across; spelling this word in tokens that it seldom sees has not worked.
# 3. Mostly the question itself, or "up", which stands among the examples, as a question. It copies.
#
# </details>
#
# ## 5. How much of a zero is format?
#
# Zero-shot accuracy was 0 for two tasks. Does the model not know, or does it not answer in our format? Two measurements. First, not whether the answer *is* the right one but whether it *contains* it. Second, the same request as a **chat**, which is the format that
# this model was tuned on.
#
# **Before you run:** it answered "Chile =>" with "Chile". What does it say when the same is asked as a chat?

# %%
message = f"{CAPITALS.description}\nChile"
ids = tokenizer.chat([{"role": "user", "content": message}], add_generation_prompt=True)
written = greedy(model, ids, max_new_tokens=16, eos_id=tokenizer.eos_id)
print(tokenizer.decode(written.tokens(), skip_special=True))


# %%
def contains(text, answer):
    return f" {answer} " in " " + "".join(c if c.isalnum() else " " for c in text) + " "


print("recorded chats, cut after 16 tokens:")
for name, query, said in recorded["chat"]:
    if query in ("monkey", "flower", "mouse", "fox", "Norway", "Chile", "young", "yes"):
        print(f"  {name:11} {query:7} {said}")
answers = {task.name: dict(task.queries) for task in TASKS}
chats = {
    task.name: [(said, answers[task.name][q]) for name, q, said in recorded["chat"] if name == task.name]
    for task in TASKS
}
print("\nzero-shot      plain prompt       chat")
print("              exact contains   exact contains")
zero_shot = {}
for task in TASKS:
    plain = [(r.said, r.answer) for r in draws[0] if (r.task, r.k, r.shuffled) == (task.name, 0, False)]
    zero_shot[task.name] = [
        share
        for told in (plain, chats[task.name])
        for share in (mean(s == a for s, a in told), mean(contains(s, a) for s, a in told))
    ]
    print(f"{task.name:14}" + "{:5.2f}{:9.2f}{:8.2f}{:9.2f}".format(*zero_shot[task.name]))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
for offset, (name, colour) in enumerate(
    (("plain, exact", GREY), ("plain, contains", GREEN), ("chat, exact", PURPLE), ("chat, contains", ORANGE))
):
    ax.bar(
        [i + 0.18 * (offset - 2) for i in range(4)],
        [zero_shot[t.name][offset] for t in TASKS],
        0.18,
        color=colour,
        label=name,
    )
eight = [mean(t[task.name, 8, False] for t in table) for task in TASKS]
ax.bar([i + 0.36 for i in range(4)], eight, 0.18, color=BLUE, label="8 shots, exact")
ax.set_xticks(range(4), [task.name for task in TASKS])
ax.set(ylabel="share right", ylim=(0, 1))
ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# *Figure: five bars a task: zero-shot in the plain prompt and as a chat, each counted exactly and by whether the answer occurs; and, in blue, 8 shots. Where a bar is missing, none was right.*
#
# For the antonyms, hardly anything but the format was missing: as a chat it answers in whole sentences, so none is right to the letter, and yet nearly all contain the right word. Eight examples add little to that but the habit of answering in one word. Of the plurals
# about half stand in such a sentence. Of the capitals the chat names a quarter, and otherwise mostly describes the country; in upper case the word mostly comes back as it was or with one capital. There the examples bring out what the description does not, in either format.
#
# A zero says how *this question in this format* was answered. It does not say that the model does not know. Nor does "contains" say that it does: a longer text has more chances, and the one about "yes" contains "no" by accident.
#
# ## 6. What a shot costs, and the window
#
# Examples are paid for in tokens: they take room in the context window, memory for their keys and values, and time to read them, at every question anew unless the cache of what all prompts begin with is kept, as `ask` does.

# %%
costs = {}
for task in TASKS:
    tokens = [len(tokenizer.encode(write_prompt(task, task.examples[:k], "x"))) for k in range(9)]
    costs[task.name] = (tokens[0], (tokens[8] - tokens[0]) / 8)
    fixed, each = costs[task.name]
    room = size.context_length - fixed - 8  # 8 tokens for the answer
    most = int(room / each)
    print(f"{task.name:12} {fixed:2d} tokens without examples, {each:.2f} a shot: room for {most:,} shots")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
for task, colour, marker in zip(TASKS, (BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=True):
    first = [r for r in draws[0] if r.query == task.queries[0][0] and not r.shuffled]  # 0 to 8 shots
    tokens = [r.tokens for r in first]
    ax.plot(recipe.KS, tokens, marker=marker, color=colour, label=task.name)
ax.set(xlabel="shots", ylabel="tokens of the prompt", ylim=(0, None))
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Figure: tokens of a prompt against its shots. Words in capitals are rare, and cut into more tokens than common ones; plural and antonyms lie on each other.*
#
# **Reading $k$ examples of $c$ tokens costs** $2 N c k$ multiplications and additions for the model's $N$ weights, and for attention a multiple of $(ck)^2$ on top; and each later token attends to all of them. A thousand short examples fit here; with a page of text in each (some 600 tokens), 8,192 tokens
# are full after a dozen.
#
# ### Exercise 2: how many fit?


# %%
def examples_that_fit(lengths, description, query, answer, window):
    """How many of the examples, from the first, fit into the window: an int.

    lengths: tokens of each example, a list. description, query, answer: tokens of the description, of the question
    and of the longest answer that may be written. All of it together may fill the window to the last token. 0 where
    not even one example fits, or not even the rest.
    """
    raise NotImplementedError


# %%
check.examples_that_fit(examples_that_fit)

# %%
check.examples_that_fit.hint()

# %%
check.examples_that_fit.solution()

# %% [markdown]
# Now let examples fall out. The same 8-shot prompts, of which the model sees only the last $w$ tokens: what lies before is cut off, as in a model with a short context (notebook 07). We read the probability of the right answer's first token after the arrow.
#
# **Before you run:** the last 4 tokens are the question and little else, and each example has 4 or 5. With how many tokens in view will the model know that a capital is wanted?

# %%
eight_shots = [r for r in live if r.k == 8]
prompt_ids = [tokenizer.encode(r.prompt) for r in eight_shots]
targets = torch.tensor([tokenizer.encode(" " + r.answer)[0] for r in eight_shots])
widths = (4, 8, 12, 18, 24, 36, 48)
with torch.no_grad():
    ends = {w: torch.tensor([ids[-w:] for ids in prompt_ids], device=lab.device) for w in widths}
    seen = {w: model.last_logits(end) for w, end in ends.items()}
p_right = {w: z.softmax(-1).cpu()[torch.arange(len(targets)), targets] for w, z in seen.items()}
for w, p in p_right.items():
    print(f"last {w:2d} tokens: p(first token of the answer) {p.mean():.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for row in range(len(targets)):
    ax.plot(widths, [p[row] for p in p_right.values()], color=GREY, lw=0.8)
ax.plot(widths, [p.mean() for p in p_right.values()], "o-", color=BLUE, label="mean of 8 countries")
ax.set(xlabel="tokens seen, counted from the end of the prompt", ylabel="p(right first token)", ylim=(0, 1))
ax.legend()
plt.show()

# %% [markdown]
# *Figure: the probability of the answer's first token against the number of tokens seen, for each country (grey) and on average (blue).*
#
# With the last four tokens, the question, the model has no idea that a capital is wanted. By 18, three examples, it has; on the whole each further one helps, but not at every width (24) and not for every country. A prompt cut in the middle has lost its description and may begin inside an example, and it works all the same: what counts is what is in
# view. Nothing beyond the window has any effect, for the examples are nowhere else.

# %% [markdown]
# ## 7. A transformer that learns to learn
#
# SmolLM2 learned to use examples by the way, from text. Now we train a model for nothing else (Garg and others, 2022). Every row of a batch is a **linear function of its own**, $y = w \cdot x$: $w$ is drawn from $N(0, \tfrac12 I)$, each $x$, of two numbers, from $N(0, I)$, so that $y$ has variance 1. The model reads
#
# $$x_1,\; y_1,\; x_2,\; y_2,\; \dots,\; x_n$$
#
# and has to predict $y_n$. No weight can hold the answer, for no function is met twice. What is learned over many functions is *how to use examples*.
#
# An $x$ of two numbers and a $y$ of one go in as vectors of five: the numbers, and two marks that say which of them it is.

# %%
tasks = LinearTasks(features=2)
x, y, w = tasks.draw(3, 10, lab.generator())  # 3 functions, 10 examples of each
print("x", tuple(x.shape), " y", tuple(y.shape), " w", tuple(w.shape))
by_hand = torch.stack([sum(w[r, j] * x[r, :, j] for j in range(2)) for r in range(3)])
print("y is w . x:", torch.allclose(by_hand, y))
print("first example of the first function, as it goes in:")
for name, vector in zip(("x1", "y1"), interleave(x, y)[0, :2].tolist(), strict=True):
    print(f"  {name}  {[round(v, 4) for v in vector]}")

# %% [markdown]
# The blocks and the causal mask are those of notebook 05; a linear map reads the vectors in, and the one number that comes out at $x_i$ is the prediction of $y_i$. It has seen $i - 1$ whole examples. So **one pass answers for every number of examples** (notebook 04), and trains all of
# them at once.

# %%
learner = InContextModel(2, examples=40, d_model=64, layers=3, heads=4, positions="rotary", seed=2)
with torch.no_grad():
    one_pass = learner(x, y)
    separate = torch.stack([learner(x[:, : i + 1], y[:, : i + 1])[:, -1] for i in range(10)], dim=1)
print(f"one pass and ten separate ones differ by at most {(one_pass - separate).abs().max():.4f}")
changed = y.clone()
changed[:, 4] += 5  # the fifth answer
moved = (learner(x, changed) - one_pass).abs().amax(0) > 1e-6
print("predictions that move with y5:", [i + 1 for i in moved.nonzero()[:, 0].tolist()])

# %% [markdown]
# Train it, with ten examples in a row: the loss is the mean squared error over all ten predictions. Three runs of 2,000 steps are recorded; live we do the first quarter of one of them again (on a GPU, all of it).

# %%
learner = InContextModel(2, examples=40, d_model=64, layers=3, heads=4, positions="rotary", seed=2)
learner = learner.to(lab.device)
STEPS = lab.scale(cpu=500, gpu=2000)
training = train_in_context(learner, tasks, **recorded["training"], generator=lab.generator(1002))
live_steps = list(islice(training, STEPS))
print("of the recorded run:", {name: recorded["training"][name] for name in ("n", "steps", "rows", "lr")})
print("loss over the first 50 steps above .9: ", mean(s.loss for s in live_steps[:50]) > 0.9)
print("loss over the last 50 steps below .35: ", mean(s.loss for s in live_steps[-50:]) < 0.35)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
for i, steps in enumerate(runs.values()):
    label = "recorded, three seeds" if i == 0 else None
    ax.plot([s.step for s in steps], [s.loss for s in steps], color=BLUE, alpha=0.5, label=label)
smooth = [mean(s.loss for s in live_steps[i : i + 50]) for i in range(0, len(live_steps), 50)]
ax.plot(range(50, 50 * len(smooth) + 1, 50), smooth, color=ORANGE, label="live")
ax.set(xlabel="step", ylabel="mean squared error", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# *Figure: the mean squared error over the ten predictions while training; blue the recorded runs, orange the live one.*
#
# ### What would the perfect learner do?
#
# Here the exact answer is known. With $w$ from $N(0, \tfrac12 I)$ and $y = w \cdot x + \text{noise}$ with standard deviation $\sigma$, the average $w$ given the examples $X$ (a row each) and $y$, its posterior mean, is **ridge regression**,
#
# $$\hat w = (X^\top X + \lambda I)^{-1} X^\top y, \qquad \lambda = \sigma^2 / \tfrac12,$$
#
# and no predictor has a smaller expected squared error. Our functions have no noise: $\lambda \to 0$ is **least squares**, with the shortest $w$ while several fit.
#
# ### Exercise 3: ridge regression


# %%
def ridge_prediction(X, y, query, penalty):
    """query . w, one number, with w = (X^T X + penalty I)^-1 X^T y.

    X: (n, features) float64, a row an example. y: (n,). query: (features,). penalty > 0.
    n may be 0: then w is 0.
    """
    raise NotImplementedError


# %%
check.ridge_prediction(ridge_prediction)

# %%
check.ridge_prediction.hint()

# %%
check.ridge_prediction.solution()

# %% [markdown]
# **Before you run:** without examples the best guess is 0, and the error is the variance of $y$, about 1. Where will the error of least squares be after 1 and after 2 examples? And the model's?

# %%
test = tasks.draw(400, 40, lab.generator(2))
errors = squared_errors(learner, test)  # (400 rows, 40)
error_live = errors.mean(0)
exact = squared_errors(ridge, test).mean(0)
for i in (0, 1, 2):
    print(f"least squares after {i} examples: {exact[i]:.4f}")
print(
    "after 9 examples the live model's error is less than a third of its first:",
    bool(error_live[9] < error_live[0] / 3),
)
trained = recorded["regression"]
shown_after = (0, 1, 2, 3, 5, 9)
print("of that error one row of 400 alone makes more than a third:", bool(errors[:, 9].max() / 400 > error_live[9] / 3))
print("\nrecorded, 2,000 steps: error after     0     1     2     3     5     9 examples")
lines = {"least squares": recorded["least_squares"]} | {f"seed {r['seed']}": r["error"] for r in trained}
for name, error in lines.items():
    print(f"  {name:30}" + "".join(f"{error[i]:6.2f}" for i in shown_after))
print("below .05 after 5 examples, each seed:", all(r["error"][5] < 0.05 for r in trained))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(9.5, 3.2), layout="constrained")
for r in trained:
    label = "2,000 steps, three seeds (recorded)" if r is trained[0] else None
    ax.plot(range(10), r["error"][:10], "o-", color=BLUE, ms=4, alpha=0.7, label=label)
ax.plot(range(10), error_live[:10], "^-", color=ORANGE, label=f"the first {STEPS} steps of one, live")
ax.plot(range(3), exact[:3].clamp(min=1e-4), "s--", color=GREEN, label="least squares: exact from 2 on")
ax.axhline(0.05, color="black", lw=1, ls=":")
ax.axhline(1, color=GREY, lw=0.8)
ax.text(9.1, 1.08, "the answer 0, always", fontsize=8, va="bottom", ha="right")
ax.set(xlabel="examples in the context", ylabel="mean squared error", yscale="log", ylim=(3e-3, 2))
ax.set_xticks(range(10))
ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# *Figure: the squared error against the number of examples, logarithmic. Green, least squares, which leaves the picture downwards at 2 examples; blue, three recorded models; orange, the live one; the dotted line is .05. The bumps, at 8 for the recorded and at 9 for the live model, come from a single row each, with an extreme $y$: a mean of squares feels that.*
#
# Without an example all predict about 0. One example is one equation for two unknowns, and half of the variance is left, to least squares and to the recorded models nearly alike. After two, least squares is exact, and the models have a tenth left; from then on they close in, and by five examples each is at .01 or .02, well below .05. It has learned *a* procedure that comes near the exact one, not the exact one itself: more
# training brings it nearer (compare the live model, which has had a quarter). And it was never told what a linear function is.
#
# To see *what* it has learned of a function, ask for its $w$: half the difference of its predictions at $(1, 0)$ and $(-1, 0)$ is $w_1$, and $(0, 1)$ and $(0, -1)$ give $w_2$. Here it is for the live model and three functions, after 0, 1, 2, ... 9 examples.


# %%
@torch.no_grad()
def implied_w(x, y, after):
    """(rows, 2): half the difference of the predictions at e and -e, for both unit vectors e."""
    found = []
    for e in torch.eye(2):
        ends = []
        for query in (e, -e):
            seen_x = torch.cat([x[:, :after], query.expand(len(x), 1, 2)], dim=1)
            seen_y = F.pad(y[:, :after], (0, 1))
            ends.append(learner(seen_x.to(lab.device), seen_y.to(lab.device))[:, -1].cpu())
        found.append((ends[0] - ends[1]) / 2)
    return torch.stack(found, dim=-1)


paths = torch.stack([implied_w(test.x, test.y, after) for after in range(10)])  # (10, rows, 2)
distance = (paths - test.w).norm(dim=-1).mean(1)  # over 400 functions
same = torch.allclose(
    paths[3], model_weights(learner, test.x.to(lab.device), test.y.to(lab.device), 3).cpu(), atol=1e-5
)
print("arlab's model_weights finds the same:", same)
falls = bool(distance[0] > distance[2] > distance[9])
print("mean distance from the true w falls from 0 to 2 to 9 examples:", falls)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
for row, colour in ((0, BLUE), (1, ORANGE), (11, GREEN)):  # three that lie apart
    path = paths[:, row]
    ax.plot(path[:, 0], path[:, 1], ".-", color=colour, lw=1)
    ax.scatter(*test.w[row], marker="*", s=170, color=colour, edgecolor="black", zorder=3)
ax.scatter(0, 0, marker="+", s=90, color="black")
ax.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal", xticks=(-1, -0.5, 0, 0.5, 1), yticks=(-1, -0.5, 0, 0.5, 1))
plt.show()

# %% [markdown]
# *Figure: the w that the model works by, from no example (near the cross at 0) to nine, for three functions; stars are the true ones.*
#
# ## 8. Past the context window
#
# Examples that do not fit into the window are lost (section 6). What happens at its edge depends on how the model codes positions (notebook 05).
#
# **Learned positions** have a vector for each place, and none for the next one. The model cannot be asked.

# %%
with_places = InContextModel(2, examples=10, positions="learned", seed=0)
print("vectors of position, learned:", len(with_places.decoder.embed_positions.weight), "= two for each example")
print("vectors of position, rotary: ", learner.decoder.embed_positions)
try:
    with_places(test.x[:1, :11], test.y[:1, :11])
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# **Rotary positions** have no table: they are computed, for any place. So `learner` was made with `examples=40`, and nothing stops us from giving it 40 though it was trained with 10.
#
# **Before you run:** more examples are more information, and least squares would never mind. What will the error do beyond ten?

# %%
print("recorded: error after                 9    12    15    20    39 examples")
for r in recorded["regression"]:
    print(
        f"  {r['positions']:7} seed {r['seed']}                "
        + "".join(f"{r['error'][i]:6.2f}" for i in (9, 12, 15, 20, 39))
    )


# %%
@torch.no_grad()
def sliding(model, x, y, window):
    """Predictions (rows, n) of which each sees the last window - 1 examples and its own x alone."""
    said = [
        model(x[:, max(0, i + 1 - window) : i + 1], y[:, max(0, i + 1 - window) : i + 1])[:, -1]
        for i in range(x.size(1))
    ]
    return torch.stack(said, dim=1)


slid = squared_errors(lambda x, y: sliding(learner, x.to(lab.device), y.to(lab.device), 10), test).mean(0)
few, many = slice(5, 10), slice(30, 40)
print("the live model, error after 30 to 39 examples against that after 5 to 9")
print("all in view, more than twice:        ", bool(error_live[many].mean() > 2 * error_live[few].mean()))
print("the last nine, less than 1.5 times:  ", bool(slid[many].mean() < 1.5 * slid[few].mean()))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
for r in trained:
    label = "2,000 steps, all examples (recorded)" if r is trained[0] else None
    ax.plot(range(40), r["error"], color=BLUE, alpha=0.7, label=label)
ax.plot(range(40), error_live, color=ORANGE, label="live model, all examples")
ax.plot(range(40), slid, color=GREEN, ls="--", label="live model, the last nine")
ax.axvspan(9.5, 39, color=GREY, alpha=0.12)
ax.text(39, 2, "more than in training", ha="right", fontsize=9)
ax.set(xlabel="examples in the context", ylabel="mean squared error", yscale="log", ylim=(5e-3, 3))
ax.legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# *Figure: the squared error against the number of examples, to four times as many as in training (shaded). Blue, the three recorded models, which see all examples; orange, the live one; dashed green, the live one with a window that slides along.*
#
# More examples, and a **larger** error: near 0.2 after 39, where it was 0.01 after nine. Each example by itself is as good as before, but attention over 40 pairs, and the rotations between places so far apart, were never trained. How soon it goes wrong differs from seed to seed: one run holds out to nearly twenty. **A sliding
# window** keeps the model where it was trained: about as good as with nine examples, at any length.
#
# A context window is therefore three limits in one: how many tokens the model *can* take, for how many it was *trained*, and how many you want to *pay* for.
#
# ## Check yourself
#
# **1. What is in a zero-shot, a one-shot, a few-shot prompt?**
#
# <details><summary>Answer</summary>
#
# A description of the task and the question; the same with one solved example between them; the same with several. In all three the model has been given nothing but text (section 1).
#
# </details>
#
# **2. "It learned from four examples." Which parameters were updated?**
#
# <details><summary>Answer</summary>
#
# None: sums of all weights, and the count of writes to them, are the same before and after (section 2). What changed is the input and the keys and values computed from it. Close the prompt and it is gone.
#
# </details>
#
# **3. Capitals hardly suffer from wrong labels, antonyms break down. Why does that speak against "the examples teach the task"?**
#
# <details><summary>Answer</summary>
#
# If the pairing were what is learned, wrong pairs would ruin both. For capitals the examples say what kind of answer is wanted, and the pair Norway, Oslo comes from the weights. Where the pairing itself has to tell which relation is meant, it matters (section 4).
#
# </details>
#
# **4. Why is the context window the limit of in-context learning, and what does a larger one cost?**
#
# <details><summary>Answer</summary>
#
# Description, examples, question and answer must all fit into it (section 6). More tokens are more passes through the weights, more keys and values to keep, and attention that grows with the square of the length (notebook 07).
#
# </details>
#
# **5. The small model is trained by gradient steps, and then learns functions without. What was learned by which?**
#
# <details><summary>Answer</summary>
#
# By gradient steps, over thousands of functions: a procedure that turns examples into predictions, kept in the weights. In context: one function, kept in activations, anew in each row (section 7).
#
# </details>
#
# **6. Why can one training pass score the predictions after 0, 1, ... 9 examples?**
#
# <details><summary>Answer</summary>
#
# The causal mask: the prediction at $x_i$ sees what lies before it and nothing behind (notebook 04). It equals a pass of its own, as section 7 shows.
#
# </details>
#
# ## What to try next
#
# - Write a task of your own as a `ShotTask`, one that the model cannot have met: letters in a code that you make up. Do real labels beat shuffled ones now?
# - Give the examples in section 3 in another order. How much does the last one before the question weigh?
# - Train with noise: `LinearTasks(features=2, noise=0.5)`. Does the model come nearer to ridge regression than to least squares?
# - Draw $x$ three times as large as in training. Least squares would not notice. Does the model?
#
# ## Where the idea comes from
#
# - Brown and others, *Language Models are Few-Shot Learners*, 2020: zero, one and few shots with GPT-3.
# - Min and others, *Rethinking the Role of Demonstrations: What Makes In-Context Learning Work?*, 2022: the control with wrong labels.
# - Garg, Tsipras, Liang and Valiant, *What Can Transformers Learn In-Context? A Case Study of Simple Function Classes*, 2022: regression in context.
# - Wei and others, *Larger Language Models Do In-Context Learning Differently*, 2023: who follows wrong labels.
# - Akyürek and others, *What Learning Algorithm Is In-Context Learning?*, 2023; von Oswald and others, *Transformers Learn In-Context by Gradient Descent*, 2023: what the layers may be computing.
# - Zhao and others, *Calibrate Before Use*, 2021: how much the choice and the order of the examples matter.
#
# ## Looking back
#
# Nearly everything in these nineteen notebooks came out of one line, $P(X) = \prod_t P(x_t \mid x_{<t})$. You counted it (01), cut text into its pieces (02), built a network for it (03 to 05), trained that in parallel because the mask keeps the future away (04, 06), and paid for its context (07). The same
# blocks, with someone else's weights, were a real model (08). Then you chose among its distributions: by the maximum, by chance, by the nucleus, by search, by contrast, by guess and verification (09 to 14). You gave it a source to attend to (15), watched it stumble over its own words (16), asked in which order to
# write (17), and have now seen it pick up a task from the text alone. Apart from the gaps filled in 17, the model did the same thing in all of them: it predicted what comes next.
#
# Open notebook 00 once more: its sliders reshape $P(x_t \mid x_{<t})$ of this same model, and by now you have built all of it yourself.
#
# [← 17 Generation order](17_generation_order.ipynb) · [back to 00 Start here](00_start_here.ipynb)
