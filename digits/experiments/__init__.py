"""The experiments that a config can ask for; `runner` holds what they share."""

from digits.experiments.runner import format_results, run

__all__ = ['format_results', 'run']
