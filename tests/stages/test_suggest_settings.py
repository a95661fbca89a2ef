"""Records of annotated volumes in; a table, a record and YAML to paste out."""

import logging

import numpy as np
import pytest
import yaml

from tests.stages.annotated import draw_instances, ingest, weigh
from unetpipe.config import (
    IngestConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
    check_config,
)
from unetpipe.errors import DataError
from unetpipe.records.suggestions import Suggestions
from unetpipe.report.page.templates import render
from unetpipe.report.page.views import show_suggestions
from unetpipe.runtime.files import read_record
from unetpipe.stages.suggest_settings import suggest_settings
from unetpipe.targets.annotated import AnnotatedRow


def suggest(folder, labels, **more):
    path = ingest(folder / "cells", labels, **more)
    both = {"ingest": str(path), "weight_map": str(weigh(path))}
    suggest_settings(
        rows=[
            AnnotatedRow(**both, sections=(0, 1, 2), role="train"),
            AnnotatedRow(**both, sections=(3,), role="validate"),
        ],
        ingest=IngestConfig(),
        network=NetworkConfig(),
        training=TrainingConfig(),
        weight_map=WeightMapConfig(),
        snippet=folder / "suggestions.yaml",
        record=folder / "suggestions.json",
    )
    return read_record(folder / "suggestions.json")


def test_the_table_is_logged_recorded_and_can_be_pasted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    labels = draw_instances()
    record = suggest(tmp_path, labels)
    (volume,) = record["volumes"]
    cells = sum(len(np.unique(section)) - 1 for section in labels[:3])
    assert (volume["num_sections"], volume["num_cells"]) == (3, cells)
    assert volume["section_shape"] == [50, 60]
    assert sum(volume["class_counts"]) == labels[:3].size
    assert record["remarks"] == [
        "3 annotated training sections; the paper trained on 30, and elastic "
        "deformation carries few only so far"
    ]
    text = (tmp_path / "suggestions.yaml").read_text()
    assert yaml.safe_load(text) == yaml.safe_load(record["yaml"])
    config = check_config(yaml.safe_load(text))
    for suggestion in record["suggestions"]:
        section, _, key = suggestion["key"].partition(".")
        value = getattr(getattr(config, section), key)
        if suggestion["is_change"]:
            wanted = suggestion["suggested"]
            assert value == (tuple(wanted) if isinstance(wanted, list) else wanted)
        assert suggestion["why"] in caplog.text


def test_the_page_shows_what_is_suggested_and_why(tmp_path):
    record = suggest(tmp_path, draw_instances())
    page = {"suggestions": show_suggestions(Suggestions.model_validate(record))}
    section = render("suggestions.html", page).decode()
    for suggestion in record["suggestions"]:
        assert suggestion["key"] in section
    assert section.count("<section") == section.count("</section>") == 1
    assert "base_channels: 16" in section


def test_without_an_annotated_voxel_there_is_nothing_to_measure(tmp_path):
    labels = np.full((4, 50, 60), 9, np.uint32)
    with pytest.raises(DataError, match="no voxel of a training section is annotated"):
        suggest(tmp_path, labels, unlabelled=9)
