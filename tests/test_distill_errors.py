"""What cannot be distilled is refused before any training, by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import taille
from distill_nets import Blocks, one_thread, random_teacher, small
from support import output_of

one_thread = pytest.fixture(autouse=True, scope="module")(one_thread)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names no student; wanted student, or any of width, depth, sparsity"),
        ({"width": 0.5, "temprature": 2}, "unknown key 'temprature'; did you mean 'temperature'"),
        ({"width": 0.5, "zzz": 2}, "unknown key 'zzz'; there are student, width"),
        ({"width": 0.5, "early_stopping": {"patence": 2}}, "early_stopping holds an unknown key 'patence'; did"),
        ({"width": 0.5, "early_stopping": {"patience": 0}}, r"early_stopping\['patience'\] is 0; wanted a whole"),
        ({"width": 0.5, "early_stopping": {"min_delta": -1}}, r"early_stopping\['min_delta'\] is -1"),
        ({"width": 0}, r"width is 0; wanted in \(0, 1\]"),
        ({"width": 1.5}, "width is 1.5"),
        ({"depth": -0.5}, "depth is -0.5"),
        ({"sparsity": 1}, "sparsity is 1; wanted the share"),
        ({"width": 0.5, "temperature": 0}, "temperature is 0; wanted a number above 0"),
        ({"width": 0.5, "temperature": float("nan")}, "temperature is nan"),
        ({"width": 0.5, "alpha": 1.1}, "alpha is 1.1; wanted the weight of the hard loss"),
        ({"width": 0.5, "epochs": 0}, "epochs is 0; wanted a whole number of at least 1"),
        ({"width": 0.5, "lr": float("inf")}, "lr is inf"),
        ({"width": 0.5, "warmup": 1}, "warmup is 1"),
        ({"width": 0.5, "seed": -1}, "seed is -1"),
        ({"width": 0.5, "task": "ranking"}, "unknown task 'ranking'; there are classification"),
        ({"width": 0.5, "pattern": "2:4"}, "pattern is '2:4' without sparsity"),
        ({"sparsity": 0.5, "pattern": "channel"}, "wanted width"),
        ({"sparsity": 0.5, "pattern": "block9"}, "block9"),
        ({"student": small(), "width": 0.5, "depth": 0.5}, "holds student and width and depth"),
        ({"student": small(), "feature_weight": 2}, "feature_weight is 2 without features"),
        ({"student": small(), "hold_out": 0.2}, "hold_out is 0.2 without early_stopping"),
        ({"student": small(), "early_stopping": {}, "hold_out": 0.7}, "hold_out is 0.7"),
        ({"student": nn.Linear(64, 7)}, r"the student gives float32\[2, 7\]; the teacher gives float32\[2, 10\]"),
        ({"student": nn.Linear(63, 10)}, "the student does not run on the teacher's example inputs .*RuntimeError"),
        ({"student": nn.Linear(64, 10).double()}, "the student does not run"),
        ({"student": small(), "features": {"blocks.9": "0"}}, "the teacher has no module 'blocks.9'; did you mean 'bl"),
        ({"student": small(), "features": {"stem": "first"}}, "the student has no module 'first'; there are 0, 1"),
        ({"student": small(), "features": {"blocks": "0"}}, "the teacher's module 'blocks' gives no float tensor"),
        ({"student": small(), "class_axis": 2}, "class_axis is 2; the outputs have rank 2"),
    ],
)  # fmt: skip
def test_mistakes_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taille.distill_model(random_teacher(), config, progress=no_training)


def no_training(stage: str, *_: int) -> None:
    assert stage != "training"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "student_config is list; wanted a dict with any of student"),
        ({"width": "half"}, "width is 'half'"),
        ({"width": True}, "width is True"),
        ({"width": 0.5, "epochs": 1.0}, "epochs is 1.0; wanted a whole number"),
        ({"student": "resnet"}, "student is str; wanted a torch.nn.Module or a TorchModel"),
        ({"width": 0.5, "features": "stem"}, "features is str"),
        ({"width": 0.5, "features": [("stem",)]}, "features holds"),
        ({"width": 0.5, "early_stopping": 3}, "early_stopping is int; wanted a dict with any of patience, min_delta"),
    ],
)
def test_other_types_are_refused(config: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        taille.distill_model(random_teacher(), config, progress=no_training)


def test_only_models_that_train_are_teachers_and_students() -> None:
    model = random_teacher()
    with pytest.raises(TypeError, match=r"taille.TorchModel\(module, \(example_input,\)\)\n    taille.distill_model\("):
        taille.distill_model(model.module, {"width": 0.5})
    native = taille.compile_model(model)
    half = taille.quantize_model(model, "float16")
    for other in (native, half):
        with pytest.raises(TypeError, match=f"takes a TorchModel, not {type(other).__name__}; distil first, then quan"):
            taille.distill_model(other, {"width": 0.5})
        with pytest.raises(TypeError, match=f"student is a {type(other).__name__}, which cannot be trained"):
            taille.distill_model(model, {"student": other})


def test_structures_are_compared() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small(8)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.net(x)}

    message = r"the student gives \{logits: float32\[2, 10\]\}; the teacher gives float32\[2, 10\]"
    with pytest.raises(ValueError, match=message):
        taille.distill_model(random_teacher(), {"student": Two()})


@pytest.mark.parametrize(
    ("data", "config", "message"),
    [
        ({"train_data": None}, {}, "teacher has no data to learn from"),
        ({"train_data": None, "calibration_data": [torch.ones(2, 64)]}, {"alpha": 0.1}, "teacher has no train_data"),
        ({"loss_fn": None}, {"alpha": 0.1}, "has no loss_fn"),
        ({"train_data": [torch.ones(2, 64)]}, {"alpha": 0.1}, "has no labels"),
        ({"train_data": []}, {}, "the train data is empty"),
        ({"train_data": [torch.ones(2, 63)]}, {}, "train batch 0"),
        ({"train_data": [torch.ones(2, 64)], "loss_fn": None}, {}, "cannot be told from its loss_fn and labels"),
        ({"train_data": [torch.ones(2, 64)]}, {"early_stopping": {}}, "early_stopping needs a quality: an eval_fn, or"),
        ({"eval_fn": len}, {"early_stopping": {}, "hold_out": 0.1}, "has an eval_fn, which measures"),
    ],
)  # fmt: skip
def test_data_must_be_there(data: dict[str, Any], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taille.distill_model(random_teacher(**data), {"student": small(8), **config}, progress=no_training)


def test_an_unlabelled_teacher_may_ask_for_no_hard_loss() -> None:
    model = random_teacher(loss_fn=None)
    made = taille.distill_model(model, {"student": small(8), "alpha": 0, "epochs": 1, "task": "classification"})
    assert made.metadata["recipe"][-1]["task_because"] == "asked for"


def test_a_softmax_at_the_end_is_no_logit() -> None:
    model = random_teacher()
    model.module = nn.Sequential(model.module, nn.Softmax(1))
    with pytest.raises(ValueError, match="are probabilities, which sum to 1; a temperature softens logits"):
        taille.distill_model(model, {"student": nn.Sequential(small(8), nn.Softmax(1))})
    single = nn.Linear(64, 1)
    one = taille.TorchModel(single, (torch.ones(2, 64),), calibration_data=[torch.ones(2, 64)])
    with pytest.raises(ValueError, match=r'task is "classification", but Linear gives \[2, 1\]'):
        taille.distill_model(one, {"student": single, "task": "classification"})


def test_a_teacher_that_gives_nan_is_refused() -> None:
    model = random_teacher()
    model.module.head.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="the teacher, teacher, gives NaN or infinite values on its example inputs"):
        taille.distill_model(model, {"student": small(8)})


def test_a_loss_has_one_element() -> None:
    model = random_teacher(loss_fn=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ValueError, match=r"loss_fn gives \[16\]; wanted a tensor of one element"):
        taille.distill_model(model, {"student": small(8)})


def test_what_cannot_be_made_smaller_says_why() -> None:
    net = nn.Sequential(nn.Linear(64, 10))
    model = random_teacher()
    model.module = net
    with pytest.raises(ValueError, match=r"has no stack of equal layers to shorten.*its containers are Sequential"):
        taille.distill_model(model, {"depth": 0.5})
    with pytest.raises(ValueError, match="no channels of teacher can be removed"):
        taille.distill_model(model, {"width": 0.5})
    with pytest.raises(ValueError, match="nothing to prune in teacher"):
        taille.distill_model(model, {"sparsity": 0.5})


class Indexed(Blocks):
    """Its layers are called by number."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks[3](self.stem(pixels)))


def test_layers_that_are_called_by_number_are_missed_at_once() -> None:
    model = random_teacher()
    model.module = Indexed(width=32)
    with pytest.raises(ValueError, match=r"the student does not run on the teacher's example inputs .* IndexError"):
        taille.distill_model(model, {"depth": 0.5}, progress=no_training)


def test_the_name_is_there_without_torch() -> None:
    code = "import sys, taille; print('distill_model' in dir(taille), 'torch' in sys.modules)"
    assert output_of(code) == "True False"
