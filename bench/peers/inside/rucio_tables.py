"""Make Rucio's tables, its first VO and its root account, in the database that its settings name."""

from rucio.db.sqla.util import build_database, create_base_vo, create_root_account

if __name__ == "__main__":
    build_database()
    create_base_vo()
    create_root_account()
