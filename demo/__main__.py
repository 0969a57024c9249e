"""Start a service in a temporary directory, run the main job on it, show the result, stop it.

Everything is done with the commands that a user types; each is printed before it runs.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = HERE.parent / "demo-output"
SPINOR = str(Path(sys.executable).with_name("spinor"))
JOBS = 12


class Failed(Exception):
    """A step of the demonstration went wrong."""


class Demo:
    def __init__(self, work: Path) -> None:
        self.work = work
        self.times: list[tuple[str, float]] = []
        # The demonstration's own credentials and settings: those of its user stay as they are.
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SPINOR_")},
            "SPINOR_CONFIG_DIR": str(work / "config"),
            "SPINOR_DATA_DIR": str(work / "data"),
            "BEARER_TOKEN_FILE": str(work / "token"),
        }
        self.environ.pop("BEARER_TOKEN", None)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)
        started = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - started))

    def spinor(self, *words: str, stdin: str | None = None, show: bool = True, allowed: tuple[int, ...] = (0,)) -> str:
        """Run one command as typed; its standard output. Speech and progress go to the terminal."""
        shown = shlex.join(words)
        print(f"  $ spinor {shown if len(shown) < 150 else shown[:147] + '...'}", flush=True)
        done = subprocess.run([SPINOR, *words], env=self.environ, input=stdin, stdout=subprocess.PIPE, text=True)
        if show:
            for line in done.stdout.splitlines()[:12]:
                print(f"    {line}")
        if done.returncode not in allowed:
            raise Failed(f"`spinor {shown[:300]}` ended with code {done.returncode}")
        sys.stdout.flush()
        return done.stdout

    def run(self) -> None:
        with self.step("Start PostgreSQL, the HTTPS server, a worker, a computing and a storage element"):
            self.spinor("up")
            self.spinor("whoami")
        with self.step("Publish a directory tree of this machine: Python's standard library"):
            self.publish()
        with self.step("Describe it, and select from it by a query"):
            lfns = self.select()
        with self.step(f"Analyse {len(lfns):,} files with an array of {JOBS} grid jobs"):
            results = self.analyse(lfns)
        with self.step("Merge their registered outputs with one more job"):
            summary_lfn = self.merge(results)
        with self.step("Fetch the result and verify the checksums of all registered outputs"):
            summary = self.verify(results, summary_lfn)
        with self.step("Draw it"):
            plot = draw(summary)
            print(f"    {plot}")
        self.report(summary)

    def publish(self) -> None:
        stdlib = sysconfig.get_path("stdlib")
        document = self.spinor("config", "show", show=False)
        element = f"      library: {{plugin: file, root: {json.dumps(stdlib)}, read_only: true, vos: [demo]}}\n"
        changed = self.work / "operations.yaml"
        changed.write_text(document.replace("    storage_elements:\n", "    storage_elements:\n" + element, 1))
        self.spinor("config", "diff", str(changed))
        self.spinor("config", "apply", str(changed), "--comment", "the standard library as a storage element")
        exclude = [word for name in ("site-packages", "__pycache__", "*.so") for word in ("--exclude", name)]
        # 1: some entries were refused and are told; distributions have symbolic links in there, which are no files.
        words = [stdlib, "/demo/library", "--se", "library", "--checksum", "adler32", *exclude]
        self.spinor("file", "register-directory", *words, allowed=(0, 1))

    def select(self) -> list[str]:
        self.spinor("file", "metadata", "declare", "language=text", "release=float", "tests=boolean")
        release = f"{sys.version_info.major}.{sys.version_info.minor:02d}"
        self.spinor("file", "metadata", "set", "/demo/library", "language=python", f"release={release}", "tests=false")
        if self.spinor("file", "ls", "/demo/library", "-q", show=False).find("/demo/library/test\n") >= 0:
            self.spinor("file", "metadata", "set", "/demo/library/test", "tests=true")
        query = "language=python and tests=false and name like *.py and size > 0"
        found = self.spinor("file", "find", "/demo/library", query, "-q", show=False).splitlines()
        print(f"    {len(found):,} files")
        return found

    def analyse(self, lfns: list[str]) -> list[str]:
        chunks = [lfns[start::JOBS] for start in range(JOBS)]
        description = {
            "name": "analyse",
            "executable": sys.executable,
            # Isolated: the files to analyse stand beside the script, and some are called like modules that it imports.
            "arguments": ["-I", "analyse.py", "result.json"],
            "input_sandbox": [str(HERE / "analyse.py")],
            "input_data": ["{lfns}"],
            "output_data": [{"path": "result.json", "lfn": "/demo/results/analysis-{index}.json", "se": "local"}],
            "parameters": {"lfns": chunks},
            "wall_s": "10m",
        }
        (self.work / "analyse.json").write_text(json.dumps(description))
        ids = self.spinor("job", "submit", str(self.work / "analyse.json"), "-q", show=False)
        self.spinor("job", "wait", "-", stdin=ids)
        self.spinor("job", "list", "--sort", "job_id", "--limit", "4")
        return [f"/demo/results/analysis-{index}.json" for index in range(JOBS)]

    def merge(self, results: list[str]) -> str:
        lfn = "/demo/results/summary.json"
        words = ["--input-sandbox", str(HERE / "merge.py"), "--output-data", f"summary.json={lfn}@local"]
        words += [word for result in results for word in ("--input-data", result)]
        payload = [sys.executable, "merge.py", "summary.json", *(lfn.rpartition("/")[2] for lfn in results)]
        job = self.spinor("job", "submit", "-q", "--name", "merge", *words, "--", *payload).strip()
        self.spinor("job", "wait", job)
        self.spinor("job", "log", job)
        return lfn

    def verify(self, results: list[str], summary_lfn: str) -> dict[str, object]:
        self.spinor("file", "replicas", summary_lfn)
        fetched = self.work / "fetched"
        fetched.mkdir()
        names = "\n".join((*results, summary_lfn))
        self.spinor("file", "get", "-", str(fetched), stdin=names, show=False)
        lines = self.spinor("file", "stat", "--json", "-", stdin=names, show=False)
        for line in lines.splitlines():
            file = json.loads(line)
            found = f"{zlib.adler32((fetched / file['lfn'].rpartition('/')[2]).read_bytes()):08x}"
            if found != file["adler32"]:
                raise Failed(f"{file['lfn']}: the catalog says adler32 {file['adler32']}, its content says {found}")
        print(f"    {len(results) + 1} files fetched, all with the checksums of the catalog")
        summary: dict[str, object] = json.loads((fetched / "summary.json").read_text())
        return summary

    def report(self, summary: dict[str, object]) -> None:
        print("\nWhat the jobs found")
        for key in ("files", "lines", "functions", "documented", "classes", "refused"):
            print(f"  {key:<12}{summary[key]:>10,}")
        print("\nHow long it took")
        for title, seconds in self.times:
            print(f"  {seconds:6.1f} s  {title}")
        print(f"  {sum(seconds for _, seconds in self.times):6.1f} s  in all")


def draw(summary: dict[str, object]) -> Path:
    """A histogram of the lengths of all functions, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lengths = summary["lengths"]
    assert isinstance(lengths, list)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    axes.hist(lengths, bins=[2**step for step in range(11)], color="#0b5cad")
    axes.set(xscale="log", xlabel="lines of a function", ylabel="functions")
    axes.set_title(f"{len(lengths):,} functions of Python's standard library, measured by {JOBS} grid jobs")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "function-lengths.png"
    figure.savefig(path, bbox_inches="tight")
    return path


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="spinor-demo-"))
    work.chmod(0o711)  # The database of a service started by root runs under another account, which must pass.
    demo = Demo(work)
    try:
        demo.run()
        return 0
    except Failed as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        for words in (["status"], ["job", "list", "--where", "status=failed"]):
            subprocess.run([SPINOR, *words], env=demo.environ)
        failed = subprocess.run(
            [SPINOR, "job", "list", "--where", "status=failed", "--limit", "3", "-q"],
            env=demo.environ, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for job in failed.stdout.split():
            subprocess.run([SPINOR, "job", "explain", job], env=demo.environ)
        return 1
    finally:
        with demo.step("Stop everything"):
            subprocess.run([SPINOR, "down"], env=demo.environ, stdout=subprocess.DEVNULL)
            shutil.rmtree(work, ignore_errors=True)


sys.exit(main())
