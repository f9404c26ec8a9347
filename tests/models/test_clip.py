"""CLIP: the published sizes, the library's own logits, ends of texts, heads, closed forms of FLOPs and checkpoints."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from effi import masks
from effi.axes import mask_units, slim, units
from effi.cost import count_flops, forward_flops, train_flops
from effi.errors import DataError, ParameterError
from effi.models import clip, library
from effi.models.clip import BASE, ClipSize, ImageClassifier, TwoTowers, image_classifier, two_towers, zero_shot_head
from effi.models.language import TextSize, classifier
from effi.training import Contrastive, Replicas

END, WORDS, LENGTH, PAIRS, CLASSES = 3, 40, 7, 5, 4
SIZE = ClipSize(width=16, depth=2, heads=4, hidden=24, patch=4, embedding=12, text=TextSize(12, 1, 3, 20))
TINY = {"image_size": 8, "channels": 3, "vocabulary": WORDS, "length": LENGTH}
PIXELS = 3 * 8 * 8


def towers(seed: int = 0, **changes: object) -> TwoTowers:
    return two_towers(**TINY | {"size": SIZE} | changes, seed=seed)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(*shape: int) -> Tensor:
    """Ids that end at several places, with padding behind."""
    ids = torch.randint(5, WORDS, (*shape, LENGTH), generator=drawn(1))
    ends = torch.arange(ids[..., 0].numel()).view(shape) % 3 + LENGTH - 3
    places = torch.arange(LENGTH)
    return ids.where(places < ends[..., None], END * (places == ends[..., None]))


def images(count: int = PAIRS) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=drawn())


def rows() -> Tensor:
    return torch.cat([images().flatten(1), texts(PAIRS).float()], 1)


def scattered(model: TwoTowers) -> TwoTowers:
    """The model with larger weights, so that every image and text is told from the others."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" not in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=drawn(3)))
    return model


def classified(seed: int = 0) -> ImageClassifier:
    model = scattered(towers(seed))
    return image_classifier(model, zero_shot_head(model, texts(CLASSES, 2)))


def size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_golden_counts():
    with torch.device("meta"):
        model = two_towers(image_size=224, vocabulary=49408, length=77)
        visual = image_classifier(model, torch.empty(10, 512))
    assert size(model) == 151_277_313
    assert size(visual) == 87_849_216
    assert sum(w.numel() for w in masks.prunable(visual).values()) == 12 * 12 * 768**2 == 84_934_656
    macs = sum(visual.forward_flops(1).values()) / 2
    assert macs == pytest.approx(4.409e9, rel=2e-4) and visual.train_flops(1) == pytest.approx(6 * macs, rel=0.02)


def test_prunable_are_the_six_matrices_of_the_blocks():
    names = {re.sub(r"layers\.\d+", "layers.N", name) for name in masks.prunable(classified())}
    matrices = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")] + ["mlp.fc1", "mlp.fc2"]
    assert names == {f"vision.encoder.layers.N.{name}.weight" for name in matrices}
    assert len(masks.prunable(classified())) == 6 * SIZE.depth


def test_similarities_are_the_librarys():
    model = scattered(towers())
    theirs = model.net(input_ids=texts(PAIRS), pixel_values=images()).logits_per_image
    assert theirs.std() > 0.1
    assert (model(rows()) - theirs).abs().max() < 1e-5


def test_similarities_by_hand():
    model = scattered(towers())
    with torch.no_grad():
        found, seen, read = model(rows()), model.embed_images(images()), model.embed_texts(texts(PAIRS))
    assert torch.allclose(torch.cat([seen, read]).norm(dim=1), torch.ones(2 * PAIRS))
    for image, text in ((0, 0), (1, 3), (4, 2)):
        assert found[image, text].item() == pytest.approx(float((seen[image] * read[text]).sum()) / 0.07, rel=1e-3)


def test_a_text_is_read_at_its_end_and_without_one_at_its_last_place():
    model, ids = scattered(towers()), torch.randint(5, WORDS, (1, LENGTH), generator=drawn())
    ended = ids.clone()
    ended[0, 4] = END
    behind, within = ended.clone(), ended.clone()
    behind[0, 5:], within[0, 2] = END, END + 1
    assert torch.equal(model.embed_texts(ended), model.embed_texts(behind))
    assert (model.embed_texts(ended) - model.embed_texts(within)).abs().max() > 0.01
    last = ids.clone()
    last[0, -1] = 5 if ids[0, -1] != 5 else 6
    assert (model.embed_texts(ids) - model.embed_texts(last)).abs().max() > 0.01
    other = scattered(towers(end=9))
    ended[0, 5] = 9
    assert (other.embed_texts(ended) - other.embed_texts(ended[:, :6])).abs().max() < 1e-6


def test_a_zero_shot_head_is_the_mean_of_its_prompts():
    model, captions = scattered(towers()), texts(CLASSES, 2)
    head, embedded = zero_shot_head(model, captions), model.embed_texts(captions.flatten(0, 1)).view(CLASSES, 2, 12)
    mean = embedded.mean(1)
    expected = mean / mean.norm(dim=1, keepdim=True) / 0.07
    assert torch.allclose(head, expected, rtol=1e-4)
    assert not head.requires_grad
    one = zero_shot_head(model, captions[:, :1])
    logits = image_classifier(model, one)(images())
    paired = torch.cat([images().flatten(1)[:CLASSES], captions[:, 0].float()], 1)
    assert torch.allclose(logits[:CLASSES], model(paired), atol=1e-5)


def test_a_classifier_trains_its_own_tower_and_keeps_its_head():
    model = scattered(towers())
    before, single = (
        copy.deepcopy(model.state_dict()),
        image_classifier(model, zero_shot_head(model, texts(CLASSES, 2))),
    )
    head, labels = single.head.clone(), torch.arange(8) % CLASSES
    optimizer = torch.optim.AdamW(single.parameters(), lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(single(images(8)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (single(images(8)).argmax(1) == labels).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in single.parameters())
    assert torch.equal(single.head, head) and "head" in single.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_pairs_are_learnt_by_heart():
    model, labels = towers(), torch.arange(PAIRS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = Contrastive().losses(model(rows()), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert Contrastive().hits(model(rows()), labels).all()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("make", "example"), [(towers, rows), (classified, images)])
def test_flops(make, example):
    model, x = make(), example()
    assert sum(forward_flops(model, x).values()) == count_flops(lambda: model(x))
    assert train_flops(model, x) == count_flops(lambda: model(x).sum().backward())


def test_flops_by_hand():
    tokens, width, hidden = 5, 16, 24
    blocks = 2 * (2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens**2 * width)
    stem, ends = 2 * 4 * 48 * width, 2 * width * 12 + 2 * 12 * CLASSES
    flops = classified().forward_flops(3)
    assert sum(flops.values()) == 3 * (blocks + stem + ends)
    inside = [path for path in flops if any(name.startswith(f"{path}.") for name in masks.prunable(classified()))]
    assert sum(flops[path] for path in inside) == 3 * (blocks - 8 * tokens**2 * width)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize(("make", "example"), [(towers, rows), (classified, images)])
def test_seeds_side_by_side_are_the_seeds_alone(make, example):
    models, x = [make(seed) for seed in (1, 2)], example()
    together = Replicas(models)(x.expand(2, *x.shape))
    alone = torch.stack([model(x) for model in models])
    assert (alone[0] - alone[1]).abs().max() > 0.1
    assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize(("make", "example"), [(towers, rows), (classified, images)])
def test_bf16_rounds_embeddings_and_not_their_products(make, example):
    model, x = make(), example()
    exact = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x)
    assert rounded.dtype == torch.float32
    assert (rounded.bfloat16().float() != rounded).any()
    assert 0 < (rounded - exact).abs().max() < 0.02 / 0.07


def test_a_slim_classifier_is_the_masked_one():
    model = classified()
    keep = {axis: list(range(count - 1)) for axis, count in units(model).items()}
    assert len(keep) == 2 * SIZE.depth
    masked, slimmed = copy.deepcopy(model), slim(model, keep)
    with torch.no_grad():
        for name, kept in mask_units(masked, keep).items():
            masked.get_parameter(name).mul_(kept)
    assert (slimmed(images()) - masked(images())).abs().max() < 1e-5
    assert sum(slimmed.forward_flops(3).values()) == count_flops(lambda: slimmed(images(3)))


def test_weights_follow_the_seed_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (dict(towers(seed).named_parameters()) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not any(value.equal(other[name]) for name, value in first.items() if value.numel() > 1 and value.std() > 0)


@pytest.mark.parametrize("end", [2, END])
def test_a_checkpoint_gives_the_librarys_logits(end, tmp_path, capfd):
    """Those first published name 2 as the end, and end with the highest id."""
    source = scattered(towers(end=end)).net
    source.save_pretrained(tmp_path)
    ids = texts(PAIRS)
    if end == 2:
        ids[ids == END] = WORDS - 1
    capfd.readouterr()
    model = two_towers(**TINY, checkpoint=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert model.training and model.end == (WORDS - 1 if end == 2 else END)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path)(input_ids=ids, pixel_values=images()).logits_per_image
    ours = model(torch.cat([images().flatten(1), ids.float()], 1))
    assert (ours - theirs).abs().max() < 1e-5
    shorter = two_towers(**TINY | {"length": 6, "vocabulary": 30}, checkpoint=tmp_path)
    assert torch.equal(shorter.embed_texts(ids[:1, :6]), model.embed_texts(ids[:1, :6]))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    towers().net.save_pretrained(tmp_path)
    for changes, message in (
        ({"size": SIZE}, "a checkpoint has its own size and end"),
        ({"end": END}, "a checkpoint has its own size and end"),
        ({"vocabulary": 41}, "the checkpoint has 40 ids and 7 positions: 41 ids"),
        ({"length": 8}, "texts of 8 need"),
        ({"image_size": 32}, "reads 3 channels of 8 pixels a side, not 3 of 32: resize the images"),
        ({"channels": 1}, "not 1 of 8"),
    ):
        with pytest.raises(ParameterError, match=message):
            two_towers(**TINY | changes, checkpoint=tmp_path)


def test_unusable_checkpoints_say_why(tmp_path):
    with pytest.raises(DataError, match=r"is no checkpoint with config\.json and safetensors .*: give a folder"):
        two_towers(**TINY, checkpoint=tmp_path)
    size = TextSize(16, 1, 2, 24)
    classifier("bert", 2, size=size, vocabulary=WORDS, length=LENGTH).net.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="holds a bert model: clip needs a clip one"):
        two_towers(**TINY, checkpoint=tmp_path)
    towers().net.config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"has no weights logit_scale: give a folder of a whole model"):
        two_towers(**TINY, checkpoint=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DataError, match="is no checkpoint with"):
        two_towers(**TINY, checkpoint=tmp_path)


def test_weights_of_other_sizes_than_the_configuration_are_refused(tmp_path):
    towers().net.save_pretrained(tmp_path)
    towers(size=ClipSize(20, 2, 4, 24, 4, 12)).net.config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="is no checkpoint with"):
        two_towers(**TINY, checkpoint=tmp_path)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    towers().net.config.save_pretrained(tmp_path)
    torch.save({"logit_scale": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"its pytorch_model\.bin is a pickle, which is never opened"):
        two_towers(**TINY, checkpoint=tmp_path)
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_checkpoints_are_found_among_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFI_DATA", str(tmp_path))
    monkeypatch.setattr(library, "cached", lambda names: iter(()))
    assert clip.find_checkpoint() is None
    towers().net.save_pretrained(tmp_path / "clip-vit-base-patch32")
    assert clip.find_checkpoint() == str(tmp_path / "clip-vit-base-patch32")


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ParameterError, match="width 10 is not a multiple of heads 4"):
        ClipSize(10, 1, 4, 8, 4, 12)
    with pytest.raises(ParameterError, match="image size 10 is not a multiple of patch size 4"):
        towers(image_size=10)
    assert BASE.towers() == (TextSize(768, 12, 12, 3072), TextSize(512, 12, 8, 2048))
