"""Descriptions of the classes that the workbook trains or grows; libraries are named, not imported.

Our ViT, GPT and Swin's blocks; torch's attention; torchvision's ViT and Swin; transformers' GPT-2, BERT, RoBERTa,
DistilBERT, ViT and CLIP; timm's ViT, which DeiT is, and CaiT. Heads are described where growing needs them; the axis
"head" is what the transform of a masked-language head writes, of the width of the residual stream.
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


def _norms(*names: str, axis: str = "width") -> dict[str, str]:
    """LayerNorms, on the residual stream unless another axis is named."""
    return {f"{name}.{leaf}": axis for name in names for leaf in ("weight", "bias")}


def _head(name: str, rows: str) -> dict[str, str]:
    """A linear layer that reads the residual stream."""
    return {f"{name}.weight": f"{rows} width", f"{name}.bias": rows}


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
    describe("effi.models.vit.ViT", stem | _head("head", "classes") | _norms("final_norm"))
    describe("effi.models.gpt.CausalSelfAttention", stacked, heads=Units("out", "heads"))
    describe("effi.models.gpt.FeedForward", _linears("0", "2"), neurons=Units("2"))
    describe("effi.models.gpt.Block", _norms("norm1", "norm2"))
    tables = {"embedding.weight": "vocabulary width", "positions.weight": "positions width"}
    describe("effi.models.gpt.GPT", tables | _head("lm_head", "vocabulary") | _norms("norm"))


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
    describe(f"{module}.VisionTransformer", stem | _head("heads.head", "classes"))


def _timm() -> None:
    attention = {
        "qkv.weight": f"{QKV} width",
        "qkv.bias": QKV,
        "proj.weight": "width heads:value",
        "proj.bias": "width",
    }
    describe("timm.layers.attention.Attention", attention, heads=Units("proj", "num_heads", ("attn_dim",)))
    describe("timm.layers.mlp.Mlp", _linears("fc1", "fc2"), neurons=Units("fc2"))
    describe("timm.layers.layer_scale.LayerScale", {"gamma": "width"})
    module = "timm.models.vision_transformer"
    describe(f"{module}.Block", _norms("norm1", "norm2"))
    stem = {"patch_embed.proj.weight": "width - - -", "patch_embed.proj.bias": "width"}
    stem |= {"pos_embed": "- tokens width"} | {f"{each}_token": "- - width" for each in ("cls", "reg", "dist")}
    ends = stem | _norms("norm_pre", "norm", "fc_norm") | _head("head", "classes")
    describe(f"{module}.VisionTransformer", ends | _head("head_dist", "classes"))
    _cait(attention, ends)


def _cait(attention: dict[str, str], ends: dict[str, str]) -> None:
    module, opened = "timm.models.cait", "effi.axes.talking"
    mixing = {f"{each}.weight": "heads heads" for each in ("proj_l", "proj_w")}
    mixing |= {f"{each}.bias": "heads" for each in ("proj_l", "proj_w")}
    for name, described in (("TalkingHeadAttn", attention | mixing), ("ClassAttn", _separate("q", "k", "v", "proj"))):
        heads = Units("proj", "num_heads", opened=f"{opened}.Open{name}")
        for kind in (f"{module}.{name}", heads.opened):
            describe(kind, described, heads=heads)
    scales = {"gamma_1": "width", "gamma_2": "width"}
    for name in ("LayerScaleBlock", "LayerScaleBlockClassAttn"):
        describe(f"{module}.{name}", scales | _norms("norm1", "norm2"))
    describe(f"{module}.Cait", ends)


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
    describe(f"{module}.GPT2LMHeadModel", _head("lm_head", "vocabulary"))
    describe(f"{module}.GPT2ForSequenceClassification", _head("score", "classes"))


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
    describe(f"{module}.{name}Pooler", _head("dense", "width"))


def _bert_heads() -> None:
    module = "transformers.models.bert.modeling_bert"
    words = {"bias": "vocabulary", "decoder.weight": "vocabulary head", "decoder.bias": "vocabulary"}
    describe(f"{module}.BertPredictionHeadTransform", _head("dense", "head") | _norms("LayerNorm", axis="head"))
    describe(f"{module}.BertLMPredictionHead", words)
    describe(f"{module}.BertForSequenceClassification", _head("classifier", "classes"))
    module = "transformers.models.roberta.modeling_roberta"
    describe(f"{module}.RobertaLMHead", _head("dense", "head") | _norms("layer_norm", axis="head") | words)
    describe(f"{module}.RobertaClassificationHead", _head("dense", "width") | _head("out_proj", "classes"))


def _distilbert() -> None:
    module = "transformers.models.distilbert.modeling_distilbert"
    attention = _separate("q_lin", "k_lin", "v_lin", "out_lin")
    describe(f"{module}.DistilBertSelfAttention", attention, heads=Units("out_lin", "n_heads", ("dim",)))
    describe(f"{module}.FFN", _linears("lin1", "lin2"), neurons=Units("lin2"))
    describe(f"{module}.TransformerBlock", _norms("sa_layer_norm", "output_layer_norm"))
    tables = {"word_embeddings.weight": "vocabulary width", "position_embeddings.weight": "positions width"}
    describe(f"{module}.Embeddings", tables | _norms("LayerNorm"))
    words = {"vocab_projector.weight": "vocabulary head", "vocab_projector.bias": "vocabulary"}
    transform = _head("vocab_transform", "head") | _norms("vocab_layer_norm", axis="head")
    describe(f"{module}.DistilBertForMaskedLM", transform | words)
    classes = _head("pre_classifier", "width") | _head("classifier", "classes")
    describe(f"{module}.DistilBertForSequenceClassification", classes)


def _vit() -> None:
    module = "transformers.models.vit.modeling_vit"
    attention = _separate("q_proj", "k_proj", "v_proj", "o_proj")
    describe(f"{module}.ViTAttention", attention, heads=Units("o_proj", "num_attention_heads"))
    describe(f"{module}.ViTMLP", _linears("fc1", "fc2"), neurons=Units("fc2"))
    describe(f"{module}.ViTLayer", _norms("layernorm_before", "layernorm_after"))
    stem = {"projection.weight": "width - - -", "projection.bias": "width"}
    describe(f"{module}.ViTPatchEmbeddings", stem)
    tables = {"position_embeddings": "- tokens width", "cls_token": "- - width", "mask_token": "- - width"}
    describe(f"{module}.ViTEmbeddings", tables)
    describe(f"{module}.ViTPooler", _head("dense", "width"))
    describe(f"{module}.ViTModel", _norms("layernorm"))
    describe(f"{module}.ViTForImageClassification", _head("classifier", "classes"))


def _clip() -> None:
    module = "transformers.models.clip.modeling_clip"
    attention = _separate("q_proj", "k_proj", "v_proj", "out_proj")
    describe(f"{module}.CLIPAttention", _nameless(attention), heads=Units("out_proj", "num_heads"))
    describe(f"{module}.CLIPMLP", _nameless(_linears("fc1", "fc2")), neurons=Units("fc2"))


_ours()
_torch()
_torchvision()
_timm()
_gpt2()
_bert("transformers.models.bert.modeling_bert", "Bert")
_bert("transformers.models.roberta.modeling_roberta", "Roberta")
_bert_heads()
_distilbert()
_vit()
_clip()
