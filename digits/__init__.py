"""Handwritten digit recognition in JAX and Flax: the names that a notebook imports."""

from digits.config import load_config
from digits.config import TrainConfig
from digits.data import Dataset
from digits.data import load_dataset
from digits.data import shuffled_order
from digits.data import Split
from digits.data import take_batch
from digits.errors import DigitsError
from digits.errors import UsageError
from digits.handwriting.predict import predict
from digits.handwriting.predict import Predictions
from digits.models import CNN
from digits.models import MLP
from digits.models import MODELS
from digits.models import SoftmaxRegression
from digits.train.loop import evaluate_split
from digits.train.loop import run
from digits.train.metrics import Metrics
from digits.train.optim import make_optimizer
from digits.train.optim import make_schedule
from digits.train.runs import load_run
from digits.train.runs import Run
from digits.train.step import eval_step
from digits.train.step import init_state
from digits.train.step import train_step
from digits.train.step import TrainState

__all__ = [
  'CNN',
  'MLP',
  'MODELS',
  'Dataset',
  'DigitsError',
  'Metrics',
  'Predictions',
  'Run',
  'SoftmaxRegression',
  'Split',
  'TrainConfig',
  'TrainState',
  'UsageError',
  'eval_step',
  'evaluate_split',
  'init_state',
  'load_config',
  'load_dataset',
  'load_run',
  'make_optimizer',
  'make_schedule',
  'predict',
  'run',
  'shuffled_order',
  'take_batch',
  'train_step',
]
