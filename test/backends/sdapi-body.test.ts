import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { base64Of } from '../../src/backends/sdapi/body.ts';

it('writes one base64 text however the file is read', async () => {
  const content = Buffer.from(Array.from({ length: 100 }, (_, i) => i));
  for (const size of [1, 2, 3, 7, 100]) {
    const chunks = Array.from({ length: Math.ceil(100 / size) }, (_, i) => content.subarray(i * size, (i + 1) * size));
    expect(await text(base64Of(chunks))).toBe(content.toString('base64'));
  }
});
