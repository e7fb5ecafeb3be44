"""rankclip-mini's two towers as torch modules: what the shipped ONNX graphs were exported from.

Image tower: EfficientNet-Lite trunk (Tan & Le 2019 without squeeze-excite, tensor names as timm's), then three readings of its last
feature map that are added and normalised: an MLP on the mean, attention pooling over the patch tokens, and the class-knowledge
residual (posterior over ImageNet's classes times the classes' text embeddings). Text tower: a small transformer over CLIP's BPE.
Both end in the same 384-d space. Shape letters: B batch, P patches, T tokens, W width, D embedding width.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rankclip.backbones.tokens import CONTEXT, END, VOCABULARY
from rankclip.errors import InputError

# ---------------------------------------------------------------- text tower


@dataclass(frozen=True, slots=True)
class TextConfig:
    width: int = 256
    layers: int = 6
    heads: int = 4  # 64 channels a head, as in CLIP
    factor: int = 128  # the token table is VOCABULARY x factor, then a linear map to the width: 6 M instead of 13 M parameters
    embedding: int = 384
    causal: bool = False


class TextTower(nn.Module):
    """Token ids -> embedding and token states."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(VOCABULARY, config.factor)
        self.widen = nn.Linear(config.factor, config.width)
        self.position = nn.Parameter(torch.randn(CONTEXT, config.width) * 0.01)
        self.blocks = nn.ModuleList(TextBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.embedding, bias=False)
        self.shortcut = nn.Linear(config.factor, config.embedding, bias=False)  # bag of words: gives rare words a meaning at once
        nn.init.normal_(self.table.weight, std=0.05)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids: int64 [B, T], zeros after the end mark. Returns embedding [B, D] (L2-normalised) and token states [B, T, W]."""
        end = (ids == END).to(torch.int32).argmax(dim=1)  # [B]
        places = torch.arange(ids.shape[1], device=ids.device)  # [T]
        real = places[None, :] <= end[:, None]  # [B, T]
        table = self.table(ids)  # [B, T, factor]
        x = self.widen(table) + self.position[: ids.shape[1]]  # [B, T, W]
        mask = torch.where(real, 0.0, -1e9).to(x.dtype)[:, None, None, :]  # [B, 1, 1, T]
        if self.config.causal:
            mask = mask + torch.triu(torch.full((ids.shape[1],) * 2, -1e9, dtype=x.dtype, device=ids.device), 1)
        for block in self.blocks:
            x = block(x, mask)
        states = self.norm(x)  # [B, T, W]
        words = (real & (places[None, :] > 0) & (places[None, :] < end[:, None])).to(x.dtype)[..., None]  # [B, T, 1]
        bag = (table * words).sum(1) / words.sum(1).clamp(min=1.0)  # [B, factor]
        last = (states * (places[None, :] == end[:, None]).to(x.dtype)[..., None]).sum(1)  # [B, W]; a sum, since exporters freeze indexing
        return F.normalize(self.project(last) + self.shortcut(bag), dim=-1), states


class TextBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: [B, T, W]; mask: [B, 1, T or 1, T], added to the scores."""
        size, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(size, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, T, W/H]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [B, H, T, W/H]
        x = x + self.out(attended.transpose(1, 2).reshape(size, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def write_text_tower(tower: TextTower, path: Path, licence: str) -> None:
    """Write a text tower as float16 safetensors, its settings in the header."""
    weights = {name: value.detach().half().contiguous() for name, value in tower.state_dict().items()}
    save_file(weights, path, {"config": json.dumps(asdict(tower.config)), "licence": licence})


def read_text_tower(path: Path) -> TextTower:
    """Read a text tower with float32 weights from its safetensors file, whose header holds the settings.

    Raises InputError for a file that is missing or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as kept:
            tower = TextTower(TextConfig(**json.loads(kept.metadata()["config"])))
            tower.load_state_dict({name: kept.get_tensor(name).float() for name in kept.keys()})  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[0][:120]
        raise InputError(f"{path}: no text tower of rankclip-mini ({cause})", hint="the repository has it: weights/rankclip-mini-text.safetensors") from error
    return tower


# ---------------------------------------------------------------- image tower


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of EfficientNet's table: kernel, stride, expansion, channels, repeats."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


TRUNKS = {
    "tf_efficientnet_lite0": (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 2), Stage(5, 2, 6, 40, 2), Stage(3, 2, 6, 80, 3),
                              Stage(5, 1, 6, 112, 3), Stage(5, 2, 6, 192, 4), Stage(3, 1, 6, 320, 1)),
    "tf_efficientnet_lite2": (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 3), Stage(5, 2, 6, 48, 3), Stage(3, 2, 6, 88, 4),
                              Stage(5, 1, 6, 120, 4), Stage(5, 2, 6, 208, 5), Stage(3, 1, 6, 352, 1)),
}  # fmt: skip
STEM, FEATURES, CLASSES = 32, 1280, 1000
BN_EPS = 1e-3  # TensorFlow's default, not torch's


@dataclass(frozen=True, slots=True)
class ImageConfig:
    trunk: str = "tf_efficientnet_lite2"
    size: int = 224  # pixels, both sides
    token_width: int = 192
    hidden: int = 1024
    embedding: int = 384
    dropout: float = 0.3


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: what is left over goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side in (x.shape[-1], x.shape[-2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            return F.conv2d(x, self.weight, self.bias, self.stride, (pads[2], pads[0]), self.dilation, self.groups)
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(inside, outside, kernel, stride, groups=groups, bias=False)


class DepthwiseSeparable(nn.Module):
    def __init__(self, inside: int, stage: Stage, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = conv(inside, inside, stage.kernel, stride, groups=inside), nn.BatchNorm2d(inside, eps=BN_EPS)
        self.conv_pw, self.bn2 = conv(inside, stage.channels, 1), nn.BatchNorm2d(stage.channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))


class InvertedResidual(nn.Module):
    def __init__(self, inside: int, stage: Stage, stride: int) -> None:
        super().__init__()
        middle = inside * stage.expand
        self.residual = stride == 1 and inside == stage.channels
        self.conv_pw, self.bn1 = conv(inside, middle, 1), nn.BatchNorm2d(middle, eps=BN_EPS)
        self.conv_dw, self.bn2 = conv(middle, middle, stage.kernel, stride, groups=middle), nn.BatchNorm2d(middle, eps=BN_EPS)
        self.conv_pwl, self.bn3 = conv(middle, stage.channels, 1), nn.BatchNorm2d(stage.channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """EfficientNet-Lite up to its last feature map. Input [B, 3, S, S] in -1...1, output [B, 1280, S/32, S/32] >= 0."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = conv(3, STEM, 3, 2), nn.BatchNorm2d(STEM, eps=BN_EPS)
        self.blocks = nn.ModuleList()
        inside = STEM
        for stage in TRUNKS[name]:
            make = DepthwiseSeparable if stage.expand == 1 else InvertedResidual
            blocks = nn.ModuleList()
            for repeat in range(stage.repeats):
                blocks.append(make(inside, stage, stage.stride if repeat == 0 else 1))
                inside = stage.channels
            self.blocks.append(blocks)
        self.conv_head, self.bn2 = conv(inside, FEATURES, 1), nn.BatchNorm2d(FEATURES, eps=BN_EPS)
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x))

    def stem(self, x: Tensor, until: int = 0) -> Tensor:
        """Run the stem and the first `until` blocks (counted one by one)."""
        x = F.relu6(self.bn1(self.conv_stem(x)))
        for block in self.flat()[:until]:
            x = block(x)
        return x

    def tail(self, x: Tensor, since: int = 0) -> Tensor:
        """Run the blocks from `since` on and the final convolution."""
        for block in self.flat()[since:]:
            x = block(x)
        return F.relu6(self.bn2(self.conv_head(x)))

    def flat(self) -> list[nn.Module]:
        return [block for stage in self.blocks for block in stage.children()]


class ImageTower(nn.Module):
    """Pixels -> embedding [B, D] and patch tokens [B, P, W]."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk)
        self.head = nn.Sequential(nn.Linear(FEATURES, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.embedding))
        self.tokens = nn.Linear(FEATURES, config.token_width)
        self.attention = AttentionPool(config.token_width, config.embedding)
        self.class_texts = nn.Parameter(torch.zeros(CLASSES, config.embedding))  # rows: text embeddings of the class names
        self.class_gain = nn.Parameter(torch.tensor(0.85))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels: uint8 [B, S, S, 3]. Returns embedding [B, D], L2-normalised, and patch tokens [B, P, W]."""
        x = pixels.permute(0, 3, 1, 2).to(self.tokens.weight.dtype) / 127.5 - 1.0  # [B, 3, S, S]
        return self.read(self.trunk(x))

    def read(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Read the trunk's feature map [B, 1280, H, W]."""
        mean = grid.mean(dim=(2, 3))  # [B, 1280]
        root = torch.sqrt(grid + 1e-4).flatten(2).transpose(1, 2)  # [B, P, 1280]; the root tames the few loud channels
        tokens = self.tokens(root)  # [B, P, W]
        pooled = self.head(F.normalize(torch.sqrt(mean + 1e-6), dim=-1))  # [B, D]
        posterior = self.trunk.classifier(mean).softmax(dim=-1)  # [B, 1000]
        known = self.class_gain * (posterior @ self.class_texts)  # [B, D]
        return F.normalize(F.normalize(pooled + self.attention(tokens), dim=-1) + known, dim=-1), tokens


class AttentionPool(nn.Module):
    """Pool tokens with learnt queries, one per head: softmax over the patches, then a linear map."""

    def __init__(self, width: int, embedding: int, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads)
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, embedding)
        self.heads = heads
        nn.init.zeros_(self.out.weight)  # starts as the mean's MLP alone
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [B, P, W]. Returns [B, D]."""
        x = self.norm(tokens)
        weights = self.scores(x).softmax(dim=1)  # [B, P, H]
        values = self.values(x).unflatten(-1, (self.heads, -1))  # [B, P, H, W/H]
        return self.out((weights[..., None] * values).sum(1).flatten(1))  # [B, D]
