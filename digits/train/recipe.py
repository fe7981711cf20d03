"""What a train config means: the one place where its fields become a model, an optimizer and the update of a step."""

from collections.abc import Callable
import functools
import traceback
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
import numpy as np
import optax

from digits import errors
from digits.config import TrainConfig
from digits.data import arrays
from digits.models.registry import takes_train
from digits.train import augment as augment_lib
from digits.train import metrics, optim, runs, step

# The config fields in which the members of a population may differ; to the compiled program they are arrays.
VARIABLE_FIELDS = ('seed', *optim.Hyperparameters._fields)


class Recipe(NamedTuple):
  """How a run trains: the arguments of `train_step` by its names.

  Attributes:
    model: the unbound module.
    optimizer: the optimizer.
    loss: the loss that is minimised.
    augment: the augmentation, or None.
    teacher: the teacher of a distillation, or None.
    rng: key of the run's seed.
    ema_decay: decay of the average of the variables; 0 for no average.
  """

  model: nn.Module
  optimizer: optax.GradientTransformation
  loss: Callable[..., Any]
  augment: augment_lib.Augmentation | None
  teacher: step.Teacher | None
  rng: Key[Array, '']
  ema_decay: float

  def init_state(self) -> step.TrainState:
    """The state before the first step."""
    return step.init_state(self.rng, model=self.model, optimizer=self.optimizer, ema=self.ema_decay > 0)

  def train_step(
    self, state: step.TrainState, batch: metrics.Batch, microbatch_size: int = 0, axis_name: str | None = None
  ) -> tuple[step.TrainState, metrics.Metrics]:
    """See `step.train_step`."""
    return step.train_step(state, batch, **self._asdict(), microbatch_size=microbatch_size, axis_name=axis_name)


def make_recipe(
  config: TrainConfig, num_steps: int, seed: Any = None, hyper: optim.Hyperparameters | None = None
) -> Recipe:
  """Makes the recipe of a run, or, within a compiled program, of a member of a population.

  Args:
    config: the run's config.
    num_steps: number of updates of the run.
    seed: the seed, where it is an array; None for that of the config.
    hyper: hyper-parameters that are arrays; None for those of the config.

  Raises:
    UsageError: a field names something that does not exist, or that does not fit.
  """
  loss = metrics.cross_entropy
  if config.label_smoothing:
    loss = functools.partial(metrics.smoothed_cross_entropy, smoothing=config.label_smoothing)
  if config.dataset == arrays.READING:
    loss = functools.partial(metrics.cross_entropy_with_outliers, known=loss)
  teacher = None
  if config.distill['workdir']:
    teacher = load_teacher(config.distill['workdir'])
    loss = functools.partial(
      metrics.distillation_loss,
      hard=loss,
      weight=config.distill['weight'],
      temperature=config.distill['temperature'],
    )
  return Recipe(
    model=config.make_model(),
    optimizer=optim.make_optimizer(config, num_steps, hyper),
    loss=loss,
    augment=augment_lib.make_augment(config.augment),
    teacher=teacher,
    rng=jax.random.key(config.seed if seed is None else seed),
    ema_decay=config.ema_decay,
  )


@functools.cache
def load_teacher(workdir: str) -> step.Teacher:
  """Loads the run or the ensemble whose answers a distillation learns."""
  try:
    run = runs.load_run(workdir)
  except errors.UsageError as error:
    raise errors.UsageError(f'config.distill.workdir={workdir!r} holds no teacher: {error}') from error

  def answer(image):
    logits: Any = run.model.apply(run.variables, image)
    return logits.astype(jnp.float32)

  return answer


def describe_loss(config: TrainConfig) -> str:
  """What the training loss of a config is, for records and pages."""
  if config.distill['workdir']:
    return f'distillation from {config.distill["workdir"]}'
  smoothing = f' with label smoothing {config.label_smoothing:g}' if config.label_smoothing else ''
  outliers = ', every class alike for an image of no digit' if config.dataset == arrays.READING else ''
  return f'cross-entropy{smoothing}{outliers}'


def check_recipe(config: TrainConfig, dataset: arrays.Dataset) -> None:
  """Tries out a config without computing anything, before any of its files is written.

  Raises:
    UsageError: the config does not fit the data, or a model, optimizer or augmentation that it names fails.
  """
  if config.loader == 'grain' and (config.dataset == arrays.READING or ':' in config.dataset):
    raise errors.UsageError(
      f"config.loader='grain' reads the records of TFDS, and {config.dataset} has none: set config.loader='memory'."
    )
  for name, split in (('batch_size', dataset.train), ('eval_batch_size', dataset.test)):
    if getattr(config, name) > len(split.label):
      raise errors.UsageError(
        f'config.{name}={getattr(config, name)} is more than the {len(split.label)} images there are: make it smaller.'
      )
  size = 32
  batch = {name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in arrays.BATCH.items()}
  try:
    recipe = make_recipe(config, num_steps=2)
    if config.microbatch_size and takes_train(recipe.model):
      raise errors.UsageError(
        f'config.microbatch_size={config.microbatch_size} is not possible: the model {config.model} behaves '
        'differently in training, as with batch normalization, and needs the whole batch at once; set it to 0.'
      )
    state = jax.eval_shape(recipe.init_state)
    logits = jax.eval_shape(functools.partial(step.apply_model, recipe.model), state.variables, batch['image'])
    if logits.shape != (size, arrays.NUM_CLASSES):
      raise errors.UsageError(
        f'The model {config.model} maps {size} images to an array {list(logits.shape)}: it must give '
        f'[{size}, {arrays.NUM_CLASSES}], a logit for each image and class.'
      )
    hash(recipe.model)  # What is compiled is kept by the model, so that a field must be a tuple and not a list or dict.
    jax.eval_shape(recipe.train_step, state, batch)
  except errors.DigitsError:
    raise
  except Exception as error:  # Whatever somebody's model, optimizer or augmentation raises.
    where = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(where) if 'site-packages' not in frame.filename), where[-1])
    raise errors.UsageError(
      f'The model {config.model} cannot be trained by this config: {type(error).__name__} in {place.filename}, line '
      f'{place.lineno}: {errors.first_line(error)}.'
    ) from error
