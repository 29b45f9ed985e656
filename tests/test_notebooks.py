"""The notebooks as files, and executed: headlessly, from another folder, on overrides."""

import ast
import json
import re

import nbformat
import pytest

from conftest import copy_run, run_notebook
from empathy_lib import ROOT

FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = 'params = os.environ.get("EMPATHY_PARAMS", "params/demo.yaml")\noverrides = {}'
PUBLIC = {name.name for file in (ROOT / "empathy_lib").glob("*.py") for name in ast.parse(file.read_text()).body
          if isinstance(name, (ast.FunctionDef, ast.ClassDef)) and not name.name.startswith("_")}


def test_all_are_there():
    assert [f.name[:2] for f in FILES] == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_file(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(code) <= 20 and len(lines) <= 150
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "committed with outputs"
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0].source.split("\noverlays")[0] == PARAMETERS
    text = json.dumps([cell.source for cell in notebook.cells if cell is not code[0]], ensure_ascii=False)  # that one: test_colab.py
    assert not re.search(r"/(home|root|work|Users|content)/", text), "an absolute path"
    source = "\n".join(re.sub(r"^(\s*)[!%].*", r"\1pass", line) for cell in code for line in cell.source.splitlines())
    defined = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert not defined & PUBLIC, "redefines the library"
    assert all(len(n.body) <= 3 for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert prose.count("<details>") >= 2 or file.name.startswith("00")
    assert "$" in prose or file.name[:2] in ("00", "01", "02"), "no equation"
    if not file.name.startswith("00"):
        assert "What can go wrong" in prose and ("run.record(" in code[-1].source or file.name.startswith("09"))  # that one is no stage
        assert any("assert " in cell.source for cell in code), "nothing is checked by hand"


def test_start_here_runs(tmp_path):
    run_notebook("00_start_here", tmp_path, {}, cwd=tmp_path)
    text = (tmp_path / "00_start_here.ipynb").read_text()
    assert re.search(r"the largest profile that fits this machine: params/\w+\.yaml", text)  # printed; the source has {fits}


def test_try_it_runs_headlessly_and_names_what_is_missing(smoke_run, tmp_path):
    run_notebook("09_try_it", tmp_path, {"outputs": str(smoke_run.parent)})
    assert "recall of crises" in (tmp_path / "09_try_it.ipynb").read_text()
    with pytest.raises(AssertionError, match="holds no trained model yet"):
        run_notebook("09_try_it", tmp_path, {"outputs": str(tmp_path)})


def test_a_stage_alone_from_another_folder_with_dotted_overrides(smoke_run, tmp_path):
    outputs = tmp_path / "outputs"
    copy_run(smoke_run, outputs / "smoke", "05_grpo", "06_evaluation")
    (tmp_path / "elsewhere").mkdir()
    run_notebook("05_grpo", tmp_path, {"outputs": str(outputs), "grpo.max_steps": 3}, cwd=tmp_path / "elsewhere")
    assert json.loads((outputs / "smoke/05_grpo/metrics.json").read_text())["steps"] == 3
    assert not list((tmp_path / "elsewhere").iterdir()), "a notebook leaves files where it is started"


def test_missing_stage_and_unknown_parameter_stop_before_work(tmp_path):
    for overrides, says in (({}, "StageMissing"), ({"grpo.max_step": 3}, "nearest known one is 'grpo.max_steps'")):
        with pytest.raises(AssertionError) as error:
            run_notebook("05_grpo", tmp_path, {"outputs": str(tmp_path)} | overrides)
        assert says in str(error.value)
