"""effi: five papers on training Transformers cheaply, reproduced, judged and priced.

Which door to take:

- a paper's method: `early_bird`, `instant_soup`, `mixed_sparsity`, `minimal`, `ligo`; outside of notebooks `own_loop`
- what methods are made of: `models`, `data`, `training`, `masks`, `axes`, `kernels`, with `cost` and `seeds`
- what a training leaves, and what is said of it: `records`, `claims`, `report`, `advice`
- how all that is run: `workbook`, `spec`, `cli`, `bench`, with `paths` and `errors`
"""

__version__ = "0.1.0"
