// Every workflow the project ships runs on a double as it comes out of the box, and leaves a file.

import { readdirSync, readFileSync } from 'node:fs';
import sharp from 'sharp';
import { expect, it } from 'vitest';
import { until } from '../../harness/manual-clock.ts';
import { startComfyUi } from './server.ts';
import type { Graph } from './validate.ts';

const FOLDER = new URL('../../../config/workflows/', import.meta.url);
const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));

it.each(names)('%s', async (name) => {
  await using box = await startComfyUi({ historyMs: 0 });
  const prompt = JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8')) as Graph;
  const bytes = await sharp({ create: { width: 64, height: 64, channels: 4, background: '#fff8' } })
    .png()
    .toBuffer();
  for (const node of Object.values(prompt)) {
    if (!node.class_type.startsWith('LoadImage')) continue;
    node.inputs.image = 'in.png';
    box.files.put({ filename: 'in.png', subfolder: '', type: 'input' }, { parts: [bytes], mime: 'image/png' });
  }
  const response = await fetch(`${box.url}/prompt`, {
    method: 'POST',
    body: JSON.stringify({ prompt, prompt_id: name }),
  });
  expect(await response.json()).toMatchObject({ node_errors: {}, prompt_id: name });
  const { outcome } = await until(() => box.box.history.get(name), 'the workflow to end');
  expect(outcome.messages.at(-1)?.[0]).toBe('execution_success');
  expect(box.files.list('output')).toHaveLength(1);
});
