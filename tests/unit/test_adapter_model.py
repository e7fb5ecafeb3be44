"""The adapter's architecture: parameter counts, exact factorisation, invariances."""

import pytest

torch = pytest.importorskip("torch")
from rankclip.training.models.adapter import (  # noqa: E402
    AdapterFull,
    AdapterLite,
    Config,
    LiteConfig,
    LossConfig,
    Pairs,
    bradley_terry,
    loss,
    pair_loss,
)


def small(**changes: object) -> Config:
    return Config(**({"token_width": 6, "text_width": 5, "width": 16, "heads": 4, "prompts": 3, "relational": 4, "dropout": 0.0} | changes))


def inputs(size: int = 5, patches: int = 7, words: int = 4, seed: int = 0) -> tuple:
    torch.manual_seed(seed)
    return torch.randn(size, patches, 6).double(), torch.randn(size, words, 5).double(), torch.ones(size, words, dtype=torch.bool)


@pytest.mark.parametrize(("width", "count"), [(512, 18_150_434), (768, 40_791_586)])
def test_the_released_architecture_has_the_released_number_of_parameters(width: int, count: int) -> None:
    with torch.device("meta"):
        model = AdapterFull(Config.released(width))
    assert sum(p.numel() for p in model.parameters()) == count
    assert count - sum(p.numel() for p in model.pairs.parameters()) == {512: 16_559_649, 768: 37_225_761}[width]


SHAPES = [(1, 1, 8, 1, 1), (2, 3, 16, 2, 1), (3, 7, 24, 4, 5), (7, 4, 32, 8, 16), (5, 9, 20, 2, 3)]


@pytest.mark.parametrize(("size", "patches", "width", "heads", "queries"), SHAPES)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_factorised_pair_branch_is_the_literal_one(
    size: int, patches: int, width: int, heads: int, queries: int, kind: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(size)
    pairs = Pairs(Config(width, width, width, heads, relational=queries)).to(kind)
    z = torch.randn(size, patches, width, dtype=kind, requires_grad=True)
    probe = torch.randn(size, size, dtype=kind)
    found = [(out, torch.autograd.grad((out * probe).sum(), [z, *pairs.parameters()])) for out in (pairs(z), pairs.literal(z))]
    assert (found[0][0] - found[1][0]).abs().max() <= tolerance
    assert all((a - b).abs().max() <= tolerance for a, b in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_shapes(size: int) -> None:
    model = AdapterFull(small(facts=7, pooled=9)).double()
    tokens, text, mask = inputs(size)
    score, pair = model.both(tokens, text, mask, torch.randn(size, 7).double(), torch.randn(size, 9).double())
    assert score.shape == (size,) and pair.shape == (size, size)


def test_no_prompt_tokens_and_another_number_of_patches() -> None:
    model = AdapterFull(small(prompt_kind="none")).double().eval()
    assert model(*inputs(2, patches=3)).shape == model(*inputs(2, patches=11)).shape == (2,)


def test_released_scalar_prompts_cannot_learn() -> None:
    model = AdapterFull(Config(16, 16, 16, 4, 1, 1, 4, 8, "scalar", "sum", 4, 1, project=False, masked=False)).double().eval()
    torch.manual_seed(1)
    args = torch.randn(3, 5, 16).double(), torch.randn(3, 4, 16).double(), torch.ones(3, 4, dtype=torch.bool)
    before = model(*args)
    with torch.no_grad():
        model.fusion.prompts.copy_(3 + 2 * torch.randn_like(model.fusion.prompts))
    assert (model(*args) - before).abs().max() < 2e-2  # only LayerNorm's eps keeps it from being zero
    vector = AdapterFull(small()).double().eval()
    before = vector(*inputs())
    with torch.no_grad():
        vector.fusion.prompts.add_(torch.randn_like(vector.fusion.prompts))
    assert (vector(*inputs()) - before).abs().max() > 2e-2


def test_permutations() -> None:
    model = AdapterFull(small()).double().eval()
    tokens, text, mask = inputs(5)
    score, pair = model.both(tokens, text, mask)
    order = torch.tensor([3, 1, 4, 0, 2])
    moved_score, moved_pair = model.both(tokens[order], text[order], mask[order])
    assert torch.allclose(moved_score, score[order]) and torch.allclose(moved_pair, pair[order][:, order])
    shuffled = tokens[:, torch.randperm(tokens.shape[1])]
    assert torch.allclose(model(shuffled, text, mask), score), "patch tokens carry no position here"
    assert torch.allclose(model(tokens[:1], text[:1], mask[:1]), score[:1]), "a score does not depend on other photos"


def test_padding_is_masked_and_a_single_instruction_serves_all() -> None:
    model = AdapterFull(small()).double().eval()
    tokens, text, mask = inputs(4)
    padded = torch.cat([text, torch.randn(4, 6, 5).double()], dim=1)
    long_mask = torch.cat([mask, torch.zeros(4, 6, dtype=torch.bool)], dim=1)
    assert torch.allclose(model(tokens, padded, long_mask), model(tokens, text, mask))
    shared = model(tokens, text[:1], mask[:1])
    assert torch.allclose(shared, model(tokens, text[:1].expand(4, -1, -1), mask[:1].expand(4, -1)))


def test_odd_pair_head() -> None:
    pair = AdapterFull(small(pair_head="odd")).double().eval().both(*inputs(6))[1]
    assert torch.allclose(pair, -pair.T) and pair.diagonal().abs().max() < 1e-12


def test_lite_is_odd_and_small() -> None:
    model = AdapterLite(LiteConfig(384))
    assert 0.3e6 < sum(p.numel() for p in model.parameters()) < 0.5e6
    rows = torch.nn.functional.normalize(torch.randn(5, 384), dim=-1)
    score, pair = model.both(rows, rows.flip(0))
    assert score.shape == (5,) and torch.allclose(pair, -pair.T, atol=1e-5)


def test_rank_loss_ignores_shift_and_drops_ties() -> None:
    torch.manual_seed(0)
    pair, wanted = torch.randn(6, 6), torch.tensor([1.0, 1, 2, 5, 5, 9])
    config = LossConfig(soft=0.0)
    assert pair_loss(pair, wanted, config) == pair_loss(pair, wanted + 100, config) == pair_loss(pair, 3 * wanted, config)
    gap = wanted[:, None] - wanted[None]
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(pair[gap != 0], (gap > 0).float()[gap != 0])
    assert torch.isclose(pair_loss(pair, wanted, config), by_hand)
    released = torch.nn.functional.binary_cross_entropy_with_logits(pair, (gap > 0).float())
    assert torch.isclose(pair_loss(pair, wanted, LossConfig.released()), released), "ties and diagonal as negatives"


def test_loss_by_hand() -> None:
    score, wanted = torch.tensor([0.0, 3.0]), torch.tensor([1.0, 1.0])
    assert torch.isclose(loss(score, None, wanted, LossConfig()), 0.2 * torch.log1p(torch.tensor((0.5 + 1.5) / 2)))
    assert torch.isclose(bradley_terry(torch.tensor([2.0, 1.0]), torch.tensor([0]), torch.tensor([1])), torch.log1p(torch.exp(torch.tensor(-1.0))))
