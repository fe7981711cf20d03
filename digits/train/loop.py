"""The training run: load, restore, step, record, validate, save, and score the test split once at the end."""

import contextlib
import functools
import logging
import math
import pathlib
import time

import jax
import numpy as np

from digits import config as config_lib
from digits import data
from digits import errors
from digits.runtime import devices
from digits.runtime import distributed
from digits.runtime import files
from digits.runtime import progress
from digits.runtime import signals
from digits.store import checkpoint as checkpoint_lib
from digits.store import records as history_lib
from digits.store import results as results_lib
from digits.store import workdir as workdir_lib
from digits.train import compiled
from digits.train import metrics as metrics_lib
from digits.train import optim
from digits.train import step as step_lib

# The host looks at the device this often, to show progress and to notice Ctrl-C; it costs one wait each time.
_SECONDS_BETWEEN_LOOKS = 0.2

_logger = logging.getLogger(__name__)


# About how many images one call of the compiled evaluation measures.
_IMAGES_PER_EVALUATION = 5000


@functools.cache
def _compile_evaluation(model, mesh):
  """Compiles, once for a model, `(metrics, params, batches, start, stop) -> metrics`, which adds some of the batches.

  The batches are stacked along a first axis.
  """
  # Nothing is kept for a backward pass, so that four times as many images fit.
  microbatch_size = 4 * compiled.choose_microbatch_size(model)
  eval_step = functools.partial(step_lib.eval_step, model=model, microbatch_size=microbatch_size)

  def eval_steps(metrics, params, batches, start, stop):
    def body(index, sums):
      return sums.merge(eval_step(params, {name: array[index] for name, array in batches.items()}))

    empty = metrics_lib.Metrics.empty()
    # Without a loop where there is nothing to repeat: see `compiled.is_slow_in_loops`.
    sums = body(0, empty) if len(batches['label']) == 1 else jax.lax.fori_loop(start, stop, body, empty)
    if devices.data_axis(mesh):
      sums = jax.lax.psum(sums, devices.data_axis(mesh))
    return metrics.merge(sums)

  over = (devices.WHOLE, devices.WHOLE, devices.by_data(axis=1), devices.WHOLE, devices.WHOLE)
  return devices.jit_over_data(eval_steps, mesh, over, donate=False)


def evaluate_split(params, split, *, model, batch_size=500, mesh=None):
  """Measures a model on every example of a split, each counted once.

  Args:
    params: the model's parameters.
    split: `Split` of NumPy arrays.
    model: an unbound `nn.Module`.
    batch_size: images computed at once; changes speed and memory only.
    mesh: the mesh that `params` are on, to spread the images over; None for one device.

  Returns:
    dict of accuracy, a fraction; loss, nats; and examples.
  """
  if mesh is not None:
    batch_size += -batch_size % mesh.size
  per_call = 1 if compiled.is_slow_in_loops(model) else max(1, _IMAGES_PER_EVALUATION // batch_size)
  per_call = min(per_call, max(1, math.ceil(len(split.label) / batch_size)))
  evaluate, metrics = _compile_evaluation(model, mesh), metrics_lib.Metrics(*np.zeros(4, np.float32))
  for batches in data.host_batches(split, per_call * batch_size):
    counted = np.flatnonzero(batches['mask']) // batch_size
    batches = {name: array.reshape(per_call, batch_size, *array.shape[1:]) for name, array in batches.items()}
    if devices.data_axis(mesh):
      batches = devices.spread(batches, mesh, axis=1)
    metrics = evaluate(metrics, params, batches, counted[0], counted[-1] + 1)
  return metrics.compute()


def run(config, workdir):
  """Trains one model; called again, goes on with an unfinished run, or returns the results of a finished one.

  Args:
    config: `TrainConfig`.
    workdir: directory for the run's files, made if need be.

  Returns:
    The content of results.json.

  Raises:
    UsageError: the workdir holds another config's run, or the config does not fit the dataset.
    StoppedError: the run was interrupted, and saved.
    DigitsError: the loss is not finite, or files cannot be read or written.
  """
  workdir = pathlib.Path(workdir)
  with files.describe_os_errors(workdir):
    results = workdir_lib.finished_results(config, workdir)
    if results is not None:
      _restore_metrics(config, workdir, results)
    else:
      watch = progress.Stopwatch()
      with watch.phase('data'):
        devices.use_all_cores()
        devices.check_devices()
        dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
        check_batch_size(config, dataset)
        model = config.make_model()
        mesh = compiled.make_mesh(model, config.batch_size, config.mesh['data'])
      with workdir_lib.claim(config, workdir):
        results = _train(config, workdir, dataset, model, mesh, watch)
  if distributed.is_main():
    print(results_lib.format_table(results))
  return results


def _train(config, workdir, dataset, model, mesh, watch):
  """The run itself, in a workdir that is this process's own."""
  num_train = len(dataset.train.label)
  steps_per_epoch = math.ceil(num_train / config.batch_size)
  total_steps = config.epochs * steps_per_epoch
  schedule = make_schedule(config, steps_per_epoch)
  optimizer = make_optimizer(config, schedule)

  # Small functions are compiled whole: their operations, compiled one by one, take longer than a short run.
  jit = functools.partial(jax.jit, out_shardings=devices.everywhere(mesh), compiler_options=devices.compiler_options())
  rate_at, empty_window = jax.jit(schedule), jit(metrics_lib.Metrics.empty)
  carry = jit(lambda seed: compiled.init_carry(jax.random.key(seed), model=model, optimizer=optimizer))(config.seed)
  newest = _load_newest(config, workdir, carry)
  history, loader_state = [], None
  if newest is not None:
    carry = devices.replicate(newest.tree, mesh)
    history, loader_state = newest.record['history'], newest.record['loader']
    watch.add(newest.record['seconds'])
  step = int(carry.state.step)

  with watch.phase('compile'):
    if config.loader == 'grain':
      training = compiled.Streaming(config, num_train, carry, mesh, loader_state, model=model, optimizer=optimizer)
    else:
      training = compiled.InMemory(config, dataset.train, carry, mesh, model=model, optimizer=optimizer)

  with contextlib.ExitStack() as stack:
    stack.enter_context(watch.phase('train'))
    writer = stack.enter_context(progress.MetricsWriter(workdir, history, distributed.is_main()))
    checkpoints = stack.enter_context(
      checkpoint_lib.Checkpoints(
        workdir / 'checkpoints', needed_step, newest, lasts=lambda step: step % steps_per_epoch == 0
      )
    )
    title = f'{config.model}, seed {config.seed}'
    bar = stack.enter_context(progress.Progress(title, total_steps, step, config.batch_size, distributed.is_main()))
    stop_requested = stack.enter_context(signals.catch_signals())

    def save():
      checkpoints.save(step, carry, make_record(config, writer.history, watch.seconds(), training.state()))

    steps_per_look = 1
    for epoch in range(step // steps_per_epoch, config.epochs):
      epoch_start, epoch_end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
      record_steps = history_lib.record_steps(epoch_start, epoch_end, config.log_every_steps)
      while step < epoch_end:
        record_step = next(at for at in record_steps if at > step)
        target = min(step + steps_per_look, record_step)
        look_start = time.monotonic()
        carry = training.advance(carry, step, target)
        metrics = carry.window.compute()  # The one place where the host waits for the device.
        steps_per_look = pace(steps_per_look, target - step, time.monotonic() - look_start)
        step = target
        _refuse_non_finite(carry, rate_at, workdir)
        bar.update(step, metrics)

        if step == record_step:
          rate = float(rate_at(step - 1))
          writer.write(history_lib.train_record(step, epoch, carry.window, rate, watch.seconds()['train']))
          carry = carry.replace(window=empty_window())
        steps_per_look, stop = distributed.agree(steps_per_look, stop_requested.is_set())
        if stop and step < epoch_end:
          save()
          raise _interrupted(step, workdir)

      summary = f'epoch {epoch + 1}/{config.epochs}, training loss {metrics["loss"]:.4f}'
      if config.num_validation:
        valid = evaluate_split(
          carry.state.params, dataset.valid, model=model, batch_size=config.eval_batch_size, mesh=mesh
        )
        _refuse_non_finite_validation(valid, step, workdir)
        writer.write(history_lib.valid_record(step, epoch, valid, watch.seconds()['train']))
        summary += f', validation loss {valid["loss"]:.4f}, accuracy {valid["accuracy"]:.2%}'
      bar.report(step, summary)
      save()
      if stop and step < total_steps:
        raise _interrupted(step, workdir)

  chosen = history_lib.best_step(writer.history) or step
  params = carry.state.params
  if chosen != step:
    params = checkpoint_lib.load(workdir / 'checkpoints', chosen, carry).tree.state.params
  return write_results(config, workdir, dataset, params, chosen, writer.history, watch.seconds(), mesh)


def write_results(config, workdir, dataset, params, step, history, seconds, mesh=None):
  """Scores the chosen parameters on the test split, once, and writes results.json.

  Args:
    config: `TrainConfig` of the run.
    workdir: `pathlib.Path` of the run.
    dataset: the `Dataset`.
    params: the parameters of the least validation loss.
    step: the step they are of.
    history: the run's records.
    seconds: dict of seconds by phase.
    mesh: as in `evaluate_split`.

  Returns:
    The content of results.json.
  """
  model = config.make_model()
  test = evaluate_split(params, dataset.test, model=model, batch_size=config.eval_batch_size, mesh=mesh)
  results = {
    'experiment': 'train',
    'model': config.model,
    'dataset': config.dataset,
    'seed': config.seed,
    'num_parameters': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'epochs': config.epochs,
    'step': step,
    'valid': history_lib.valid_scores(history, step),
    'test': test,
    'seconds': seconds,
    'metrics_sha256': progress.hash_metrics(workdir),
  }
  return results_lib.write_results(workdir, results)


def make_record(config, history, seconds, loader_state=None):
  """What a checkpoint keeps beside the arrays."""
  return {'config': config_lib.to_dict(config), 'history': history, 'seconds': seconds, 'loader': loader_state}


def carry_template(config):
  """The form of what a run's checkpoints hold: its `Carry`, of `jax.ShapeDtypeStruct`."""
  optimizer = make_optimizer(config, make_schedule(config, steps_per_epoch=1))
  init = functools.partial(compiled.init_carry, model=config.make_model(), optimizer=optimizer)
  return jax.eval_shape(init, jax.random.key(config.seed))


def make_schedule(config, steps_per_epoch):
  """The learning rate as a function of the step, for a config and the length of its epochs."""
  num_steps = config.epochs * steps_per_epoch
  warmup_steps = round(config.warmup_fraction * num_steps)
  return optim.make_schedule(config.schedule, config.learning_rate, num_steps, warmup_steps)


def make_optimizer(config, schedule):
  """The optimizer that a config describes."""
  return optim.make_optimizer(
    schedule,
    momentum=config.momentum,
    nesterov=config.nesterov,
    weight_decay=config.weight_decay,
    clip_norm=config.clip_norm,
  )


def needed_step(record):
  """The other checkpoint that a checkpoint is of no use without: that of the best step so far."""
  return history_lib.best_step(record['history'])


def _load_newest(config, workdir, carry):
  """Loads the newest good checkpoint of the config, and deletes the damaged ones after it."""
  directory = workdir / 'checkpoints'
  newest = checkpoint_lib.load_newest(directory, carry, needed_step)
  if newest is not None:
    workdir_lib.refuse_other_config(config, newest.record['config'], directory)
  checkpoint_lib.delete_after(directory, -1 if newest is None else newest.step)
  return newest


def _restore_metrics(config, workdir, results):
  """Writes metrics.jsonl of a finished run anew, from its newest checkpoint, where it is not what it was."""
  if not distributed.is_main() or progress.hash_metrics(workdir) == results['metrics_sha256']:
    return
  _logger.warning('%s is damaged or missing. Writing it anew from the newest checkpoint.', workdir / 'metrics.jsonl')
  with files.lock(workdir / '.lock'):
    newest = checkpoint_lib.load_newest(workdir / 'checkpoints', carry_template(config))
    progress.write_metrics(workdir, newest.record['history'] if newest else [])
  if progress.hash_metrics(workdir) != results['metrics_sha256']:
    raise errors.DigitsError(
      f'{workdir / "metrics.jsonl"} is damaged, and so are the checkpoints that hold its lines: '
      f'delete {workdir / "results.json"} and run the same command to train again from what is whole.'
    )


def pace(steps_per_look, steps_done, seconds):
  """How many steps to do until the next look at the device: at most twice what was planned for the last one."""
  return max(1, min(2 * steps_per_look, int(steps_done * _SECONDS_BETWEEN_LOOKS / max(seconds, 1e-9))))


def check_batch_size(config, dataset):
  """Raises UsageError if a batch is larger than the split it is taken from."""
  for name, split in (('batch_size', dataset.train), ('eval_batch_size', dataset.test)):
    if getattr(config, name) > len(split.label):
      raise errors.UsageError(
        f'config.{name}={getattr(config, name)} is more than the {len(split.label)} images there are: make it smaller.'
      )


def _refuse_non_finite(carry, rate_at, workdir):
  failed_step = int(carry.failed_step)
  if failed_step >= 0:
    raise errors.DigitsError(
      f'The loss or its gradient was not finite at step {failed_step}, where the learning rate was '
      f'{float(rate_at(failed_step)):.4g} and the gradient norm {float(carry.failed_grad_norm):.4g}: '
      f'lower config.learning_rate or set config.clip_norm, with another --workdir; {_last_good(workdir)}.'
    )


def _refuse_non_finite_validation(valid, step, workdir):
  if not math.isfinite(valid['loss']):
    raise errors.DigitsError(
      f'The validation loss was {valid["loss"]} after step {step}: lower config.learning_rate, with another '
      f'--workdir; {_last_good(workdir)}.'
    )


def _last_good(workdir):
  steps = checkpoint_lib.list_steps(workdir / 'checkpoints')
  return f'the checkpoint of step {steps[-1]} is kept in {workdir}' if steps else 'no checkpoint had been saved yet'


def _interrupted(step, workdir):
  return errors.StoppedError(f'Stopped and saved at step {step} in {workdir}: run the same command to go on.')
