"""The report: records and stored sections in, one self-contained HTML page out.

::

    text       numbers as a reader likes them
    figures    arrays to pictures and curves
    pictures   stored sections to pictures
    summary    sentences, cards, warnings, timings, machines
    suggestions  what the data suggests, a section by itself
    views      volumes, trainings, predictions as the template shows them
"""
