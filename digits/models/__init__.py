"""The models, by the name that a config gives them."""

from digits.models.activations import ACTIVATIONS
from digits.models.cnn import CNN
from digits.models.convolution import METHODS as CONVOLUTIONS
from digits.models.mlp import MLP
from digits.models.softmax import SoftmaxRegression

MODELS = {'softmax': SoftmaxRegression, 'mlp': MLP, 'cnn': CNN}

__all__ = ['ACTIVATIONS', 'CNN', 'CONVOLUTIONS', 'MLP', 'MODELS', 'SoftmaxRegression']
