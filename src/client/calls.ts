// The calls that are one request each, or one list read to its end.

import type { CreditsBody } from '../contract/credits.ts';
import type { ModelBody } from '../contract/models.ts';
import { batchIn, generationIn, pageIn, recordIn } from './answers.ts';
import type { Caller } from './call.ts';
import type { BatchCalls, CallOptions, Client, ItemBody, NewBatch, Page, UsageRow } from './interface.ts';
import { batchPath, generationPath, type Query, withQuery } from './paths.ts';

/** The longest page. */
const PAGE = 100;

type Calls = Pick<
  Client,
  'submit' | 'get' | 'list' | 'cancel' | 'credits' | 'models' | 'usage' | 'batches' | 'call' | 'download'
>;

export function createCalls(caller: Caller): Calls {
  const call: Client['call'] = async <T>(method: string, path: string, body?: unknown, options?: CallOptions) =>
    (await caller.ask<T>(method, path, body, options)).body;
  const read = (path: string, query: Query, options?: CallOptions) =>
    call<unknown>('GET', withQuery(path, query), undefined, options);

  return {
    call,
    download: caller.download,
    async submit(request, options) {
      const { body, headers } = await caller.ask('POST', '/v1/generations', request, options);
      return { ...generationIn(body), replayed: headers.get('idempotency-replayed') === 'true' };
    },
    get: async (id, { wait, ...options } = {}) => generationIn(await read(generationPath(id), { wait }, options)),
    list: async (query = {}, options) => pageIn(await read('/v1/generations', { ...query }, options)),
    cancel: async (id, options) => generationIn(await call('POST', generationPath(id, '/cancel'), undefined, options)),
    credits: async (options) => recordIn<CreditsBody>(await read('/v1/credits', {}, options)),
    models: async (options) =>
      (await everyPage<ModelBody, Page<ModelBody>>((page) => read('/v1/models', page, options))).data,
    usage: (query = {}, options) =>
      everyPage<UsageRow, Page<UsageRow> & { readonly total: Omit<UsageRow, 'key'> }>((page) =>
        read('/v1/usage', { ...query, ...page }, options),
      ),
    batches: batchCalls(call, read),
  };
}

function batchCalls(
  call: Client['call'],
  read: (path: string, query: Query, options?: CallOptions) => Promise<unknown>,
): BatchCalls {
  const act = (verb: string) => async (id: string, options?: CallOptions) =>
    batchIn(await call('POST', batchPath(id, verb), undefined, options));
  const create = (request: NewBatch & { readonly dry_run?: boolean }, options?: CallOptions) =>
    call<unknown>('POST', '/v1/batches', request, options);

  return {
    create: async (request, options) => batchIn(await create(request, options)),
    dryRun: async (request, options) => recordIn(await create({ ...request, dry_run: true }, options)),
    get: async (id, options) => batchIn(await read(batchPath(id), {}, options)),
    list: async (query = {}, options) => pageIn(await read('/v1/batches', query, options)),
    items: async (id, query = {}, options) => pageIn<ItemBody>(await read(batchPath(id, '/items'), query, options)),
    append: async (id, items, options) => batchIn(await call('POST', batchPath(id, '/items'), { items }, options)),
    pause: act('/pause'),
    resume: act('/resume'),
    cancel: act('/cancel'),
    retryFailed: act('/retry_failed'),
    report: async (id, options) => recordIn(await read(batchPath(id, '/report'), {}, options)),
  };
}

/** Read to its end; what stands beside the rows is that of the first page. */
async function everyPage<T, P extends Page<T>>(
  read: (page: { readonly limit: number; readonly cursor?: string }) => Promise<unknown>,
): Promise<P> {
  const first = pageIn<T>(await read({ limit: PAGE })) as P;
  const data = [...first.data];
  for (let cursor = first.next_cursor; cursor !== null; ) {
    const page = pageIn<T>(await read({ limit: PAGE, cursor }));
    data.push(...page.data);
    cursor = page.next_cursor;
  }
  return { ...first, data, next_cursor: null };
}
