// Text as people read it: numbers, times, and what others wrote, in aligned columns.

import { describe, expect, it } from 'vitest';

import { exitCodeOf, InputError } from '../../src/cli/failing.ts';
import { nearest } from '../../src/cli/nearest.ts';
import { facts, table, widthOf } from '../../src/cli/table.ts';
import { ago, cut, duration, plain, wrapped } from '../../src/cli/words.ts';
import { DarkroomError } from '../../src/client/client.ts';

it.each([
  [0.123, '0.1 s'],
  [9, '9 s'],
  [59.4, '59 s'],
  [59.7, '1 min'],
  [60, '1 min'],
  [95, '1 min 35 s'],
  [119.7, '2 min'],
  [3_599.6, '1 h'],
  [3_700, '1 h 1 min'],
  [90_000, '1 d 1 h'],
])('%f seconds are %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

it.each([
  ['2026-04-30T09:00:00Z', 'now'],
  ['2026-04-30T08:56:00Z', '4 min ago'],
  ['2026-04-28T09:00:00Z', '2 d ago'],
  ['2026-04-30T11:00:00Z', 'in 2 h'],
])('%s is %s at nine', (then, text) => {
  expect(ago(then, Date.parse('2026-04-30T09:00:00Z'))).toBe(text);
});

describe('what others wrote', () => {
  it('becomes one line that cannot steer a terminal', () => {
    expect(plain('a\u001b]0;owned\u0007\u001b[2Jb\r\nc\u202e\td')).toBe('ab c d');
  });
  it('can do nothing where it is printed, even where nobody thought of it', () => {
    const nasty = 'a\u001b]0;owned\u0007\u001b[2J\rb\u202e';
    expect(facts([['name', nasty]])).toBe('name  a b \n');
    expect(table(['A'], [[nasty]])).toBe('A\na b\n');
    expect(facts([['status', '\u001b[32mok\u001b[39m']])).toContain('\u001b[32mok');
  });
  it('is cut between characters', () => {
    expect(cut('abcdef', 4)).toBe('abc…');
    expect(cut('🙂🙂🙂', 2)).toBe('🙂…');
  });
});

describe('columns', () => {
  it('align, numbers to the right', () => {
    expect(
      table(
        ['A', 'N', 'B'],
        [
          ['x', '5', '夜'],
          ['long', '12', ''],
        ],
      ),
    ).toBe('A      N  B\nx      5  夜\nlong  12\n');
  });
  it('count ideographs twice and marks not at all', () => {
    expect([widthOf('夜の港'), widthOf('e\u0301'), widthOf('\u001b[31mred\u001b[0m')]).toEqual([6, 1, 3]);
  });
  it('leave out what is not known', () => {
    expect(
      facts([
        ['a', '1'],
        ['none', null],
        ['long', '2'],
      ]),
    ).toBe('a     1\nlong  2\n');
  });
  it('are wrapped for a terminal and left whole for a file', () => {
    const terminal = { isTTY: true, columns: 34 };
    expect(wrapped('one two three four five six seven', '  ', terminal)).toBe('one two three four five six\n  seven');
    const file = { isTTY: false, columns: 34 };
    expect(wrapped('one two', '  ', file)).toBe('one two');
  });
});

it.each([
  ['sd_xl_base_1.0.safetensors', 'sdxl/sd_xl_base_1.0_0.9vae.safetensors'],
  ['FLUX1-dev-fp8.safetensors', 'flux1-dev.safetensors'],
])('nearest to %s is %s', (wanted, near) => {
  expect(nearest(wanted, ['v1-5-pruned.ckpt', near, 'realvis.safetensors'])[0]).toBe(near);
});

describe('exit status', () => {
  const error = (code: DarkroomError['code'], more = {}) =>
    new DarkroomError({ code, message: '', advice: '', retryable: false, ...more });
  it.each([
    [error('safety_filter', { generation: {} }), 1],
    [error('insufficient_credits'), 1],
    [error('unsupported_input'), 2],
    [new InputError('x'), 2],
    [error('unauthenticated', { status: 401 }), 3],
    [error('unreachable'), 4],
    [new DOMException('', 'AbortError'), 130],
    [new Error('a fault of ours'), 1],
  ])('of %s is %i', (thrown, status) => {
    expect(exitCodeOf(thrown)).toBe(status);
  });
});
