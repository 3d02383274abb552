"""pyproject.toml is the one source of dependencies; environment.yml and constraints.txt must agree with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf8").split()
    return dict(line.split("==") for line in lines)


def test_conda_environment_repeats_the_dependencies(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
    assert environment["channels"] == ["conda-forge"]
    *from_conda, from_pip = environment["dependencies"]
    pip = next(d for d in project["dependencies"] if Requirement(d).name == "pip")
    assert from_conda == [f"python{project['requires-python']}", pip]
    others = [d for d in project["dependencies"] if d != pip]
    assert from_pip == {"pip": ["-c constraints.txt", *others, "-e ."]}


def test_constraints_pin_every_direct_dependency_within_its_range(project, pins):
    requirements = [Requirement(d) for d in project["dependencies"] + project["optional-dependencies"]["test"]]
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in requirements:
        if requirement.name == "pip":  # replacing pip by an exact version would fight with conda's own
            assert "pip" not in pinned
            continue
        assert canonicalize_name(requirement.name) in pinned, f"{requirement.name} has no pin in constraints.txt"
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} excludes the pin {version}"


def test_torch_is_pinned_without_a_build_tag(pins):
    """`torch==2.13.0+cpu` would exist on some machines only; left open, pip takes a CUDA build of several GB."""
    assert pins["torch"] == "2.13.0"


def test_constraints_name_no_machine(pins):
    for name, version in pins.items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name), name
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name}=={version}"


def test_python_versions_agree(project):
    """The Makefile checks the version before it installs; its bounds are those of pyproject.toml."""
    low, high = re.search(r"\((3, \d+)\) <= v < \((3, \d+)\)", (ROOT / "Makefile").read_text(encoding="utf8")).groups()
    assert SpecifierSet(project["requires-python"]) == SpecifierSet(
        f">={low.replace(', ', '.')},<{high.replace(', ', '.')}"
    )


@pytest.mark.parametrize("file", ["Makefile", ".ci/run", ".github/workflows/ci.yml"])
def test_every_installation_is_constrained(file):
    lines = (ROOT / file).read_text(encoding="utf8").splitlines()
    loose = [line for line in lines if re.search(r"\bpip install\b", line) and "-c constraints.txt" not in line]
    assert not loose, f"{file}: without `-c constraints.txt` pip may take another torch: {loose}"
