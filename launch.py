"""Does what `digits train` does: python launch.py --config=configs/cnn.py [--config.FIELD=VALUE ...]."""

import sys

from digits.commands import cli

if __name__ == '__main__':
  cli.main(['train', *sys.argv[1:]])
