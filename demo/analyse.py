"""Measure Python sources: the payload of each job of the array.

Usage: analyse.py RESULT.json   Reads the job's input data, which $SPINOR_INPUTS lists, and counts for each file:
lines, functions, classes, and functions with a docstring.
"""

import ast
import json
import os
import sys
import tokenize
from pathlib import Path


def measure(lfn: str, path: str) -> dict[str, object]:
    with tokenize.open(path) as source:
        text = source.read()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        "lfn": lfn,
        "lines": text.count("\n"),
        "functions": len(functions),
        "documented": sum(1 for node in functions if ast.get_docstring(node)),
        "classes": sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        "lengths": [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions],
    }


def main() -> None:
    inputs = json.loads(Path(os.environ["SPINOR_INPUTS"]).read_text())
    measured, refused = [], []
    for number, file in enumerate(inputs, 1):
        try:
            measured.append(measure(file["lfn"], file["path"]))
        except (SyntaxError, UnicodeDecodeError) as error:
            refused.append({"lfn": file["lfn"], "reason": str(error)})
        print(f"{number}/{len(inputs)} {file['lfn']}", flush=True)
    Path(sys.argv[1]).write_text(json.dumps({"files": measured, "refused": refused}))


main()
