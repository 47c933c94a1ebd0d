"""What others install: a wheel, in an environment of its own, away from the repository."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a fresh environment with the wheel; the libraries are those of this one."""
    place = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("results", "__pycache__")
    for name in ("memoir", "data"):
        shutil.copytree(ROOT / name, place / "source" / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(place / "source")]
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "venv")], check=True)
    inside = place / "venv" / "bin" / "python"
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "--python", str(inside), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = (place / "venv").glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return inside


def test_the_first_lines_of_the_readme_work_there_and_its_types_say_so(python, tmp_path):
    lines = re.search(r"```python\n(import memoir\n.*?)editor\.generate", README, re.DOTALL)[1]
    asked = lines.replace("editor.chat(", "print(memoir.__file__, editor.chat(").replace("}])", "}]))")
    typed = "from importlib.resources import files\nprint(files('memoir').joinpath('py.typed').is_file())"
    said = subprocess.run([python, "-I", "-c", f"{asked}\n{typed}"], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    place, *answer, is_typed = said.stdout.split()
    assert place.startswith(str(python.parents[1])) and "Lyon" in answer[0] and is_typed == "True"
