"""Whom a run tells of what happens to it: the key `alerts` of a job, and where addresses are found."""
