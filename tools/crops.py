"""Crops of photographs: cut once, drawn at random, laid out as mosaics."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CROP_PX = 128
LONG_SIDES_PX = (2560, 1280, 720)


def make_crops(work: Path, images: Path, limit: int) -> None:
    """Cut detailed 128 px crops at three scales from every large picture below ``images``."""
    rng = np.random.default_rng(0)
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    crops: list[np.ndarray] = []
    detail: list[float] = []
    for path in paths:
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, ValueError) as err:
            print(f"left out {path.name}: {err}")
            continue
        if min(picture.size) < 700:
            continue
        for long_side in LONG_SIDES_PX:
            ratio = min(1.0, long_side / max(picture.size))
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
                        crops.append(crop.copy())
                        detail.append(min(energy, 12.0))
    chance = np.asarray(detail) / np.sum(detail)
    count = min(limit, len(crops))
    chosen = rng.choice(len(crops), size=count, replace=False, p=chance)
    stacked = np.stack([crops[i] for i in chosen]).transpose(0, 3, 1, 2)
    np.save(work / "crops.npy", stacked)
    print(json.dumps({"pictures": len(paths), "candidates": len(crops), "kept": count}))


def load_crops(work: Path) -> np.ndarray:
    return np.load(work / "crops.npy", mmap_mode="r")


def augment(batch: Tensor) -> Tensor:
    """Flip and transpose a batch at random: the eight symmetries of the square."""
    if random.random() < 0.5:
        batch = batch.flip(-1)
    if random.random() < 0.5:
        batch = batch.flip(-2)
    if random.random() < 0.5:
        batch = batch.transpose(-1, -2)
    return batch


def crop_batch(crops: np.ndarray, count: int, side: int) -> Tensor:
    """Return ``count`` random ``side``² windows of the crops, [-1, 1]."""
    rows = []
    for index in np.random.randint(0, len(crops), count):
        top, left = np.random.randint(0, CROP_PX - side + 1, 2)
        rows.append(crops[index, :, top : top + side, left : left + side])
    return augment(torch.from_numpy(np.stack(rows)).float() / 127.5 - 1)


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
