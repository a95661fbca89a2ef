"""What is measured of objects, each in its own box, and their outlines by section."""
