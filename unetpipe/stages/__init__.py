"""One function per rule of the workflow: paths in, files out."""
