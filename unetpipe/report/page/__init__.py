"""The reports: records and stored sections in, self-contained HTML pages out.

::

    run         the records that pages are made of
    text        numbers as a reader likes them
    painting    arrays to pictures;  mistakes   where objects are split or merged
    svg         numbers to inline SVG;  charts  records to charts
    section_viewer  stored sections to pictures;  gallery   which ones, how large
    tables      rows of scores;  commands   how to open volumes
    summary     facts for sentences, cards;  warnings  what stages found odd
    timings     times, rates, disk, machines
    views       volumes, trainings, predictions as report.html shows them
    members     who an ensemble's members are
    differences  what changed between networks;  network_pairs  as a page shows it
    templates   templates to bytes
"""
