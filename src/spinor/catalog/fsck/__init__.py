"""`fsck`: prove that the catalog and a storage element say the same.

Nouns: listing (what a storage element says it holds), finding, report, change (one step of a repair). The parts:
`dumps` read a listing, `comparing` joins it with the catalog's replicas, `findings` and `reports` write down what
differs, `checking` does all of that in one go. `repairing` turns a report into `changes` of the catalog, `carrying` has
them carried out, and `undoing` keeps what takes them back.
"""
