"""The process and its small files: logs, locks, signals, threads, progress, staging."""
