"""The first cell of the notebooks, which on Colab and Kaggle fetches and installs the kit, and nowhere else; the badges."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from conftest import environment
from empathy_lib import ROOT

FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAYS = "\nimport empathy_lib, torch; print(json.dumps([empathy_lib.__file__, torch.__version__, os.environ.get('EMPATHY_PARAMS'), os.getcwd()]))"

LOADED = ["numpy==2.0.2", "pandas==2.2.2", "matplotlib==3.10.0", "protobuf==5.29.5"]
PROFILE = "params/kaggle_t4x2.yaml" if os.path.exists("/dev/nvidia0") else None  # without a GPU the notebooks' own, the demo


def first_cell() -> str:
    return next(c.source for c in nbformat.read(FILES[0], as_version=4).cells if c.cell_type == "code")


def test_the_first_code_cell_is_the_same_in_all():
    firsts = {next(c.source for c in nbformat.read(f, as_version=4).cells if c.cell_type == "code") for f in FILES}
    assert len(firsts) == 1


def run_cell(python, folder, **env: str) -> list:
    """What the first cell leaves: where the kit is imported from, torch's version, EMPATHY_PARAMS, the working folder."""
    (folder / "cell.ipy").write_text("import json\n" + first_cell() + SAYS)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EMPATHY_", "KAGGLE_", "COLAB_", "PYTHONPATH"))}
    done = subprocess.run([python, "-m", "IPython", "--no-banner", "--quick", "cell.ipy"], cwd=folder, env=clean | env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_elsewhere_it_does_nothing(tmp_path):
    where, _, params, cwd = run_cell(sys.executable, tmp_path)
    assert where == str(ROOT / "empathy_lib/__init__.py") and params is None and cwd == str(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["cell.ipy"]


@pytest.mark.slow
def test_on_a_rented_machine_it_installs_the_kit_around_the_torch_that_is_there(tmp_path):
    """A fresh environment with a torch of its own and with older packages that a kernel has loaded, as Colab's and Kaggle's have;
    then a session that begins again."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    subprocess.run([python, "-m", "pip", "install", "-q", torch, "ipython", *LOADED], check=True)
    before = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True).stdout.strip()
    shutil.copytree(ROOT, origin := tmp_path / "origin", ignore=shutil.ignore_patterns(".git", ".venv*", "outputs", ".snakemake", "*.egg-info"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(origin)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "kit"]):
        subprocess.run([*git, *command], check=True)
    env = {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "COLAB_RELEASE_TAG": "its image is built on Colab's", "EMPATHY_HOME": str(tmp_path), "EMPATHY_REPOSITORY": f"file://{origin}"}
    kit = tmp_path / "empathy-r1-kit"
    expected = [str(kit / "empathy_lib/__init__.py"), before, PROFILE, str(kit / "notebooks")]
    assert run_cell(python, tmp_path, **env) == expected
    assert run_cell(python, tmp_path, **env, EMPATHY_PARAMS="params/smoke.yaml") == [*expected[:2], "params/smoke.yaml", expected[3]]
    installed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True).stdout.splitlines()
    pins = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    names = {line.partition("==")[0].lower().replace("_", "-"): line for line in installed}
    for name in ("transformers", "trl", "peft", "unsloth", "unsloth-zoo", "datasets", "bitsandbytes", "sentence-transformers"):
        assert names[name].replace("-zoo", "_zoo") in pins, names[name]
    assert set(LOADED) <= set(installed)
    for notebook in ("01_build_dataset", "02_generate_coe", "03_sft"):
        subprocess.run([python.parent / "papermill", f"notebooks/{notebook}.ipynb", tmp_path / "out.ipynb", "-p", "params", "params/smoke.yaml"],
                       cwd=kit, env=environment(), check=True, capture_output=True)


def test_what_fails_is_said_and_the_cell_can_be_run_again(tmp_path):
    for address, says in ((f"file://{tmp_path}/nowhere", "cannot be cloned"), (f"file://{tmp_path}/origin", "could not be installed")):
        if says == "could not be installed":  # a kit whose installing fails
            for name, text in (("pyproject.toml", ""), ("notebooks/install.sh", "exit 3")):
                (tmp_path / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "origin" / name).write_text(text)
            git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "origin")]
            for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "kit"]):
                subprocess.run([*git, *command], check=True)
        (tmp_path / "cell.ipy").write_text(first_cell().replace('importlib.util.find_spec("unsloth") is None', "True"))
        env = os.environ | {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "EMPATHY_HOME": str(tmp_path), "EMPATHY_REPOSITORY": address}
        done = subprocess.run([sys.executable, "-m", "IPython", "--no-banner", "--quick", "cell.ipy"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert says in done.stdout + done.stderr


def test_badges_name_the_address(tmp_path):
    shutil.copy(ROOT / "notebooks/badges.py", tmp_path)
    for file in FILES[:2]:
        shutil.copy(file, tmp_path)
    for repository in ("first/one", "somebody/empathy-r1-kit"):  # an address can change
        subprocess.run([sys.executable, tmp_path / "badges.py", repository], check=True)
    for file in FILES[:2]:
        text, notebook = (tmp_path / file.name).read_text(), nbformat.read(tmp_path / file.name, as_version=4)
        nbformat.validate(notebook)
        assert notebook.cells[0].source.count("[![Open in") == 2 and "first/one" not in text
        assert f"colab.research.google.com/github/somebody/empathy-r1-kit/blob/main/notebooks/{file.name}" in text
        assert '"https://github.com/somebody/empathy-r1-kit"' in next(c.source for c in notebook.cells if c.cell_type == "code")
    wrong = subprocess.run([sys.executable, tmp_path / "badges.py", "https://github.com/a/b"], capture_output=True, text=True)
    assert "REPOSITORY must be owner/name" in wrong.stderr
