"""Sources that are requested, fetched and cleaned before they move: one package for each.

A new dataset is added to ``DATASETS`` and nowhere else; docs/datasets.md says how.
"""

DATASETS: tuple[str, ...] = ("datamover.datasets.ala", "datamover.datasets.gbif")
"""The packages of the datasets; the module ``dataset`` of each holds its ``Declaration``, ``DATASET``.

Names and not modules: a process that only cleans imports this module, too, and must not import the service.
"""
