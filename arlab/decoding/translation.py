"""Sentences in, sentences out, by any encoder-decoder; and how good they are: BLEU, exact match, length."""

from __future__ import annotations

from collections.abc import Sequence

from arlab.decoding.beam import beam_search
from arlab.decoding.sampling import greedy
from arlab.nn.seq2seq import Seq2SeqTransformer
from arlab.text.batches import check_integer
from arlab.text.tokenizers import BPETokenizer


def translate(
    model: Seq2SeqTransformer,
    tokenizer: BPETokenizer,
    sentences: Sequence[str],
    *,
    beams: int | None = None,
    length_penalty: float = 1.0,
    rows: int = 64,
) -> list[str]:
    """The sentences in the other language, in the order given; sentences of like length are translated together.

    Args:
        beams: None for greedy decoding, else the width of a beam search.
        length_penalty: see `beam_search`.
        rows: sentences at a time.

    Raises:
        ValueError: an empty sentence, or one of more tokens than the model reads, before any is translated; sentences
            in one str; rows below 1.
    """
    check_integer("rows", rows, least=1)
    if isinstance(sentences, str):
        raise ValueError(f"sentences is the text {sentences[:40]!r}; give a list of sentences")
    sources = [tokenizer.encode(sentence, allow_special=False) for sentence in sentences]
    for n, ids in enumerate(sources):
        if not 1 <= len(ids) <= model.source_length:
            problem = f"has {len(ids)} tokens; the model reads {model.source_length} at most" if ids else "is empty"
            raise ValueError(f"sentence {n}, {sentences[n][:40]!r}, {problem}")
    order = sorted(range(len(sources)), key=lambda n: len(sources[n]))
    said: dict[int, str] = {}
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        given, prompts = model.given([sources[n] for n in chunk]), [[tokenizer.bos_id]] * len(chunk)
        longest = min(model.context_length - 1, 2 * len(sources[chunk[-1]]) + 10)  # far more than a translation needs
        options = {"max_new_tokens": longest, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
        if beams is None:
            found = greedy(given, prompts, **options)
        else:
            found = beam_search(given, prompts, beams=beams, length_penalty=length_penalty, **options)
        for row, n in enumerate(chunk):
            said[n] = tokenizer.decode(found.tokens(row), skip_special=True).strip()
    return [said[n] for n in range(len(sources))]


def bleu(said: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU in percent, sacrebleu's default (13a tokens, case counts); against all references of a sentence.

    Raises:
        ValueError: no sentences, another number of references, a sentence without one or with one str for a list.
        ModuleNotFoundError: sacrebleu is not installed.
    """
    try:
        import sacrebleu  # of the test extra: nobody needs it to use the model
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("BLEU needs sacrebleu: pip install -c constraints.txt sacrebleu") from error
    if not said or len(said) != len(references):  # sacrebleu itself would leave out what has no partner
        raise ValueError(
            f"there are {len(said)} sentences and references for {len(references)}; needed one each, at least one"
        )
    for n, each in enumerate(references):
        if isinstance(each, str) or not each:  # a str would pass for as many references as it has letters
            raise ValueError(f"the references of sentence {n} are {each!r}; needed a list of one or more texts")
    most = max(map(len, references))
    streams = [[each[n] if n < len(each) else None for each in references] for n in range(most)]
    return sacrebleu.corpus_bleu(list(said), streams).score


def score(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU against the first reference and against all of them, the share of sentences that are one of them to the
    letter, words written for each word of the first reference, and the share with exactly as many words as it has.

    Raises:
        ValueError, ModuleNotFoundError: as in `bleu`.
    """
    all_references = bleu(said, references)
    firsts = [each[0] for each in references]
    words = [(len(text.split()), len(first.split())) for text, first in zip(said, firsts, strict=True)]
    return {
        "bleu": round(bleu(said, [[first] for first in firsts]), 2),
        "bleu_all_references": round(all_references, 2),
        "exact": round(sum(text in each for text, each in zip(said, references, strict=True)) / len(said), 4),
        "length_ratio": round(sum(a for a, _ in words) / sum(b for _, b in words), 4),
        "same_length": round(sum(a == b for a, b in words) / len(words), 4),
    }
