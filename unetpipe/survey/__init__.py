"""A stranger's folder of images: what lies in it, and how it becomes a sheet.

::

    folder --contents, series, pairs--> candidates --headers--> volumes
           --counts, label_kinds--> kind of labels --roles--> rows
           --settings, writing--> sheet, configuration

Whatever is not certain becomes a note, which is printed and written into both files.
"""
