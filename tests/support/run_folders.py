"""Run folders as trainings leave them, without training."""

import json
from dataclasses import replace

import torch

from lambdanets.recipes import get_recipe
from lambdanets.runs.class_report import save_confusion


def written_run(folder, seed, correct, name="digits", epochs=25, *, raw=None, finished=True, **changes):
    """Write the files that comparisons and pages read.

    Args:
        folder: Where.
        seed: Of the run.
        correct: Of 500 images, after the last epoch.
        name: The recipe.
        epochs: How many are done.
        raw: The same of the raw weights; None leaves them out.
        finished: Whether there is a report, with its confusion matrix.
        **changes: To the settings of the recipe.
    """
    config = replace(get_recipe(name), seed=seed, **changes)
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    records = []
    for epoch in range(1, epochs + 1):
        right = correct - (epochs - epoch)
        record = {
            "epoch": epoch,
            "step": 21 * epoch,
            "learning_rate": 0.1,
            "train_loss": 2.0 / epoch,
            "train_accuracy": right / 500,
            "test_loss": 2.0 / epoch,
            "test_accuracy": right / 500,
            "test_correct": right,
            "test_total": 500,
            "test_top5_correct": 499,
            "train_total": 1297,
            "seconds": 2.0 * epoch,
        }
        if raw is not None:
            record |= {"raw_test_loss": 1.0, "raw_test_accuracy": raw / 500, "raw_test_correct": raw}
        records.append(record)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "best.json").write_text(json.dumps({"parameters": 36234}))
    if finished:
        save_confusion(folder, torch.tensor([[9, 2], [0, 8]]), ["cat", "<dog>"])
        (folder / "report.md").write_text("# A report\n")
    return folder
