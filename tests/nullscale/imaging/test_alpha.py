"""Transparent pictures: products that come back, enlarged alpha, and colour that fits under it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nullscale.imaging.alpha import add_alpha, upscale_alpha
from nullscale.imaging.encoding import encode_image, measure_consistency
from nullscale.imaging.image_io import SourceImage, decode_image
from nullscale.imaging.premultiply import premultiply, unpremultiply
from nullscale.maths.operators import output_side


def disc(side: int, edge_px: float) -> np.ndarray:
    """Alpha of a disc whose edge is as wide as said."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    inside = 0.4 * side - np.hypot(rows, columns)
    return np.clip(np.rint(255 * inside / edge_px), 0, 255).astype(np.uint8)


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """Every level of colour with every level of alpha."""
    alpha, colour = np.mgrid[:256, :256].astype(np.uint8)
    return np.repeat(colour[..., None], 3, axis=2), alpha


def pillow_downscale(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC))


def test_products_are_pillows() -> None:
    colour, alpha = every_pair()
    rgba = Image.fromarray(np.dstack([colour, alpha]))
    np.testing.assert_array_equal(
        premultiply(colour, alpha), np.asarray(rgba.convert("RGBa"))[..., :3]
    )


def test_a_product_survives_division() -> None:
    product, alpha = every_pair()
    possible = product[..., 0] <= alpha
    again = premultiply(unpremultiply(product, alpha), alpha)
    np.testing.assert_array_equal(again[possible], product[possible])
    np.testing.assert_array_equal(again[~possible], np.repeat(alpha[..., None], 3, 2)[~possible])


@pytest.mark.parametrize("scale", [1, 1.5, 2, 2.7, 4])
def test_soft_alpha_comes_back(scale: float) -> None:
    alpha = disc(32, 6)
    large, reachable = upscale_alpha(alpha, scale)
    assert reachable and large.shape == (output_side(32, scale),) * 2
    np.testing.assert_array_equal(pillow_downscale(large, alpha.shape), alpha)


@pytest.mark.parametrize("scale", [2, 4])
def test_hard_alpha_comes_back_but_at_its_edge(scale: float) -> None:
    alpha = disc(32, 0.1)
    large, reachable = upscale_alpha(alpha, scale)
    assert not reachable
    back = pillow_downscale(large, alpha.shape)
    rows, columns = np.mgrid[:32, :32] - 15.5
    far = np.abs(np.hypot(rows, columns) - 0.4 * 32) > 5
    np.testing.assert_array_equal(back[far], alpha[far])
    source = SourceImage(
        samples=np.zeros((32, 32, 3), np.uint8), alpha=alpha, exif=None, xmp=None, bit_depth=8
    )
    side = output_side(32, scale)
    assert not add_alpha(np.zeros((side, side, 3), np.uint8), source, scale, pin=True).reachable


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255), st.floats(1.1, 5))
def test_flat_alpha_stays_flat(h: int, w: int, level: int, scale: float) -> None:
    large, reachable = upscale_alpha(np.full((h, w), level, np.uint8), scale)
    assert reachable and large.shape == (output_side(h, scale), output_side(w, scale))
    assert (large == level).all()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_colour_is_fitted_under_alpha(scale: int, kind: str) -> None:
    # A picture that gives its input back and knows nothing of alpha: smooth, with noise on top that
    # the downscale does not see.
    rng = np.random.default_rng(0)
    alpha = disc(32, 8)
    rows, columns = np.mgrid[:32, :32]
    colour = np.stack([7 * rows, 7 * columns, 255 - 4 * (rows + columns)], -1).astype(np.uint8)
    source = SourceImage(
        samples=premultiply(colour, alpha), alpha=alpha, exif=None, xmp=None, bit_depth=8
    )
    large = Image.fromarray(source.samples).resize((32 * scale,) * 2, Image.Resampling.BICUBIC)
    image = np.clip(np.asarray(large) + rng.normal(0, 6, (32 * scale, 32 * scale, 3)), 0, 255)
    image = image.astype(np.uint8)
    assert (image > upscale_alpha(alpha, scale)[0][..., None]).any()
    layers = add_alpha(image, source, scale, pin=True)
    assert layers.alpha is not None and (layers.image <= layers.alpha[..., None]).all()
    encoded = encode_image(layers.image, kind, alpha=layers.alpha)
    measured = measure_consistency(encoded, source, reachable=layers.reachable)
    assert measured.exact and layers.reachable
    # And without any of ours: Pillow's own resize of RGBA, whose last division rounds down.
    with Image.open(io.BytesIO(encoded)) as answer:
        small = answer.resize((32, 32), Image.Resampling.BICUBIC)
    expected = Image.fromarray(np.dstack([source.samples, alpha]), "RGBa").convert("RGBA")
    np.testing.assert_array_equal(np.asarray(small), np.asarray(expected))


def test_a_picture_that_is_not_bound_to_its_input_is_only_cut_off_under_alpha() -> None:
    alpha = disc(8, 2)
    source = SourceImage(
        samples=np.zeros((8, 8, 3), np.uint8), alpha=alpha, exif=None, xmp=None, bit_depth=8
    )
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    layers = add_alpha(image, source, 2, pin=False)
    assert layers.alpha is not None
    np.testing.assert_array_equal(layers.image, np.minimum(image, layers.alpha[..., None]))


def test_opaque_pictures_are_left_alone() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    source = SourceImage(samples=image[:4, :4], alpha=None, exif=None, xmp=None, bit_depth=8)
    layers = add_alpha(image, source, 2, pin=True)
    assert layers.image is image and layers.alpha is None and layers.reachable


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_transparency_makes_the_round_trip(kind: str) -> None:
    alpha = disc(16, 5)
    product = np.minimum(np.random.default_rng(0).integers(0, 256, (16, 16, 3)), alpha[..., None])
    source = decode_image(encode_image(product.astype(np.uint8), kind, alpha=alpha))
    np.testing.assert_array_equal(source.samples, product)
    assert source.alpha is not None
    np.testing.assert_array_equal(source.alpha, alpha)
