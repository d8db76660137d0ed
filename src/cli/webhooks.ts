// `darkroom webhooks`: who is told when something ends, and whether the telling arrives.

import { Command } from 'commander';
import type { DeliveryBody, WebhookBody } from '../contract/webhooks.ts';
import { list as names } from './arguments.ts';
import { group } from './group.ts';
import { everything } from './paging.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, note, table } from './table.ts';
import { ago, count, plain, styled } from './words.ts';

const ROOT = '/v1/webhooks';
const pathOf = (id: string, more = '') => `${ROOT}/${encodeURIComponent(id)}${more}`;

const list = withRemote(new Command('list').description('every receiver and how it does')).action(
  remotely(async ({ client, options }) => {
    const page = await everything<WebhookBody>(client, ROOT);
    answer(options, page, () => (page.data.length > 0 ? rows(page.data) : ''));
    if (page.data.length === 0 && !options.json) {
      note('No receivers yet. Add one: darkroom webhooks add https://tools.example.com/darkroom');
    }
    return undefined;
  }),
);

const rows = (hooks: readonly WebhookBody[]): string =>
  table(
    ['ID', 'STATE', 'WAITING', 'EVENTS', 'ADDRESS'],
    hooks.map(({ id, url, events, health }) => [
      id,
      standing(health),
      String(health.waiting),
      events.length > 3 ? count(events.length, 'event') : events.join(','),
      plain(health.last_error ? `${url} (${health.last_error})` : url),
    ]),
  );

/** It counts as failing only after a while; a try that failed is worth seeing at once. */
function standing({ state, failures, waiting }: WebhookBody['health']): string {
  const tries = count(failures, 'failed try', 'failed tries');
  if (state === 'failing') return styled('red', `failing, ${tries}`);
  return failures > 0 && waiting > 0 ? styled('yellow', `retrying, ${tries}`) : styled('green', 'ok');
}

interface NewHook {
  readonly events?: readonly string[];
  readonly description?: string;
}

const newHook = new Command('add')
  .description('tell this address; its secret is shown once')
  .argument('<address>')
  .option('--events <list>', 'only these, like generation.succeeded,batch.finished', names)
  .option('--description <text>', 'what it is for');

const add = withRemote(newHook).action(
  remotely<NewHook, [string]>(async ({ client, options }, url) => {
    const { events, description } = options;
    const body = { url, ...(events && { events }), ...(description !== undefined && { description }) };
    const made = await client.call<WebhookBody & { secret: string }>('POST', ROOT, body);
    answer(options, made, () => `${made.secret}\n`);
    if (!options.json)
      note(`Receiver ${made.id}. Its secret is not shown again. Try it: darkroom webhooks ping ${made.id}`);
    return undefined;
  }),
);

const remove = withRemote(new Command('remove').description('tell it nothing any more').argument('<id>'))
  .alias('delete')
  .action(
    remotely<object, [string]>(async ({ client, options }, id) => {
      await client.call('DELETE', pathOf(id));
      answer(options, { id, deleted: true }, () => `${id} is gone.\n`);
      return undefined;
    }),
  );

const ping = withRemote(new Command('ping').description('send it a test').argument('<id>')).action(
  remotely<object, [string]>(async ({ client, options }, id) => {
    const sent = await client.call<unknown>('POST', pathOf(id, '/ping'));
    answer(
      options,
      sent ?? { id, sent: true },
      () => `Sent. See what became of it: darkroom webhooks deliveries ${id}\n`,
    );
    return undefined;
  }),
);

const rotate = withRemote(new Command('rotate').description('a new secret; the old one signs too for a day'))
  .argument('<id>')
  .action(
    remotely<object, [string]>(async ({ client, options }, id) => {
      const made = await client.call<{ secret: string }>('POST', pathOf(id, '/rotate'));
      answer(options, made, () => `${made.secret}\n`);
      return undefined;
    }),
  );

const sent = new Command('deliveries')
  .description('what was sent, and what became of it')
  .argument('<id>')
  .option('--state <state>', 'pending, delivered or dead');

const deliveries = withRemote(sent).action(
  remotely<{ readonly state?: string }, [string]>(async ({ client, options }, id) => {
    const state = options.state === undefined ? '' : `&state=${encodeURIComponent(options.state)}`;
    const page = await client.call<{ data: DeliveryBody[] }>('GET', pathOf(id, `/deliveries?limit=50${state}`));
    answer(options, page, () => (page.data.length > 0 ? log(page.data) : ''));
    if (page.data.length === 0 && !options.json) note(`Nothing was sent yet. Try it: darkroom webhooks ping ${id}`);
    return undefined;
  }),
);

const log = (list: readonly DeliveryBody[]): string =>
  table(
    ['ID', 'EVENT', 'STATE', 'TRIES', 'LAST', 'ABOUT'],
    list.map((d) => {
      const last = d.attempts.at(-1);
      return [
        d.id,
        d.event,
        d.state,
        String(d.attempts.length),
        last ? plain(`${last.status_code ?? last.error ?? ''}, ${ago(last.at)}`) : '',
        d.generation_id ?? d.batch_id ?? '',
      ];
    }),
  );

const redeliver = withRemote(new Command('redeliver').description('send one again, as it was'))
  .argument('<id>')
  .argument('<delivery>')
  .action(
    remotely<object, [string, string]>(async ({ client, options }, id, delivery) => {
      const path = pathOf(id, `/deliveries/${encodeURIComponent(delivery)}/redeliver`);
      const sent = await client.call<unknown>('POST', path);
      answer(options, sent ?? { id: delivery, sent: true }, () => `${delivery} is on its way again.\n`);
      return undefined;
    }),
  );

export const webhooksCommand = group(
  'webhooks',
  'who is told when something ends',
  [list, add, remove, ping, deliveries, redeliver, rotate],
  `  darkroom webhooks add https://tools.example.com/darkroom --events generation.succeeded
  darkroom webhooks deliveries wh_01… --state dead`,
);
