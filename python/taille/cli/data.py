"""The data of `taille optimize`: arrays in an .npz file, a folder of images by class, or a function's batches."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taille.cli.sources import call_source, is_source
from taille.measurement.metrics import METRICS

if TYPE_CHECKING:
    from taille.arrays import Array
    from taille.models import BaseMLModel
    from taille.torch_model import TorchModel

__all__ = ["Labelled", "attach", "read_data"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
HELD_OUT = 0.5  # of the samples: quality is measured on them, and calibration sees the others
BATCH = 32


@dataclass(frozen=True)
class Labelled:
    """Samples and what the model should say of them.

    Attributes:
        inputs: [n, ...].   targets: [n, ...].
    """

    inputs: Array
    targets: Array


def read_data(text: str) -> Labelled:
    """Read DATA.

    Args:
        text: an .npz file with arrays "inputs" and "targets"; a folder with a folder of images for each class, in
            alphabetical order, RGB from 0 to 1, [n, 3, height, width]; or FILE.py:function, which gives both.

    Raises:
        ValueError: it is none of these, arrays are missing, hold objects or differ in length.
    """
    path = Path(text)
    if is_source(text):
        inputs, targets = call_source(text)
    elif path.suffix == ".npz":
        inputs, targets = read_npz(path)
    elif path.is_dir():
        inputs, targets = read_images(path)
    else:
        raise ValueError(f"--data is {text}; wanted an .npz file, a folder of images by class, or FILE.py:function")
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if len(inputs) != len(targets) or len(inputs) < 4:
        raise ValueError(
            f"--data {text} has {len(inputs)} inputs and {len(targets)} targets; wanted as many, at least 4"
        )
    return Labelled(inputs, targets)


def read_npz(path: Path) -> tuple[Array, Array]:
    """The arrays "inputs" and "targets"; no pickled objects are read."""
    try:
        arrays = np.load(path, allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise ValueError(f"--data {path} is damaged: {error}") from None
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError(f"--data {path} holds one array; wanted an .npz file with inputs and targets")
    with arrays:
        missing = [name for name in ("inputs", "targets") if name not in arrays]
        if missing:
            raise ValueError(f"--data {path} lacks {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
        return arrays["inputs"], arrays["targets"]


def read_images(folder: Path) -> tuple[Array, Array]:
    """Images of one size, and the number of their class."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("a folder of images as --data needs Pillow: pip install pillow") from None

    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    files = [(f, i) for i, c in enumerate(classes) for f in sorted(c.iterdir()) if f.suffix.lower() in IMAGES]
    if not files:
        raise ValueError(f"--data {folder} has no images in folders; wanted a folder for each class")
    images = []
    for file, _ in files:
        with Image.open(file) as image:
            images.append(np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255)
        if images[-1].shape != images[0].shape:
            raise ValueError(f"{file} is {images[-1].shape[1:]}; the others are {images[0].shape[1:]} (height, width)")
    return np.stack(images), np.array([label for _, label in files])


def attach(model: TorchModel, data: Labelled, metric: str) -> None:
    """Give the model what it lacks of that data: calibration on one half, quality on the other.

    Raises:
        ValueError: there is no such metric.
    """
    import torch

    if metric not in METRICS:
        raise ValueError(f"--metric is '{metric}'; there are {', '.join(METRICS)}")
    sign = -1 if metric == "rmse" else 1  # higher is better
    order = np.random.default_rng(0).permutation(len(data.inputs))
    split = int(len(order) * HELD_OUT)
    held_out, seen = np.sort(order[:split]), np.sort(order[split:])
    test_x, test_y = data.inputs[held_out], data.targets[held_out]

    def quality(one: BaseMLModel) -> float:
        parts = [np.asarray(one.predict(test_x[i : i + BATCH])) for i in range(0, len(test_x), BATCH)]
        return sign * METRICS[metric](np.concatenate(parts), test_y)

    calibration: Any = list(torch.from_numpy(np.ascontiguousarray(data.inputs[seen])).split(BATCH))
    model.calibration_data = model.calibration_data or calibration
    model.eval_fn = quality
