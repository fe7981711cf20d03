"""`python -m digits COMMAND`, the same as the console script `digits`."""

from digits.commands import cli

if __name__ == '__main__':
  cli.main()
