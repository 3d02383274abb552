"""The texts that come with the course."""

from __future__ import annotations

from arlab import assets


def tiny_shakespeare() -> str:
    """Scenes from Shakespeare's plays, 1,115,394 characters, 65 different ones; the corpus of char-rnn and nanoGPT.

    Fetched on first use, from then on read from this machine.

    Raises:
        arlab.assets.AssetError: when it cannot be fetched; the message says what to run.
    """
    # As bytes: reading as text would turn other line ends into \n, and the corpus is pinned to the byte.
    return assets.path("tiny_shakespeare").read_bytes().decode("utf-8")
