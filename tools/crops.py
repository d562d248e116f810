"""Crops of photographs: cut once, drawn at random, laid out as mosaics."""

import json
import random
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CROP_PX = 128
LONG_SIDES_PX = (2560, 1280, 720)
LEAST_PX = 400
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def make_crops(work: Path, images: Path, limit: int) -> None:
    """Cut detailed 128 px crops at three scales from every large picture below ``images``."""
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in SUFFIXES)
    with Pool() as pool:
        found = [pair for pairs in pool.imap(_crops_of, paths) for pair in pairs]
    detail = np.array([energy for _, energy in found])
    count = min(limit, len(found))
    chosen = np.random.default_rng(0).choice(
        len(found), size=count, replace=False, p=detail / detail.sum()
    )
    np.save(work / "crops.npy", np.stack([found[i][0] for i in chosen]).transpose(0, 3, 1, 2))
    print(json.dumps({"pictures": len(paths), "candidates": len(found), "kept": count}))


def _crops_of(path: Path) -> list[tuple[np.ndarray, float]]:
    """Return a picture's crops that are not smooth, each with its gradient energy, at most 12."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError) as err:
        print(f"left out {path.name}: {err}")
        return []
    if min(picture.size) < LEAST_PX:
        return []
    found = []
    # A small picture's own size counts once.
    for long_side in sorted({min(side, max(picture.size)) for side in LONG_SIDES_PX}):
        ratio = long_side / max(picture.size)
        size = (round(picture.width * ratio), round(picture.height * ratio))
        scaled = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        stride = CROP_PX if long_side > 1000 else CROP_PX // 2
        for top in range(0, scaled.shape[0] - CROP_PX + 1, stride):
            for left in range(0, scaled.shape[1] - CROP_PX + 1, stride):
                crop = scaled[top : top + CROP_PX, left : left + CROP_PX]
                luma = crop.astype(np.float32).mean(-1)
                energy = float(
                    np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
                )
                if energy > 1.5:
                    found.append((crop.copy(), min(energy, 12.0)))
    return found


def load_crops(work: Path, device: torch.device) -> Tensor:
    """Return the crops, uint8 [n, 3, 128, 128], where they are trained on."""
    return torch.from_numpy(np.load(work / "crops.npy")).to(device)


def augment(batch: Tensor) -> Tensor:
    """Flip and transpose a batch at random: the eight symmetries of the square."""
    if random.random() < 0.5:
        batch = batch.flip(-1)
    if random.random() < 0.5:
        batch = batch.flip(-2)
    if random.random() < 0.5:
        batch = batch.transpose(-1, -2)
    return batch


def windows(pictures: Tensor, count: int, side: int, grid: int = 1) -> Tensor:
    """Return ``count`` random windows [count, c, side, side] of pictures [n, c, h, h].

    They begin at multiples of ``grid``.
    """
    device, places = pictures.device, (pictures.shape[-1] - side) // grid + 1
    which = torch.randint(len(pictures), (count, 1, 1, 1), device=device)
    top, left = (grid * torch.randint(places, (count, 1, 1, 1), device=device) for _ in range(2))
    along, channels = (torch.arange(n, device=device) for n in (side, pictures.shape[1]))
    return pictures[which, channels[:, None, None], top + along[:, None], left + along]


def crop_batch(crops: Tensor, count: int, side: int) -> Tensor:
    """Return ``count`` random ``side``² windows of the crops, [-1, 1]."""
    return augment(windows(crops, count, side).float() / 127.5 - 1)


def mosaic(batch: Tensor, rows: int, cols: int) -> Tensor:
    """Lay every ``rows`` · ``cols`` items [n, c, h, w] out as one picture."""
    _, channels, height, width = batch.shape
    grid = batch.reshape(-1, rows, cols, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, cols * width)


def unmosaic(batch: Tensor, rows: int, cols: int) -> Tensor:
    """Undo `mosaic`."""
    _, channels, height, width = batch.shape
    grid = batch.reshape(-1, channels, rows, height // rows, cols, width // cols)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // cols)
