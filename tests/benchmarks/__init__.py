"""How fast, how exact and how small, as ratios from one run: ``make bench``.

One module a topic, each with a function ``measure(settings)`` that returns figures. A
figure compares two things that were measured in turn in the same run, because machines
differ and so do hours; machine, versions and tile sizes stand beside it.
"""
