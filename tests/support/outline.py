"""What a page consists of."""

import html.parser
import re


class Outline(html.parser.HTMLParser):
  """Collects what a page consists of, and refuses tags that do not match."""

  VOID = ('meta', 'link')

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.ids, self.links, self.headings = [], [], [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.append((tag, attrs))
    if 'id' in attrs:
      self.ids.append(attrs['id'])
    self.links += [value for key, value in attrs.items() if key in ('href', 'src', 'xlink:href')]
    if re.fullmatch('h[1-6]', tag):
      self.headings.append(int(tag[1]))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
