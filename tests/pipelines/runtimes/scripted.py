"""Small networks of a site, each in a folder with its pipeline.toml, and what they look at."""

from __future__ import annotations

import io

import numpy as np

from pipelines.contract import Channel, Code, Images, MultiplexGroup, Waveform
from pipelines.runtimes import load
from tests.pipelines.runtimes import balls

HEAD = """
name = "{name}"
version = "1"
title = "Test"
maker = "Tests"
licence = "MIT"
trained_on = "synthetic"
{extra}
task = "{task}"
"""
LABEL = """
[[labels]]
index = {index}
label = "{label}"
category = ["49755003", "SCT", "Morphologically Abnormal Structure"]
property = ["{code}", "SCT", "{label}"]
{more}
"""
NODULE = {"index": 0, "label": "Nodule", "code": "27925004", "more": ""}
FIBRILLATION = {"index": 1, "label": "Atrial Fibrillation", "code": "49436004", "more": ""}


def pipeline(folder, module, task, sections, labels=(NODULE,), example=None, **head):
    """Return the pipeline of a torch module, kept as TorchScript."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    saved = io.BytesIO()
    kept = torch.jit.script(module) if example is None else torch.jit.trace(module, example)
    torch.jit.save(kept, saved)
    (folder / "model.ts").write_bytes(saved.getvalue())
    digest = balls.sha256(saved.getvalue())
    text = HEAD.format(task=task, **{"name": "test", "extra": "", **head})
    text += sections.replace(
        "[model]", f'[model]\nruntime = "torchscript"\nfile = "model.ts"\nsha256 = "{digest}"'
    )
    text += "".join(LABEL.format(**label) for label in labels)
    (folder / "pipeline.toml").write_text(text)
    return load(folder)


def mean_brightness():
    """Return a classifier: the probability is the mean brightness."""
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1).mean(dim=1, keepdim=True)

    return Mean()


def radiograph(shape=(40, 60), top=10, left=30, height=8, width=20):
    frames = np.zeros((1, *shape), np.float32)
    frames[0, top : top + height, left : left + width] = 100.0
    return Images(frames, spacing_mm=(0.5, 0.5), attributes={"Modality": "DX"})


def recording(seconds=30.0, loud=(10.0, 20.0), unit="mV", hz=500.0, lead="Lead II", gap=()):
    """Return one lead, of 1 mV in between, else silent."""
    times = np.arange(round(seconds * hz)) / hz
    samples = np.where((times >= loud[0]) & (times < loud[1]), 1.0, 0.0)
    if gap:
        samples[(times >= gap[0]) & (times < gap[1])] = np.nan
    factor = {"mV": 1.0, "uV": 1000.0}.get(unit, 1.0)
    channel = Channel(Code("2:2", "MDC", lead), lead, unit)
    return Waveform((MultiplexGroup(1, hz, (channel,), (samples[None] * factor).astype("f4")),))
