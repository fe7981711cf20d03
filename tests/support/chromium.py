"""Drives a real headless Chromium through its DevTools protocol, over a pipe."""

import json
import os
import shutil
import subprocess
import tempfile

BINARY = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


class Page:
  """A browser with one page open; a context manager."""

  def __init__(self, url):
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    read_end, self._write = os.pipe()
    self._read, write_end = os.pipe()
    options = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking'
    options += ' --disable-component-update --disable-sync --remote-debugging-pipe'
    # DevTools reads from descriptor 3 and writes to 4.
    script = f'exec "$0" "$@" 3<&{read_end} 4>&{write_end}'
    self._process = subprocess.Popen(
      ['bash', '-c', script, BINARY, *options.split(), f'--user-data-dir={self._profile.name}', 'about:blank'],
      pass_fds=(read_end, write_end),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    self._buffer = b''
    self._count = 0
    self._session = None
    self.events = []
    pages = [target for target in self._call('Target.getTargets')['targetInfos'] if target['type'] == 'page']
    self._session = self._call('Target.attachToTarget', targetId=pages[0]['targetId'], flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self.call(f'{domain}.enable')
    self.call('Page.navigate', url=url)
    self._wait('Page.loadEventFired')

  def __enter__(self):
    return self

  def __exit__(self, *error):
    os.close(self._write)  # Chromium ends when the pipe does.
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._read)
    self._profile.cleanup()

  def _receive(self):
    while b'\0' not in self._buffer:
      chunk = os.read(self._read, 1 << 20)
      if not chunk:
        raise EOFError('Chromium ended.')
      self._buffer += chunk
    message, _, self._buffer = self._buffer.partition(b'\0')
    return json.loads(message)

  def _call(self, method, **params):
    self._count += 1
    message = {'id': self._count, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    content = json.dumps(message).encode() + b'\0'
    while content:
      content = content[os.write(self._write, content) :]
    while (answer := self._receive()).get('id') != self._count:
      self.events.append(answer)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]["message"]}')
    return answer['result']

  call = _call

  def _wait(self, method):
    while not any(event['method'] == method for event in self.events):
      self.events.append(self._receive())

  def evaluate(self, expression):
    """The value of a JavaScript expression; promises are awaited."""
    result = self._call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in result:
      raise RuntimeError(result['exceptionDetails']['exception'].get('description', 'JavaScript failed'))
    return result['result'].get('value')

  def problems(self):
    """Exceptions, console errors and requests to anything but the page itself."""
    self.evaluate('0')  # Takes in what has happened until now.
    methods = {'Runtime.exceptionThrown', 'Log.entryAdded', 'Runtime.consoleAPICalled'}
    requests = [event for event in self.events if event['method'] == 'Network.requestWillBeSent']
    # What is inlined is reported as a request too.
    requests = [event for event in requests if not event['params']['request']['url'].startswith(('about:', 'data:'))]
    return [event for event in self.events if event['method'] in methods] + requests[1:]
