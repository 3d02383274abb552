"""Text to ids and back: characters, and byte-level BPE on the `tokenizers` library."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers


class CharTokenizer:
    """One id for each character of a text, in sorted order; special symbols, if any, come after them."""

    def __init__(self, text: str, *, special: Sequence[str] = ()):
        """
        Args:
            text: its distinct characters become the vocabulary.
            special: names of extra symbols such as "<bos>", "<eos>", "<pad>"; they never come out of `encode`.

        Raises:
            ValueError: for an empty text; special symbols in one str, twice the same, or a character of the text.
        """
        special = _symbols(special)
        if not text:
            raise ValueError("text is empty; the vocabulary is made of its characters, so it needs at least one")
        self.characters = sorted(set(text))
        clash = set(special) & set(self.characters)
        if clash:
            raise ValueError(f"special symbols {special} must not be characters of the text; {sorted(clash)} are")
        self.special = special
        self._ids = {character: i for i, character in enumerate(self.characters)}

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + len(self.special)

    @property
    def bos_id(self) -> int | None:
        return self._special_id("<bos>")

    @property
    def eos_id(self) -> int | None:
        return self._special_id("<eos>")

    @property
    def pad_id(self) -> int | None:
        return self._special_id("<pad>")

    def _special_id(self, name: str) -> int | None:
        return len(self.characters) + self.special.index(name) if name in self.special else None

    def encode(self, text: str) -> list[int]:
        """One id a character.

        Raises:
            ValueError: names the first character that the vocabulary does not have, and where it stands.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            where = text.index(unknown)
            known = "".join(self.characters)
            raise ValueError(f"character {unknown!r} at position {where} is unknown; known are {known!r}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The characters again; special symbols appear by name.

        Raises:
            ValueError: for an id out of range.
        """
        table = self.token_strings()
        return "".join(table[i] for i in _checked(ids, self.vocab_size))

    def token_strings(self) -> list[str]:
        return self.characters + self.special

    @cached_property
    def fingerprint(self) -> str:
        return _fingerprint(self.token_strings())


class BPETokenizer:
    """Byte-pair encoding over bytes: no text is unknown to it, and decoding gives back every byte.

    Source: Sennrich et al. (2016) for the merges, Radford et al. (2019) for bytes as the alphabet.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        pad_id: int | None = None,
        chat_template: str | None = None,
    ):
        self.tokenizer = tokenizer
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        self.chat_template = chat_template

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, *, special: Sequence[str] = ()) -> BPETokenizer:
        """Learn merges from a text, or from several.

        Raises:
            ValueError: when vocab_size leaves no room beside the 256 bytes and the special tokens; special tokens in
                one str, or twice the same.
        """
        special = _symbols(special)
        smallest = 256 + len(special)
        if vocab_size < smallest:
            raise ValueError(f"vocab_size is {vocab_size}; 256 bytes and {len(special)} special tokens need {smallest}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator([texts] if isinstance(texts, str) else texts, trainer)
        ids = {name: tokenizer.token_to_id(name) for name in ("<bos>", "<eos>", "<pad>") if name in special}
        return cls(tokenizer, bos_id=ids.get("<bos>"), eos_id=ids.get("<eos>"), pad_id=ids.get("<pad>"))

    @classmethod
    def from_vocabulary(
        cls, tokens: Sequence[str], merges: Sequence[str], *, special: Sequence[str], single_digits: bool, **kwargs
    ) -> BPETokenizer:
        """From the tokens and merges that a GGUF file carries; single_digits splits numbers before anything else."""
        pairs = [tuple(merge.split(" ", 1)) for merge in merges]
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if single_digits else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        return cls(tokenizer, **kwargs)

    @classmethod
    def from_file(cls, path: str | Path, **kwargs) -> BPETokenizer:
        """From a `tokenizer.json`.

        Raises:
            FileNotFoundError, ValueError: no such file; not a tokenizer.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no tokenizer file {path}")
        try:
            return cls(Tokenizer.from_file(str(path)), **kwargs)
        except Exception as error:  # the library raises a bare Exception for a broken file
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """Ids of the text. "<|im_end|>" written in it becomes that one token, unless allow_special is False."""
        self.tokenizer.encode_special_tokens = not allow_special
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text again, byte for byte; bytes that are no whole character yet show as U+FFFD.

        Raises:
            ValueError: for an id out of range.
        """
        ids = _checked(ids, self.vocab_size)
        if not self._is_byte_level:
            return self.tokenizer.decode(ids, skip_special_tokens=skip_special)
        kept = (i for i in ids if not (skip_special and i in self.special_ids))
        return b"".join(self.token_bytes(i) for i in kept).decode("utf-8", errors="replace")

    def chat(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
        """Ids of a conversation in the form that the model was tuned on; each message has a role and a content.

        Raises:
            ValueError: when the tokenizer came without a chat template, or a message lacks a key.
        """
        if self.chat_template is None:
            raise ValueError("this tokenizer came without a chat template; encode a plain text instead")
        for message in messages:
            if set(message) != {"role", "content"}:
                raise ValueError(f"a message has the keys {sorted(message)}; needed: 'role' and 'content'")
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # the template came with a file: it runs fenced in

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(self.chat_template)
        names = {name: self._name_of(i) for name, i in (("bos_token", self.bos_id), ("eos_token", self.eos_id))}
        text = template.render(messages=list(messages), add_generation_prompt=add_generation_prompt, **names)
        return self.encode(text)

    def _name_of(self, token_id: int | None) -> str:
        return "" if token_id is None else self._tokens[token_id]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        return frozenset(i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for; needs a byte-level tokenizer."""
        token = self._tokens[token_id]
        if token_id in self._added_ids:
            return token.encode("utf-8")
        return bytes(_BYTE_OF[character] for character in token)

    def token_strings(self) -> list[str]:
        """Every token as readable text, for the views; part of a character shows as its bytes, such as <E2 80>."""
        if not self._is_byte_level:
            return list(self._tokens)
        return [_readable(self.token_bytes(i)) for i in range(self.vocab_size)]

    @cached_property
    def fingerprint(self) -> str:
        return _fingerprint(self._tokens)

    @cached_property
    def _tokens(self) -> list[str]:
        return [self.tokenizer.id_to_token(i) or "" for i in range(self.vocab_size)]

    @cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.get_added_tokens_decoder())

    @cached_property
    def _is_byte_level(self) -> bool:
        return (json.loads(self.tokenizer.to_str()).get("decoder") or {}).get("type") == "ByteLevel"


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary: itself where it prints, else 256 + n."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()


def _symbols(special: Sequence[str]) -> list[str]:
    if isinstance(special, str):
        raise ValueError(f"special is the str {special!r}, which would be {len(special)} symbols; give a list of them")
    if len(set(special)) != len(special):
        raise ValueError(f"special symbols {list(special)} must be distinct")
    return list(special)


def _readable(token: bytes) -> str:
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "<" + token.hex(" ").upper() + ">"


def _checked(ids: Iterable[int], vocab_size: int) -> list[int]:
    ids = [operator.index(i) for i in ids]  # refuses 1.5, which int() would cut to 1
    for position, i in enumerate(ids):
        if not 0 <= i < vocab_size:
            raise ValueError(f"id {i} at position {position} is out of range; ids go from 0 to {vocab_size - 1}")
    return ids


def _fingerprint(tokens: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(tokens).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
