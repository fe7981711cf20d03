"""An ensemble: several networks that answer together."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from digits.models import registry


class Ensemble(nn.Module):
  """The mean of the probabilities of its members (Hansen and Salamon 1990).

  Attributes:
    members: modules from images to logits; the i-th finds its variables under `members_i`.
  """

  members: tuple[nn.Module, ...]

  def __call__(self, image: Float[Array | np.ndarray, 'batch h w 1']) -> Float[Array, 'batch classes']:
    """Maps images to the logarithms of the mean probabilities, which are logits."""
    logits = jnp.stack([member(image).astype(jnp.float32) for member in self.members])
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(self.members))

  @nn.nowrap
  def portable(self) -> 'Ensemble':
    """The same function in float32, with operations that every device has."""
    return Ensemble(tuple(registry.portable(member) for member in self.members))
