"""What checks the annotations of digits while the tests run."""

import beartype

# An int is a float to it, as in PEP 484.
_check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def check(function):
  """Makes a function check its arguments and its result.

  Constructors are left alone: a config refuses bad values itself, and JAX also makes pytrees of shapes and shardings.
  """
  return function if function.__name__ == '__init__' else _check(function)
