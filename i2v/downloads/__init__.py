"""Models that are on their way: one after the other, beside the jobs, kept over restarts."""
