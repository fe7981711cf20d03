"""The training run: restore, train, record, validate, save, and score the test split once at the end."""

from collections.abc import Iterator
import contextlib
import functools
import math
import pathlib
import threading
import time
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
import numpy as np
import optax

from digits import config as config_lib
from digits import errors
from digits.config import TrainConfig
from digits.data import arrays
from digits.runtime import devices, distributed, signals
from digits.runtime.progress import Progress, Stopwatch
from digits.store import checkpoint, records
from digits.store import workdir as workdir_lib
from digits.train import compiled, optim
from digits.train.evaluate import evaluate_split
from digits.train.metrics import Metrics
from digits.train.recipe import describe_loss, make_recipe
from digits.train.step import Variables

# The host looks at the device this often, to show progress and to notice Ctrl-C; it costs one wait each time.
_SECONDS_BETWEEN_LOOKS = 0.2


@runtime_checkable
class Training(Protocol):
  """Anything that `drive` can train: a run in memory, a streaming run, or a population."""

  def advance(self, start: int, stop: int) -> None:
    """Trains from step `start` to step `stop`, both of one epoch."""

  def metrics(self) -> dict[str, Any]:
    """Loss and accuracy of the latest steps, for progress. Waits for the device."""


class Look(NamedTuple):
  """A moment when the host looks at the device.

  Attributes:
    step: number of finished updates.
    epoch: the epoch, from 0.
    metrics: loss and accuracy of the steps since the last record.
    is_record: whether training is recorded at this step.
    ends_epoch: whether it is the last of its epoch.
    stop: whether any process has received Ctrl-C or SIGTERM.
  """

  step: int
  epoch: int
  metrics: dict[str, Any]
  is_record: bool
  ends_epoch: bool
  stop: bool


def drive(
  training: Training,
  config: TrainConfig,
  step: int,
  steps_per_epoch: int,
  progress: Progress,
  stop_requested: threading.Event,
) -> Iterator[Look]:
  """Trains to the end, and yields at each look; at a record, the consumer resets the window of metrics.

  Args:
    training: what trains.
    config: the config of the run, or of the first member of a population.
    step: number of updates that are finished already.
    steps_per_epoch: number of updates per epoch.
    progress: shows how far the run is.
    stop_requested: set when a signal arrives.
  """
  steps_per_look = 1
  for epoch in range(step // steps_per_epoch, config.epochs):
    epoch_end = (epoch + 1) * steps_per_epoch
    for record_step in records.record_steps(epoch_end - steps_per_epoch, epoch_end, config.log_every_steps):
      while step < record_step:
        target = min(step + steps_per_look, record_step)
        start = time.monotonic()
        training.advance(step, target)
        metrics = training.metrics()  # The one place where the host waits for the device.
        steps_per_look = pace(steps_per_look, target - step, time.monotonic() - start)
        step = target
        progress.update(step, metrics)
        steps_per_look, stop = distributed.agree(steps_per_look, stop_requested.is_set())
        yield Look(step, epoch, metrics, step == record_step, step == epoch_end, stop)


def window_record(
  config: TrainConfig, look: Look, window: Metrics, rate_at: optax.Schedule, seconds: float
) -> records.Record:
  """The training record of a look.

  Args:
    config: the config of the run.
    look: the look, at a step that is to be recorded.
    window: metrics of the steps since the last record.
    rate_at: the learning rate as a function of the step.
    seconds: seconds of training so far.
  """
  return records.train_record(
    look.step,
    look.epoch,
    window.compute(),
    objective=describe_loss(config),
    grad_norm=float(window.grad_norm),
    learning_rate=np.asarray(rate_at(look.step - 1)).item(),
    seconds=seconds,
  )


def pace(steps_per_look: int, steps_done: int, seconds: float) -> int:
  """How many steps to do until the next look at the device: at most twice what was planned for the last one."""
  return max(1, min(2 * steps_per_look, int(steps_done * _SECONDS_BETWEEN_LOOKS / max(seconds, 1e-9))))


def train(config: TrainConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains one model, or continues an unfinished run, in a workdir that this process has claimed.

  Args:
    config: the run's config.
    workdir: its directory.
    dataset: the data.
    watch: measures the phases of the run.

  Returns:
    The content of results.json.

  Raises:
    StoppedError: the run was interrupted, and saved.
    DigitsError: the loss is not finite, or files cannot be read or written.
  """
  num_train = len(dataset.train.label)
  steps_per_epoch = math.ceil(num_train / config.batch_size)
  num_steps = config.epochs * steps_per_epoch
  recipe = make_recipe(config, num_steps)
  mesh = compiled.make_mesh(recipe.model, config.batch_size, config.mesh['data'])
  rate_at = jax.jit(optim.make_schedule(config, num_steps))

  # Compiled whole: operations that are compiled one by one take longer than a short run.
  init = functools.partial(jax.jit, out_shardings=devices.everywhere(mesh), compiler_options=devices.compiler_options())
  carry = init(lambda seed: compiled.init_carry(make_recipe(config, num_steps, seed)))(config.seed)
  newest = _load_newest(config, workdir, carry)
  history: list[records.Record] = []
  loader_state = None
  if newest is not None:
    carry = devices.replicate(newest.tree, mesh)
    history, loader_state = newest.record['history'], newest.record['loader']
    watch.add(newest.record['seconds'])
  step = int(carry.state.step)

  training: compiled.InMemory | compiled.Streaming
  with watch.phase('compile'):
    if config.loader == 'grain':
      training = compiled.Streaming(config, num_train, carry, mesh, recipe, loader_state)
    else:
      training = compiled.InMemory(config, dataset.train, carry, mesh, recipe)

  with contextlib.ExitStack() as stack:
    stack.enter_context(watch.phase('train'))
    is_main = distributed.is_main()
    writer = stack.enter_context(records.MetricsWriter(workdir, history, is_main))
    checkpoints = stack.enter_context(
      checkpoint.Checkpoints(
        workdir / 'checkpoints', needed_step, newest, lasts=lambda step: step % steps_per_epoch == 0
      )
    )
    title = f'{config.model}, seed {config.seed}'
    progress = stack.enter_context(Progress(title, num_steps, step, config.batch_size, is_main))
    stop_requested = stack.enter_context(signals.catch_signals())

    for look in drive(training, config, step, steps_per_epoch, progress, stop_requested):
      step, carry = look.step, training.carry
      _refuse_non_finite(carry, rate_at, workdir)
      if look.is_record:
        writer.write(window_record(config, look, carry.window, rate_at, watch.seconds()['train']))
        training.reset_window()
      if look.ends_epoch:
        summary = f'epoch {look.epoch + 1}/{config.epochs}, training loss {look.metrics["loss"]:.4f}'
        if config.num_validation:
          valid = evaluate_split(
            carry.state.variables, dataset.valid, model=recipe.model, batch_size=config.eval_batch_size, mesh=mesh
          )
          if not math.isfinite(valid['loss']):
            raise errors.DigitsError(f'{describe_divergence(step)}, with another --workdir; {_last_good(workdir)}.')
          writer.write(records.valid_record(step, look.epoch, valid, watch.seconds()['train']))
          summary += f', validation loss {valid["loss"]:.4f}, accuracy {valid["accuracy"]:.2%}'
        progress.report(step, summary)
      if look.ends_epoch or look.stop:
        record = make_record(config, writer.history, watch.seconds(), training.loader_state())
        checkpoints.save(step, training.carry, record)
      if look.stop and step < num_steps:
        raise errors.StoppedError(
          f'Stopped and saved at step {step} in {workdir}: run the same command again to continue.'
        )

  chosen = records.selected_step(writer.history, config.select) or step
  variables = training.carry.state.variables
  if chosen != step:
    variables = checkpoint.load(workdir / 'checkpoints', chosen, training.carry).tree.state.variables
  return make_results(config, workdir, dataset, variables, chosen, writer.history, watch.seconds(), mesh)


def make_results(
  config: TrainConfig,
  workdir: pathlib.Path,
  dataset: arrays.Dataset,
  variables: Variables,
  step: int,
  history: list[records.Record],
  seconds: dict[str, float],
  mesh: Mesh | None = None,
) -> dict[str, Any]:
  """Scores the chosen variables on the test split, once; returns the content of results.json.

  Args:
    config: the run's config.
    workdir: its directory.
    dataset: the data.
    variables: the variables that `config.select` selects.
    step: the step that they are from.
    history: the run's records.
    seconds: seconds by phase.
    mesh: as in `evaluate_split`.
  """
  model = config.make_model()
  test = evaluate_split(variables, dataset.test, model=model, batch_size=config.eval_batch_size, mesh=mesh)
  return {
    'experiment': 'train',
    'model': config.model,
    'dataset': config.dataset,
    'seed': config.seed,
    'num_parameters': sum(leaf.size for leaf in jax.tree.leaves(variables['params'])),
    'epochs': config.epochs,
    'step': step,
    'valid': records.valid_scores(history, step),
    'test': test,
    'seconds': seconds,
    'metrics_sha256': records.hash_metrics(workdir),
  }


def make_record(
  config: TrainConfig, history: list[records.Record], seconds: dict[str, float], loader_state: Any = None
) -> dict[str, Any]:
  """What a checkpoint keeps beside the arrays."""
  return {'config': config_lib.to_dict(config), 'history': history, 'seconds': seconds, 'loader': loader_state}


def needed_step(record: dict[str, Any]) -> int | None:
  """The step of the other checkpoint that this one needs: the best one so far, where that is selected."""
  return records.selected_step(record['history'], record['config']['select'])


def load_history(config: TrainConfig, workdir: pathlib.Path) -> list[records.Record]:
  """The records that the newest good checkpoint of a run holds."""
  newest = checkpoint.load_newest(workdir / 'checkpoints', carry_template(config))
  return newest.record['history'] if newest else []


def carry_template(config: TrainConfig) -> compiled.Carry:
  """The structure of a run's checkpoints, with a `jax.ShapeDtypeStruct` for each array."""
  return jax.eval_shape(lambda: compiled.init_carry(make_recipe(config, num_steps=1)))


def _load_newest(config: TrainConfig, workdir: pathlib.Path, carry: compiled.Carry) -> checkpoint.Checkpoint | None:
  """Loads the newest good checkpoint of the config, and deletes the damaged ones after it."""
  directory = workdir / 'checkpoints'
  newest = checkpoint.load_newest(directory, carry, needed_step)
  if newest is not None:
    workdir_lib.refuse_other_config(config, newest.record['config'], directory)
  checkpoint.delete_after(directory, -1 if newest is None else newest.step)
  return newest


def _refuse_non_finite(carry: compiled.Carry, rate_at: optax.Schedule, workdir: pathlib.Path) -> None:
  failed_step = int(carry.failed_step)
  if failed_step >= 0:
    raise errors.DigitsError(
      describe_failure(failed_step, np.asarray(rate_at(failed_step)).item(), float(carry.failed_grad_norm))
      + f', with another --workdir; {_last_good(workdir)}.'
    )


def describe_failure(step: int, learning_rate: float, grad_norm: float) -> str:
  """What happened where a loss was not finite, and how to fix it; without a full stop."""
  return (
    f'The loss or its gradient was not finite at step {step}, where the learning rate was {learning_rate:.4g} and the '
    f'gradient norm {grad_norm:.4g}: lower config.learning_rate or set config.clip_norm'
  )


def describe_divergence(step: int) -> str:
  """What happened where a validation loss was not finite, and how to fix it; without a full stop."""
  return f'The validation loss was not finite after step {step}: lower config.learning_rate or set config.clip_norm'


def _last_good(workdir: pathlib.Path) -> str:
  steps = checkpoint.list_steps(workdir / 'checkpoints')
  return f'the checkpoint of step {steps[-1]} is kept in {workdir}' if steps else 'no checkpoint had been saved yet'
