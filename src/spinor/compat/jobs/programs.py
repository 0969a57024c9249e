"""One program with many names: the name by which it is called says what it does."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# name -> the module of this package that has it, and the name there.
PROGRAMS: dict[str, tuple[str, str]] = {
    "dirac-wms-job-submit": ("submitting", "SUBMIT"),
    "dirac-wms-job-status": ("looking", "STATUS"),
    "dirac-wms-job-attributes": ("looking", "ATTRIBUTES"),
    "dirac-wms-job-parameters": ("looking", "PARAMETERS"),
    "dirac-wms-job-logging-info": ("looking", "LOGGING_INFO"),
    "dirac-wms-job-get-jdl": ("looking", "GET_JDL"),
    "dirac-wms-job-get-input": ("output", "GET_INPUT"),
    "dirac-wms-job-get-output": ("output", "GET_OUTPUT"),
    "dirac-wms-job-get-output-data": ("output", "GET_OUTPUT_DATA"),
    "dirac-wms-job-peek": ("output", "PEEK"),
    "dirac-wms-job-kill": ("control", "KILL"),
    "dirac-wms-job-delete": ("control", "DELETE"),
    "dirac-wms-job-reschedule": ("control", "RESCHEDULE"),
    "dirac-wms-select-jobs": ("selecting", "SELECT"),
    "dirac-wms-jobs-select-output-search": ("selecting", "OUTPUT_SEARCH"),
    "dirac-wms-get-wn": ("selecting", "WORKER_NODES"),
    "dirac-wms-match": ("submitting", "MATCH"),
    "dirac-wms-pilot-job-info": ("pilots", "PILOT_JOB_INFO"),
    "dirac-admin-get-job-pilots": ("pilots", "JOB_PILOTS"),
    "dirac-admin-get-job-pilot-output": ("pilots", "JOB_PILOT_OUTPUT"),
    "dirac-admin-get-pilot-info": ("pilots", "PILOT_INFO"),
    "dirac-admin-get-pilot-output": ("pilots", "PILOT_OUTPUT"),
    "dirac-admin-kill-pilot": ("pilots", "KILL_PILOT"),
    "dirac-admin-allow-site": ("sites", "ALLOW"),
    "dirac-admin-ban-site": ("sites", "BAN"),
    "dirac-admin-get-site-mask": ("sites", "MASK"),
    "dirac-admin-get-banned-sites": ("sites", "BANNED"),
    "dirac-admin-site-mask-logging": ("sites", "LOGGING"),
    "dirac-admin-site-info": ("sites", "INFO"),
    "dirac-admin-debug-ce": ("sites", "DEBUG"),
    "dirac-admin-ban-se": ("storages", "BAN"),
    "dirac-admin-allow-se": ("storages", "ALLOW"),
    "dirac-rss-list-status": ("statuses", "LIST"),
    "dirac-rss-set-status": ("statuses", "SET"),
    "dirac-admin-reset-job": ("control", "RESET"),
    "dirac-admin-show-task-queues": ("queues", "SHOW"),
    "dsub": ("dsub", "DSUB"),
    "dstat": ("dcommands", "DSTAT"),
    "dkill": ("control", "DKILL"),
    "doutput": ("output", "DOUTPUT"),
    "dlogging": ("dcommands", "DLOGGING"),
}


def call(name: str, words: Sequence[str]) -> int:
    """The exit code of one command line."""
    import importlib

    from spinor.compat.jobs.program import main

    module, attribute = PROGRAMS[name]
    return main(name, getattr(importlib.import_module(f"spinor.compat.jobs.{module}"), attribute), words)


def run() -> NoReturn:
    """The entry point of all of them."""
    name = Path(sys.argv[0]).name.removesuffix(".py")
    if name not in PROGRAMS:
        sys.stderr.write(
            f"There is no command {name}; it must be called by one of these names: {', '.join(PROGRAMS)}\n"
        )
        sys.exit(2)
    sys.exit(call(name, sys.argv[1:]))
