"""Many small volumes in one process, each by the steps of jobs of its own."""
