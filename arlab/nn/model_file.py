"""A model, decoder-only or encoder-decoder, in one safetensors file: weights, config, tokenizer, and a few words."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor, nn

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import BPETokenizer, CharTokenizer

AnyModel = DecoderLM | Seq2SeqTransformer
AnyTokenizer = CharTokenizer | BPETokenizer | None
KINDS = {"decoder": (DecoderConfig, DecoderLM), "seq2seq": (Seq2SeqConfig, Seq2SeqTransformer)}


def save_model(
    path: str | Path, model: AnyModel, tokenizer: AnyTokenizer = None, *, dtype: torch.dtype | None = None, **about
) -> Path:
    """Write the model to `path`, all or nothing.

    Args:
        dtype: store the weights in it, torch.bfloat16 say, at half the size; counters stay integers.
        about: anything JSON can hold: the recipe's name, its final figures.

    Raises:
        TypeError: a model of another kind.
        OSError: the file could not be written; one that was there before is untouched.
    """
    kind = next((kind for kind, (_, built) in KINDS.items() if isinstance(model, built)), None)
    if kind is None:
        known = " and ".join(built.__name__ for _, built in KINDS.values())
        raise TypeError(f"save_model writes {known}; got {type(model).__name__}")
    tensors = own_tensors(model)
    if dtype is not None:
        tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    metadata = {"kind": kind, "config": asdict(model.config), "tokenizer": _describe(tokenizer), "about": about}
    return write_tensors(path, tensors, metadata)


def load_model(path: str | Path, *, dtype: torch.dtype = torch.float32) -> tuple[AnyModel, AnyTokenizer, dict]:
    """(model in eval mode, its tokenizer or None, what was said about it).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is cut off or is not one of ours, a config that does not match the weights.
    """
    tensors, metadata = read_tensors(path)
    if "config" not in metadata:
        raise ValueError(f"{path} holds no model config; it was not written by save_model")
    kind = metadata.get("kind", "decoder")  # files from before there were encoder-decoders do not say
    if kind not in KINDS:
        raise ValueError(f"{path} holds a model of kind {kind!r}; this version of arlab knows {', '.join(KINDS)}")
    make_config, make_model = KINDS[kind]
    try:
        config = make_config(**metadata["config"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds a config that this version of arlab does not know: {error}") from error
    model = make_model(config)
    put_tensors(model, tensors, path)
    return model.to(dtype).eval(), _tokenizer(metadata["tokenizer"]), metadata["about"]


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; weights that are tied appear once."""
    names = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in names}
    return {name: tensor.detach().contiguous() for name, tensor in (*model.named_parameters(), *buffers.items())}


@torch.no_grad()
def put_tensors(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy the tensors into the model; all are compared first, so that a model is never half filled.

    Raises:
        ValueError: names or shapes that differ from the model's.
    """
    own = own_tensors(model)
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} in the file and {tuple(own[name].shape)} in the model"
        for name in own.keys() & tensors.keys()
        if tensors[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [f"the file lacks {', '.join(missing[:3])}"] * bool(missing)
        parts += [f"the model has no {', '.join(unexpected[:3])}"] * bool(unexpected)
        raise ValueError(f"{path}: the weights do not fit the config: {'; '.join(parts + sorted(shapes)[:3])}")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping) -> Path:
    """A safetensors file that is either whole or not there: written beside its place, then moved into it.

    Raises:
        OSError: a full disk, a folder that cannot be written; what stood at `path` is untouched.
    """
    path = Path(path)
    content = save({name: tensor.cpu() for name, tensor in tensors.items()}, {"arlab": json.dumps(metadata)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        before = "the file that was there is untouched" if path.exists() else "nothing was left behind"
        raise OSError(
            error.errno, f"could not write {len(content)} bytes to {path} ({error.strerror}); {before}"
        ) from error
    return path


def replace_file(path: Path, content: bytes) -> None:
    """The new content at once, or the old one still."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the bytes
        os.chmod(name, 0o644)  # mkstemp keeps it to its owner, and a class shares its checkpoints
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the metadata of a file that `write_tensors` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is cut off, or is not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["arlab"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes) is not a whole checkpoint of arlab's: {error}") from error


def _describe(tokenizer: AnyTokenizer) -> dict | None:
    if tokenizer is None:
        return None
    if isinstance(tokenizer, CharTokenizer):
        return {"kind": "characters", "text": "".join(tokenizer.characters), "special": tokenizer.special}
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
    return {"kind": "bpe", "json": tokenizer.tokenizer.to_str(), "chat_template": tokenizer.chat_template, **ids}


def _tokenizer(described: dict | None) -> AnyTokenizer:
    if described is None:
        return None
    if described["kind"] == "characters":
        return CharTokenizer(described["text"], special=described["special"])
    rest = {name: described[name] for name in ("bos_id", "eos_id", "pad_id", "chat_template")}
    return BPETokenizer(Tokenizer.from_str(described["json"]), **rest)
