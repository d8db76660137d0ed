// `darkroom models`: what may be asked for, what it costs, and why something cannot run now.

import { Command } from 'commander';
import type { Client } from '../client/client.ts';
import type { ModelBody } from '../contract/models.ts';
import { CommandError } from './failing.ts';
import { remotely, withRemote } from './remote.ts';
import { spoken } from './spoken.ts';
import { answer, facts, note, table } from './table.ts';
import { duration, plain, styled } from './words.ts';

const command = new Command('models')
  .description('list the models, or show one')
  .argument('[id]', 'a model or an alias of one')
  .addHelpText(
    'after',
    `
Examples:
  darkroom models
  darkroom models flux-dev`,
  );

export const modelsCommand = withRemote(command).action(
  remotely<object, [string | undefined]>(async ({ client, options }, id) => {
    if (id !== undefined) {
      const model = await named(client, id);
      answer(options, model, () => portrait(model));
      return undefined;
    }
    const data = await client.models();
    answer(options, { data, next_cursor: null }, () => (data.length > 0 ? rows(data) : ''));
    if (data.length === 0 && !options.json) note('The catalog is empty. Add models to models.yaml.');
    return undefined;
  }),
);

/** Throws with the names that are like it when there is none. */
async function named(client: Client, id: string): Promise<ModelBody> {
  try {
    return await client.call<ModelBody>('GET', `/v1/models/${encodeURIComponent(id)}`);
  } catch (error) {
    if ((error as { code?: string }).code !== 'not_found') throw error;
    const [models, { nearest }] = await Promise.all([client.models(), import('./nearest.ts')]);
    const near = nearest(
      id,
      models.flatMap((m) => [m.id, ...m.aliases]),
    );
    const meant = near.length > 0 ? ` Did you mean ${near.join(' or ')}?` : '';
    throw new CommandError('not_found', `There is no model ${id}.${meant}`, 'See what there is: darkroom models');
  }
}

const rows = (models: readonly ModelBody[]): string =>
  table(
    ['MODEL', 'NOW', 'MAKES', 'CREDITS', 'TAKES', 'GOOD FOR, OR WHY NOT'],
    models.map((m) => [
      m.id,
      m.usable ? styled('green', 'yes') : styled('red', 'no'),
      m.kind,
      price(m),
      duration(m.estimate_seconds),
      plain(m.usable ? m.best_for : spoken(m.why_not ?? '').replace(/;.*/s, ' …')),
    ]),
  );

const PARTS = [
  ['per_output', ''],
  ['per_megapixel', '/MP'],
  ['per_step', '/step'],
  ['per_second', '/s'],
  ['per_node_second', '/node s'],
] as const;

/** "2.5" per picture, or the parts that are summed. */
function price({ price: p }: ModelBody): string {
  const parts = PARTS.filter(([part]) => p[part] > 0).map(([part, unit]) => `${p[part]}${unit}`);
  return parts.join(' + ') || '0';
}

function portrait(m: ModelBody): string {
  const { limits: l, defaults: d } = m;
  return facts([
    ['id', m.id],
    ['name', plain(m.name)],
    ['aliases', m.aliases.join(', ') || null],
    [
      'now',
      m.usable ? styled('green', 'can run') : `${styled('red', 'cannot run')}: ${plain(spoken(m.why_not ?? ''))}`,
    ],
    ['good for', plain(m.best_for)],
    ['can', m.capabilities.join(', ')],
    ['price', `${price(m)} credits`],
    ['takes', `${duration(m.estimate_seconds)}, ${duration(m.cold_seconds)} more when it must be loaded`],
    ['size', d.width && d.height ? `${d.width}x${d.height}, in steps of ${l.multiple_of}` : null],
    ['at most', `${(l.max_pixels / 1e6).toFixed(1)} megapixels, ${l.max_n} at once`],
    ['steps', d.steps === null ? null : `${d.steps}, at most ${l.max_steps}`],
    ['guidance', d.guidance === null ? null : String(d.guidance)],
    ['inputs', Object.keys(d.inputs).join(', ') || null],
    ['stands in', m.fallback.join(', ') || null],
    ['retires', m.retires_at],
    ...m.routes.map((r) => ['route', `${routeName(r)}: ${r.usable ? 'can run' : plain(r.why_not ?? '')}`] as const),
  ]);
}

const routeName = (r: ModelBody['routes'][number]): string =>
  [r.backend, r.workflow, r.checkpoint ?? r.remote, ...r.labels.map((l) => `[${l}]`)].filter(Boolean).join(' ');
