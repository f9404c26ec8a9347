"""Images with captions: what goes in comes out exactly, who gets which caption, and a contrastive training of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi import data
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.training import Contrastive, Training, evaluate, fit
from tests.training.tiny import images

T = 5
# Four classes with three prompts each; the ids fill both bytes.
CAPTIONS = torch.randint(0, 65536, (4, 3, T), generator=torch.Generator().manual_seed(0))
CAPTIONS[0, 0, :2] = torch.tensor([0, 65535])
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def noise() -> data.Dataset:
    return images()


def ids_of(pairs: data.PairDataset, part: data.Examples) -> Tensor:
    return pairs.prepare(part.inputs)[:, -T:]


def test_pixels_and_ids_come_back(noise: data.Dataset) -> None:
    pairs = data.paired(noise, CAPTIONS)
    assert (pairs.shape, pairs.length) == ((3, 8, 8), T)
    for name in PARTS:
        part, original = getattr(pairs, name), getattr(noise, name)
        assert (part.inputs.dtype, part.inputs.shape) == (torch.uint8, (len(original), 192 + 2 * T))
        read = pairs.prepare(part.inputs)
        assert read.dtype == torch.float32
        assert read[:, :192].view(-1, 3, 8, 8).equal(noise.prepare(original.inputs))
        assert part.labels.equal(original.labels)
        own = CAPTIONS[part.labels].float()
        assert (ids_of(pairs, part)[:, None] == own).all(-1).any(1).all()


def test_every_id_of_two_bytes_is_exact(noise: data.Dataset) -> None:
    captions = torch.arange(65536).view(4, 1, 16384)
    pairs = data.paired(noise, captions)
    read = pairs.prepare(pairs.train.inputs)[:, 192:]
    assert read.long().equal(captions[pairs.train.labels, 0])


def test_replicas_have_a_dimension_of_their_own(noise: data.Dataset) -> None:
    pairs = data.paired(noise, CAPTIONS)
    index = torch.tensor([[0, 1, 2], [5, 4, 3]])
    assert pairs.prepare(pairs.train.inputs[index]).equal(pairs.prepare(pairs.train.inputs)[index])


def test_the_seed_chooses_the_prompts(noise: data.Dataset) -> None:
    first, again, other = (data.paired(noise, CAPTIONS, seed=seed) for seed in (0, 0, 1))
    assert first.train.inputs.equal(again.train.inputs)
    assert not first.train.inputs.equal(other.train.inputs)
    chosen = {tuple(row) for row in ids_of(first, first.train).tolist()}
    assert chosen == {tuple(row) for row in CAPTIONS.flatten(0, 1).float().tolist()}
    # No split repeats the draw of another.
    alike = data.paired(replace(noise, validation=noise.train, test=noise.train), CAPTIONS)
    assert len({part.inputs.numpy().tobytes() for part in (alike.train, alike.validation, alike.test)}) == 3


def test_the_checksum_is_of_images_and_captions(noise: data.Dataset) -> None:
    one, seeded, other = data.paired(noise, CAPTIONS), data.paired(noise, CAPTIONS, seed=1), CAPTIONS.clone()
    other[3, 2, 4] ^= 1
    assert one.checksum == seeded.checksum != data.paired(noise, other).checksum
    assert one.checksum != data.paired(replace(noise, checksum="sha256:1"), CAPTIONS).checksum


@pytest.mark.parametrize(
    ("captions", "words"),
    [
        (CAPTIONS[:3], r"captions of shape \(3, 3, 5\) do not fit the 4 classes of noise: give \(classes, prompts"),
        (CAPTIONS[:, 0], r"captions of shape \(4, 5\) do not fit"),
        (CAPTIONS[:, :0], r"captions of shape \(4, 0, 5\) do not fit"),
        (CAPTIONS[:, :, :0], r"captions of shape \(4, 3, 0\) do not fit"),
        (CAPTIONS.float(), "captions must be token ids from 0 to 65535: encode them with a tokenizer"),
        (CAPTIONS - 1, "captions must be token ids from 0 to 65535"),
        (CAPTIONS + 1, "captions must be token ids from 0 to 65535"),
    ],
)
def test_captions_that_cannot_be(noise: data.Dataset, captions: Tensor, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        data.paired(noise, captions)


class Towers(nn.Module):
    """Pixels and ids (B, 192 + T) -> similarities (B, B) of images to captions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.caption = nn.Linear(192, 8), nn.Embedding(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        pictures, ids = x[:, :192], x[:, 192:].long()
        image, caption = (F.normalize(each, dim=-1) for each in (self.image(pictures), self.caption(ids).mean(1)))
        return 5 * image @ caption.T


def test_a_contrastive_training_learns_which_caption_is_whose(noise: data.Dataset) -> None:
    """Of batches that hold a class several times no more can be had than a share of the hits."""
    pairs = data.paired(noise, torch.arange(12).view(4, 1, 3))
    model = Towers()
    before = evaluate(model, pairs.test, pairs, Contrastive())["loss"]
    training = Training(epochs=40, batch_size=16, lr=0.02)
    fit(model, pairs, training, objective=Contrastive(), seeds=[0], ledger=Ledger())
    after = evaluate(model, pairs.test, pairs, Contrastive())["loss"]
    # 20 test images of 4 classes: to know the class is to choose among 5 captions that are all alike.
    assert torch.log(torch.tensor(5.0)).item() - 1e-6 < after < before - 0.5


def test_captions_are_not_augmented(noise: data.Dataset) -> None:
    pairs = data.paired(noise, CAPTIONS)
    training = Training(epochs=1, augment=("flip",))
    with pytest.raises(ParameterError, match="noise has captions beside its images, which no augmentation fits"):
        fit(Towers(), pairs, training, objective=Contrastive(), seeds=[0], ledger=Ledger())
