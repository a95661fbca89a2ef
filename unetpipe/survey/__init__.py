"""A stranger's folder of images: what lies in it, and how it becomes a sheet.

::

    folder --files--> contents --layouts, pairs--> candidates --headers--> volumes
           --kinds--> kind of labels --roles--> rows --settings, texts--> sheet, YAML

Whatever is not certain becomes a note, which is printed and written into both files.
"""
