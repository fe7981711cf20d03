"""From the measurements of a session to medians, paired ratios and tables."""

import itertools
import statistics

# A step's arithmetic with direct convolutions: forward, gradients by weights and by inputs; not by the image. Layers as
# (outputs, inputs) of a product for each image.
_CNN_LAYERS = (
  (28 * 28 * 16, 25),
  (14 * 14 * 32, 25 * 16),
  (7 * 7 * 64, 25 * 32),
  (100, 3 * 3 * 64),
  (10, 100),
)
_products = [outputs * inputs for outputs, inputs in _CNN_LAYERS]
CNN_FLOP_PER_IMAGE = 2 * (3 * sum(_products) - _products[0])

# Nanoseconds of a message between two cores, as `cores.py` measures it: about 70 through a cache that they share, and
# three times as many where they share none.
_NEAR = 130


def median(values):
  """The median, with the least and the greatest value.

  Returns:
    dict of median, low, high and n.
  """
  return {'median': statistics.median(values), 'low': min(values), 'high': max(values), 'n': len(values)}


def ratio(ours, theirs):
  """The median of the paired ratios ours / theirs, round by round, so that what slows a whole round cancels.

  Args:
    ours: a value for each round; None where there is none.
    theirs: the same for a peer.

  Returns:
    As from `median`; None where no round has both.
  """
  ratios = [a / b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
  return median(ratios) if ratios else None


def summarise(rows):
  """Adds medians and ratios to measurements.

  Args:
    rows: list of dicts of section, what, unit (`s`, `bytes` or `GFLOP/s`), images (a number, or None), values: for
      each peer its values by round, None where one is missing; and in some message_ns, by round. The first peer is the
      one compared with the others.

  Returns:
    The list with `medians` and `ratios` by peer added. A ratio is the first peer's value / the other's: of times and of
    memory, below 1 is better.
  """
  summarised = []
  for row in rows:
    values = {peer: of_peer for peer, of_peer in row['values'].items() if any(v is not None for v in of_peer)}
    first, *others = row['values']
    # Rates of different libraries' products are there to find the greatest, not to compare.
    comparable = row['unit'] != 'GFLOP/s' and first in values
    ratios = {peer: ratio(values[first], values[peer]) for peer in others if comparable and peer in values}
    summarised.append(
      row
      | {
        'medians': {peer: median([v for v in of_peer if v is not None]) for peer, of_peer in values.items()},
        'ratios': {peer: value for peer, value in ratios.items() if value is not None},
      }
    )
  return summarised


def format_tables(rows):
  """Markdown tables of what `summarise` returned, one a section.

  A cell has the median; and, for another peer, the first peer's value in this one's, with its least and greatest.
  """
  lines = []
  for section in dict.fromkeys(row['section'] for row in rows):
    of_section = [row for row in rows if row['section'] == section]
    peers = list(dict.fromkeys(peer for row in of_section for peer in row['values']))
    lines += ['', f'### {section}', '', f'| | {" | ".join(peers)} |', '|---' * (len(peers) + 1) + '|']
    lines += [f'| {row["what"]} | {" | ".join(_format_cell(row, peer) for peer in peers)} |' for row in of_section]
  return '\n'.join(lines).strip()


def format_distances(rows):
  """A Markdown table of the first peer's time in that of the second one, by the distance of the two cores.

  Only rows that have `message_ns` are in it; the empty string where there are none.
  """
  rows = [row for row in rows if None not in row.get('message_ns', [None]) and len(row['values']) > 1]
  if not rows:
    return ''
  first, second = list(rows[0]['values'])[:2]
  lines = [
    '### Where the cores share a cache, and where not',
    '',
    f'| {first} / {second} | shared | not shared |',
    '|---|---|---|',
  ]
  for row in rows:
    near = [ns < _NEAR for ns in row['message_ns']]
    cells = [_format_ratio(row, first, second, rounds) for rounds in (near, [not is_near for is_near in near])]
    lines.append(f'| {row["section"]}: {row["what"]} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def _format_ratio(row, first, second, rounds):
  """The ratio of two peers in the rounds that are marked."""
  of_rounds = ratio(*(list(itertools.compress(row['values'][peer], rounds)) for peer in (first, second)))
  return '' if of_rounds is None else f'{of_rounds["median"]:.2f} ({sum(rounds)} of {len(rounds)} rounds)'


def _format_cell(row, peer):
  if peer not in row['medians']:
    return ''
  value = row['medians'][peer]['median']
  if row['images']:
    text = f'{row["images"] / value:,.0f} images/s'
  elif row['unit'] == 'bytes':
    text = f'{value / 2**20:,.0f} MiB'
  elif row['unit'] == 's':
    text = f'{value:.2f} s'
  else:
    text = f'{value:.3g} {row["unit"]}'
  if peer in row['ratios']:
    of_peer = row['ratios'][peer]
    text += f'<br>{of_peer["median"]:.2f} ({of_peer["low"]:.2f} to {of_peer["high"]:.2f})'
  return text
