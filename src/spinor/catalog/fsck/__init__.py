"""`fsck`: prove that the catalog and a storage element say the same.

Nouns: listing (what a storage element says it holds), finding, report, change (one step of a repair). The parts:
`dumps` read a listing, `comparing` joins it with the catalog's replicas, `findings` and `reports` write down what
differs, `repairing` turns a report into changes of the catalog and into those that take them back.
"""
