// The engine and one caller, as the tools see them. Scopes are asked per call, because one door serves keys that may
// only read beside keys that may generate.

import { Readable } from 'node:stream';
import { renderCredits } from '../../contract/credits.ts';
import { renderModel } from '../../contract/models.ts';
import { renderGeneration } from '../../contract/render.ts';
import { renderCursor } from '../../contract/socket.ts';
import { type Caller, may, type Scope } from '../../domain/caller.ts';
import { ANNOUNCED } from '../../domain/event.ts';
import { GatewayError } from '../../domain/failure.ts';
import type { Generation, Status } from '../../domain/generation.ts';
import { toCredits } from '../../domain/units.ts';
import type { Gateway } from '../../engine/gateway.ts';
import type { Studio } from './studio.ts';

export interface GatewayStudioOptions {
  readonly gateway: Gateway;
  readonly caller: Caller;
  /** Base of links, without trailing slash. */
  readonly baseUrl: string;
  /** Aborted when the doors close: who is held gets the state as it is. */
  readonly closing: AbortSignal;
}

const LINK = /\/v1\/outputs\/([^/]+)\/(\d)(\/thumbnail)?$/;

export function gatewayStudio({ gateway, caller, baseUrl, closing }: GatewayStudioOptions): Studio {
  const body = (g: Generation) => renderGeneration(g, gateway.view(g, baseUrl));
  const need = (scope: Scope) => {
    if (!may(caller, scope)) throw new GatewayError('forbidden', `The key lacks the scope ${scope}.`);
  };
  return {
    async submit(request) {
      need('generate');
      const { generation, replayed, credits } = await gateway.submit(caller, request);
      return {
        ...body(generation),
        replayed,
        credits_reserved: toCredits(generation.reserved),
        credits_available: toCredits(credits.balance - credits.reserved),
      };
    },
    async get(id, { wait = 0, signal } = {}) {
      if (wait <= 0) return body(await gateway.get(caller, id));
      const until = signal ? AbortSignal.any([signal, closing]) : closing;
      try {
        return body(await gateway.wait(caller, id, wait * 1000, until));
      } catch (error) {
        if (!closing.aborted) throw error;
        return body(await gateway.get(caller, id));
      }
    },
    async list({ limit, cursor, status, model, batch_id, since, metadata }) {
      const filter = {
        ...(status !== undefined && { statuses: status.split(',') as Status[] }),
        ...(model !== undefined && { model }),
        ...(batch_id !== undefined && { batchId: batch_id }),
        ...(metadata && { metadata }),
        ...(since !== undefined && { since: Date.parse(since) }),
      };
      const page = await gateway.list(caller, filter, limit, cursor);
      return { data: page.data.map(body), next_cursor: page.next };
    },
    async cancel(id, options) {
      need('generate');
      return body(await gateway.cancel(caller, id, options));
    },
    credits: async () => renderCredits(await gateway.credits(caller), gateway.usdPerCredit),
    models: async () => gateway.models().data.map((m) => renderModel(m, { lists: false })),
    async *watch({ ids, signal }) {
      const filter = { workspaceId: caller.workspace.id, generationIds: ids, progress: true };
      for await (const item of gateway.watch(filter, null, signal)) {
        if (item.type === 'event') {
          const name = ANNOUNCED[item.stored.event.type];
          if (name === null) continue;
          const cursor = renderCursor(item.stored.cursor);
          yield { type: 'event', event: `generation.${name}`, cursor, generation: body(item.generation) };
        }
        if (item.type !== 'progress') continue;
        yield { type: 'progress', id: item.id, progress: { fraction: item.fraction, message: item.message } };
      }
    },
    async download(url) {
      const { pathname, searchParams } = new URL(url);
      const [, id = '', index = '', thumbnail] = LINK.exec(pathname) ?? [];
      const expires = Number(searchParams.get('expires')) * 1000;
      const what = thumbnail === undefined ? 'output' : 'thumbnail';
      const file = await gateway.file(id, Number(index), what, expires, searchParams.get('signature') ?? '');
      return new Response(Readable.toWeb(await file.open()) as ReadableStream, {
        headers: { 'content-type': file.stat.mediaType, 'content-length': String(file.stat.bytes) },
      });
    },
  };
}
