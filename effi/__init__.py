"""effi: five papers on training Transformers cheaply, reproduced, judged and priced."""

__version__ = "0.1.0"
