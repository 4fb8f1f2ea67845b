"""ViT-B/16."""

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from mtlue_cli.networks.backbones.base import VECTOR, Backbone, FeatureMaps

PATCH = 16
"""Side of a patch in pixels."""

NATIVE_GRID = 14
"""Patches per side that the table of position embeddings holds: those of 224 pixels."""


def patches_a_side(side: int) -> int:
    """Patches along one side of an image of ``side`` pixels: up to 112 pixels one for every 8, above one for every 16.

    So 32 pixels give 4, 64 give 8, 112 and 224 both give 14. A side that no patch divides is rounded to the next one.
    """
    pixels_a_patch = PATCH if side > NATIVE_GRID * PATCH // 2 else PATCH // 2
    return max(1, round(side / pixels_a_patch))


class VisionTransformerOfAnySize(VisionTransformer):  # type: ignore[misc]  # torchvision has no types
    """torchvision's vision transformer, for square images of any size.

    An image is scaled bilinearly to a whole number of patches, the position embeddings to its grid of patches.

    Attributes:
        gives_maps: Whether it gives the tokens of the patches too, as one feature map beside its vector.
    """

    gives_maps = False

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Class token after the last layer, ``(B, 768)``, of ``(B, 3, S, S)`` images; maps as :attr:`gives_maps`."""
        grid = patches_a_side(images.shape[-1])
        side = grid * PATCH
        if images.shape[-1] != side:
            images = nn.functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        encoder = self.encoder
        tokens = encoder.dropout(tokens + _positions_of(encoder.pos_embedding, grid))
        encoded: Tensor = encoder.ln(encoder.layers(tokens))
        if not self.gives_maps:
            return encoded[:, 0]
        return {VECTOR: encoded[:, 0], "map0": encoded[:, 1:].transpose(1, 2).reshape(len(images), -1, grid, grid)}


def _giving_maps(network: nn.Module) -> nn.Module:
    assert isinstance(network, VisionTransformerOfAnySize)
    network.gives_maps = True
    return network


def _positions_of(table: Tensor, grid: int) -> Tensor:
    """Position embeddings ``(1, 1 + grid**2, D)`` from a table of the native grid; the class token keeps its own."""
    if grid == NATIVE_GRID:
        return table
    token, plane = table[:, :1], table[:, 1:]
    plane = plane.transpose(1, 2).reshape(1, -1, NATIVE_GRID, NATIVE_GRID)
    plane = nn.functional.interpolate(plane, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([token, plane.flatten(2).transpose(1, 2)], dim=1)


def build_vit_b_16() -> Backbone:
    """ViT-B/16 without the classification layer, adapted to images of 32 to 224 pixels.

    A 64-pixel image has only 16 patches of 16 pixels. Images of up to 112 pixels are therefore enlarged twofold, so
    that a patch covers 8 of their pixels and 64 pixels give 64 patches; see :func:`patches_a_side`. Parameters are
    called and shaped as in torchvision's ``vit_b_16``, patch projection and position table included.

    From scratch it is given a tenth of the other backbones' learning rate: the loop has no warm-up, and without one
    Adam at 1e-3 first throws a transformer of this size off (on a toy set the loss rose to 2.5 before it fell; at 1e-4
    it fell from the start).

    Source:
        Dosovitskiy et al., ICLR 2021; position embeddings interpolated as in its section 3.2.
    """
    network = VisionTransformerOfAnySize(
        image_size=NATIVE_GRID * PATCH, patch_size=PATCH, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
    )
    network.heads = nn.Identity()
    return Backbone(network, 768, FeatureMaps((768,), _giving_maps))
