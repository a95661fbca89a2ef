"""The reports: records and stored sections in, self-contained HTML pages out.

::

    text        numbers as a reader likes them
    figures     arrays to pictures;  mistakes   where objects are split or merged
    charts      numbers to inline SVG;  plots   records to charts
    pictures    stored sections to pictures;  gallery   which ones, how large
    tables      rows of scores;  commands   how to open volumes
    summary     sentences, cards, warnings;  timings   times, rates, disk, machines
    views       volumes, trainings, predictions as report.html shows them
    members     who an ensemble's members are
    suggestions what the data suggests, a section by itself
    comparison  what changed between networks;  pairs   as compare.html shows it
    pages       templates to bytes
"""
