"""The page about the activation study: what each activation is, and what it did to the models that were trained."""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from digits.models import layers, MODELS, registry
from digits.models.activations import ACTIVATIONS
from digits.report import activation_claims, figures, findings
from digits.report.figures import Figure, Panel
from digits.report.study import Claim, Section, Study

Recipes = Mapping[str, activation_claims.Recipe]


class About(NamedTuple):
  """What people should know of an activation.

  Attributes:
    formula: the function and its derivative.
    bounds: between which its values lie, to four decimals.
    note: what it is good for, and what for not.
  """

  formula: str
  bounds: tuple[float, float]
  note: str


ABOUT = {
  'sigmoid': About(
    'σ(x) = 1 / (1 + e⁻ˣ); σ′(x) = σ(x) (1 − σ(x))',
    (0, 1),
    'It makes a share out of any number, and was the usual choice for hidden layers when the published networks were '
    'described. Far from 0 it is nearly flat, and even at 0 it passes on only a quarter of a gradient. One such layer '
    'does no harm, because a larger learning rate makes up for it; in a stack of them the first layers hear almost '
    'nothing of the loss.',
  ),
  'tanh': About(
    'tanh(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ); tanh′(x) = 1 − tanh²(x)',
    (-1, 1),
    'It is a sigmoid stretched to lie around 0: tanh(x) = 2 σ(2x) − 1. Its slope at 0 is 1 and its values average '
    'about 0, so gradients survive several layers; far from 0 it is as flat as sigmoid.',
  ),
  'relu': About(
    'relu(x) = max(0, x); relu′(x) = 1 for x > 0 and 0 for x < 0',
    (0, math.inf),
    'Where its input is positive, it passes values and gradients on unchanged, through any number of layers. Where it '
    'is negative, both are 0: many activations are zero, and a unit that is negative for every image learns no more. '
    'It costs one comparison. That suits a stack of convolutions.',
  ),
  'gelu': About(
    'gelu(x) = x Φ(x) ≈ ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))); gelu′(x) = Φ(x) + x φ(x)',
    (-0.17, math.inf),
    'Φ and φ are the distribution and the density of the normal law. It is a smooth ReLU (Hendrycks and Gimpel 2016, '
    'arXiv:1606.08415), computed here by its approximation with tanh. Slightly negative inputs keep a gradient. It is '
    'common in transformers. Because it falls and then rises, it may not change places with a max-pooling.',
  ),
  'silu': About(
    'silu(x) = x σ(x); silu′(x) = σ(x) (1 + x (1 − σ(x)))',
    (-0.2785, math.inf),
    'It is GELU with sigmoid in place of Φ, and also called swish.',
  ),
  'elu': About(
    'elu(x) = x and elu′(x) = 1 for x > 0; elu(x) = eˣ − 1 and elu′(x) = eˣ for x ≤ 0',
    (-1, math.inf),
    'It is a ReLU that keeps a gradient below 0, where its values approach −1.',
  ),
  'identity': About(
    'f(x) = x; f′(x) = 1',
    (-math.inf, math.inf),
    'It changes nothing: two layers with it in between can do no more than one.',
  ),
}
_ALWAYS_EXPLAINED = ('sigmoid', 'tanh', 'relu', 'gelu')

_TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
_LOGITS = (0.5, -1.0, 1.5, 0.0, 4.0, 1.0, -0.5, 2.0, -2.0, 3.0)
# Two logits that far apart are ordinary in a network that is sure; float32 has no probability for the lower one.
_FAR_APART = (0.0, 120.0)


def make_study(results: Mapping[str, Any]) -> Study:
  """Makes the page out of what `experiments.activations` returns."""
  recipes = results['recipes']
  models = list(dict.fromkeys(recipe['model'] for recipe in recipes.values()))
  names = [activation_claims.TITLES[name] for name in _activations(recipes)]
  seeds = findings.count(results['num_seeds'], 'seed')
  lead = (
    f'What {findings.join(names)} do in {findings.join(models)}, each trained with {seeds}. A claim about two '
    'activations is supported if it holds between every seed of the one and every seed of the other, contradicted if '
    'its opposite does, and undecided otherwise. Numbers are means over seeds, with the lowest and the highest seed in '
    'brackets. All of them are computed from the measurements.'
  )
  with figures.style():
    look = figures.looks(_activations(recipes))
    made = [*explain(recipes), *(_model_section(model, results, look) for model in models)]
  return Study('What activations do', lead, made)


def _activations(recipes: Recipes) -> list[str]:
  return list(dict.fromkeys(recipe['activation'] for recipe in recipes.values()))


def explain(recipes: Recipes) -> list[Section]:
  """The sections that say what activations are, with what some recipes measured of each."""
  intro = [
    'A layer multiplies and adds. Two such layers in a row could be one, because a product of two matrices is a '
    'matrix; so something that is not linear stands between them. That is the activation: a function of one number, '
    'applied to every output of the layer.',
    'Training sends a gradient back through the same functions, and each multiplies it by its derivative. Where the '
    'derivative is small, the layers below learn slowly; where it is 0, they learn nothing. Below stand each function '
    'and its derivative, where the models have it, and what it did there.',
  ]
  explained = dict.fromkeys((*_ALWAYS_EXPLAINED, *_activations(recipes)))
  with figures.style():
    return [
      Section('What an activation is', intro),
      *(_activation_section(name, recipes) for name in explained),
      _softmax_section(),
      _logits_section(),
    ]


def _activation_section(name: str, recipes: Recipes) -> Section:
  about, title = ABOUT[name], activation_claims.TITLES[name]
  function = ACTIVATIONS[name].function
  slope = float(jax.vmap(jax.grad(function))(jnp.linspace(-6, 6, 1201)).max())
  heading = title[:1].upper() + title[1:]
  text = [
    f'{about.formula}.',
    f'{_say_bounds(*about.bounds)} Its slope is at most {slope:.3g}. {about.note}',
    f'{_say_uses(name)} {_say_measured(name, recipes)}',
  ]
  panel = _function_panel(name, title, function, 'Input')
  return Section(heading, text, figures=[Figure([panel], f'{heading} and its derivative.')])


def _say_bounds(low: float, high: float) -> str:
  ends = [_number(end) for end in (low, high)]
  if math.isfinite(low) and math.isfinite(high):
    return f'Its values lie between {ends[0]} and {ends[1]}.'
  return f'Its values are {ends[0]} or more.' if math.isfinite(low) else 'Its values are all numbers.'


def _shipped_models() -> dict[str, list[layers.Layer]]:
  """What the models of this package, with the widths and activations that they have by default, say of their layers."""
  return {
    name: layers.layers_of(module()) or []
    for name, module in MODELS.items()
    if module.__module__.startswith('digits.models.')
  }


def _say_uses(activation: str) -> str:
  shipped = _shipped_models()
  number = findings.number_word(len(shipped)).lower()
  places = []
  for name, described in shipped.items():
    after = [one.of for one in described if isinstance(one, layers.Nonlinearity) and one.activation == activation]
    if after:
      places.append(f'{name} has it after {findings.join(after)}')
  if places:
    return f'Of the {number} models, {findings.join(places)}.'
  return f'None of the {number} models has it; a config can ask for it.'


def _say_measured(activation: str, recipes: Recipes) -> str:
  """What was measured of an activation, a sentence for each model."""
  said = []
  for recipe in recipes.values():
    if recipe['activation'] == activation:
      studied = activation_claims.studied_layers(recipe)
      name = f'{recipe["model"]} with {activation_claims.TITLES[activation]}'
      if studied:
        name += f' after {findings.join(studied)}'
      parts = [f'{name} makes {_mean(activation_claims.TEST_ERRORS, recipe)} test errors']
      if studied:
        parts.append(f'{_mean(activation_claims.ZEROS, recipe)} of these activations are zero')
      flow = _mean(activation_claims.FLOW, recipe)
      said.append(f'{", ".join(parts)}, and the gradient of the first layer is {flow} times that of the last.')
  return f'In the study, {" ".join(said)}' if said else 'The study has no recipe with it.'


def _mean(measure: activation_claims.Measure, recipe: activation_claims.Recipe) -> str:
  return measure.say(float(np.mean(measure.per_seed(recipe))))


def _softmax_section() -> Section:
  logits = jnp.array(_LOGITS)
  probs = {temperature: np.asarray(jax.nn.softmax(logits / temperature)) for temperature in _TEMPERATURES}
  largest = [f'{findings.percent(float(p.max()), 0)} at T\u00a0=\u00a0{t:g}' for t, p in probs.items()]
  text = [
    'pᵢ = exp(zᵢ / T) / Σⱼ exp(zⱼ / T); ∂pᵢ/∂zᵢ = pᵢ (1 − pᵢ) / T. The temperature T is 1 where nothing else is said.',
    'It makes probabilities out of the logits z, one per class: each lies between 0 and 1, and together they are 1. '
    'Unlike the functions above it looks at all of its inputs at once. Adding one number to every logit changes '
    'nothing, so only differences count; of two classes, the first has the probability σ(z₁ − z₂).',
    f'All {findings.number_word(len(_shipped_models())).lower()} models end in it, because a digit is one of ten. They '
    'return logits; softmax belongs to the loss and to predict.',
    'A temperature above 1 makes the answers less sure, one below 1 surer; the order of the classes stays. predict '
    'divides the logits by the temperature that fits the validation images best, and config.distill teaches a network '
    f'the answers of others at a temperature of its own. In the figure, the largest of ten logits gets '
    f'{findings.join(largest)}.',
  ]
  # Of one logit among ten, the others being 0.
  alone = _function_panel(
    jax.nn.softmax.__name__,
    'softmax of one logit',
    lambda x: jax.nn.softmax(jnp.append(jnp.zeros(len(_LOGITS) - 1), x))[-1],
    'One logit, nine others 0',
  )
  caption = (
    'The probability of one logit among ten, and its derivative; and the probabilities of ten logits at four '
    'temperatures.'
  )
  return Section('Softmax', text, figures=[Figure([alone, _temperature_panel(probs)], caption)])


def _logits_section() -> Section:
  logits = jnp.array(_FAR_APART, jnp.float32)
  probabilities = jax.nn.softmax(logits)
  naive, naive_gradient = jax.value_and_grad(lambda z: jnp.log(jax.nn.softmax(z)[0]))(logits)
  stable, stable_gradient = jax.value_and_grad(lambda z: jax.nn.log_softmax(z)[0])(logits)
  tiny = np.finfo(np.float32).smallest_subnormal
  text = [
    'For an image of class i the loss is −log pᵢ. It could be computed in two steps, softmax and then the logarithm, '
    'but the first step can lose what the second one needs. In terms of the logits, with m the largest of them, '
    'log pᵢ = zᵢ − m − log Σⱼ exp(zⱼ − m). This is the log-sum-exp: its largest term is exp(0) = 1, so nothing '
    'overflows, and the logarithm is never that of 0.',
    f'For example, let the logits be {findings.join([_number(z) for z in _FAR_APART])}, in float32. Softmax gives '
    f'{findings.join([_number(p) for p in probabilities.tolist()])}: the first probability would be '
    f'exp({_number(_FAR_APART[0] - _FAR_APART[1])}), and float32 has no number between 0 and {_number(float(tiny))}. '
    f'Its logarithm is {_number(float(naive))}, and the gradient {_vector(naive_gradient)}: one such image turns '
    f'every parameter into NaN. log_softmax, which is given the logits, answers {_number(float(stable))}, with the '
    f'gradient {_vector(stable_gradient)}.',
    'So the models return logits and have no softmax of their own.',
  ]
  return Section('Why the loss takes logits', text)


def _number(value: float) -> str:
  return f'{value + 0.0:.4g}'.replace('-', '\u2212').replace('nan', 'NaN')


def _vector(values: Float[Array, ' n']) -> str:
  return f'({", ".join(_number(value) for value in values.tolist())})'


def _function_panel(name: str, title: str, function: Callable[[jax.Array], jax.Array], xlabel: str) -> Panel:
  x = jnp.linspace(-6, 6, 601)
  figure, axes = figures.new(2.2, title)
  axes.plot(x, jax.vmap(function)(x), color=figures.MODEL_COLORS[0], label='value')
  axes.plot(x, jax.vmap(jax.grad(function))(x), '--', color=figures.MODEL_COLORS[1], label='derivative')
  axes.set(xlabel=xlabel, ylabel='Output', ylim=(-1.1, 2))
  axes.legend(loc='upper left', frameon=False)
  points = [(at, *jax.value_and_grad(function)(at)) for at in (-6.0, -3.0, 0.0, 3.0, 6.0)]
  alt = ' '.join(
    f'At {_number(at)} {title} is {_number(round(float(value), 3))} and its derivative '
    f'{_number(round(float(slope), 3))}.'
    for at, value, slope in points
  )
  return Panel(f'function-{name}', alt, figure)


def _temperature_panel(probabilities: Mapping[float, Float[np.ndarray, ' classes']]) -> Panel:
  figure, axes = figures.new(2.2, 'softmax at four temperatures')
  width = 0.8 / len(probabilities)
  for i, (temperature, values) in enumerate(probabilities.items()):
    place = np.arange(len(values)) + width * (i - (len(probabilities) - 1) / 2)
    axes.bar(place, values, width, color=figures.MODEL_COLORS[i], label=f'T = {temperature:g}')
  ticks = [f'{index}\n{_number(logit)}' for index, logit in enumerate(_LOGITS)]
  axes.set_xticks(range(len(_LOGITS)), ticks, fontsize=6.5)
  axes.set(xlabel='Class, and its logit', ylabel='Probability', ylim=(0, 1))
  axes.grid(False, axis='x')
  axes.legend(loc='upper left', frameon=False)
  best = int(np.argmax(_LOGITS))
  alt = ' '.join(
    f'At T = {temperature:g} class {best} has the probability {values[best]:.2f} and the least likely one '
    f'{values.min():.2g}.'
    for temperature, values in probabilities.items()
  )
  return Panel('softmax-temperature', alt, figure)


def _model_section(model: str, results: Mapping[str, Any], look: figures.Looks) -> Section:
  mine = {recipe['activation']: recipe for recipe in results['recipes'].values() if recipe['model'] == model}
  rates = {name: f'{recipe["learning_rate"]:g}' for name, recipe in mine.items()}
  if len(set(rates.values())) == 1:
    text = f'The learning rate is {next(iter(rates.values()))} with each of them.'
  else:
    listed = [f'{rate} with {activation_claims.TITLES[name]}' for name, rate in rates.items()]
    text = f'The learning rate is {findings.join(listed)}.'
  title = registry.about(model).title
  claims = [
    Claim(finding['claim'], finding['verdict'], finding['sentence'])
    for finding in results['findings']
    if finding['model'] == model
  ]
  bands = 'Lines are means over seeds, and bands reach from the lowest seed to the highest.'
  drawn = [
    Figure(
      [_curves_panel(f'loss-{model}', f'{model}: validation', 'Loss (nats)', mine, look, 'valid', 'loss')],
      f'Validation loss at the end of every epoch. {bands}',
    )
  ]
  # Recipes of one model may have different numbers of layers; those are drawn that all of them have.
  common = set.intersection(*(set(recipe['probe'][0][0]) for recipe in mine.values()))
  for kind, label, caption in (
    (
      'gradient',
      'Gradient norm per weight',
      'The norm of the gradient of each layer, per weight, on validation images.',
    ),
    ('zeros', 'Share of zero activations', 'The share of activations that are zero after each layer.'),
  ):
    panels = [
      _curves_panel(f'{kind}-{place}-{model}', f'{model}: {place}', label, mine, look, 'probe', f'{kind}/{place}')
      for place in sorted(name.removeprefix(f'{kind}/') for name in common if name.startswith(f'{kind}/'))
    ]
    if panels:
      drawn.append(Figure(panels, f'{caption} {bands}'))
  heading = model if title == model else f'{model}, {title}'
  return Section(heading, [text], claims, drawn)


def _curves_panel(
  name: str, title: str, label: str, recipes: Mapping[str, Any], look: figures.Looks, split: str, key: str
) -> Panel:
  figure, axes = figures.new(2.4, title)
  ends = []
  for activation, recipe in recipes.items():
    color, marker = look[activation]
    steps = [record['step'] for record in recipe[split][0]]
    values = np.array([[record[key] for record in records] for records in recipe[split]])
    called = activation_claims.TITLES[activation]
    axes.plot(steps, values.mean(0), color=color, marker=marker, label=called)
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
    ends.append(
      f'{called} from {values[:, 0].mean():.3g} at update {steps[0]} to {values[:, -1].mean():.3g} at {steps[-1]}'
    )
  axes.set(xlabel='Updates', ylabel=label)
  if not key.startswith('zeros'):
    axes.set_yscale('log')
  figure.legend(*axes.get_legend_handles_labels(), loc='outside lower left', ncols=3, frameon=False)
  return Panel(name, f'{label}, {title}: {"; ".join(ends)}.', figure)
