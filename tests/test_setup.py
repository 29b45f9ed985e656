"""Set-up, versions, imports, sizes: the facts of the repository that are stated in more than one place."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from empathy_lib import ROOT


def pins(lines):
    return dict(re.fullmatch(r"([\w-]+)==([\w.]+)", line).groups() for line in lines)


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


def test_environment_yml_agrees_with_constraints():
    tree = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {d.split("=")[0]: d for d in tree["dependencies"] if isinstance(d, str)}
    assert set(conda) == {"python", "pip"} and tree["channels"] == ["conda-forge"]
    pip = pins(tree["dependencies"][-1]["pip"])
    expected = constraints()
    for name in ("unsloth", "unsloth_zoo"):  # without their dependencies, which conda's list of pip packages cannot say
        del expected[name]
    assert pip == expected and "pip install --no-deps -c constraints.txt -e . unsloth unsloth_zoo" in (ROOT / "README.md").read_text()


def test_every_import_is_pinned_and_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = set(project["dependencies"]) | set(project["optional-dependencies"]["test"])
    assert declared | set(project["optional-dependencies"]["gpu"]) | {"torch", "unsloth", "unsloth_zoo"} <= set(constraints()) and not any("=" in d for d in declared)
    own = {f.stem for f in (ROOT / "tests").rglob("*.py")} | {"benchmarks"}
    names = {"sklearn": "scikit-learn", "yaml": "omegaconf", "IPython": "ipykernel", "nltk": "nltk", "tokenizers": "transformers",
             "huggingface_hub": "transformers", "safetensors": "transformers",
             "sentence_transformers": "sentence-transformers", "pandas": "datasets", "rouge_score": "rouge-score",
             "rouge_chinese": "rouge-chinese"}
    sources = [(f.name, f.read_text()) for folder in ("empathy_lib", "tests") for f in (ROOT / folder).rglob("*.py")
               if f.parent.name != "exports"]  # these run in environments of their own
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [c for c in yaml.safe_load(file.read_text())["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        sources.append((file.name, "\n".join(re.sub(r"^(\s*)[!%].*", r"\1pass", line) for line in lines)))
    for name, source in sources:
        for node in ast.walk(ast.parse(source)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in (m.split(".")[0] for m in modules):
                if module not in sys.stdlib_module_names and module != "empathy_lib" and module not in own:
                    assert names.get(module, module) in declared | {"torch", "unsloth"}, f"{name} imports {module}"


def test_light_modules_load_fast_and_without_torch():
    code = ("import time; t = time.process_time()\nimport empathy_lib.anonymise, empathy_lib.coe, empathy_lib.metrics, empathy_lib.params, empathy_lib.safety, empathy_lib.schema\n"
            "import sys; print(time.process_time() - t, 'torch' in sys.modules, 'transformers' in sys.modules)")
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() for _ in range(4)]
    assert all(run[1:] == ["False", "False"] for run in runs)
    assert min(float(run[0]) for run in runs) < 0.5


def test_the_library_stays_small():
    """No file over 250 lines; 5,600 lines in all (5,000 before there was a safety screen and a page), blank ones not counted."""
    files = {f.name: f.read_text().splitlines() for f in (ROOT / "empathy_lib").glob("*.py")}
    assert sum(bool(line.strip()) for lines in files.values() for line in lines) <= 5600
    assert max(map(len, files.values())) <= 250, {name: len(lines) for name, lines in files.items()}


def test_readme_is_short_and_names_every_file_of_the_tree():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 250
    for path in [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "params").glob("*.yaml")]:
        assert path.stem in readme, path
    library = (ROOT / "empathy_lib" / "README.md").read_text()
    for path in (ROOT / "empathy_lib").glob("*.py"):
        assert path.name == "__init__.py" or path.name in library, path


def make(tmp_path, python: str, *more: str):
    """`make setup` in an empty copy, with another python."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "python").write_text(f"#!/bin/sh\n{python}\n")
    (tmp_path / "python").chmod(0o755)
    return subprocess.run(["make", "setup", "PYTHON=./python", *more], cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize("python, says", [
    (f"exec {sys.executable} -c 'import sys; sys.version_info = type(\"V\", (tuple,), dict(major=3, minor=9))((3, 9)); exec(sys.argv[1])' \"$2\"",
     "needs Python 3.11 or newer; ./python is 3.9"),
    (f"case \"$*\" in *ensurepip*) exit 1;; esac; exec {sys.executable} \"$@\"", "has no venv module"),
    (f"case \"$*\" in *disk_usage*) exec {sys.executable} -c 'import shutil; shutil.disk_usage = lambda p: type(\"D\", (), dict(free=1e9)); "
     f"import sys; exec(sys.argv[1])' \"$2\";; esac; exec {sys.executable} \"$@\"", "1.0 GB are free here"),
], ids=["old python", "no venv", "little disk"])
def test_setup_says_in_one_line_what_is_missing(tmp_path, python, says):
    result = make(tmp_path, python)
    said = [line for line in (result.stdout + result.stderr).splitlines() if line and not line.startswith("make")]
    assert result.returncode != 0 and len(said) == 1 and says in said[0], said
    assert not (tmp_path / ".venv").exists()


def test_nothing_of_a_machine_or_a_registry_is_in_the_project():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".ipynb", "") and path.is_file() and name != "LICENSE":
            text = path.read_text(encoding="utf-8")
            assert not re.search("py" + r"pi\.org|registry\.npm|deb\.debian", text), name
            assert os.environ.get("HOME", "/root") + "/" not in text, name
