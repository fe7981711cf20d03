"""The records of a run: what is in them, when they are made, and which step was the best."""


def record_steps(epoch_start, epoch_end, log_every_steps):
  """The steps of an epoch at which training is recorded, its last among them."""
  return [*range(epoch_start, epoch_end, log_every_steps)[1:], epoch_end]


def train_record(step, epoch, window, learning_rate, seconds):
  """A line of metrics.jsonl: the training steps since the line before.

  Args:
    step: updates done.
    epoch: the epoch, from 0.
    window: `Metrics` of those steps.
    learning_rate: of the last of them.
    seconds: of training so far.
  """
  rates = {'grad_norm': float(window.grad_norm), 'learning_rate': learning_rate, 'seconds': seconds}
  return {'step': step, 'epoch': epoch, 'split': 'train'} | window.compute() | rates


def valid_record(step, epoch, scores, seconds):
  """A line of metrics.jsonl: accuracy, loss and examples of the validation split."""
  return {'step': step, 'epoch': epoch, 'split': 'valid'} | scores | {'seconds': seconds}


def best_step(history):
  """The step with the least validation loss, the earliest of equals; None where nothing was validated."""
  valid = [record for record in history if record['split'] == 'valid']
  return min(valid, key=lambda record: record['loss'])['step'] if valid else None


def valid_scores(history, step):
  """The validation scores recorded at a step, or None."""
  for record in history:
    if record['split'] == 'valid' and record['step'] == step:
      return {key: record[key] for key in ('accuracy', 'loss', 'examples')}
  return None
