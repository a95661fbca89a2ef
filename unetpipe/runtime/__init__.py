"""The process and its machine: logs, locks, signals, threads, memory, small files."""
