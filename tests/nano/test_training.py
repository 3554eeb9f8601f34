"""Training resumes, exports what the app loads, and its options change nothing but speed and memory."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from i2v.families.nano import training
from i2v.families.nano.reader import Reader
from i2v.families.nano.spec import SPEC
from tools.train_nano import train
from tools.train_nano.dataset import make_batch
from tools.train_nano.export import export
from tools.train_nano.network import TEXT_WIDTH, make_scheduler, make_text_encoder, make_unet

SHAPE = 8, 8


def network(tokenizer):
    torch.manual_seed(1)
    model = train.Nano(make_text_encoder(tokenizer), make_unet((16, 16, 32)))
    for parameter in model.parameters():  # diffusers starts temporal layers at zero, which would hide them
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def gradients(model, batch, tokenizer, precision="float32"):
    torch.manual_seed(2)
    model.zero_grad()
    loss = train.training_step(model, batch, tokenizer, make_scheduler().alphas_cumprod, torch.device("cpu"), precision)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_faster_layers_and_checkpointing_give_the_same_gradients(library, tokenizer):
    batch = make_batch(library, SHAPE, 2, 0)
    plain = network(tokenizer)
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss, reference = gradients(plain.train(), batch, tokenizer)
    for checkpointing in (False, True):
        model = network(tokenizer).train()
        train.prepare_for_training(model, checkpointing)
        other_loss, other = gradients(model, batch, tokenizer)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(other, reference, rtol=1e-3, atol=1e-5)


def test_mixed_precision_is_close(library, tokenizer):
    batch = make_batch(library, SHAPE, 2, 0)
    model = network(tokenizer)
    train.prepare_for_training(model, False)
    loss, reference = gradients(model, batch, tokenizer)
    mixed_loss, mixed = gradients(model, batch, tokenizer, "bfloat16")
    assert mixed_loss == pytest.approx(loss, rel=0.02)
    assert torch.cosine_similarity(mixed, reference, dim=0) > 0.98


def test_training_resumes_and_exports_a_folder_the_app_loads(data, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "shapes_of", lambda stage: (SHAPE,))
    run = tmp_path / "run"
    tokenizer.save_pretrained(run / "tokenizer")  # what `reading` leaves; test_bench goes through that too
    save_file(make_text_encoder(tokenizer).state_dict(), run / "reading.safetensors")
    save_file(Reader(TEXT_WIDTH, len(tokenizer)).state_dict(), run / "reader.safetensors")
    arguments = ["--data", str(data), "--out", str(run), "--minutes", "0.001", "--batch", "1"]  # a step or two
    train.main(arguments)
    first = json.loads((run / "progress.json").read_text())["step"]
    train.main(arguments)
    assert json.loads((run / "progress.json").read_text())["step"] > first > 0
    export(run, tmp_path / "nano")
    assert json.loads((tmp_path / "nano" / "model_index.json").read_text())["_class_name"] == SPEC.class_name
    for component, files in SPEC.components.items():
        for name in files:
            assert (tmp_path / "nano" / component / name).is_file()


def test_the_rate_warms_up_holds_and_falls():
    assert train.rate(0, 0.0, 0.25) < 0.05
    assert train.rate(1000, 0.5, 0.25) == 1
    assert train.rate(1000, 0.99, 0.25) < 0.1


def test_a_small_motions_error_counts_beside_its_own_size():
    clean = torch.zeros(3, 7, 4, 8, 8)
    clean[0, :2] = 1.5  # a pan
    clean[1, :2] = 0.2  # a hand-held camera
    weights = training.loss_weights(clean)[:, :, 0, 0, 0]
    assert weights[0, 0] < weights[1, 0] < weights[2, 0]
    assert weights[2, 0] / training.CHANNEL_WEIGHTS[0] == training.RELATIVE_RANGE[1]
    assert torch.equal(weights[0, 2:6], weights[1, 2:6])


def test_the_last_noise_level_holds_no_signal():
    assert make_scheduler().alphas_cumprod[-1] < 1e-6
