"""The order of a job's steps: the only package that knows it."""
