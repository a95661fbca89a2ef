"""The words of a command line."""

import pytest

from unetpipe.errors import ConfigError
from unetpipe.runtime.command import check_once


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
