"""Massive registration: manifests and storage dumps to the catalog, and tables of metadata.

    finished = register_manifest(Manifest("files.csv", se="my-se"), Run(report="report"), tell, progressed)

`source` reads blocks of lines, `splitting` makes columns of text of them, `checking` columns of values, `batches` the
bodies of requests; `sending` has several of them in flight, and `journal` keeps how far they are acknowledged.
"""
