"""What runs in the job of a function: it makes the calls of this job, and keeps what they give in result.json.

This file goes along with the job: standard library only, Python 3.9. Beside it lie spinor_values.py, the functions'
modules, and calls.jsonl with one line for each job of the array.
"""

# ruff: noqa: UP006, UP035, BLE001

import asyncio
import importlib
import inspect
import itertools
import os
import pathlib
import sys
import traceback
from typing import Any, Dict, List


def main(values: Any) -> int:
    index = int(os.environ.get("SPINOR_ARRAY_INDEX", "0"))
    with open("calls.jsonl", encoding="utf-8") as file:
        line = next(itertools.islice(file, index, None))
    task = values.loads(line)
    answers: List[Dict[str, Any]] = [_answer(values, task, args, kwargs) for args, kwargs in task["calls"]]
    with open("result.tmp", "w", encoding="utf-8") as file:
        file.write(values.dumps(answers))
    pathlib.Path("result.tmp").replace("result.json")
    failed = [answer for answer in answers if "error" in answer]
    for answer in failed:
        sys.stderr.write(answer["error"]["traceback"])
    return 1 if failed else 0


def _answer(values: Any, task: Dict[str, Any], args: Any, kwargs: Any) -> Dict[str, Any]:
    try:
        function: Any = importlib.import_module(task["module"])
        for name in task["name"].split("."):
            function = getattr(function, name)
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        values.dumps(value)  # What cannot be given back is this call's error, and no other's.
        return {"value": value}
    except Exception as error:
        return {"error": _told(values, error)}


async def _awaited(value: Any) -> Any:
    return await value


def _told(values: Any, error: Exception) -> Dict[str, Any]:
    kind = type(error)
    told: Dict[str, Any] = {"module": kind.__module__, "name": kind.__qualname__, "message": str(error), "args": None}
    told["traceback"] = "".join(traceback.format_exception(kind, error, error.__traceback__))
    try:
        values.dumps(error.args)
        told["args"] = error.args
    except TypeError:
        pass  # The message says it, too.
    return told


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path.cwd()))
    sys.exit(main(importlib.import_module("spinor_values")))
