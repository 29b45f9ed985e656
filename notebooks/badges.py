"""Names the kit's public address in every notebook: what the first code cell clones on Colab and Kaggle, and the two badges
above it. `make badges REPOSITORY=owner/name`, once, by whoever publishes the kit."""

import re
import sys
from pathlib import Path

import nbformat

COLAB, KAGGLE = "https://colab.research.google.com", "https://kaggle.com"


def badges(repository: str, name: str) -> str:
    """One line of Markdown: open notebook ``name`` of the GitHub ``repository`` (owner/name) on Colab, or on Kaggle."""
    file = f"{repository}/blob/main/notebooks/{name}"
    return (f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{file}) "
            f"[![Open in Kaggle]({KAGGLE}/static/images/open-in-kaggle.svg)]({KAGGLE}/kernels/welcome?src=https://github.com/{file})")


def address(folder: Path, repository: str) -> None:
    """Write ``repository`` into every notebook of ``folder``; ValueError where it is not owner/name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"REPOSITORY must be owner/name, as on GitHub; got '{repository}'")
    for file in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        title = notebook.cells[0]
        lines = [line for line in title.source.split("\n") if not line.startswith("[![Open in Colab]")]
        title.source = "\n".join([lines[0], badges(repository, file.name), *lines[1:]])
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        first.source = re.sub(r"(?<=https://github\.com/)[\w.-]+/[\w.-]+", repository, first.source)
        nbformat.write(notebook, file)


if __name__ == "__main__":
    address(Path(__file__).parent, sys.argv[1])
