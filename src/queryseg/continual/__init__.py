"""Runs that learn classes step by step: the runner, its scores, its report."""
