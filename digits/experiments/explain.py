"""The explanation: what is said about why the models differ, tested by measurements that could have refuted it."""

from collections.abc import Mapping, Sequence
import contextlib
import functools
import itertools
import logging
import pathlib
from typing import Any
import urllib.parse

from jaxtyping import Float, UInt8
import numpy as np

from digits import data, errors, statistics
from digits.config import ExplainConfig, TrainConfig
from digits.data import arrays, corruptions
from digits.experiments import compare, runner
from digits.explain import attacks, claims, probes, transforms, unknown
from digits.handwriting.predict import apply_batched
from digits.models import layers as layers_lib
from digits.report import explain_study, findings, study
from digits.runtime import sealed_json
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib
from digits.train.runs import load_run, Run

_logger = logging.getLogger(__name__)

_NUM_TRAIN = 10_000  # Training images on which the gap between training and test accuracy is measured.
_NUM_UNKNOWN = 2000  # Pictures of each kind that show no digit.
_KEPT = 0.99  # The share of digits that a network stays sure of, where it may answer 'unsure'.
_FASHION = 'fashion_mnist'
# The experiments whose pages this one refers to, and what a link to them says.
_RELATED = {'compare': 'How much the models differ', 'activations': 'What activations do'}

_Images = UInt8[np.ndarray, 'n h w 1']


def check(config: ExplainConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  compare.check(config, dataset)
  train_configs = config.train_configs()
  if config.sizes and config.sizes[-1] > len(dataset.train.label):
    raise errors.UsageError(
      f'config.sizes asks for {config.sizes[-1]:,} training images, and there are {len(dataset.train.label):,}.'
    )
  for name, section in config.sections.items():
    for claim, *texts in explain_study.check_section(name, section):
      for recipe, measure in _values_in(texts, f'config.sections.{name}.claims, {claim!r}'):
        where = f'config.sections.{name}.claims, {claim!r}'
        if recipe not in train_configs:
          raise errors.UsageError(f'{where}, names {recipe!r}, which is no recipe.')
        known = measures_of(config, recipe)
        if measure not in known:
          raise errors.UsageError(
            f'{where}, names {recipe}.{measure}, which is not measured: {recipe} has {", ".join(known)}.'
          )


def _values_in(texts: Sequence[str], where: str) -> list[tuple[str, str]]:
  """The recipes and measures that tests name."""
  try:
    tests = [claims.parse(text) for text in texts]
    return [pair for test in tests for value in (test.left, test.right) for pair in claims.measures_in(value)]
  except errors.UsageError as error:
    raise errors.UsageError(f'{where}: {error}') from error


def measures_of(config: ExplainConfig, name: str) -> list[str]:
  """What is measured of the networks of a recipe."""
  known = ['accuracy', 'loss', 'gap']
  if name in config.measured:
    known += [f'shift_{pixels}' for pixels in transforms.SHIFTS]
    known += [f'rotate_{degrees}' for degrees in transforms.ROTATIONS]
    known += [f'rescale_{factor:g}' for factor in transforms.SCALES]
    known += [*(f'corrupted_{one}' for one in corruptions.CORRUPTIONS), 'corrupted', 'relative']
    known += ['calibration', 'corrupted_calibration']
    known += [f'{what}_{kind}' for what in ('probability', 'energy', 'unsure') for kind in unknown.KINDS]
    known += ['probability', 'energy', 'unsure']
    known += [f'{attack}_{epsilon:g}' for attack in ('fgsm', 'pgd') for epsilon in attacks.EPSILONS]
  if name in config.probed:
    layers = layers_lib.layers_of(config.train_configs()[name][0].make_model()) or []
    known += ['probe_pixels', *(f'probe_{one.of}' for one in layers if isinstance(one, layers_lib.Nonlinearity))]
  return known


def work(config: ExplainConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains the runs that are missing, measures the networks that were not yet measured, and writes report.html."""
  del watch
  _train_all(config, workdir, dataset)
  return write_page(config, workdir, dataset)


def _train_all(config: ExplainConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> None:
  """Trains every run that is not finished: seeds on the same images together, the others one by one."""
  together: dict[str, dict[str, list[TrainConfig]]] = {}
  alone = []
  for name, train_configs in config.train_configs().items():
    if len({one.dataset for one in train_configs}) == 1:
      together.setdefault(train_configs[0].dataset, {})[name] = train_configs
    else:
      alone += [(name, one) for one in train_configs]
  for source, some in together.items():
    images = dataset if source == config.dataset else data.load_dataset(source, config.data_dir, config.num_validation)
    compare.train_all(config, workdir, images, some)
  for name, one in alone:
    runner.run(one, compare.run_directory(workdir, name, one))


def write_page(config: ExplainConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """See `runner.Experiment`; measures what was not yet measured."""
  results = summarize(config, workdir, dataset)
  study.write_study(explain_study.make_study(results, config)._replace(links=_related_pages(workdir)), workdir)
  return results


def _related_pages(workdir: pathlib.Path) -> dict[str, str]:
  """The pages of the experiments beside this one that it refers to, as relative addresses."""
  found = {}
  for path in sorted(workdir.resolve().parent.glob('*/report.html')):
    with contextlib.suppress(errors.DigitsError):
      saved = workdir_lib.read_config(path.parent) or {}
      if saved.get('experiment') in _RELATED:
        found[f'{_RELATED[saved["experiment"]]} ({path.parent.name})'] = (
          f'../{urllib.parse.quote(path.parent.name)}/report.html'
        )
  return found


def summarize(config: ExplainConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """Measures the finished runs and tests the claims.

  Returns:
    dict of experiment; num_seeds; recipes, by name the number of parameters and the measures, each a list with one
    number per seed; num_train, the number of all training images; sizes, by recipe the `statistics.fit_power_law` of
    its errors; unknown, the kinds of pictures that show no digit; and findings, as from `claims.find`.
  """
  pictures = Pictures(config, dataset)
  everything = config.train_configs()
  recipes = {}
  for position, (name, train_configs) in enumerate(everything.items(), 1):
    runs = [load_run(compare.run_directory(workdir, name, one)) for one in train_configs]
    measured = []
    for run in runs:
      path = workdir / 'measured' / f'{name}-{run.config.seed}.json'
      _logger.info('[recipe %d of %d] measuring %s, seed %d', position, len(everything), name, run.config.seed)
      measured.append(_measure_once(path, run, name, config, pictures))
    recipes[name] = {
      'num_parameters': (runs[0].results or {})['num_parameters'],
      'measures': {measure: [one[measure] for one in measured] for measure in measured[0]},
    }
  measures = {name: recipe['measures'] for name, recipe in recipes.items()}
  return {
    'experiment': 'explain',
    'num_seeds': config.num_seeds,
    'recipes': recipes,
    'num_train': len(dataset.train.label),
    'sizes': {name: _fit_sizes(config, measures, name, len(dataset.train.label)) for name in config.sized},
    'unknown': pictures.kinds,
    'findings': claims.find(config.sections, measures),
  }


def _fit_sizes(config: ExplainConfig, measures: claims.Measured, name: str, num_train: int) -> dict[str, Any] | None:
  names = [*(f'{name}_of_{count}' for count in config.sizes), name]
  errors_by_seed = 1 - np.array([measures[one]['accuracy'] for one in names]).T
  fitted = statistics.fit_power_law(np.array([*config.sizes, num_train]), errors_by_seed)
  return fitted and fitted._asdict() | {'interval_95': fitted.interval_95 and list(fitted.interval_95)}


class Pictures:
  """The images that networks are measured with, each kind made when it is first needed, and the same for all."""

  def __init__(self, config: ExplainConfig, dataset: arrays.Dataset):
    self.dataset = dataset
    self._config = config

  def of(self, view: str) -> arrays.Dataset:
    """The dataset that a network was trained on."""
    if view.startswith('permuted:'):
      return self._permuted
    return self.dataset

  @functools.cached_property
  def _permuted(self) -> arrays.Dataset:
    config = self._config
    return data.load_dataset(f'permuted:{config.dataset}', config.data_dir, config.num_validation)

  @functools.cached_property
  def moved(self) -> dict[str, _Images]:
    """Test images shifted, turned and scaled, by measure."""
    images = self.dataset.test.image
    kinds = itertools.chain(
      ((f'shift_{pixels}', transforms.shift, pixels) for pixels in transforms.SHIFTS),
      ((f'rotate_{degrees}', transforms.rotate, degrees) for degrees in transforms.ROTATIONS),
    )
    moved = {name: function(images, amount, np.random.default_rng(0)) for name, function, amount in kinds}
    return moved | {f'rescale_{factor:g}': transforms.rescale(images, factor) for factor in transforms.SCALES}

  @functools.cached_property
  def corrupted(self) -> dict[str, _Images]:
    """Test images under each corruption, by its name."""
    return {
      name: corrupt(np.random.default_rng([0, *name.encode()]), self.dataset.test.image)
      for name, corrupt in corruptions.CORRUPTIONS.items()
    }

  @functools.cached_property
  def unknown(self) -> dict[str, _Images]:
    """Pictures that show no digit, by kind; Fashion-MNIST too, where it is prepared."""
    drawn = {kind: unknown.draw_unknown(kind, _NUM_UNKNOWN, self.dataset.test, seed=0) for kind in unknown.KINDS}
    directory = pathlib.Path(self._config.data_dir or data.default_data_dir()).expanduser() / _FASHION
    if directory.is_dir():
      drawn[_FASHION] = data.load_dataset(_FASHION, self._config.data_dir).test.image[:_NUM_UNKNOWN]
    return drawn

  @property
  def kinds(self) -> list[str]:
    """The kinds of `unknown`; none where no network is measured with them."""
    return list(self.unknown) if self._config.measured else []


def _measure_once(
  path: pathlib.Path, run: Run, name: str, config: ExplainConfig, pictures: Pictures
) -> Mapping[str, float]:
  """What was measured of a run before, if it is still the same run, or is measured now."""
  identity = (run.results or {})['metrics_sha256']
  try:
    before = sealed_json.read(path)
  except errors.DamagedError as error:
    _logger.warning('%s It is measured again.', error)
    before = None
  if before is None or before['run'] != identity:
    measures = measure(run, name, config, pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = sealed_json.write(path, {'run': identity, 'measures': measures})
  return before['measures']


def measure(run: Run, name: str, config: ExplainConfig, pictures: Pictures) -> dict[str, float]:
  """Measures a network of a recipe: all of `measures_of`, by name."""
  dataset = pictures.of(run.config.dataset)
  results: Any = run.results
  train = arrays.Split(dataset.train.image[:_NUM_TRAIN], dataset.train.label[:_NUM_TRAIN])
  if 'subset/' in run.config.dataset:
    seen = run.config.dataset.partition(':')[2]  # Once is enough.
    train = data.load_dataset(seen, config.data_dir, config.num_validation).train
    train = arrays.Split(train.image[:_NUM_TRAIN], train.label[:_NUM_TRAIN])
  accuracy = results['test']['accuracy']
  measured = {
    'accuracy': accuracy,
    'loss': results['test']['loss'],
    'gap': _accuracy(run, train.image, train.label) - accuracy,
  }
  if name in config.measured:
    measured |= _measure_moved(run, pictures) | _measure_corrupted(run, pictures) | _measure_unknown(run, pictures)
    measured |= _measure_attacked(run, dataset.test, config.num_attacked)
  if name in config.probed:
    measured |= _measure_probes(run, dataset, config.num_probed)
  return measured


def _accuracy(run: Run, images: _Images, labels: np.ndarray) -> float:
  return float((apply_batched(run, images).argmax(-1) == labels).mean())


def _measure_moved(run: Run, pictures: Pictures) -> dict[str, float]:
  return {name: _accuracy(run, images, pictures.dataset.test.label) for name, images in pictures.moved.items()}


def _measure_corrupted(run: Run, pictures: Pictures) -> dict[str, float]:
  """Accuracy under each corruption, `corrupted` the mean; the mean error over that of clean images, and calibration."""
  labels = pictures.dataset.test.label
  clean = apply_batched(run, pictures.dataset.test.image)
  accuracy, calibration = {}, []
  for name, images in pictures.corrupted.items():
    logits = apply_batched(run, images)
    accuracy[f'corrupted_{name}'] = float((logits.argmax(-1) == labels).mean())
    calibration.append(_calibration(logits, labels))
  mean = float(np.mean(list(accuracy.values())))
  clean_errors = max(int((clean.argmax(-1) != labels).sum()), 1)
  return accuracy | {
    'corrupted': mean,
    'relative': (1 - mean) * len(labels) / clean_errors,
    'calibration': _calibration(clean, labels),
    'corrupted_calibration': float(np.mean(calibration)),
  }


def _calibration(logits: Float[np.ndarray, 'n classes'], labels: np.ndarray) -> float:
  confidence = statistics.probabilities(logits).max(-1)
  return statistics.expected_calibration_error(confidence, logits.argmax(-1) == labels)


def _measure_unknown(run: Run, pictures: Pictures) -> dict[str, float]:
  """AUROC of both scores by kind and on average, and the share of pictures of no digit that get the answer `unsure`."""
  known = unknown.scores(apply_batched(run, pictures.dataset.test.image))
  valid = unknown.scores(apply_batched(run, pictures.dataset.valid.image)).probability
  threshold = np.quantile(valid, 1 - _KEPT)
  measured: dict[str, list[float]] = {}
  for kind, images in pictures.unknown.items():
    scores = unknown.scores(apply_batched(run, images))
    values = {
      'probability': statistics.auroc(known.probability, scores.probability),
      'energy': statistics.auroc(known.energy, scores.energy),
      'unsure': float((scores.probability < threshold).mean()),
    }
    for what, value in values.items():
      measured[f'{what}_{kind}'] = [value]
      if kind in unknown.KINDS:  # So that the mean does not depend on what somebody has prepared.
        measured.setdefault(what, []).append(value)
  return {name: float(np.mean(values)) for name, values in measured.items()}


def _measure_attacked(run: Run, test: arrays.Split, count: int) -> dict[str, float]:
  some = arrays.Split(test.image[:count], test.label[:count])
  accuracy = attacks.accuracy_under_attack(run.model, run.variables, some)
  return {
    f'{attack}_{epsilon:g}': value
    for attack, values in accuracy.items()
    for epsilon, value in zip(attacks.EPSILONS, values, strict=True)
  }


def _measure_probes(run: Run, dataset: arrays.Dataset, count: int) -> dict[str, float]:
  train, test = (
    probes.layer_features(run.model, run.variables, images)
    for images in (dataset.train.image[:count], dataset.test.image)
  )
  return {
    f'probe_{name.removesuffix("_active")}': probes.probe_accuracy(
      train[name], dataset.train.label[:count], test[name], dataset.test.label, arrays.NUM_CLASSES
    )
    for name in train
  }


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """The verdict on each claim, one a line."""
  lines = [f'{finding["verdict"]:14}{finding["claim"]}' for finding in results['findings']]
  return '\n'.join([*lines, f'The report is {workdir / "report.html"}.'])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  return findings.verdicts([finding['verdict'] for finding in results['findings']])
