"""Many runs at once: seeds and hyper-parameters are one more array axis over the same train step.

On an accelerator the axis is a `jax.vmap`. On a CPU, batched products of small matrices are slow and a step of these
models keeps one core busy: there the members are spread over one virtual device per core, and each device trains its
own one after another, within a compiled loop.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
import numpy as np

from digits import data, errors
from digits.config import TrainConfig
from digits.data import arrays
from digits.runtime import devices, signals
from digits.runtime.progress import Progress, Stopwatch
from digits.store import checkpoint, records
from digits.store import workdir as workdir_lib
from digits.store.results import write_results
from digits.train import compiled, loop, optim
from digits.train.metrics import Batch, Metrics
from digits.train.recipe import make_recipe, Recipe, VARIABLE_FIELDS
from digits.train.step import eval_step, Variables

# From a model's variables and a batch to what is measured: a dict of float32[].
Probe = Callable[[Variables, Batch], Mapping[str, Any]]


class Member(NamedTuple):
  """One trained member.

  Attributes:
    config: its config.
    history: its records, as in metrics.jsonl.
    carry: its carry at the end, NumPy arrays.
    selected: the carry whose weights are tested, by `config.select`.
    failed_step: the step at which its loss, its gradient or its validation loss was not finite, or -1.
    seconds: its share of the population's time, by phase.
  """

  config: TrainConfig
  history: list[records.Record]
  carry: compiled.Carry
  selected: compiled.Carry
  failed_step: int
  seconds: dict[str, float]


def num_seed_devices(num_members: int, requested: int = 0) -> int:
  """How many devices members are spread over: all there are, or as many as requested, and no more than members."""
  available = len(jax.devices())
  if requested > available:
    raise errors.UsageError(f'config.mesh.seeds={requested} is more than the {available} devices there are.')
  return min(requested or available, num_members)


class _Members:
  """The training of all members, as `loop.drive` drives it.

  Attributes:
    carry: the `Carry` of all members along a leading axis, on the devices.
  """

  def __init__(self, configs: Sequence[TrainConfig], split: arrays.Split, method: str, num_devices: int):
    self._config, self._count = configs[0], len(configs)
    self._num_examples = len(split.label)
    self._steps_per_epoch = math.ceil(self._num_examples / self._config.batch_size)
    self._mesh = Mesh(np.array(jax.devices()[:num_devices]), ('seeds',))
    self._method = method
    self._members = NamedSharding(self._mesh, PartitionSpec('seeds'))
    padded = [*configs, *[configs[0]] * (-len(configs) % num_devices)]  # Every device has as many.
    self._seeds = [config.seed for config in padded]
    columns = [[getattr(config, name) for config in padded] for name in optim.Hyperparameters._fields]
    hyper = optim.Hyperparameters(*(np.array(column, np.float32) for column in columns))
    self._hyper = jax.device_put((np.array(self._seeds, np.int32), hyper), self._members)
    self._split = jax.device_put(split, NamedSharding(self._mesh, PartitionSpec()))
    self.carry = self.map(lambda hyper: compiled.init_carry(self._make_recipe(hyper)))(self._hyper)
    train = self._spread(self._train_member)
    self._run = jax.jit(
      lambda carry, order, hyper, *shared: train((carry, order, hyper), *shared),
      donate_argnums=0,
      compiler_options=devices.compiler_options(),
    )
    self._epoch, self._order = 0, self._make_order(0)
    self.advance(0, 0)  # Compiles.

  def _make_recipe(self, hyper: Any) -> Recipe:
    return make_recipe(self._config, self._config.epochs * self._steps_per_epoch, *hyper)

  def _train_member(self, member, split, start, stop):
    carry, order, hyper = member
    recipe = self._make_recipe(hyper)
    microbatch_size = compiled.choose_microbatch_size(recipe.model, self._config.microbatch_size)
    update = functools.partial(recipe.train_step, microbatch_size=microbatch_size)
    return compiled.run_steps(carry, split, order, start, stop, update=update)

  def _make_order(self, epoch: int) -> Any:
    batch_size = self._config.batch_size
    orders = [data.shuffled_order(seed, epoch, self._num_examples, batch_size) for seed in self._seeds]
    return jax.device_put(np.stack(orders), self._members)

  def map(self, function: Callable[..., PyTree]) -> Any:
    """Compiles a function of one member, and of what all share, for trees with a leading axis of members."""
    return jax.jit(self._spread(function), compiler_options=devices.compiler_options())

  def _spread(self, function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    def on_device(members, *shared):
      one = lambda member: function(member, *shared)
      return jax.vmap(one)(members) if self._method == 'vmap' else jax.lax.map(one, members)

    def over_members(members, *shared):
      in_specs = (PartitionSpec('seeds'), *[PartitionSpec()] * len(shared))
      return jax.shard_map(
        on_device, mesh=self._mesh, in_specs=in_specs, out_specs=PartitionSpec('seeds'), check_vma=False
      )(members, *shared)

    return over_members

  def advance(self, start: int, stop: int) -> None:
    """Trains all members from step `start` to step `stop`, both of one epoch."""
    epoch, index = divmod(start, self._steps_per_epoch)
    if epoch != self._epoch:
      self._epoch, self._order = epoch, self._make_order(epoch)
    self.carry = self._run(self.carry, self._order, self._hyper, self._split, index, index + stop - start)

  def metrics(self) -> dict[str, Any]:
    """Loss and accuracy of the first member. Waits for the device."""
    return self.unstack(self.carry.window)[0].compute()

  def reset_window(self) -> None:
    """Begins a new record."""
    self.carry = self.carry.replace(window=jax.tree.map(jnp.zeros_like, self.carry.window))

  def unstack(self, tree: PyTree) -> list[PyTree]:
    """The members of a tree of arrays with a leading axis, on the host."""
    tree = jax.device_get(tree)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(self._count)]


def train_population(
  configs: Sequence[TrainConfig],
  dataset: arrays.Dataset,
  *,
  method: str = 'auto',
  num_devices: int = 0,
  probe: Probe | None = None,
) -> list[Member]:
  """Trains runs that differ in seed, learning rate, momentum or weight decay, together.

  A member equals the single run of its config to float tolerance: the same initial parameters, shuffles and updates.

  Args:
    configs: configs that are equal but for `VARIABLE_FIELDS`.
    dataset: the data, on the host.
    method: `vmap` for one vectorised program; `map` for one member after another on each device, within one program;
      `auto` for `map` on a CPU and `vmap` elsewhere.
    num_devices: how many devices to spread the members over; 0 for all.
    probe: a pure function that is evaluated before the first and after every epoch on the first batch of the validation
      split, and recorded with the split `probe`; None for no probe.

  Returns:
    The members, in the order of the configs.

  Raises:
    UsageError: the configs differ in another field.
    StoppedError: Ctrl-C or SIGTERM arrived.
  """
  _refuse_other_differences(configs)
  config, count = configs[0], len(configs)
  watch = Stopwatch()
  steps_per_epoch = math.ceil(len(dataset.train.label) / config.batch_size)
  num_steps = config.epochs * steps_per_epoch
  with watch.phase('compile'):
    if method == 'auto':
      method = 'map' if jax.default_backend() == 'cpu' else 'vmap'
    training = _Members(configs, dataset.train, method, num_seed_devices(count, num_devices))
  evaluate = training.map(functools.partial(eval_step, model=config.make_model()))
  run_probe = training.map(probe) if probe is not None else None
  schedules = [optim.make_schedule(member, num_steps) for member in configs]
  histories: list[list[records.Record]] = [[] for _ in configs]
  best: list[tuple[float, compiled.Carry] | None] = [None] * count
  diverged = [-1] * count
  valid_batches = list(data.host_batches(dataset.valid, config.eval_batch_size))

  def seconds_each():
    return {name: round(value / count, 3) for name, value in watch.seconds().items()}

  def record_probe(step, epoch):
    if run_probe is not None:
      measured = training.unstack(run_probe(training.carry.state.variables, valid_batches[0]))
      for history, values in zip(histories, measured, strict=True):
        values = {name: float(value) for name, value in values.items()}
        history.append({'step': step, 'epoch': epoch, 'split': 'probe'} | values)

  with contextlib.ExitStack() as stack:
    stack.enter_context(watch.phase('train'))
    title = f'{config.model}, {count} seeds at once' if count > 1 else f'{config.model}, seed {config.seed}'
    progress = stack.enter_context(Progress(title, num_steps, 0, config.batch_size * count))
    stop_requested = stack.enter_context(signals.catch_signals())
    record_probe(0, 0)
    for look in loop.drive(training, config, 0, steps_per_epoch, progress, stop_requested):
      if look.stop:
        raise errors.StoppedError('Stopped; run the same command again to continue with what is not finished.')
      if look.is_record:
        windows = training.unstack(training.carry.window)
        for history, schedule, window in zip(histories, schedules, windows, strict=True):
          history.append(loop.window_record(config, look, window, schedule, seconds_each()['train']))
        training.reset_window()
      if look.ends_epoch:
        record_probe(look.step, look.epoch)
        if valid_batches:
          sums = [evaluate(training.carry.state.variables, batch) for batch in valid_batches]
          scores = [metrics.compute() for metrics in training.unstack(functools.reduce(Metrics.merge, sums))]
          for i, (score, end) in enumerate(zip(scores, training.unstack(training.carry), strict=True)):
            if not math.isfinite(score['loss']) and diverged[i] < 0:
              diverged[i] = look.step
            histories[i].append(records.valid_record(look.step, look.epoch, score, seconds_each()['train']))
            kept = best[i]
            if config.select == 'best' and (kept is None or score['loss'] < kept[0]):
              best[i] = score['loss'], end
          accuracy = np.mean([score['accuracy'] for score in scores])
          progress.report(look.step, f'epoch {look.epoch + 1}/{config.epochs}, mean validation accuracy {accuracy:.2%}')
  return [
    Member(
      config=member,
      history=history,
      carry=end,
      selected=end if kept is None else kept[1],
      failed_step=int(end.failed_step) if end.failed_step >= 0 else validated,
      seconds=seconds_each(),
    )
    for member, history, end, kept, validated in zip(
      configs, histories, training.unstack(training.carry), best, diverged, strict=True
    )
  ]


def _refuse_other_differences(configs: Sequence[TrainConfig]) -> None:
  for other in configs:
    for field in dataclasses.fields(other):
      if field.name not in VARIABLE_FIELDS and getattr(other, field.name) != getattr(configs[0], field.name):
        raise errors.UsageError(f'config.{field.name} differs between members: only {", ".join(VARIABLE_FIELDS)} may.')


def write_member(member: Member, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """Writes a member's workdir as its single run would have: config, records, checkpoints, results.

  Args:
    member: the member.
    workdir: its directory, made if need be.
    dataset: the data.

  Returns:
    The content of results.json.

  Raises:
    DigitsError: its loss or gradient was not finite.
  """
  config, directory = member.config, workdir / 'checkpoints'
  if member.failed_step >= 0:
    failure = loop.describe_divergence(member.failed_step)
    if member.carry.failed_step >= 0:
      num_steps = config.epochs * math.ceil(len(dataset.train.label) / config.batch_size)
      rate = np.asarray(optim.make_schedule(config, num_steps)(member.failed_step)).item()
      failure = loop.describe_failure(member.failed_step, rate, float(member.carry.failed_grad_norm))
    raise errors.DigitsError(f'{failure}. The seed was {config.seed}.')
  workdir.mkdir(parents=True, exist_ok=True)
  checkpoint.delete_after(directory, -1)  # Those of a process that did not get to the results.
  workdir_lib.write_config(config, workdir)
  with records.MetricsWriter(workdir, []) as writer:
    for record in member.history:
      writer.write(record)
  with checkpoint.Checkpoints(directory, loop.needed_step) as checkpoints:
    for carry in (member.selected, member.carry):
      step = int(carry.state.step)
      if step not in checkpoint.list_steps(directory):
        history = [record for record in member.history if record['step'] <= step]
        checkpoints.save(step, carry, loop.make_record(config, history, member.seconds))
  selected = member.selected.state
  variables, step = selected.variables, int(selected.step)
  results = loop.make_results(config, workdir, dataset, variables, step, member.history, member.seconds)
  return write_results(workdir, results)
