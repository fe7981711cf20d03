"""PyTorch's side of the benchmark: the same models, recipe and data, written as its users write them.

Modes: `eager`; `compile`, with `torch.compile` around the forward pass and the loss; and `loader`, eager with a
`Dataset` and the `DataLoader`. In the first two the images lie in memory as one uint8 tensor and batches are gathered
by index. The loop keeps a running loss and nothing else; ours keeps accuracy and gradient norm too.
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import protocol


def make_model(name):
  """The architecture of that name, a `nn.Module` from float[B, 1, 28, 28] to logits, initialised as ours is."""
  if name == 'softmax':
    layers = [nn.Flatten(), nn.Linear(784, 10)]
  elif name == 'mlp':
    layers = [nn.Flatten(), nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 10)]
  else:
    layers = []
    # The activation after the pool, as in ours: the same values at a quarter of the cost.
    for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
      layers += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(576, 100), nn.Sigmoid(), nn.Linear(100, 10)]
  model = nn.Sequential(*layers)
  for parameter in model.parameters():
    if parameter.ndim == 1:
      nn.init.zeros_(parameter)
    else:  # The LeCun normal initializer: a normal distribution cut off at two standard deviations, and rescaled.
      deviation = parameter[0].numel() ** -0.5 / 0.87962566103423978
      nn.init.trunc_normal_(parameter, std=deviation, a=-2 * deviation, b=2 * deviation)
  return model


def make_optimizer(model, recipe):
  """SGD with momentum, and weight decay on kernels only."""
  groups = [
    {'params': [p for p in model.parameters() if p.ndim > 1], 'weight_decay': recipe['weight_decay']},
    {'params': [p for p in model.parameters() if p.ndim == 1], 'weight_decay': 0.0},
  ]
  return torch.optim.SGD(groups, lr=0.0, momentum=recipe['momentum'], nesterov=recipe['nesterov'])


def one_cycle(step, num_steps, recipe):
  """The learning rate: a half cosine up from 1/25 of the peak, then one down to 0."""
  rise = round(recipe['warmup_fraction'] * num_steps)
  peak = recipe['learning_rate']
  if step < rise:
    return peak * (1 - (1 - 1 / 25) * 0.5 * (1 + math.cos(math.pi * step / rise)))
  return peak * 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(num_steps - rise, 1), 1)))


def normalize(image):
  """Maps uint8 pixels to float32 in [0, 1]; leaves float32 as it is."""
  return image.to(torch.float32) / 255 if image.dtype == torch.uint8 else image


class DigitDataset(torch.utils.data.Dataset):
  """One example at a time, as `torchvision.datasets.MNIST` with `ToTensor` gives it."""

  def __init__(self, image, label):
    self._image, self._label = image, label

  def __len__(self):
    return len(self._label)

  def __getitem__(self, index):
    return normalize(self._image[index]), self._label[index]


class Trainer:
  """A model in training.

  Args:
    name: of the model.
    recipe: dict of the config's fields.
    image: uint8[N, 1, 28, 28].
    label: int64[N].
    batch_size: images a step.
    epochs: for the schedule.
    mode: `eager`, `compile` or `loader`.
  """

  def __init__(self, name, recipe, image, label, *, batch_size, epochs, mode):
    self._recipe, self._image, self._label, self._batch_size = recipe, image, label, batch_size
    self._num_steps = epochs * -(-len(label) // batch_size)
    self._step = 0
    self.model = make_model(name).to(image.device)
    self._optimizer = make_optimizer(self.model, recipe)
    # Where the shape of a batch changes, a second compiled version is faster than one for all shapes.
    if mode == 'compile':
      self._loss = torch.compile(self._loss, dynamic=False)
      self._measure = torch.compile(self._measure, dynamic=False)
    self._loader = None
    if mode == 'loader':
      self._loader = torch.utils.data.DataLoader(DigitDataset(image, label), batch_size, shuffle=True)

  def _loss(self, image, label):
    return functional.cross_entropy(self.model(normalize(image)), label)

  def _measure(self, image, label):
    logits = self.model(normalize(image))
    return functional.cross_entropy(logits, label, reduction='sum'), (logits.argmax(1) == label).sum()

  def _batches(self):
    if self._loader is not None:
      yield from self._loader
      return
    for rows in torch.randperm(len(self._label), device=self._label.device).split(self._batch_size):
      yield self._image[rows], self._label[rows]

  def step(self, image, label):
    """Does one update and returns the loss."""
    for group in self._optimizer.param_groups:
      group['lr'] = one_cycle(self._step, self._num_steps, self._recipe)
    self._optimizer.zero_grad()
    loss = self._loss(image, label)
    loss.backward()
    self._optimizer.step()
    self._step += 1
    return loss.detach()

  def first_step(self):
    """Does the first update of an epoch and waits for the device."""
    return float(self.step(*next(iter(self._batches()))))

  def train_epoch(self):
    """Trains for an epoch and waits for the device."""
    total = torch.zeros((), device=self._label.device)
    for image, label in self._batches():
      total += self.step(image, label)
    return float(total)

  @torch.no_grad()
  def evaluate(self, image, label, batch_size):
    """Measures loss and accuracy, and waits for the device."""
    loss = correct = 0
    for batch in zip(image.split(batch_size), label.split(batch_size), strict=True):
      batch_loss, batch_correct = self._measure(*batch)
      loss, correct = loss + batch_loss, correct + batch_correct
    return float(loss) / len(label), float(correct) / len(label)


class Peer:
  """The measurements, by name; see `benchmarks/run.py` and `benchmarks/ours.py`.

  Args:
    data: a directory with recipes.json and the arrays as NumPy files.
    mode: of the `Trainer`.
  """

  def __init__(self, data, mode):
    data = pathlib.Path(data)
    self._mode = mode
    self._recipes = json.loads((data / 'recipes.json').read_text())
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    self._train = self._load(data, 'train')
    self._test = self._load(data, 'test')
    self._trainers = {}
    # One function of ours is compiled for each model, batch size and shape of a batch.
    torch._dynamo.config.recompile_limit = 64

  def _load(self, data, split):
    image, label = np.load(data / f'{split}_image.npy'), np.load(data / f'{split}_label.npy')
    image = torch.from_numpy(image).reshape(-1, 1, 28, 28)
    return image.to(self._device), torch.from_numpy(label).long().to(self._device)

  def _make_trainer(self, model, data, batch_size=None, epochs=None):
    recipe = self._recipes[model]
    epochs = epochs or recipe['epochs']
    return Trainer(model, recipe, *data, batch_size=batch_size or recipe['batch_size'], epochs=epochs, mode=self._mode)

  def train(self, model, batch_size, num_images, epochs):
    """Trains on `num_images`; the time is that of one of several epochs."""
    key = model, batch_size, num_images
    if key not in self._trainers:
      self._trainers[key] = self._make_trainer(model, [array[:num_images] for array in self._train], batch_size)
    start = time.perf_counter()
    for _ in range(epochs):
      self._trainers[key].train_epoch()
    yield {'seconds': (time.perf_counter() - start) / epochs}

  def evaluate(self, model, batch_size, passes):
    """Measures loss and accuracy on the test split; the time is that of one of several passes."""
    if model not in self._trainers:
      self._trainers[model] = self._make_trainer(model, self._train)
    start = time.perf_counter()
    for _ in range(passes):
      self._trainers[model].evaluate(*self._test, batch_size)
    yield {'seconds': (time.perf_counter() - start) / passes}

  def matmul(self, size):
    """Multiplies matrices."""
    matrix = torch.randn(size, size, device=self._device)
    # The transfer of one element waits for the device.
    yield {'library': 'torch', 'gflops': protocol.best_gflops(lambda: (matrix @ matrix)[0, 0].item(), size)}

  def start(self, model):
    """Does a first step, then an epoch."""
    trainer = self._make_trainer(model, self._train)
    trainer.first_step()
    yield {'reached': 'first_step'}
    trainer.train_epoch()
    yield {'reached': 'epoch', 'max_rss': protocol.max_rss()}

  def target(self, model, seed, epochs, accuracy):
    """Trains until the test accuracy is reached, measured after every epoch."""
    torch.manual_seed(seed)
    trainer = self._make_trainer(model, self._train, epochs=epochs)
    for epoch in range(epochs):
      trainer.train_epoch()
      _, reached = trainer.evaluate(*self._test, 500)
      yield {'epoch': epoch + 1, 'accuracy': reached}
      if reached >= accuracy:
        return

  def describe(self):
    """Names the versions, the device and the threads."""
    yield {'versions': {'torch': torch.__version__}, 'device': self._device, 'threads': torch.get_num_threads()}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', required=True, help='a directory with recipes.json and the arrays')
  parser.add_argument('--mode', required=True, choices=('eager', 'compile', 'loader'))
  arguments = parser.parse_args()
  protocol.serve(Peer(arguments.data, arguments.mode))
