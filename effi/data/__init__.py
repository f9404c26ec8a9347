"""Images by name, checked and split the same way for every paper, and the reader's own folder of images."""

from effi.data.catalogue import Listing, available, fetch, load, resolve
from effi.data.examples import Dataset, Examples
from effi.data.transforms import augment, normalise

__all__ = ["Dataset", "Examples", "Listing", "augment", "available", "fetch", "load", "normalise", "resolve"]
