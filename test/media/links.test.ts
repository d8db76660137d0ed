import { describe, expect, test } from 'vitest';
import { createLinks, type Link } from '../../src/media/links.ts';

const links = createLinks('a secret');
const link: Link = {
  generation: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
  index: 0,
  what: 'output',
  expiresAt: 1_780_000_000_500,
};
const signatureOf = (l: Link) => new URL(links.sign(l), 'http://x').searchParams.get('signature') as string;
const before = 1_779_000_000_000;

describe('a link', () => {
  test('names the output, its end in whole seconds, and a signature', () => {
    expect(links.sign(link)).toMatch(
      /^\/v1\/outputs\/gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0\/0\?expires=1780000000&signature=[\w-]{43}$/,
    );
    expect(links.sign({ ...link, index: 3, what: 'thumbnail' })).toContain('/3/thumbnail?expires=');
    expect(links.sign(link)).toBe(links.sign(link));
  });

  test('holds until its last second is over', () => {
    const read = { ...link, expiresAt: 1_780_000_000_000 };
    expect(links.verify(read, signatureOf(link), before)).toBe(true);
    expect(links.verify(read, signatureOf(link), 1_779_999_999_999)).toBe(true);
    expect(links.verify(read, signatureOf(link), 1_780_000_000_000)).toBe(false);
  });

  test.each<[string, Partial<Link>]>([
    ['another generation', { generation: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M1' }],
    ['another output', { index: 1 }],
    ['the thumbnail', { what: 'thumbnail' }],
    ['a longer time', { expiresAt: 1_790_000_000_000 }],
  ])('does not open %s', (_name, change) => {
    expect(links.verify({ ...link, ...change }, signatureOf(link), before)).toBe(false);
  });

  test('signed with another secret, or not at all, is refused', () => {
    const forged = new URL(createLinks('guess').sign(link), 'http://x').searchParams.get('signature') as string;
    for (const signature of [forged, '', 'é'.repeat(43), signatureOf(link).slice(1)]) {
      expect(links.verify(link, signature, before)).toBe(false);
    }
  });
});
