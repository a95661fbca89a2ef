import pytest

from unetpipe.records.circumstances import Circumstances
from unetpipe.storage.verification import (
    differing_circumstances,
    sample_blocks_to_verify,
)


@pytest.mark.parametrize(
    ("libraries", "reason"),
    [
        ({"cuda": "13.0", "cudnn": "92400"}, None),
        ({"cuda": "12.8", "cudnn": "92400"}, "cuda: 12.8, here 13.0"),
        ({"cuda": "13.0", "cudnn": "92000"}, "cudnn: 92000, here 92400"),
        ({}, "cuda: None, here 13.0"),
    ],
)
def test_on_a_gpu_bits_depend_on_cuda_and_cudnn(monkeypatch, libraries, reason):
    versions = {"cuda": "13.0", "cudnn": "92400"}
    monkeypatch.setattr("unetpipe.runtime.files._versions_of_cuda", lambda: versions)
    made = Circumstances.here(device="cuda (H200)", threads=1)
    told = {k: v for k, v in made.libraries.items() if k not in versions} | libraries
    shards = [made.model_copy(update={"libraries": told})]
    assert differing_circumstances(shards, "cuda (H200)", is_cuda=True) == reason
    assert differing_circumstances(shards, "cuda (H200)", is_cuda=False) is None


def test_shards_of_a_block_may_have_been_computed_by_other_threads():
    shards = [Circumstances.here(device="cpu", threads=n) for n in (1, 2)]
    told = differing_circumstances(shards, "cpu", is_cuda=False)
    assert told == "threads, within the block"
    told = differing_circumstances(shards, "cuda (H200)", is_cuda=True)
    assert told == "device: cpu, here cuda (H200)"


@pytest.mark.parametrize(
    ("at_least", "fraction", "count"), [(2, 0, 2), (0, 0.5, 3), (9, 0, 5), (0, 0, 0)]
)
def test_a_sample_has_as_many_blocks_as_were_asked(at_least, fraction, count):
    drawn = sample_blocks_to_verify(5, at_least=at_least, fraction=fraction, seed=3)
    assert len(set(drawn)) == count
    assert drawn == sorted(drawn)
    assert drawn == sample_blocks_to_verify(
        5, at_least=at_least, fraction=fraction, seed=3
    )
