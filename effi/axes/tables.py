"""Descriptions of the classes that the workbook trains; libraries are named, not imported.

BERT-like layers hold their feed-forward matrices in two submodules, which is why the layer itself has the neurons.
Swin and CLIP have several residual streams, which differ in width and therefore bear no name.
"""

from __future__ import annotations

from effi.axes.description import Units, describe

QKV = "heads:query+key+value"


def _linears(up: str, down: str) -> dict[str, str]:
    """Two linear layers with the neurons between them."""
    return {
        f"{up}.weight": "neurons width",
        f"{up}.bias": "neurons",
        f"{down}.weight": "width neurons",
        f"{down}.bias": "width",
    }


def _norms(*names: str) -> dict[str, str]:
    """LayerNorms on the residual stream."""
    return {f"{name}.{leaf}": "width" for name in names for leaf in ("weight", "bias")}


def _nameless(dimensions: dict[str, str]) -> dict[str, str]:
    """The same without the name of the residual stream."""
    return {name: text.replace("width", "-") for name, text in dimensions.items()}


def _separate(query: str, key: str, value: str, out: str) -> dict[str, str]:
    """Query, key and value in linear layers of their own."""
    described = {f"{out}.weight": "width heads:value", f"{out}.bias": "width"}
    for role, layer in (("query", query), ("key", key), ("value", value)):
        described |= {f"{layer}.weight": f"heads:{role} width", f"{layer}.bias": f"heads:{role}"}
    return described


def _ours() -> None:
    stacked = {"qkv.weight": f"{QKV} width", "qkv.bias": QKV, "out.weight": "width heads:value", "out.bias": "width"}
    describe("effi.models.attention.SelfAttention", stacked, heads=Units("out", "heads"))
    describe("effi.models.vit.FeedForward", _linears("0", "2"), neurons=Units("2"))
    describe("effi.models.vit.Block", _norms("norm1", "norm2"))
    stem = {"stem.weight": "width pixels", "stem.bias": "width", "cls": "- - width", "positions": "- tokens width"}
    head = {"head.weight": "classes width", "head.bias": "classes"}
    describe("effi.models.vit.ViT", stem | head | _norms("final_norm"))


def _torch() -> None:
    attention = {
        "in_proj_weight": f"{QKV} width",
        "in_proj_bias": QKV,
        "out_proj.weight": "width heads:value",
        "out_proj.bias": "width",
    }
    heads = Units("out_proj", "num_heads", opened="effi.axes.opened.OpenMultiheadAttention")
    for kind in ("torch.nn.modules.activation.MultiheadAttention", heads.opened):
        describe(kind, attention, heads=heads)


def _torchvision() -> None:
    window = {
        "qkv.weight": f"{QKV} width",
        "qkv.bias": QKV,
        "proj.weight": "width heads:value",
        "proj.bias": "width",
        "relative_position_bias_table": "- heads",
    }
    heads = Units("proj", "num_heads", opened="effi.axes.windows.OpenWindowAttention")
    for kind in ("torchvision.models.swin_transformer.ShiftedWindowAttention", heads.opened):
        describe(kind, _nameless(window), heads=heads)
    describe("torchvision.ops.misc.MLP", _nameless(_linears("0", "3")), neurons=Units("3"))
    module = "torchvision.models.vision_transformer"
    describe(f"{module}.MLPBlock", _linears("0", "3"), neurons=Units("3"))
    describe(f"{module}.EncoderBlock", _norms("ln_1", "ln_2"))
    describe(f"{module}.Encoder", {"pos_embedding": "- tokens width"} | _norms("ln"))
    stem = {"class_token": "- - width", "conv_proj.weight": "width - - -", "conv_proj.bias": "width"}
    describe(f"{module}.VisionTransformer", stem | {"heads.head.weight": "classes width", "heads.head.bias": "classes"})


def _gpt2() -> None:
    module = "transformers.models.gpt2.modeling_gpt2"
    attention = {
        "c_attn.weight": f"width {QKV}",
        "c_attn.bias": QKV,
        "c_proj.weight": "heads:value width",
        "c_proj.bias": "width",
    }
    describe(f"{module}.GPT2Attention", attention, heads=Units("c_proj", "num_heads", ("split_size",)))
    mlp = {
        "c_fc.weight": "width neurons",
        "c_fc.bias": "neurons",
        "c_proj.weight": "neurons width",
        "c_proj.bias": "width",
    }
    describe(f"{module}.GPT2MLP", mlp, neurons=Units("c_proj"))
    describe(f"{module}.GPT2Block", _norms("ln_1", "ln_2"))
    tables = {"wte.weight": "vocabulary width", "wpe.weight": "positions width"}
    describe(f"{module}.GPT2Model", tables | _norms("ln_f"))


def _bert(module: str, name: str) -> None:
    attention = _separate("self.query", "self.key", "self.value", "output.dense")
    norm = _norms("output.LayerNorm")
    heads = Units("output.dense", "self.num_attention_heads", ("self.all_head_size",))
    describe(f"{module}.{name}Attention", attention | norm, heads=heads)
    layer = _linears("intermediate.dense", "output.dense") | norm
    describe(f"{module}.{name}Layer", layer, neurons=Units("output.dense"))
    tables = {"word": "vocabulary", "position": "positions", "token_type": "types"}
    embeddings = {f"{table}_embeddings.weight": f"{rows} width" for table, rows in tables.items()}
    describe(f"{module}.{name}Embeddings", embeddings | _norms("LayerNorm"))


def _clip() -> None:
    module = "transformers.models.clip.modeling_clip"
    attention = _separate("q_proj", "k_proj", "v_proj", "out_proj")
    describe(f"{module}.CLIPAttention", _nameless(attention), heads=Units("out_proj", "num_heads"))
    describe(f"{module}.CLIPMLP", _nameless(_linears("fc1", "fc2")), neurons=Units("fc2"))


_ours()
_torch()
_torchvision()
_gpt2()
_bert("transformers.models.bert.modeling_bert", "Bert")
_bert("transformers.models.roberta.modeling_roberta", "Roberta")
_clip()
