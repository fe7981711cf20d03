"""What the notebook does before it can train: it installs what is missing, and says which device it computes on.

On Colab, installed packages must stay as they are: its jax fits its drivers, and modules that are imported cannot be
replaced. So only what is missing is installed, with everything else pinned meanwhile.
"""

from collections.abc import Iterable, Mapping
import importlib
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

from packaging import requirements as requirements_lib
from packaging import utils
from packaging import version as version_lib


def installed_versions(distributions: Iterable[importlib.metadata.Distribution] | None = None) -> dict[str, str]:
  """The versions of installed packages by canonical name; None for all that Python finds."""
  found = {}
  for distribution in importlib.metadata.distributions() if distributions is None else distributions:
    name, version = distribution.metadata['Name'], distribution.metadata['Version']
    try:
      version_lib.Version(version)
    except (version_lib.InvalidVersion, TypeError):
      continue  # Some of Debian's packages, which pip would not read as constraints, and remains of uninstalled ones.
    found.setdefault(utils.canonicalize_name(name), version)  # The first is the one that is imported.
  return found


def compare(
  dependencies: Iterable[str], installed: Mapping[str, str]
) -> tuple[list[requirements_lib.Requirement], list[requirements_lib.Requirement]]:
  """Compares requirements, as in pyproject.toml, with installed versions.

  Returns:
    The requirements that nothing installed has the name of, and those for which another version is installed.
  """
  missing, unsuited = [], []
  for requirement in map(requirements_lib.Requirement, dependencies):
    version = installed.get(utils.canonicalize_name(requirement.name))
    if version is None:
      missing.append(requirement)
    elif not requirement.specifier.contains(version, prereleases=True):
      unsuited.append(requirement)
  return missing, unsuited


def install_missing(root: pathlib.Path) -> None:
  """Installs what the code in `root` needs and this Python lacks; leaves what is installed, and says what does not fit.

  Raises:
    SystemExit: pip failed.
  """
  dependencies = tomllib.loads((root / 'pyproject.toml').read_text())['project']['dependencies']
  installed = installed_versions()
  missing, unsuited = compare(dependencies, installed)
  for requirement in unsuited:
    version = installed[utils.canonicalize_name(requirement.name)]
    print(
      f'note: {requirement.name} is {version} here, and the code is tested with {requirement.specifier}; it is left as '
      f'it is. If something fails: %pip install "{requirement}", then restart the runtime.'
    )
  if missing:
    _install(missing, installed)
    print('Installed:', ', '.join(requirement.name for requirement in missing))


def _install(missing: list[requirements_lib.Requirement], installed: Mapping[str, str]) -> None:
  with tempfile.TemporaryDirectory() as directory:
    constraints = pathlib.Path(directory) / 'constraints.txt'
    constraints.write_text(''.join(f'{name}=={version}\n' for name, version in installed.items()))
    command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--constraint', str(constraints), *map(str, missing)]
    done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    names = ', '.join(map(str, missing))
    raise SystemExit(
      f'{done.stderr.strip()}\npip could not install {names} beside what is there: choose a newer runtime version, '
      'or a new virtual environment.'
    )
  importlib.invalidate_caches()


def describe_device() -> str:
  """The device that JAX computes on, in words.

  Raises:
    DigitsError: the accelerator that `JAX_PLATFORMS` asks for is not there.
  """
  import jax  # Imported here: it may just have been installed.

  from digits.runtime import devices

  devices.check_devices()
  kind = jax.default_backend()
  what = f'{os.cpu_count()} cores' if kind == 'cpu' else f'{jax.device_count()} x {devices.device_name()}'
  return f'{kind.upper()} ({what}), jax {jax.__version__}'


def show_errors_plainly() -> None:
  """Makes the notebook show an error that a reader can fix as one sentence, without the traceback."""
  from IPython import get_ipython

  from digits import errors

  def show(shell, error_class, error, traceback, tb_offset=None):
    print(f'error: {error}', file=sys.stderr)

  get_ipython().set_custom_exc((errors.DigitsError,), show)
