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
# # 02 · Tokens and batches
#
# A language model reads and writes numbers. Between a text and the first matrix product stand a handful of plain steps:
# cut the text into tokens, agree on its spelling, keep a part of it for testing, pair each token with the next one, and
# lay the pairs out in rows of equal length. None of them is hard, each can be got wrong without any error message, and
# then the loss looks fine and means nothing.
#
# **You will be able to**
#
# - build a byte-pair tokenizer by hand, get the very merges that the `tokenizers` library gets, and say what a
#   vocabulary costs;
# - measure how many tokens the same sentence costs in twelve languages, and where the difference comes from;
# - normalise and split a text so that nothing of the test is in the training, and measure what a leak does;
# - write the table of inputs and targets with start, end and padding, and keep the padding out of the loss;
# - go from ids to the $T \times d_m$ matrix that the first layer reads, and train on it in ten lines.
#
# **Time** 90 minutes. **Before this** softmax and log-probabilities ([00](00_start_here.ipynb)); the chain rule
# ([01](01_autoregression.ipynb)). **Follows** lecture 001 (data, training pipeline), lecture 003 (the training table),
# lecture 000 (teacher forcing), lecture 002 (the data matrix).
#
# [← 01 Autoregression](01_autoregression.ipynb) · [03 Attention →](03_attention.ipynb)

# %% tags=["nbval-ignore-output"]
import hashlib
import json
import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from itertools import islice, pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from babel import Locale
from tokenizers import pre_tokenizers

import arlab
from arlab.exercises import tokens_and_batches as check
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.pretrained import smollm2
from arlab.text.batches import IGNORE, ordered_windows, packed, padded, ragged, random_windows, shifted
from arlab.text.corpora import tiny_shakespeare
from arlab.text.normalise import normalise
from arlab.text.splits import split_documents, split_stream
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views import TokenizerView

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # safe for the colour-blind

# %% [markdown]
# The steps of the pipeline in lecture 001, and where they are built below:
#
# | step | section |
# |---|---|
# | tokenise: characters, bytes, byte pairs | 1, 2, 3 |
# | what it costs in other languages | 4 |
# | normalise | 5 |
# | split into train, validation and test | 6 |
# | pairs of input and target; start, end, padding, truncation | 7 |
# | batches: ragged, in buckets, packed, windows | 8 |
# | ids to vectors | 9 |
# | train | 10 |
#
# ## 1 · Characters and bytes
#
# The simplest tokenizer gives each character of a text a number.

# %%
text = tiny_shakespeare()
vocabulary = sorted(set(text))
to_id = {character: i for i, character in enumerate(vocabulary)}


def encode(text):
    return [to_id[character] for character in text]


def decode(ids):
    return "".join(vocabulary[i] for i in ids)


line = "Soft! what light"
print(f"{len(text):,} characters, V = {len(vocabulary)} different ones")
print(encode(line))
print("there and back:", decode(encode(line)) == line)

characters = CharTokenizer(text)
print("arlab's CharTokenizer gives the same ids:", characters.encode(line) == encode(line))

# %% [markdown]
# **Before you run:** the text below has six characters. Which of them have no id in Shakespeare? And into how many
# *bytes* does each go?

# %%
word = "café 🙂"
try:
    characters.encode(word)
except ValueError as error:
    print(str(error).split(";")[0])

print("without an id:", [character for character in word if character not in to_id])
for character in word:
    print(f"{character}  U+{ord(character):05X}  bytes {list(character.encode('utf-8'))}")

# %% [markdown]
# A character that was never seen has no id. One could reserve an id for "unknown", and lose what stood there. Bytes
# need no such thing: UTF-8 writes every character of every script (every *code point*: section 5) as one to four bytes,
# so **256 symbols are enough for any text**. The price: é becomes two tokens, the smiling face four, and the model has
# to learn which bytes make a character.
#
# ## 2 · Byte pairs, by hand
#
# Characters and bytes make long sequences. Words make short ones, but there are too many, and new ones appear for ever.
# **Byte-pair encoding** (BPE) lies between: begin with single symbols, find the pair of neighbours that occurs most
# often, make it one symbol, and repeat. Frequent words end as one token, rare ones as a few pieces, and nothing is
# unknown.
#
# We learn from a text that one can count by eye. It is first cut into words, each with the space before it (written Ġ,
# as GPT-2 does), so that no merge reaches across words.

# %%
rhyme = (
    "the cat sat on the mat and the rat sat on the hat "
    "that cat chatted with the rat and the other cats chatted on the other mats"
)
words = Counter(word.replace(" ", "Ġ") for word in re.findall(" ?[a-z]+", rhyme))
print(len(words), "different words:", dict(words.most_common(6)), "...")


def count_pairs(words):
    """words: {tuple of symbols: how often} -> {pair of neighbours: how often}."""
    pairs = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += count
    return pairs


def merge_pair(symbols, pair):
    """The word with each occurrence of the pair made one symbol, from left to right."""
    merged = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] = "".join(pair)
        else:
            merged.append(symbol)
    return tuple(merged)


print(count_pairs({tuple(word): count for word, count in words.items()}).most_common(4))
print(merge_pair(("t", "h", "a", "t"), ("a", "t")))

# %% [markdown]
# `at` is the most frequent pair, so it becomes the first new symbol. Then we count again, in the words as they now
# stand.
#
# **Before you run:** what will be the second merge, and the third? And how many merges until `Ġthe`, the most frequent
# word, is a single token?


# %%
def learn_merges(words, count, choose):
    """`count` merges. choose(tied pairs, ids) -> one of the pairs that occur equally often."""
    words = {tuple(word): n for word, n in words.items()}
    ids = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}  # the 256 bytes
    log = []
    for _ in range(count):
        pairs = count_pairs(words)
        highest = max(pairs.values())
        tied = [pair for pair in pairs if pairs[pair] == highest]
        pair = choose(tied, ids)
        words = {merge_pair(symbols, pair): n for symbols, n in words.items()}
        ids["".join(pair)] = len(ids)
        length = sum(len(symbols) * n for symbols, n in words.items())
        log.append({"pair": pair, "count": highest, "tied": len(tied), "tokens": length})
    return log


def lowest_ids(tied, ids):
    return min(tied, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


log = learn_merges(words, 24, lowest_ids)
print("merge  pair            occurs  pairs tied  tokens of the rhyme")
for n, step in enumerate(log[:14], start=1):
    print(f"{n:4}   {' + '.join(step['pair']):15} {step['count']:5} {step['tied']:10} {step['tokens']:15}")

# %%
fig, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
lengths = [sum(len(word) * n for word, n in words.items())] + [step["tokens"] for step in log]
ax.plot(lengths, color=BLUE, marker="o", ms=4)
for n, step in enumerate(log, start=1):
    ax.annotate(
        "".join(step["pair"]), (n, lengths[n]), xytext=(0, 5), textcoords="offset points", rotation=60, fontsize=8
    )
ax.set(xlabel="merges", ylabel="tokens of the rhyme", ylim=(0, 140))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: the rhyme's length in tokens after each merge, with the new token written at its point. The first merges save
# most; later ones occur only twice in the text and save two tokens each.*
#
# Now the library that trains real tokenizers. Will it find the same merges?

# %%
library = BPETokenizer.train(rhyme, 256 + 24)  # 256 bytes and 24 merges, by the `tokenizers` library
theirs = [tuple(merge) for merge in json.loads(library.tokenizer.to_str())["model"]["merges"]]
mine = [step["pair"] for step in log]
print("all 24 merges equal, in the same order:", mine == theirs)

# %% [markdown]
# The first four merges leave no choice. At the fifth two pairs are tied, at the tenth fifteen. **The rule for ties is
# part of the tokenizer.** The library takes the pair with the lowest ids; so did we. **Before you run:** suppose we had
# taken the first pair that we met instead. How many of the 24 merges will be the same? Will the rhyme get longer? And
# what if somebody encodes with one tokenizer and decodes with the other?


# %%
def first_met(tied, ids):
    return tied[0]


other_log = learn_merges(words, 24, first_met)
others = [step["pair"] for step in other_log]
first_difference = [a == b for a, b in zip(mine, others, strict=True)].index(False)
print("merges that agree before the first difference:", first_difference)
print("merges in both lists:", len(set(mine) & set(others)))
print("tokens of the rhyme:", log[-1]["tokens"], "and", other_log[-1]["tokens"])

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokens = alphabet + ["".join(pair) for pair in others]
other = BPETokenizer.from_vocabulary(tokens, [" ".join(pair) for pair in others], special=[], single_digits=False)
print(repr(other.decode(library.encode("the other mats and hats"))))

# %% [markdown]
# Both cut the rhyme into 36 tokens, and they do not understand each other. An id means nothing by itself: a model's
# embedding table has been trained for one list of tokens, and **a model and its tokenizer belong together** to the last
# tie. (This is why `arlab` keeps a fingerprint of the vocabulary.)
#
# ### Exercise 1 · `encode_word`
#
# Learning gave a list of merges. Encoding a new word replays them: among the pairs of neighbours that are in the list,
# the one that was **learned first** is merged first, wherever it stands in the word, until no known pair is left.


# %%
def encode_word(word, merges):
    """word: a str. merges: a list of pairs of str, in the order learned. Returns the list of tokens."""
    raise NotImplementedError


check.encode_word(encode_word)

# %%
check.encode_word.hint()

# %%
check.encode_word.solution()

# %% [markdown]
# Words that the rhyme does not contain, cut by its merges:

# %%
strings = library.token_strings()
for unseen in (" chat", " mother", " weather", " hatter", " zoo"):
    print(f"{unseen!r:11} -> {[strings[i] for i in library.encode(unseen)]}")

# %% [markdown]
# ## 3 · What a vocabulary costs
#
# On a real text the number of merges is a choice. More merges make the text shorter, and attention, which compares each
# of the $T$ tokens with each other (notebook 03), costs less: it grows with $T^2$. The price is a larger table, with a
# row of $d$ numbers for each of the $V$ tokens (section 9; here $d$ = 512). We train on a part of Shakespeare and count
# on another part.
#
# **Before you run:** from 256 symbols to 8,192 is a factor of 32. By what factor will the text get shorter?

# %%
learn_from, measure_on = text[:300_000], text[900_000:1_000_000]
sizes = (256, 512, 1024, 2048, 4096, 8192)
trained = {V: BPETokenizer.train(learn_from, V) for V in sizes}
counts = {V: len(tokenizer.encode(measure_on)) for V, tokenizer in trained.items()}

print("    V   tokens  characters a token   attention T^2   table V x d")
for V, count in counts.items():
    square = (count / counts[256]) ** 2
    print(f"{V:5} {count:8,} {len(measure_on) / count:12.2f} {square:18.2f} {V * 512:13,}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(sizes, [len(measure_on) / counts[V] for V in sizes], color=BLUE, marker="o")
left.set(xscale="log", xlabel="vocabulary V", ylabel="characters a token", ylim=(0, 4))
right.plot(sizes, [(counts[V] / counts[256]) ** 2 for V in sizes], color=BLUE, marker="o", label="attention map, T²")
right.plot(sizes, [V / sizes[-1] for V in sizes], color=ORANGE, marker="s", label="embedding table, V × d")
right.set(xscale="log", xlabel="vocabulary V", ylabel="share of the largest", ylim=(0, 1.05))
right.legend(frameon=False)
for ax in (left, right):
    ax.set_xticks(sizes, [f"{V:,}" for V in sizes])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: left, characters covered by one token against the vocabulary; right, what attention costs (falling) and what
# the table costs (rising), each as a share of its largest value.*
#
# Thirty-two times the vocabulary makes the text about three times shorter. Each doubling saves less, while the
# embedding table (and the last layer's product with it) doubles every time. Real models stop somewhere between 30,000
# and 260,000; a small model with a large vocabulary is mostly table.
#
# Type your own text into the view. Look for the places where the cuts differ: after a rare name, inside a number, at an
# accent.

# %%
model, smol = smollm2(device=lab.device)
print(f"SmolLM2's tokenizer: V = {smol.vocab_size:,}")

# %% tags=["nbval-ignore-output"]
cut = {
    "characters": characters,
    "bytes": trained[256],
    "BPE 512": trained[512],
    "BPE 4,096": trained[4096],
    "SmolLM2": smol,
}
TokenizerView(cut, "O Romeo, Romeo! wherefore art thou Romeo?")

# %% [markdown]
# **Questions to answer by typing**
#
# 1. Which tokenizer has a single token for `Romeo`, with the space before it? Into how many tokens does it cut
#    ` ROMEO`, ` romeo`, and `Romeo` at the start of a line?
# 2. Type `café`. Which tokenizer refuses it? Which ones need two tokens for the last letter?
# 3. Type `1234567`. Into how many tokens does SmolLM2 cut it, and why might that help with sums?
#
# <details><summary>Answers</summary>
#
# 1. SmolLM2's. The other three fall into 3, 3 and 2 pieces: to a tokenizer they have nothing to do with each other, and
#    the model has to learn that they name the same man.
# 2. The characters of Shakespeare refuse it. The bytes need two for é, and so do both byte-pair tokenizers: Shakespeare
#    has no é, so there was nothing to merge.
# 3. Seven: its rule puts every digit alone, so a digit is the same token in every number, and tens can be lined up with
#    tens (notebook 17).
#
# </details>

# %% [markdown]
# ## 4 · The same sentence in twelve languages
#
# Lecture 001 names skewed data among the challenges. A tokenizer shows it before any model is trained: merges go to
# what is frequent in *its* training text. Here is one sentence about children, a garden and an old dog, twelve times.

# %%
sentences = {
    "English": "The children are playing in the garden, and the old dog is asleep under the tree.",
    "German": "Die Kinder spielen im Garten, und der alte Hund schläft unter dem Baum.",
    "French": "Les enfants jouent dans le jardin, et le vieux chien dort sous l'arbre.",
    "Spanish": "Los niños juegan en el jardín, y el perro viejo duerme bajo el árbol.",
    "Finnish": "Lapset leikkivät puutarhassa, ja vanha koira nukkuu puun alla.",
    "Turkish": "Çocuklar bahçede oynuyor ve yaşlı köpek ağacın altında uyuyor.",
    "Greek": "Τα παιδιά παίζουν στον κήπο και ο γέρικος σκύλος κοιμάται κάτω από το δέντρο.",
    "Russian": "Дети играют в саду, а старая собака спит под деревом.",
    "Arabic": "الأطفال يلعبون في الحديقة والكلب العجوز نائم تحت الشجرة.",
    "Hindi": "बच्चे बगीचे में खेल रहे हैं और बूढ़ा कुत्ता पेड़ के नीचे सो रहा है।",
    "Chinese": "孩子们在花园里玩耍，老狗在树下睡觉。",
    "Japanese": "子どもたちは庭で遊んでいて、年老いた犬は木の下で眠っています。",
}
costs = {language: len(smol.encode(sentence)) for language, sentence in sentences.items()}

# %% [markdown]
# **Before you run:** the Chinese sentence has 18 characters, the English one 81. Which will cost more tokens? And which
# language will cost most?

# %%
print("language   characters  bytes  Shakespeare's BPE  SmolLM2  times English")
for language, sentence in sentences.items():
    row = (len(sentence), len(sentence.encode()), len(trained[4096].encode(sentence)), costs[language])
    print(f"{language:10} {row[0]:9} {row[1]:7} {row[2]:14} {row[3]:12} {row[3] / costs['English']:11.2f}")

# %% [markdown]
# The tokenizer that learned from Shakespeare falls back to single bytes wherever the script is not Latin: its count
# *is* the number of bytes. SmolLM2's has seen some of the world, mostly in English. The Hindi sentence costs four and a
# half times the English one. Nothing is impossible in Hindi; it is only dearer: the context of 8,192 tokens holds fewer
# sentences, each takes more steps to write, attention's $T^2$ is twenty times as large, and whoever pays by the token
# pays more.
#
# Does the model also *know* the language less well? Tokens cannot be compared across languages, but a sentence with the
# same meaning can: we add up $-\log_2 p$ over its tokens.

# %%
bits = {}
for language, sentence in sentences.items():
    batch = padded([smol.encode(sentence)], pad_id=0, bos_id=0).to(lab.device)  # section 7; id 0 is <|endoftext|>
    with torch.no_grad():
        log_p = model(batch.inputs).log_softmax(-1)
    bits[language] = -log_p.gather(-1, batch.targets[..., None]).sum().item() / math.log(2)
for language, value in bits.items():
    print(f"{language:9} {value:3.0f} bits, {costs[language]} tokens")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for ax, values, label in ((left, costs, "tokens (SmolLM2)"), (right, bits, "bits for the whole sentence")):
    ax.barh(list(values), list(values.values()), color=[BLUE] + [ORANGE] * 11)
    for y, value in enumerate(values.values()):
        ax.text(value, y, f" {value:.0f}", va="center", fontsize=9)
    ax.set(xlabel=label)
    ax.spines[["top", "right"]].set_visible(False)
left.invert_yaxis()
plt.show()

# %% [markdown]
# *Figure: one sentence in twelve languages; left its cost in tokens, right the surprise of the model in bits. English
# is shortest on both sides.*
#
# Every other language costs more on both counts. They need not go together: the Finnish sentence has one of the lowest
# counts of tokens and one of the highest of bits.
#
# ### Where it comes from: the training text of the tokenizer
#
# One sentence is an anecdote. So: a thousand names of countries, languages and currencies, the *same* names in each of
# the twelve languages (from the `babel` library). Half of them train a tokenizer of 2,048 tokens, the other half
# measures it. Once English is written into the training text twenty times as often as each other language, once all are
# equal.
#
# **Before you run:** the vocabulary is the same size both times. Who gains and who loses?

# %%
codes = dict(zip(sentences, "en de fr es fi tr el ru ar hi zh ja".split(), strict=True))
locales = {language: Locale.parse(code) for language, code in codes.items()}
fields = ("territories", "languages", "currencies")
shared = [
    (field, key)
    for field in fields
    for key in sorted(set.intersection(*(set(getattr(locale, field)) for locale in locales.values())))
]
names = {language: [getattr(locale, field)[key] for field, key in shared] for language, locale in locales.items()}
greece = shared.index(("territories", "GR"))
print(f"{len(shared)} names in {len(names)} languages, such as", [names[l][greece] for l in list(names)[:7]])


def train_on_names(weights):
    """A tokenizer from every second name, each language written down `weights[language]` times."""
    lines = [name for language in names for name in names[language][::2] * weights[language]]
    return BPETokenizer.train(lines, 2048)


def tokens_a_name(tokenizer):
    return {l: sum(len(tokenizer.encode(name)) for name in names[l][1::2]) / len(names[l][1::2]) for l in names}


skewed = tokens_a_name(train_on_names({language: 20 if language == "English" else 1 for language in names}))
equal = tokens_a_name(train_on_names({language: 3 for language in names}))
for language in names:
    print(f"{language:9} {skewed[language]:6.2f} -> {equal[language]:5.2f} tokens a name")

# %%
fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
for y, language in enumerate(names):
    ax.plot([skewed[language], equal[language]], [y, y], color=GREY, lw=1, zorder=1)
ax.scatter(skewed.values(), range(12), color=ORANGE, marker="s", label="English 20 times as often")
ax.scatter(equal.values(), range(12), color=BLUE, label="all languages equally often")
ax.set_yticks(range(12), list(names))
ax.set(xlabel="tokens for one unseen name", xlim=(0, 11))
ax.invert_yaxis()
ax.legend(frameon=False, loc="lower left")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: tokens for a name in each language, for a tokenizer trained mostly on English (squares) and one trained on
# all alike (dots). English gets dearer, German stays, all others get cheaper.*
#
# English pays .7 of a token a name; Greek, Russian, Arabic, Chinese and Japanese save about two. The skew was in the
# data, and the tokenizer has learned it. Hindi alone stays dear. Its case is another: merges never reach across
# *words*, and the rule that finds words (GPT-2's) takes Devanagari's vowel signs for something that is no letter, and
# cuts there.

# %%
hindi = "हिन्दी"  # the language's own name
print("kinds of its six characters:", [unicodedata.category(character) for character in hindi], "(L: letter, M: mark)")
pieces = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(hindi)
print("one word, cut before any merge into", len(pieces), "pieces")

# %% [markdown]
# Balanced data cannot mend a rule that was written with one alphabet in mind.
#
# ## 5 · Normalisation: two strings that look the same
#
# **Before you run:** both strings below read *café*. Are they equal? Will a tokenizer give them the same ids?

# %%
composed, decomposed = "caf\u00e9", "cafe\u0301"  # é as one character; e and a combining accent
print(composed, decomposed, "equal:", composed == decomposed)
for spelling in (composed, decomposed):
    print(f"{len(spelling)} characters, ids of SmolLM2 {smol.encode(spelling)}")

# %%
fig, ax = plt.subplots(figsize=(9, 2.0), layout="constrained")
for y, spelling in enumerate((composed, decomposed)):
    ax.text(-1.2, -y, spelling, ha="center", va="center", fontsize=13)
    x = 0
    for i in smol.encode(spelling):
        shown = smol.token_strings()[i]
        visible = "◌" + shown if unicodedata.combining(shown[0]) else shown
        width = 0.4 + 0.22 * max(len(visible), len(str(i)))
        box = plt.Rectangle((x, -y - 0.32), width - 0.08, 0.64, color=(BLUE, ORANGE)[y], alpha=0.25)
        ax.add_patch(box)
        ax.text(x + width / 2, -y + 0.08, visible, ha="center", va="center", fontsize=11)
        ax.text(x + width / 2, -y - 0.2, i, ha="center", va="center", fontsize=8)
        x += width
ax.set(xlim=(-2, 6), ylim=(-1.5, 0.5))
ax.axis("off")
plt.show()

# %% [markdown]
# *Figure: the tokens of the two spellings, with their ids: what the eye cannot tell apart is different from the model's
# first layer on.*
#
# Keyboards, operating systems and PDF files write such letters differently. Unicode defines forms that settle it:
# **NFC** composes what can be composed and is meant to change nothing that one sees; **NFKC** also replaces characters
# that are variants of others (ligatures, raised digits, full-width letters). Line ends differ as well (`\r\n` on
# Windows). Here is a normaliser:


# %%
def my_normalise(text, form="NFC"):
    text = re.sub("\r\n|\r", "\n", text)
    return unicodedata.normalize(form, text)


samples = {"accent": decomposed, "ligature": "ﬁsh", "full width": "ＡＢＣ", "power": "10²", "line end": "a\r\nb"}
for name, sample in samples.items():
    nfc, nfkc = my_normalise(sample), my_normalise(sample, "NFKC")
    print(f"{name:10} {sample!r:12} NFC {nfc!r:10} NFKC {nfkc!r}")
same = all(normalise(s, form=f) == my_normalise(s, f) for s in samples.values() for f in ("NFC", "NFKC"))
print("arlab.text.normalise gives the same:", same)
ids_after = [smol.encode(normalise(spelling)) for spelling in (composed, decomposed)]
print("after NFC the two spellings have the same ids:", ids_after[0] == ids_after[1])

# %% [markdown]
# Look at the power: NFKC turns $10^2$ into the number 102. **What normalisation takes away, the model can neither read
# nor write.** Lower case is the classic: it makes the vocabulary smaller.
#
# **Before you run:** Shakespeare has 65 different characters. How many are left in lower case? And which of the pairs
# below will become the same word, though they mean different things?

# %%
small = normalise(text, lower=True)
print("different characters:", len(set(text)), "->", len(set(small)))
bpe_small = BPETokenizer.train(small[:300_000], 1024)
fewer = len(bpe_small.encode(small[900_000:1_000_000]))
print("tokens of the same passage, V = 1,024:", f"{counts[1024]:,} -> {fewer:,}")
for one, two, options in [
    ("US", "us", {"lower": True}),
    ("papá", "papa", {"strip_accents": True}),
    ("schon", "schön", {"strip_accents": True}),
]:
    print(f"{one} and {two} become one word under {options}:", normalise(one, **options) == normalise(two, **options))

# %% [markdown]
# A twentieth of the tokens saved, and the capitals that mark names and the starts of verses are gone, with the
# difference between *US* and *us*; *dad* and *potato* are one word in Spanish. Lecture 001 gives lower-casing and
# removing special characters as examples of normalisation, from the days when vocabularies had to be small. Models that
# generate text normalise as little as they can: SmolLM2 not at all. So it is you who decides, **once, before splitting
# and before training the tokenizer, and in the same way when the model is used.**
#
# ## 6 · Splits, and what leaks through them
#
# A part of the text is kept away from training: the **validation** part to make choices (sizes, when to stop), the
# **test** part to report one figure in the end. For one long text the cut is simple: first 80 %, next 10 %, last 10 %.

# %%
n = len(text)
train, validation, test = text[: int(0.8 * n)], text[int(0.8 * n) : int(0.9 * n)], text[int(0.9 * n) :]
print([len(part) for part in (train, validation, test)], "edge to edge:", train + validation + test == text)
print("arlab's split_stream:", split_stream(text) == (train, validation, test))

# %% [markdown]
# For a *collection* of documents one would shuffle and cut. Collections repeat themselves, though: web pages are
# mirrored, mails quoted, code copied. To see what that does, we take the worst possible model, one that learns by
# heart. It looks up the last ten characters in the training text and answers with what most often followed them there.


# %%
def memorise(documents, k=10):
    seen = defaultdict(Counter)
    for document in documents:
        for i in range(k, len(document)):
            seen[document[i - k : i]][document[i]] += 1
    return {context: followers.most_common(1)[0][0] for context, followers in seen.items()}


def accuracy(table, documents, k=10):
    """How often the looked-up character is the true next one; a context never seen counts as wrong."""
    hits = [table.get(d[i - k : i]) == d[i] for d in documents for i in range(k, len(d))]
    return sum(hits) / len(hits)


speeches = [speech for speech in text.split("\n\n") if 30 < len(speech) < 300][:1000]
print(len(speeches), "speeches,", len(set(speeches)), "different")

# %% [markdown]
# The honest split must send a document and its copies to the same side. A rule that looks only at the document itself
# does so: turn the text into a number between 0 and 1 that looks random (a **hash**), and compare it with .9. Before
# hashing, the text is normalised, so that a copy with other spacing or capitals is still a copy.


# %%
def share_of(document):
    """A number in [0, 1) that depends on the document's normalised text alone."""
    key = " ".join(normalise(document, form="NFKC", lower=True).split())
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


print([round(share_of(d), 4) for d in ("To be, or not to be", "to be,  or NOT\nto be", "To be, or not to bee")])

# %% [markdown]
# (Python's own `hash("...")` would not do: it changes every time Python starts.)
#
# **Before you run:** we copy none, a quarter, half and all of the speeches once. What will the memoriser's accuracy on
# the *test* part be under the two splits?

# %%
chooser, results = random.Random(0), {}
for copied in (0.0, 0.25, 0.5, 1.0):
    corpus = speeches + chooser.sample(speeches, int(copied * len(speeches)))
    chooser.shuffle(corpus)
    cut_at = int(0.9 * len(corpus))
    shuffled = accuracy(memorise(corpus[:cut_at]), corpus[cut_at:])
    hashed_train = [d for d in corpus if share_of(d) < 0.9]
    hashed_test = [d for d in corpus if share_of(d) >= 0.9]
    hashed = accuracy(memorise(hashed_train), hashed_test)
    both = len(set(corpus[:cut_at]) & set(corpus[cut_at:])) / len(set(corpus[cut_at:]))
    results[copied] = (shuffled, hashed)
    print(f"copied {copied:4.0%}: {both:4.0%} of the test seen in training,", end=" ")
    print(f"accuracy {shuffled:.2f} shuffled, {hashed:.2f} by hash")

parts = split_documents(corpus, (0.9, 0.0, 0.1))
print("arlab's split_documents gives the same parts:", (parts.train, parts.test) == (hashed_train, hashed_test))

# %%
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(results.keys(), [s for s, _ in results.values()], color=ORANGE, marker="s", label="shuffled and cut")
ax.plot(results.keys(), [h for _, h in results.values()], color=BLUE, marker="o", label="by a hash of the text")
ax.set(xlabel="share of the documents that has a copy", ylabel="accuracy on the test part", ylim=(0, 1))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: accuracy of a model that only memorises, on test data. Under the hash split it stays below a tenth; under the
# shuffled split every copied document makes it look cleverer.*
#
# The model is equally useless at all four points; only the measurement broke. Nothing warns you: a leak looks like
# success. The tokenizer is trained too, so it also belongs to the training part alone.
#
# ## 7 · Inputs and targets
#
# A language model is trained to predict each token from those before it. From a sequence $x_1, \dots, x_T$ come
#
# $$\text{inputs } x_1, \dots, x_{T-1} \qquad\qquad \text{targets } x_2, \dots, x_T$$
#
# the same tokens, moved by one. Feeding the *true* tokens as inputs, whatever the model would have said, is **teacher
# forcing** (lecture 000). One slice each:

# %%
ids = torch.tensor(characters.encode("To be"))
inputs, targets = ids[:-1], ids[1:]
print("t   input   given          predict")
for t in range(len(inputs)):
    print(f"{t + 1}   {decode([inputs[t]])!r:6}  {decode(ids[: t + 1])!r:13}  {decode([targets[t]])!r}")
batch = shifted(ids)
print("arlab's shifted:", batch.inputs[0].equal(inputs), batch.targets[0].equal(targets))

# %% [markdown]
# **Question.** Five tokens gave four predictions. How many passes of the model does it take to train on all four: four,
# or one?
#
# <details><summary>Answer</summary>
#
# One. All inputs are known beforehand, so they go in together, and the causal mask (notebook 04) sees to it that
# position $t$ uses inputs $1 \dots t$ only. Without teacher forcing, input $t+1$ would be the model's own answer at
# $t$, and the passes would have to wait for each other (notebook 06).
#
# </details>
#
# ### The training table
#
# Now several sentences, as in lecture 003's table. Three things are added:
#
# - a **start symbol** (BOS), or nothing would predict the first word;
# - an **end symbol** (EOS) as the last target, or the model would never learn to stop;
# - **padding** behind the shorter ones, since a tensor has rows of equal length. The lecture pads with zeros.

# %%
corpus = ["the cat sat on the mat", "it rains", "the old dog sleeps"]
names_of = ["<pad>", "<bos>", "<eos>", *sorted({word for sentence in corpus for word in sentence.split()})]
id_of = {name: i for i, name in enumerate(names_of)}
PAD, BOS, EOS = 0, 1, 2

width = max(len(sentence.split()) for sentence in corpus) + 1  # every word, and the end, is predicted once
inputs = torch.full((len(corpus), width), PAD)
targets = torch.full((len(corpus), width), PAD)
for row, sentence in enumerate(corpus):
    whole = torch.tensor([BOS, *(id_of[word] for word in sentence.split()), EOS])
    inputs[row, : len(whole) - 1] = whole[:-1]
    targets[row, : len(whole) - 1] = whole[1:]

for row in range(len(corpus)):
    print("inputs ", " ".join(f"{names_of[i]:7}" for i in inputs[row]), "  ", inputs[row].tolist())
    print("targets", " ".join(f"{names_of[i]:7}" for i in targets[row]), "  ", targets[row].tolist(), "\n")

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 2.0), layout="constrained")
colours = {"<pad>": "0.92", "<bos>": PURPLE, "<eos>": ORANGE}
for ax, table, title in zip(axes, (inputs, targets), ("inputs", "targets: the same, one step on"), strict=True):
    for (row, column), i in zip(
        ((r, c) for r in range(3) for c in range(width)), table.flatten().tolist(), strict=True
    ):
        name = names_of[i]
        ax.add_patch(plt.Rectangle((column, -row), 0.94, 0.9, color=colours.get(name, "#CFE3F1")))
        ax.text(
            column + 0.47, 0.45 - row, name, ha="center", va="center", fontsize=8, color="0.6" if i == PAD else "black"
        )
    ax.set(xlim=(0, width), ylim=(-2.1, 1), title=title, yticks=[], xticks=[t + 0.47 for t in range(width)])
    ax.set_xticklabels(range(1, width + 1))
    ax.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: the training table of three sentences. Each target stands where its input stands; a start symbol opens every
# input row, an end symbol closes every target row, and grey is padding.*
#
# ### Padding must not count
#
# **Before you run:** 21 places. In how many is there something to learn?

# %%
real = torch.tensor([[t < len(sentence.split()) + 1 for t in range(width)] for sentence in corpus])
print("places:", real.numel(), " real targets:", int(real.sum()), f" padding: {1 - real.float().mean():.0%}")

V = len(names_of)
logits = torch.zeros(3, width, V)  # a model that knows nothing about words: every one of the V symbols is as likely ...
logits[..., PAD] = torch.where(inputs == PAD, 50.0, 0.0)  # ... but it has learned that padding follows padding
p_loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
ignoring = targets.masked_fill(~real, IGNORE)
true_loss = F.cross_entropy(logits.flatten(0, 1), ignoring.flatten(), ignore_index=IGNORE)
print(f"loss with padding counted {p_loss:.4f}, over real targets {true_loss:.4f}, ln V = {math.log(V):.4f}")

# %% [markdown]
# It knows nothing, and its loss over the real targets says so: it is $\ln V$. Counting the padding makes more than a
# quarter of it vanish, and what vanishes changes with the company that a sentence happens to be batched with. So the
# padded **targets** get a mark that is no id, `IGNORE` = -100, which PyTorch's cross-entropy leaves out of the sum
# *and* of the number it divides by. The padded **inputs** need some valid id; which one is all the same:

# %%
small_model = DecoderLM(DecoderConfig.gpt2(vocab_size=V, context_length=8, d_model=16, layers=2, heads=2), seed=0)
with torch.no_grad():
    ones = small_model(inputs)[real]
    others_filled = small_model(inputs.masked_fill(~real, id_of["dog"]))[real]
    alone = small_model(inputs[1:2, :3])
print("padded with 'dog' in place of <pad>, real places unchanged:", torch.allclose(ones, others_filled, atol=1e-6))
print("the short row by itself gives the same:", torch.allclose(small_model(inputs)[1:2, :3], alone, atol=1e-6))

ours = padded([[id_of[w] for w in s.split()] for s in corpus], pad_id=PAD, bos_id=BOS, eos_id=EOS)
print("arlab's padded:", ours.inputs.equal(inputs), ours.targets.equal(ignoring), "; counted targets:", ours.tokens)

# %% [markdown]
# Padding stands on the right, and a causal model never looks to the right.
#
# ### Truncation
#
# A model's context is limited, so long sequences are cut. **Before you run:** the first sentence is cut to 4 inputs,
# once keeping its start, once its end. Which of the two still has its start symbol, which its end symbol?

# %%
first = [[id_of[w] for w in corpus[0].split()]]
for keep in ("start", "end"):
    cut_row = padded(first, pad_id=PAD, bos_id=BOS, eos_id=EOS, context=4, keep=keep)
    print(f"keep={keep!r:8}", [names_of[i] for i in cut_row.inputs[0]], "->", [names_of[i] for i in cut_row.targets[0]])

# %% [markdown]
# The cut side loses its symbol, as it should: the text does not end (or begin) there. A model trained on texts cut at 4
# that *always* end with EOS would learn to stop after four words.
#
# The view below has the table switched on. Choose a tokenizer, shorten and lengthen the row, and switch the start and
# end symbols off.

# %% tags=["nbval-ignore-output"]
marked = CharTokenizer(text, special=["<pad>", "<bos>", "<eos>"])
marked_bpe = BPETokenizer.train(learn_from, 1024, special=["<pad>", "<bos>", "<eos>"])
TokenizerView(
    {"characters": marked, "BPE 1,024": marked_bpe, "SmolLM2": smol},
    "To be, or not",
    show_table=True,
    show_ids=True,
    length=16,
)

# %% [markdown]
# **Questions to answer by moving it**
#
# 1. Without the start symbol, which token of the text is never a target?
# 2. At which length of the characters' row does the end symbol drop out of the targets?
# 3. SmolLM2's padding has the same id as its end symbol. Where is that id counted, and where not?
#
# <details><summary>Answers</summary>
#
# 1. The first one.
# 2. *To be, or not* has 13 characters, so 14 targets with the end symbol: at 13 and below it is cut off.
# 3. As the target behind the last real token it counts; in the places after that the target is IGNORE. It is the place
#    that decides, not the id.
#
# </details>
#
# ### Exercise 2 · `training_table`
#
# Inputs and targets for a list of id lists, with start, end and padding, as above. Mind the last question: `pad_id` may
# be equal to `eos_id`, or to a real token.


# %%
def training_table(sequences, bos_id, eos_id, pad_id):
    """A list of lists of ids -> (inputs, targets), both int64 (rows, time).

    Each row is bos_id, the sequence, eos_id, shifted; filled on the right, inputs with pad_id, targets with -100.
    """
    raise NotImplementedError


check.training_table(training_table)

# %%
check.training_table.hint()

# %%
check.training_table.solution()

# %% [markdown]
# ## 8 · Batches without waste
#
# Padding costs more than a wrong mean: every padded place is computed like a real one. Here are three thousand speeches
# from the training part, each a document of its own, cut at 256 tokens.
#
# **Before you run:** in batches of 32 speeches drawn at random, which part of the places is padding?

# %%
documents = [marked_bpe.encode(speech)[:256] for speech in train.split("\n\n")[:3000]]
lengths = torch.tensor([len(document) for document in documents])
print(f"{len(documents):,} speeches, {int(lengths.min())} to {int(lengths.max())} tokens, mean", end=" ")
print(f"{lengths.float().mean():.0f}")


def padding_share(order, rows=32):
    """The share of padded places when documents are batched in this order."""
    batches = lengths[order].split(rows)
    places = sum(int(batch.max()) * len(batch) for batch in batches)
    return 1 - int(lengths.sum()) / places


shuffled_order = torch.randperm(len(documents), generator=lab.generator())
print(f"shuffled:         {padding_share(shuffled_order):.2f}")
print(f"sorted by length: {padding_share(lengths.argsort()):.3f}")

# %% [markdown]
# At random, most of the work would be done on nothing. Batches of like length (**buckets**) nearly end that. Sorting
# everything, however, puts the same neighbours together in every epoch and shows the model short speeches first.
# `ragged` shuffles, sorts within pools of 50 batches, and shuffles the batches again. The third way is to leave no gaps
# at all: **packing** writes all documents into one stream, an end symbol after each, and cuts rows from it.

# %%
symbols = {"pad_id": marked_bpe.pad_id, "bos_id": marked_bpe.bos_id, "eos_id": marked_bpe.eos_id}
epoch = math.ceil(len(documents) / 32)


def padded_share(batches):
    return 1 - sum(batch.tokens for batch in batches) / sum(batch.targets.numel() for batch in batches)


at_random = list(islice(ragged(documents, 32, **symbols, by_length=False, generator=lab.generator()), epoch))
bucketed = list(islice(ragged(documents, 32, **symbols, generator=lab.generator()), epoch))
stream = packed(documents, context=64, rows=32, bos_id=symbols["bos_id"], eos_id=symbols["eos_id"])
rows_packed = list(islice(stream, 40))
for name, batches in (("at random", at_random), ("in buckets", bucketed), ("packed", rows_packed)):
    print(f"{name:10} padding {padded_share(batches):.3f}")
in_epochs = [sum(batch.tokens for batch in batches) for batches in (at_random, bucketed)]
print("targets in an epoch:", *in_epochs, "; tokens and ends:", int(lengths.sum()) + len(documents))

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for ax, batch, name in zip(
    axes, (at_random[0], bucketed[0], rows_packed[0]), ("at random", "in buckets", "packed"), strict=True
):
    ends = batch.targets == marked_bpe.eos_id
    kind = (batch.targets != IGNORE).int() + ends.int()  # 0 padding, 1 text, 2 the end of a document
    colours = plt.matplotlib.colors.ListedColormap(["0.9", BLUE, ORANGE])
    ax.imshow(kind, cmap=colours, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    ax.set(title=f"{name}: {1 - batch.tokens / batch.targets.numel():.0%} padding", xlabel="position")
axes[0].set_ylabel("row of the batch")
plt.show()

# %% [markdown]
# *Figure: one batch of each kind; blue is text, orange the end of a speech, grey padding. At random most of it is grey,
# in buckets little, packed none.*
#
# Nothing is free: in a packed row a speech can see the one before it, which has nothing to do with it. The end symbol
# is all that tells the model so. Large models are trained packed all the same, some with a mask that also hides other
# documents.
#
# ### Windows of one long text
#
# For a single text such as a play one takes windows. To **train**: from random places, without end. To **evaluate**:
# edge to edge, so that every token but the first is predicted exactly once.

# %%
ids = torch.tensor(characters.encode("to be or not to be that"))
drawn = next(random_windows(ids, context=6, rows=3, generator=lab.generator()))
for x, y in zip(drawn.inputs, drawn.targets, strict=True):
    print(repr(decode(x)), "->", repr(decode(y)))

covered = []
for batch in ordered_windows(ids, context=6, rows=3):
    covered += batch.targets[batch.targets != IGNORE].tolist()
    print([decode(y[y != IGNORE]) for y in batch.targets], "counted", batch.tokens)
print("every token but the first is a target exactly once, in order:", covered == ids[1:].tolist())

# %% [markdown]
# ### Exercise 3 · `packed_rows`
#
# One stream of all documents, `eos_id` behind each; from it rows of `context + 1` tokens (inputs and targets are cut
# from them later). Every token of the stream but the first should be a target **exactly once**: so where must a row
# begin? Leave an incomplete last row out.


# %%
def packed_rows(documents, context, eos_id):
    """documents: a list of lists of ids. Returns int64 (rows, context + 1)."""
    raise NotImplementedError


check.packed_rows(packed_rows)

# %%
check.packed_rows.hint()

# %%
check.packed_rows.solution()

# %% [markdown]
# ## 9 · From ids to a matrix
#
# An id is a name, not a quantity: token 40 is not twice token 20. The first thing a model does is to replace each id by
# a vector of $d_m$ numbers, a row of the **embedding table** $E$, which has $V$ rows. A sequence of $T$ tokens becomes
# the data matrix $\mathcal X$ of size $T \times d_m$ (lecture 002).
#
# One can write the same as a matrix product. Let $O$ be the $T \times V$ matrix whose row $t$ has a single 1, in column
# $x_t$ (**one-hot**). Then $\mathcal X = O E$.
#
# **Before you run:** the sentence below has ten tokens, and SmolLM2 has $d_m$ = 576. What are the shapes of $O$, $E$
# and $\mathcal X$? How many multiplications does the product take, and how many does the lookup?

# %%
ten = smol.encode("The old dog sleeps under the tree all day")
E = model.embed_tokens.weight.detach().cpu()  # (V, d_m)
X = E[ten]  # the lookup: (T, d_m)
O = F.one_hot(torch.tensor(ten), E.size(0)).float()  # (T, V)
print("O", tuple(O.shape), " E", tuple(E.shape), " X", tuple(X.shape))
print("lookup equals product:", torch.equal(X, O @ E))
print(f"multiplications: product {O.size(0) * E.size(0) * E.size(1):,}, lookup 0 (it copies {X.numel():,} numbers)")

# %%
toy = torch.tensor([3, 0, 4, 3])
table = torch.randn(6, 5, generator=lab.generator())
one_hot = F.one_hot(toy, 6).float()
fig, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained", width_ratios=(6, 5, 5))
panels = (
    (one_hot, "O: one-hot, T × V", "vocabulary"),
    (table, "E: the table, V × d", "dimension"),
    (one_hot @ table, "X = O E, T × d", "dimension"),
)
for ax, (matrix, title, label) in zip(axes, panels, strict=True):
    ax.imshow(
        matrix,
        cmap="Greys" if matrix is one_hot else "PuOr",
        vmin=0 if matrix is one_hot else -2.5,
        vmax=1 if matrix is one_hot else 2.5,
    )
    ax.set(title=title, xlabel=label, xticks=range(matrix.size(1)))
    ax.set_yticks(
        range(matrix.size(0)), [f"x{t + 1} = {i}" for t, i in enumerate(toy.tolist())] if len(matrix) == 4 else range(6)
    )
plt.show()

# %% [markdown]
# *Figure: four tokens as one-hot rows, the table, and the product: row $t$ of X is row $x_t$ of the table. Tokens 1 and
# 4 are the same, so their rows are too.*
#
# The product shows why a table can be learned: $\mathcal X$ is linear in $E$. Its gradient says which rows a batch
# touches.

# %%
learnable = table.clone().requires_grad_()
learnable[toy].pow(2).sum().backward()
touched = learnable.grad.abs().sum(-1).nonzero().flatten().tolist()
print("rows with a gradient:", touched, " tokens used:", sorted(set(toy.tolist())))
backwards = table[toy.flip(0)]
print("the sentence read backwards is the same rows, turned round:", torch.equal(backwards, table[toy].flip(0)))

# %% [markdown]
# So a token that never occurs learns nothing from the lookup: its row stays as it began. (Models such as the next one
# use the same table once more in their last layer, and there every row gets a gradient, if only to become less likely.)
# And nothing in $\mathcal X$ says *where* a token stands except the row number, which attention without a mask does not
# see; positions are the matter of notebook 05.
#
# ## 10 · Ten lines that train
#
# Now everything is there for training: ids, pairs, batches, and a model that maps ids to logits (`DecoderLM`, two
# blocks that notebooks 03 to 05 take apart). Ten lines of `train_on` do the training, from `config` to
# `optimiser.step()`; notebook 06 explains each of them.

# %%
context, rows, steps = 64, 16, lab.scale(cpu=150, gpu=1500)


def train_on(tokenizer):
    data = torch.tensor(tokenizer.encode(train))
    config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=context, d_model=64, layers=2, heads=4)
    net, losses = DecoderLM(config, seed=0).to(lab.device), []
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for batch in islice(random_windows(data, context, rows, lab.generator()), steps):
        inputs, targets = batch.to(lab.device)
        logits = net(inputs)  # (rows, time, vocab)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return net, losses


@torch.no_grad()
def nats(net, tokenizer, text):
    """Sum of -ln p over every token of the text but the first, and how many they are."""
    total = count = 0
    for batch in ordered_windows(torch.tensor(tokenizer.encode(text)), context, 64):
        logits = net(batch.inputs.to(lab.device)).flatten(0, 1)
        total += F.cross_entropy(
            logits, batch.targets.flatten().to(lab.device), ignore_index=IGNORE, reduction="sum"
        ).item()
        count += batch.tokens
    return total, count


# %% [markdown]
# **Before you run:** we train on characters (V = 65) and on byte pairs (V = 1,024). What will the loss be before the
# first step? Afterwards, which of the two will have the lower loss, and which is the better model?

# %%
runs = {"characters": characters, "BPE 1,024": trained[1024]}
nets = {name: train_on(tokenizer) for name, tokenizer in runs.items()}
for name, (net, losses) in nets.items():
    chance = math.log(runs[name].vocab_size)
    print(f"{name}: ln V = {chance:.2f}, the first loss within .2 of it: {abs(losses[0] - chance) < 0.2}", end="; ")
    print(f"it has fallen by more than 1: {losses[0] - losses[-1] > 1}")

# %%
held = validation[:20_000]
per_token, per_character = {}, {}
for name, (net, _) in nets.items():
    total, count = nats(net, runs[name], held)
    per_token[name], per_character[name] = total / count, total / len(held)
print("nats a token: characters below 3, BPE above 4:", per_token["characters"] < 3 and per_token["BPE 1,024"] > 4)
print("nats a character: BPE below characters:", per_character["BPE 1,024"] < per_character["characters"])

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", width_ratios=(3, 2))
for (name, (_, losses)), colour in zip(nets.items(), (BLUE, ORANGE), strict=True):
    left.plot(losses, color=colour, label=name)
    left.axhline(math.log(runs[name].vocab_size), color=colour, lw=1, ls="--")
left.set(xlabel="step", ylabel="loss, nats a token", ylim=(0, None))
left.legend(frameon=False)
for x, (values, label) in enumerate(((per_token, "a token"), (per_character, "a character"))):
    for shift, (name, colour) in enumerate(zip(runs, (BLUE, ORANGE), strict=True)):
        bar = right.bar(x + 0.38 * shift, values[name], 0.36, color=colour)
        right.bar_label(bar, fmt="%.2f")
right.set_xticks((0.19, 1.19), ("nats a token", "nats a character"))
right.set(ylabel="validation loss")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *Figure: left, the training loss of both models; the dashed lines are $\ln V$, where a model that knows nothing
# begins. Right, their validation loss counted by the token and by the character.*
#
# By the token, the byte pairs look twice as bad; by the character they are ahead. A token of two or three characters is
# harder to guess than one character, and there are fewer of them. **Losses of different tokenizers can be compared only
# per character (or byte) of the same text.** (To be fair to the characters: in equal steps the other model has also
# read more of the text and has a larger table.)
#
# ## 11 · When the data is wrong
#
# Data is what goes wrong most often, and late. Here is what the library says to the usual accidents; none of them
# passes in silence.

# %%
accidents = {
    "a corpus shorter than a context": lambda: random_windows(characters.encode("To be"), context=8, rows=4),
    "an empty split": lambda: split_stream("short", (0.8, 0.1, 0.1)),
    "all documents are copies": lambda: split_documents(["the same page"] * 50),
    "a character outside the vocabulary": lambda: characters.encode("naïve"),
    "an empty document": lambda: padded([[5, 6], []], pad_id=0, eos_id=1),
    "a batch of padding alone": lambda: padded([[5], [7]], pad_id=0),
    "ids that are no integers": lambda: shifted([0.5, 1.5, 2.5]),
    "text where ids belong": lambda: random_windows("To be or not to be", context=8, rows=4),
}
for accident, call in accidents.items():
    try:
        call()
        print(accident, "passed in silence")
    except ValueError as error:
        print(f"{accident}:\n    {str(error).split('; known')[0]}")

# %% [markdown]
# ## Test yourself
#
# <details><summary>1. Ten tokens, embedding dimension 512: which shape has the matrix that the first layer reads, and
# where is the vocabulary in it? (lecture 002)</summary>
#
# 10 × 512: one row for each token, as with 10 × 576 in section 9. The vocabulary is not in it; it sets the table's
# size, V × 512.
# </details>
#
# <details><summary>2. What is teacher forcing, how does it define inputs and targets, and what would be hard without
# it? (lecture 000)</summary>
#
# The inputs are the true tokens x1 … x(T-1), whatever the model predicts, and the targets the same tokens one step on,
# x2 … xT. So all positions can be computed in one pass. Without it each input would be the model's own previous output:
# the positions would have to wait for each other, and an early mistake would spoil everything the later ones could
# learn from. Notebook 06 measures both.
# </details>
#
# <details><summary>3. Put in order: train the tokenizer, split, normalise, make pairs. Why this order? (lecture
# 001)</summary>
#
# Normalise, split, train the tokenizer on the training part, make pairs. Splitting before normalising lets two
# spellings of one document straddle the parts; training the tokenizer on everything lets the test part choose merges.
# </details>
#
# <details><summary>4. Which targets does a row of 5 tokens with BOS and EOS have, and how many of them when it is cut
# to 4 inputs at its start and its end stays? (lecture 003)</summary>
#
# Seven tokens with the symbols make six pairs: the five tokens and EOS are targets. Cut to 4 inputs with the end kept,
# the targets are the last three tokens and EOS, and BOS is gone.
# </details>
#
# <details><summary>5. A colleague pads with the end symbol and writes <code>targets[targets == pad_id] = -100</code>.
# What will the model never learn?</summary>
#
# To stop: the real end symbols are ignored along with the padding. Decide by place (the length of the sequence), not by
# value.
# </details>
#
# <details><summary>6. Model A has 1.4 nats a token, model B 2.9. Which is better?</summary>
#
# Nobody can tell before their tokenizers are known. Divide each sum by the characters of the same text.
# </details>
#
# <details><summary>7. Would a tokenizer trained on Hindi only make Hindi cheap?</summary>
#
# Cheaper, but the rule that cuts words before any merge would still break words at their vowel signs (section 4). It
# would have to be replaced too.
# </details>
#
# ## What to try next
#
# - Add your own language to the twelve, or a line of Python, or a table of numbers. What does SmolLM2's tokenizer do to
#   it?
# - Learn merges from the rhyme *without* cutting it into words first (one long word). Which merges reach across a
#   space? Why is that rarely wanted?
# - In section 6, change `k` from 10 to 3. Does the memoriser generalise now, and does the leak still show?
# - In section 8, try 8 and 128 rows. How does the padding of random batches change?
#
# ## Where the ideas come from
#
# Byte pairs as compression: Gage (1994); for translation: Sennrich, Haddow and Birch (2016); on bytes: Radford and
# others (2019). Unicode's forms: Unicode Standard Annex 15. Tokens across languages: Petrov and others (2023), Ahia and
# others (2023). Duplicates in training data: Lee and others (2022). Teacher forcing: Williams and Zipser (1989).
# Embedding tables for words: Bengio and others (2003).
#
# [← 01 Autoregression](01_autoregression.ipynb) · [03 Attention →](03_attention.ipynb)
