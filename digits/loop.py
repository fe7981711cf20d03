"""The training run: load, restore, step, record, validate, save, and score the test split once at the end."""

import contextlib
import functools
import math
import pathlib
import time

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from digits import checkpoint as checkpoint_lib
from digits import config as config_lib
from digits import data
from digits import devices
from digits import errors
from digits import files
from digits import history as history_lib
from digits import log
from digits import metrics as metrics_lib
from digits import optim
from digits import results as results_lib
from digits import signals
from digits import step as step_lib
from digits import workdir as workdir_lib

# The host looks at the device this often, to show progress and to notice Ctrl-C; it costs one wait each time.
_SECONDS_BETWEEN_LOOKS = 0.2


class Carry(struct.PyTreeNode):
  """What one call of the compiled steps hands to the next, and what a checkpoint holds.

  Attributes:
    state: the `TrainState`.
    window: `Metrics` of the steps since the last training record.
    failed_step: int32[], the first step whose loss or gradient was not finite; -1 while there is none.
    failed_grad_norm: float32[], the norm of that gradient.
  """

  state: step_lib.TrainState
  window: metrics_lib.Metrics
  failed_step: jax.Array
  failed_grad_norm: jax.Array


def init_carry(rng, *, model, optimizer):
  """The carry of a run that has done nothing yet; see `init_state`."""
  return Carry(
    state=step_lib.init_state(rng, model=model, optimizer=optimizer),
    window=metrics_lib.Metrics.empty(),
    failed_step=jnp.full((), -1, jnp.int32),
    failed_grad_norm=jnp.zeros((), jnp.float32),
  )


def run_step(carry, split, order, index, *, model, optimizer):
  """Trains on one batch of an epoch.

  Args:
    carry: `Carry`.
    split: `Split` on the device.
    order: int32[steps, B], the epoch's batches, from `shuffled_order`.
    index: int32[], which of them.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.

  Returns:
    The next `Carry`.
  """
  batch = data.take_batch(split, order[index])
  state, metrics = step_lib.train_step(carry.state, batch, model=model, optimizer=optimizer)
  fails = (carry.failed_step < 0) & ~(jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm))
  return Carry(
    state=state,
    window=carry.window.merge(metrics),
    failed_step=jnp.where(fails, carry.state.step, carry.failed_step),
    failed_grad_norm=jnp.where(fails, metrics.grad_norm, carry.failed_grad_norm),
  )


def run_steps(carry, split, order, start, stop, *, model, optimizer):
  """Trains on the batches `start` to `stop` of an epoch in one call; see `run_step`."""

  def body(index, carry):
    return run_step(carry, split, order, index, model=model, optimizer=optimizer)

  return jax.lax.fori_loop(start, stop, body, carry)


# One call of the compiled evaluation measures this many batches.
_EVAL_BATCHES_PER_CALL = 10


@functools.cache
def _compile_evaluation(model):
  """Compiles, once for a model, `(metrics, params, batches) -> metrics`; batches are stacked along a leading axis."""

  def merge_eval_steps(metrics, params, batches):
    def body(metrics, batch):
      return metrics.merge(step_lib.eval_step(params, batch, model=model)), None

    return jax.lax.scan(body, metrics, batches)[0]

  return jax.jit(merge_eval_steps, compiler_options=devices.compiler_options())


def evaluate_split(params, split, *, model, batch_size=500):
  """Measures a model on every example of a split, each counted once.

  Args:
    params: the model's parameters.
    split: `Split` of NumPy arrays.
    model: an unbound `nn.Module`.
    batch_size: images computed at once; changes speed and memory only.

  Returns:
    dict of accuracy, a fraction; loss, nats; and examples.
  """
  num_batches = min(max(math.ceil(len(split.label) / batch_size), 1), _EVAL_BATCHES_PER_CALL)
  evaluate = _compile_evaluation(model)
  metrics = metrics_lib.Metrics.empty()
  for batches in data.host_batches(split, num_batches * batch_size):
    batches = {name: array.reshape(num_batches, batch_size, *array.shape[1:]) for name, array in batches.items()}
    metrics = evaluate(metrics, params, batches)
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
    DigitsError: the loss is not finite, the run was interrupted, or files cannot be read or written.
  """
  workdir = pathlib.Path(workdir)
  with files.describe_os_errors(workdir):
    results = workdir_lib.finished_results(config, workdir)
    if results is None:
      watch = log.Stopwatch()
      with watch.phase('data'):
        devices.check_devices()
        dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
        check_batch_size(config, dataset)
      with workdir_lib.claim(config, workdir):
        results = _train(config, workdir, dataset, watch)
  print(results_lib.format_table(results))
  return results


def _train(config, workdir, dataset, watch):
  """The run itself, in a workdir that is this process's own."""
  num_train = len(dataset.train.label)
  steps_per_epoch = math.ceil(num_train / config.batch_size)
  total_steps = config.epochs * steps_per_epoch
  model = config.make_model()
  schedule = make_schedule(config, steps_per_epoch)
  optimizer = make_optimizer(config, schedule)

  # Small functions are compiled whole: their operations, compiled one by one, take longer than a short run.
  jit = functools.partial(jax.jit, compiler_options=devices.compiler_options())
  rate_at = jit(schedule)
  make_order = jit(
    lambda epoch: data.shuffled_order(
      jax.random.fold_in(split_seed(config.seed)[1], epoch), num_train, config.batch_size
    )
  )
  carry = jit(lambda seed: init_carry(split_seed(seed)[0], model=model, optimizer=optimizer))(config.seed)
  newest = _load_newest(workdir, carry)
  history = []
  if newest is not None:
    # Copied, because the compiled steps overwrite their carry, and a NumPy array is not theirs to overwrite.
    carry = jax.tree.map(jnp.array, newest.tree)
    history = newest.record['history']
    watch.add(newest.record['seconds'])
  step = int(carry.state.step)

  with watch.phase('compile'):
    train_split = jax.device_put(dataset.train)
    advance = compile_steps(config, carry, train_split, make_order(0), model=model, optimizer=optimizer)

  with contextlib.ExitStack() as stack:
    stack.enter_context(watch.phase('train'))
    writer = stack.enter_context(log.MetricsWriter(workdir, history))
    checkpoints = stack.enter_context(checkpoint_lib.Checkpoints(workdir / 'checkpoints', needed_step, newest))
    title = f'{config.model}, seed {config.seed}'
    progress = stack.enter_context(log.Progress(title, total_steps, step, config.batch_size))
    stop_requested = stack.enter_context(signals.catch_signals())

    def save():
      checkpoints.save(step, carry, make_record(config, writer.history, watch.seconds()))

    steps_per_look = 1
    for epoch in range(step // steps_per_epoch, config.epochs):
      order = make_order(epoch)
      epoch_start, epoch_end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
      record_steps = history_lib.record_steps(epoch_start, epoch_end, config.log_every_steps)
      while step < epoch_end:
        record_step = next(at for at in record_steps if at > step)
        target = min(step + steps_per_look, record_step)
        look_start = time.monotonic()
        carry = advance(carry, train_split, order, step - epoch_start, target - epoch_start)
        metrics = carry.window.compute()  # The one place where the host waits for the device.
        steps_per_look = pace(steps_per_look, target - step, time.monotonic() - look_start)
        step = target
        _refuse_non_finite(carry, rate_at, workdir)
        progress.update(step, metrics)

        if step == record_step:
          rate = float(rate_at(step - 1))
          writer.write(history_lib.train_record(step, epoch, carry.window, rate, watch.seconds()['train']))
          carry = carry.replace(window=metrics_lib.Metrics.empty())
        if stop_requested.is_set() and step < epoch_end:
          save()
          raise _interrupted(step, workdir)

      summary = f'epoch {epoch + 1}/{config.epochs}, training loss {metrics["loss"]:.4f}'
      if config.num_validation:
        valid = evaluate_split(carry.state.params, dataset.valid, model=model, batch_size=config.eval_batch_size)
        _refuse_non_finite_validation(valid, step, workdir)
        writer.write(history_lib.valid_record(step, epoch, valid, watch.seconds()['train']))
        summary += f', validation loss {valid["loss"]:.4f}, accuracy {valid["accuracy"]:.2%}'
      progress.report(step, summary)
      save()
      if stop_requested.is_set() and step < total_steps:
        raise _interrupted(step, workdir)

  chosen = history_lib.best_step(writer.history) or step
  params = carry.state.params
  if chosen != step:
    params = checkpoint_lib.load(workdir / 'checkpoints', chosen, carry).tree.state.params
  return write_results(config, workdir, dataset, params, chosen, writer.history, watch.seconds())


def write_results(config, workdir, dataset, params, step, history, seconds):
  """Scores the chosen parameters on the test split, once, and writes results.json.

  Args:
    config: `TrainConfig` of the run.
    workdir: `pathlib.Path` of the run.
    dataset: the `Dataset`.
    params: the parameters of the least validation loss.
    step: the step they are of.
    history: the run's records.
    seconds: dict of seconds by phase.

  Returns:
    The content of results.json.
  """
  results = {
    'experiment': 'train',
    'model': config.model,
    'dataset': config.dataset,
    'seed': config.seed,
    'num_parameters': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'epochs': config.epochs,
    'step': step,
    'valid': history_lib.valid_scores(history, step),
    'test': evaluate_split(params, dataset.test, model=config.make_model(), batch_size=config.eval_batch_size),
    'seconds': seconds,
  }
  return results_lib.write_results(workdir, results)


def split_seed(seed):
  """The two keys of a run, `(rng_init, rng_shuffle)`: the shuffle of epoch e is `fold_in(rng_shuffle, e)`."""
  return jax.random.split(jax.random.key(seed))


def make_record(config, history, seconds):
  """What a checkpoint keeps beside the arrays."""
  return {'config': config_lib.to_dict(config), 'history': history, 'seconds': seconds}


def carry_template(config):
  """The form of what a run's checkpoints hold: its `Carry`, of `jax.ShapeDtypeStruct`."""
  optimizer = make_optimizer(config, make_schedule(config, steps_per_epoch=1))
  init = functools.partial(init_carry, model=config.make_model(), optimizer=optimizer)
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


def compile_steps(config, carry, split, order, *, model, optimizer):
  """Compiles training, by the config's `step_loop`.

  Returns:
    A function `(carry, split, order, start, stop) -> carry` that trains on batches `start` to `stop` of an epoch. It
    takes over the arrays of the carry it is given.
  """
  jit = functools.partial(jax.jit, donate_argnums=0, compiler_options=devices.compiler_options())
  many = jit(functools.partial(run_steps, model=model, optimizer=optimizer))
  many = many.trace(carry, split, order, np.int32(0), np.int32(1))
  # XLA's CPU backend runs a convolution inside a loop on one thread, and far slower than the same outside of it.
  slow_in_loop = jax.default_backend() == 'cpu' and 'conv_general_dilated' in str(many.jaxpr)
  if config.step_loop == 'device' or (config.step_loop == 'auto' and not slow_in_loop):
    compiled = many.lower().compile()
    return lambda carry, split, order, start, stop: compiled(carry, split, order, np.int32(start), np.int32(stop))

  one = jit(functools.partial(run_step, model=model, optimizer=optimizer))
  compiled = one.lower(carry, split, order, np.int32(0)).compile()

  def advance(carry, split, order, start, stop):
    for index in range(start, stop):
      carry = compiled(carry, split, order, np.int32(index))
    return carry

  return advance


def needed_step(record):
  """The other checkpoint that a checkpoint is of no use without: that of the best step so far."""
  return history_lib.best_step(record['history'])


def _load_newest(workdir, carry):
  """Loads the newest good checkpoint, and deletes the damaged ones after it."""
  directory = workdir / 'checkpoints'
  newest = checkpoint_lib.load_newest(directory, carry, needed_step)
  checkpoint_lib.delete_after(directory, -1 if newest is None else newest.step)
  return newest


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
  return errors.DigitsError(f'Stopped and saved at step {step} in {workdir}: run the same command to go on.')
