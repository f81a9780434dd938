"""timm's MobileNet for the networks that a sweep can name, made of timm's own parts.

For `mobilenet` at alpha 1 this is `timm.create_model("mobilenetv1_100", num_classes=…)`. timm has ready-made models
for 1 and 1.25 alone; other widths are the same builder with another channel multiplier, and the two variants the same
builder with another list of blocks.
"""

from functools import partial

import timm
import torch
from timm.layers import get_act_layer
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet, _gen_mobilenet_v1

# As in timm's `_gen_mobilenet_v1`: repeats, kernel, stride and channels of each stage. `dsa` is a depthwise and a
# pointwise convolution, each with its activation; `cn` one full convolution.
SHALLOW = ["dsa_r1_k3_s1_c64", "dsa_r2_k3_s2_c128", "dsa_r2_k3_s2_c256", "dsa_r1_k3_s2_c512", "dsa_r2_k3_s2_c1024"]
FULL = ["cn_r1_k3_s1_c64", "cn_r2_k3_s2_c128", "cn_r2_k3_s2_c256", "cn_r6_k3_s2_c512", "cn_r2_k3_s2_c1024"]


def make(network: str, alpha: float, classes: int, activation: str = "relu6") -> torch.nn.Module:
    """The model of a network, a width and a number of classes, with timm's defaults for the rest."""
    if network == "mobilenet":
        if alpha == 1:
            return timm.create_model("mobilenetv1_100", num_classes=classes, act_layer=activation)
        return _gen_mobilenet_v1("mobilenetv1_100", alpha, num_classes=classes, act_layer=activation)
    stages = {"shallow_mobilenet": SHALLOW, "conv_mobilenet": FULL}[network]
    return EfficientNet(
        block_args=decode_arch_def([[stage] for stage in stages]),
        num_classes=classes,
        num_features=0,
        stem_size=32,
        round_chs_fn=partial(round_channels, multiplier=alpha),
        act_layer=get_act_layer(activation),
    )
