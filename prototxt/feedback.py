"""Recipes with feedback losses: the layers added to a train.prototxt, and the solver."""

from __future__ import annotations

from collections.abc import Mapping

from writing import TRAIN, Fields, Word, layer, prototxt

TERMS = {"pull": 0, "pull_push": 1}  # the push's weight
SIMILARITIES = ("cosine", "correlation")


def losses(scored: Mapping[str, tuple[str, str]], terms: str, similarity: str) -> list[Fields]:
    """A feedback loss for each softmax loss, with the values that docs/experiment.md chose.

    Args:
        scored: suffix of the names -> the blobs of scores and labels.
        terms: one of TERMS.
        similarity: one of SIMILARITIES.
    """
    options = {
        "similarity": Word(similarity.upper()), "template": Word("MEAN"),
        "include_background": Word("false"), "push_weight": TERMS[terms],
    }  # fmt: skip
    return [
        layer(f"feedback{suffix}", "FeedbackLoss", bottoms, include={"phase": TRAIN},
              loss_weight=0.2, loss_param={"ignore_label": 255}, feedback_loss_param=options)
        for suffix, bottoms in scored.items()
    ]  # fmt: skip


def recipes(policy: str, solver: str, scored: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Every file of the recipes of one policy, by its path in the folder of the net."""
    files = {f"recipes/{policy}_softmax/solver.prototxt": solver}
    for terms in TERMS:
        for similarity in SIMILARITIES:
            folder = f"recipes/{policy}_{terms}_{similarity}"
            files[f"{folder}/solver.prototxt"] = solver
            text = prototxt(losses(scored, terms, similarity))
            files[f"{folder}/feedback.prototxt"] = text
    return files
