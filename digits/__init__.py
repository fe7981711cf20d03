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
from digits.loop import evaluate_split
from digits.loop import run
from digits.metrics import Metrics
from digits.models import CNN
from digits.models import MLP
from digits.models import MODELS
from digits.models import SoftmaxRegression
from digits.optim import make_optimizer
from digits.optim import make_schedule
from digits.prediction import predict
from digits.prediction import Predictions
from digits.runs import load_run
from digits.runs import Run
from digits.step import eval_step
from digits.step import init_state
from digits.step import train_step
from digits.step import TrainState

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
