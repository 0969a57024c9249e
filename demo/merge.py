"""Put the results of all analysis jobs together: the payload of the last job.

Usage: merge.py SUMMARY.json RESULT.json...
"""

import json
import sys
from pathlib import Path


def main() -> None:
    summary, *names = sys.argv[1:]
    results = [json.loads(Path(name).read_text()) for name in names]
    files = [file for result in results for file in result["files"]]
    total = {key: sum(file[key] for file in files) for key in ("lines", "functions", "documented", "classes")}
    longest = sorted(files, key=lambda file: -file["lines"])[:5]
    lengths = sorted(length for file in files for length in file["lengths"])
    Path(summary).write_text(
        json.dumps(
            {
                "files": len(files),
                "refused": sum(len(result["refused"]) for result in results),
                **total,
                "longest": [[file["lfn"], file["lines"], file["functions"]] for file in longest],
                "lengths": lengths,
            }
        )
    )
    print(f"merged {len(results)} results about {len(files)} files")


main()
