"""Many runs at once: seeds and hyper-parameters are one more array axis over the same train step.

On an accelerator the axis is a `jax.vmap`. On a CPU, batched products of small matrices are slow and a step of these
models keeps one core busy: there the members are spread over one virtual device a core, and each device trains its own
one after another, within a compiled loop.
"""

import contextlib
import dataclasses
import functools
import math
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from digits import config as config_lib
from digits import data
from digits import errors
from digits.runtime import devices
from digits.runtime import progress
from digits.runtime import signals
from digits.store import checkpoint as checkpoint_lib
from digits.store import records as history_lib
from digits.store import workdir as workdir_lib
from digits.train import compiled
from digits.train import loop
from digits.train import metrics as metrics_lib
from digits.train import optim
from digits.train import step as step_lib

# The config fields in which the members of a population may differ; to the compiled program they are arrays.
VARIABLE_FIELDS = ('seed', 'learning_rate', 'momentum', 'weight_decay')
METHODS = ('auto', 'vmap', 'map')


class Hyperparameters(NamedTuple):
  """What differs between members: float32[M] each, but for seed, int32[M]."""

  seed: Any
  learning_rate: Any
  momentum: Any
  weight_decay: Any


class Member(NamedTuple):
  """One trained member.

  Attributes:
    config: its `TrainConfig`.
    history: its records, as in metrics.jsonl.
    carry: its `Carry` at the end, NumPy arrays.
    best: its `Carry` at the least validation loss.
    failed_step: the step at which its loss or gradient was not finite, or -1.
    seconds: its share of the population's time, by phase.
  """

  config: config_lib.TrainConfig
  history: list
  carry: compiled.Carry
  best: compiled.Carry
  failed_step: int
  seconds: dict


def num_seed_devices(num_members, requested=0):
  """How many devices members are spread over: all there are, or as many as requested, and no more than members."""
  available = len(jax.devices())
  if requested > available:
    raise errors.UsageError(f'config.mesh.seeds={requested} is more than the {available} devices there are.')
  return min(requested or available, num_members)


def train_population(configs, dataset, *, method='auto', num_devices=0, probe=None):
  """Trains runs that differ in seed, learning rate, momentum or weight decay, together.

  A member equals the single run of its config to float tolerance: the same initial parameters, shuffles and updates.

  Args:
    configs: list of `TrainConfig`, equal but for `VARIABLE_FIELDS`.
    dataset: `Dataset` of host arrays.
    method: `vmap` for one vectorised program; `map` for one member after another on each device, within one program;
      `auto` for `map` on a CPU and `vmap` elsewhere.
    num_devices: how many devices to spread the members over; 0 for all.
    probe: a pure function `(params, batch) -> dict of float32[]`, evaluated before the first and after every epoch on
      the first batch of the validation split, and recorded with the split `probe`; None for no probe.

  Returns:
    list of `Member`, in the order of the configs.

  Raises:
    UsageError: the configs differ in another field.
    StoppedError: Ctrl-C or SIGTERM came.
  """
  config = configs[0]
  for other in configs:
    for field in dataclasses.fields(other):
      if field.name not in VARIABLE_FIELDS and getattr(other, field.name) != getattr(config, field.name):
        raise errors.UsageError(f'config.{field.name} differs between members: only {", ".join(VARIABLE_FIELDS)} may.')
  if method == 'auto':
    method = 'map' if jax.default_backend() == 'cpu' else 'vmap'

  watch = progress.Stopwatch()
  num_train = len(dataset.train.label)
  steps_per_epoch = math.ceil(num_train / config.batch_size)
  total_steps = config.epochs * steps_per_epoch
  model = config.make_model()

  num_devices = num_seed_devices(len(configs), num_devices)
  mesh = Mesh(np.array(jax.devices()[:num_devices]), ('seeds',))
  over_members = _over_members(mesh, method)
  padded = [*configs, *[config] * (-len(configs) % num_devices)]  # Every device has as many.
  hyper = Hyperparameters(
    seed=np.array([member.seed for member in padded], np.int32),
    **{name: np.array([getattr(member, name) for member in padded], np.float32) for name in VARIABLE_FIELDS[1:]},
  )
  members_sharding = NamedSharding(mesh, PartitionSpec('seeds'))
  hyper = jax.device_put(hyper, members_sharding)
  train_split = jax.device_put(dataset.train, NamedSharding(mesh, PartitionSpec()))

  def optimizer_of(hyper):
    schedule = optim.make_schedule(
      config.schedule, hyper.learning_rate, total_steps, round(config.warmup_fraction * total_steps)
    )
    return optim.make_optimizer(schedule, hyper.momentum, config.nesterov, hyper.weight_decay, config.clip_norm)

  def init(hyper):
    return compiled.init_carry(jax.random.key(hyper.seed), model=model, optimizer=optimizer_of(hyper))

  def make_order(epoch):
    orders = [data.shuffled_order(member.seed, epoch, num_train, config.batch_size) for member in padded]
    return jax.device_put(np.stack(orders), members_sharding)

  def train_member(member, split, start, stop):
    carry, order, hyper = member
    return compiled.run_steps(
      *(carry, split, order, start, stop),
      model=model,
      optimizer=optimizer_of(hyper),
      microbatch_size=compiled.choose_microbatch_size(model, config.microbatch_size),
    )

  def evaluate(params, batch):
    return step_lib.eval_step(params, batch, model=model)

  init, evaluate, run_probe = (
    jax.jit(over_members(function), compiler_options=devices.compiler_options()) for function in (init, evaluate, probe)
  )
  train_members = over_members(train_member)

  @functools.partial(jax.jit, donate_argnums=0, compiler_options=devices.compiler_options())
  def train_to(carry, order, hyper, split, start, stop):
    return train_members((carry, order, hyper), split, start, stop)

  with watch.phase('compile'):
    carry = init(hyper)
    carry = train_to(carry, make_order(0), hyper, train_split, 0, 0)

  def members_of(tree):
    return _unstack(jax.device_get(tree), len(configs))

  def seconds_each():
    return {name: round(value / len(configs), 3) for name, value in watch.seconds().items()}

  histories = [[] for _ in configs]
  best = [None] * len(configs)
  valid_batches = list(data.host_batches(dataset.valid, config.eval_batch_size))

  def record_probe(step, epoch):
    if probe is not None:
      for history, values in zip(histories, members_of(run_probe(carry.state.params, valid_batches[0])), strict=True):
        values = {name: float(value) for name, value in values.items()}
        history.append({'step': step, 'epoch': epoch, 'split': 'probe'} | values)

  with contextlib.ExitStack() as stack:
    stack.enter_context(watch.phase('train'))
    title = (
      f'{config.model}, {len(configs)} seeds at once' if len(configs) > 1 else f'{config.model}, seed {config.seed}'
    )
    bar = stack.enter_context(progress.Progress(title, total_steps, 0, config.batch_size * len(configs)))
    stop_requested = stack.enter_context(signals.catch_signals())
    step, steps_per_look = 0, 1
    record_probe(step, 0)
    for epoch in range(config.epochs):
      order = make_order(epoch)
      epoch_start, epoch_end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
      for record_step in history_lib.record_steps(epoch_start, epoch_end, config.log_every_steps):
        while step < record_step:
          target = min(step + steps_per_look, record_step)
          look_start = time.monotonic()
          carry = train_to(carry, order, hyper, train_split, step - epoch_start, target - epoch_start)
          windows = members_of(carry.window)  # Waits for the device.
          steps_per_look = loop.pace(steps_per_look, target - step, time.monotonic() - look_start)
          step = target
          bar.update(step, windows[0].compute())
          if stop_requested.is_set():
            raise errors.StoppedError('Stopped; run the same command to go on with what is not finished.')
        for member, history, window in zip(configs, histories, windows, strict=True):
          rate = float(loop.make_schedule(member, steps_per_epoch)(step - 1))
          history.append(history_lib.train_record(step, epoch, window, rate, seconds_each()['train']))
        carry = carry.replace(window=jax.tree.map(jnp.zeros_like, carry.window))
      record_probe(step, epoch)
      if valid_batches:
        sums = functools.reduce(
          metrics_lib.Metrics.merge, [evaluate(carry.state.params, batch) for batch in valid_batches]
        )
        scores = [metrics.compute() for metrics in members_of(sums)]
        for i, (score, end) in enumerate(zip(scores, members_of(carry), strict=True)):
          histories[i].append(history_lib.valid_record(step, epoch, score, seconds_each()['train']))
          if best[i] is None or score['loss'] < best[i][0]:
            best[i] = score['loss'], end
        accuracy = np.mean([score['accuracy'] for score in scores])
        bar.report(step, f'epoch {epoch + 1}/{config.epochs}, mean validation accuracy {accuracy:.2%}')
  return [
    Member(
      config=member,
      history=history,
      carry=end,
      best=end if kept is None else kept[1],
      failed_step=int(end.failed_step),
      seconds=seconds_each(),
    )
    for member, history, end, kept in zip(configs, histories, members_of(carry), best, strict=True)
  ]


def write_member(member, workdir, dataset):
  """Writes a member's workdir as its single run would have: config, records, checkpoints, results.

  Args:
    member: `Member`.
    workdir: `pathlib.Path`, made if need be.
    dataset: the `Dataset`.

  Returns:
    The content of results.json.

  Raises:
    DigitsError: its loss or gradient was not finite.
  """
  if member.failed_step >= 0:
    steps_per_epoch = math.ceil(len(dataset.train.label) / member.config.batch_size)
    rate = float(loop.make_schedule(member.config, steps_per_epoch)(member.failed_step))
    raise errors.DigitsError(
      f'The loss or its gradient was not finite at step {member.failed_step} with seed {member.config.seed}, where the '
      f'learning rate was {rate:.4g} and the gradient norm {float(member.carry.failed_grad_norm):.4g}: '
      'lower config.learning_rate or set config.clip_norm.'
    )
  workdir.mkdir(parents=True, exist_ok=True)
  checkpoint_lib.delete_after(workdir / 'checkpoints', -1)  # Those of a process that did not get to the results.
  workdir_lib.write_config(member.config, workdir)
  with progress.MetricsWriter(workdir, []) as writer:
    for record in member.history:
      writer.write(record)
  with checkpoint_lib.Checkpoints(workdir / 'checkpoints', loop.needed_step) as checkpoints:
    for carry in (member.best, member.carry):
      step = int(carry.state.step)
      if step not in checkpoint_lib.list_steps(workdir / 'checkpoints'):
        history = [record for record in member.history if record['step'] <= step]
        checkpoints.save(step, carry, loop.make_record(member.config, history, member.seconds))
  return loop.write_results(
    member.config,
    workdir,
    dataset,
    member.best.state.params,
    int(member.best.state.step),
    member.history,
    member.seconds,
  )


def _over_members(mesh, method):
  """Returns a transform: `function(member, *shared)` to the same over a leading axis of members."""

  def transform(function):
    def on_device(members, *shared):
      if method == 'vmap':
        return jax.vmap(lambda member: function(member, *shared))(members)
      return jax.lax.map(lambda member: function(member, *shared), members)

    def over_members(members, *shared):
      in_specs = (PartitionSpec('seeds'), *[PartitionSpec()] * len(shared))
      return jax.shard_map(on_device, mesh=mesh, in_specs=in_specs, out_specs=PartitionSpec('seeds'), check_vma=False)(
        members, *shared
      )

    return over_members

  return transform


def _unstack(tree, count):
  """The first `count` members of a tree of NumPy arrays with a leading axis."""

  def member(i):
    return jax.tree.map(lambda leaf: leaf[i], tree)

  return [member(i) for i in range(count)]
