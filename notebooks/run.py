"""Executes a notebook from top to bottom, writes it with its outputs, and fails where a cell fails.

usage: run.py NOTEBOOK OUTPUT
"""

import sys

import nbformat
from nbclient import NotebookClient


def main() -> None:
    source, target = sys.argv[1:3]
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    nbformat.write(notebook, target)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain") or output.get("text")
            if text:
                print(text)


if __name__ == "__main__":
    main()
