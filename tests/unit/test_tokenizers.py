"""Tokenizers: text to ids and back without losing a byte, and a clear word where that cannot be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.text.tokenizers import BPETokenizer, CharTokenizer

STORY = "The cat sat on the mat. The cat ate 12 rats, the dog sat too; naïve café 🙂 日本語 the end.\n" * 20
CHARACTERS = CharTokenizer(STORY, special=["<bos>", "<eos>", "<pad>"])
BPE = BPETokenizer.train(STORY, 320, special=["<bos>", "<eos>", "<pad>"])
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


# --- characters


@given(st.text(alphabet=sorted(set(STORY))))
def test_characters_there_and_back(text):
    ids = CHARACTERS.encode(text)
    assert len(ids) == len(text) and CHARACTERS.decode(ids) == text
    assert all(0 <= i < CHARACTERS.vocab_size - 3 for i in ids), "special symbols never come out of a text"


def test_character_ids_are_in_sorted_order_and_special_ones_follow():
    tokenizer = CharTokenizer("hello", special=["<pad>", "<bos>"])
    assert tokenizer.characters == ["e", "h", "l", "o"] and tokenizer.vocab_size == 6
    assert tokenizer.encode("hole") == [1, 3, 2, 0]
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (4, 5, None)
    assert tokenizer.decode([5, 1, 4]) == "<bos>h<pad>"
    assert tokenizer.token_strings() == ["e", "h", "l", "o", "<pad>", "<bos>"]


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"character 'x' at position 2 is unknown; known are 'ehlo'"):
        CharTokenizer("hello").encode("hexo")
    with pytest.raises(ValueError, match="character '<' at position 0 is unknown"):
        CharTokenizer("hello", special=["<bos>"]).encode("<bos>")


def test_character_vocabularies_that_cannot_be():
    with pytest.raises(ValueError, match="text is empty"):
        CharTokenizer("")
    with pytest.raises(ValueError, match=r"\['<a>', 'h'\] must not be characters of the text; \['h'\] are"):
        CharTokenizer("hello", special=["<a>", "h"])


@pytest.mark.parametrize("make", [CharTokenizer, lambda text, special: BPETokenizer.train(text, 300, special=special)])
def test_special_symbols_that_cannot_be(make):
    """One str is a sequence of strs too: "<eos>" became five symbols, and eos_id None, without a word."""
    with pytest.raises(ValueError, match="special is the str '<eos>', which would be 5 symbols; give a list of them"):
        make("HALL", special="<eos>")
    with pytest.raises(ValueError, match=r"special symbols \['<a>', '<a>'\] must be distinct"):
        make("HALL", special=["<a>", "<a>"])


# --- byte pairs


@given(st.text())
def test_byte_pairs_give_back_every_text(text):
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert all(0 <= i < BPE.vocab_size for i in ids)
    assert b"".join(BPE.token_bytes(i) for i in ids) == text.encode()


@given(st.text(alphabet="Thecat.st \n<eobs>pad", max_size=40))
def test_byte_pairs_give_back_texts_near_the_training_text(text):
    assert BPE.decode(BPE.encode(text)) == text
    assert BPE.decode(BPE.encode(text, allow_special=False)) == text


def test_frequent_words_became_single_tokens():
    assert len(BPE.encode("The cat sat on the mat.")) < 10 < len(CHARACTERS.encode("The cat sat on the mat."))
    assert " cat" in BPE.token_strings()


def test_special_tokens_are_one_id_where_allowed_and_plain_text_where_not():
    assert BPE.encode("<eos>") == [BPE.eos_id] == [1]
    assert (BPE.bos_id, BPE.pad_id) == (0, 2)
    spelled = BPE.encode("a<eos>b", allow_special=False)
    assert BPE.eos_id not in spelled and BPE.decode(spelled) == "a<eos>b"
    assert BPE.eos_id in BPE.encode("a<eos>b"), "the refusal before does not stick"
    assert BPE.decode([0, *BPE.encode("cat"), 1]) == "<bos>cat<eos>"
    assert BPE.decode([0, *BPE.encode("cat"), 1], skip_special=True) == "cat"


@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["characters", "byte pairs"])
def test_a_string_for_every_token(tokenizer):
    strings = tokenizer.token_strings()
    assert len(strings) == tokenizer.vocab_size and all(isinstance(s, str) and s for s in strings)


def test_part_of_a_character_shows_its_bytes():
    smile = BPETokenizer.train("abc", 256).encode("🙂")
    tokenizer = BPETokenizer.train("abc", 256)
    assert len(smile) == 4
    assert [tokenizer.token_strings()[i] for i in smile] == ["<F0>", "<9F>", "<99>", "<82>"]
    assert tokenizer.decode(smile[:2]) == "\ufffd" and tokenizer.decode(smile) == "🙂"


def test_fingerprints_tell_vocabularies_apart():
    assert BPE.fingerprint == BPETokenizer.train(STORY, 320, special=["<bos>", "<eos>", "<pad>"]).fingerprint
    prints = {BPE.fingerprint, CHARACTERS.fingerprint, BPETokenizer.train(STORY, 300).fingerprint}
    assert len({*prints, CharTokenizer("ab").fingerprint, CharTokenizer("ac").fingerprint}) == 5


def test_single_digits_and_the_order_of_merges_from_a_vocabulary():
    alphabet = sorted(BPETokenizer.train("x", 256).tokenizer.get_vocab())
    tokens = [*alphabet, "12", "ab", "<end>"]
    options = {"special": ["<end>"], "eos_id": 258}
    whole = BPETokenizer.from_vocabulary(tokens, ["1 2", "a b"], single_digits=False, **options)
    split = BPETokenizer.from_vocabulary(tokens, ["1 2", "a b"], single_digits=True, **options)
    assert whole.encode("ab12<end>") == [257, 256, 258]
    assert split.encode("ab12<end>") == [257, alphabet.index("1"), alphabet.index("2"), 258]
    assert split.decode(split.encode("ab12<end>")) == "ab12<end>" and split.special_ids == {258}


def test_a_tokenizer_file_there_and_back(tmp_path):
    BPE.tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = BPETokenizer.from_file(tmp_path / "tokenizer.json", eos_id=1)
    assert again.encode("The cat 🙂<eos>") == BPE.encode("The cat 🙂<eos>") and again.fingerprint == BPE.fingerprint
    assert again.eos_id == 1 and again.bos_id is None
    with pytest.raises(FileNotFoundError, match="no tokenizer file .*missing.json"):
        BPETokenizer.from_file(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="broken.json is not a tokenizer.json"):
        BPETokenizer.from_file(tmp_path / "broken.json")


def test_training_needs_room_for_the_bytes():
    with pytest.raises(ValueError, match="vocab_size is 257; 256 bytes and 2 special tokens need 258"):
        BPETokenizer.train("abc", 257, special=["<bos>", "<eos>"])


# --- conversations


def test_a_conversation_follows_the_template():
    tokenizer = BPETokenizer(BPE.tokenizer, bos_id=0, eos_id=1, chat_template=TEMPLATE)
    messages = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "the mat."}]
    ids = tokenizer.chat(messages)
    assert tokenizer.decode(ids) == "<bos>[user] the cat?<eos>\n[assistant] the mat.<eos>\n[assistant]"
    assert ids.count(1) == 2 and ids[0] == 0, "the symbols are single ids, not spelled out"
    assert tokenizer.decode(tokenizer.chat(messages[:1], add_generation_prompt=False)) == "<bos>[user] the cat?<eos>\n"


def test_conversations_that_cannot_be():
    with pytest.raises(ValueError, match="without a chat template"):
        BPE.chat([{"role": "user", "content": "hi"}])
    tokenizer = BPETokenizer(BPE.tokenizer, chat_template=TEMPLATE)
    with pytest.raises(ValueError, match=r"has the keys \['text'\]; needed: 'role' and 'content'"):
        tokenizer.chat([{"text": "hi"}])


def test_a_template_runs_fenced_in():
    """It came with a downloaded file: it may format text, not reach into Python."""
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(Exception, match="unsafe"):
        BPETokenizer(BPE.tokenizer, chat_template=escape).chat([{"role": "user", "content": "hi"}])


# --- bad ids, for both

both = pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["characters", "byte pairs"])


@both
def test_ids_out_of_range(tokenizer):
    top = tokenizer.vocab_size - 1
    for bad in (-1, top + 1):
        with pytest.raises(ValueError, match=f"id {bad} at position 1 is out of range; ids go from 0 to {top}"):
            tokenizer.decode([0, bad])


@both
def test_ids_that_are_no_integers(tokenizer, as_shipped):
    assert tokenizer.decode(torch.tensor([3, 4])) == tokenizer.decode([3, 4])
    for bad in ([1.7], torch.tensor([1.7]), ["1"]):
        with pytest.raises(TypeError, match="integer"):
            tokenizer.decode(bad)
