"""What an ordinary user does in the test of that name: up, a row, restart, the row is kept, down."""

import sys
from pathlib import Path

import psycopg

from spinor.embedded import up as verbs
from spinor.embedded.layout import layout
from spinor.embedded.postgres import Cluster


def main() -> None:
    data, port = sys.argv[1], int(sys.argv[2])
    program = (sys.executable, str(Path(__file__).with_name("standin.py")))
    verbs.up(data, port=port, program=program)
    print("up")
    print(*{part.health.value for part in verbs.status(data)})
    url = Cluster(layout(data)).url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    print("row")
    verbs.down(data, program=program)
    verbs.up(data, port=port, program=program)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    print("kept")
    assert verbs.down(data, program=program)
    print("down")


if __name__ == "__main__":
    main()
