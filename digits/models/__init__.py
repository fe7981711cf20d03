"""The models, each registered by the name that a config gives it."""

from digits.models.activations import ACTIVATIONS
from digits.models.cnn import CNN
from digits.models.mlp import MLP
from digits.models.registry import MODELS, register_model
from digits.models.softmax import SoftmaxRegression

__all__ = ['ACTIVATIONS', 'CNN', 'MLP', 'MODELS', 'SoftmaxRegression', 'register_model']
