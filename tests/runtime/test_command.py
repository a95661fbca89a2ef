"""The words of a command line."""

import pytest

from unetpipe.errors import ConfigError
from unetpipe.runtime.command import check_disk, check_once, told_of_stores


@pytest.mark.parametrize(
    "words",
    [
        ["--configfile", "a.yaml", "--configfile", "b c.yaml", "-n"],
        ["-n", "--configfile=a.yaml", "--configfiles", "b c.yaml"],
        ["--configfiles", "a.yaml", "--cores", "2", "--configfile=b c.yaml"],
    ],
)
def test_a_second_configfile_is_refused_with_the_words_that_work(words) -> None:
    with pytest.raises(ConfigError) as caught:
        check_once(words)
    assert str(caught.value).endswith("--configfile a.yaml 'b c.yaml'")


def test_several_files_after_one_configfile_are_fine() -> None:
    check_once(["status", "--configfile", "a.yaml", "b.yaml", "--config", "name=c"])
    check_once([])


def test_a_storage_of_objects_is_refused_in_a_sentence() -> None:
    check_disk(None)
    with pytest.raises(ConfigError, match="a folder on a disk that all jobs share"):
        check_disk("s3")


def test_what_deletes_or_lists_a_run_without_its_stores_says_so() -> None:
    folders = ["results/my run", "logs/my run"]
    told = told_of_stores(["snakemake", "--delete-all-output"], folders)
    assert told.endswith("To delete the run: rm -r 'results/my run' 'logs/my run'")
    assert "do not delete" in told_of_stores(["--list-untracked"], folders)
    assert told_of_stores(["--cores", "2", "-n", "--config", "name=a"], folders) == ""
