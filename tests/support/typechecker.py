"""What checks the annotations of digits while the tests run."""

import beartype

# An int is a float to it, as in PEP 484.
_check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def check(function):
  """Makes a function check its arguments and its result, but not a config: that refuses bad values by itself."""
  return function if function.__qualname__.endswith('Config.__init__') else _check(function)
