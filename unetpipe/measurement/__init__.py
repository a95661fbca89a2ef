"""What is measured of objects, each in its own box: shapes, grey values, outlines."""
