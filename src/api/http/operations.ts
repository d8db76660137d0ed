// Is it alive, can it run something, how is it doing, and what can be asked of it.

import { z } from 'zod';
import { failure } from '../../domain/failure.ts';
import { docsPage } from './docs.ts';
import { openApi } from './openapi.ts';
import { json, type Route, route } from './route.ts';
import { refusal } from './send.ts';
import type { Doors } from './serve.ts';

const TAG = 'Operations';
const HTML = 'text/html; charset=utf-8';
const State = z.object({ status: z.string() });

/** `metricsOpen`: without a key. `all`: the rows the document describes, these included. */
export function operationRoutes(
  { gateway, metrics }: Pick<Doors, 'gateway' | 'metrics'>,
  { metricsOpen, all }: { readonly metricsOpen: boolean; readonly all: () => readonly Route[] },
): readonly Route[] {
  let document: string | null = null;
  const openApiText = () => (document ??= JSON.stringify(openApi(all())));
  const open = { method: 'get', tag: TAG, scope: null } as const;
  return [
    route({
      ...open,
      path: '/healthz',
      summary: 'Is the process alive?',
      answers: { 200: State },
      run: () => json({ status: 'ok' }),
    }),
    route({
      ...open,
      path: '/readyz',
      summary: 'Can it run something?',
      answers: { 200: State, 503: 'Not now; the message says why.' },
      async run() {
        if (gateway.draining) return refusal(failure('shutting_down', 'The gateway is shutting down.'));
        const { ok, reason } = await gateway.ready();
        return ok ? json({ status: 'ready' }) : refusal(failure('no_capable_node', reason ?? 'Nothing can run now.'));
      },
    }),
    route({
      ...open,
      scope: metricsOpen ? null : 'admin',
      path: '/metrics',
      summary: 'Metrics for Prometheus',
      description: 'Open on loopback; needs the scope admin when the gateway is bound elsewhere.',
      answers: { 200: 'Prometheus text format.' },
      async run() {
        const { text, type } = await metrics.render();
        return { status: 200, text, headers: { 'content-type': type } };
      },
    }),
    route({
      ...open,
      path: '/openapi.json',
      summary: 'This interface as OpenAPI 3.1',
      answers: { 200: z.record(z.string(), z.unknown()) },
      run: () => ({
        status: 200,
        text: openApiText(),
        headers: { 'content-type': 'application/json; charset=utf-8' },
      }),
    }),
    route({
      ...open,
      path: '/docs',
      summary: 'This interface as a page',
      answers: { 200: 'A page.' },
      run({ baseUrl }) {
        const { html, policy } = docsPage(JSON.parse(openApiText()), baseUrl);
        return { status: 200, text: html, headers: { 'content-type': HTML, 'content-security-policy': policy } };
      },
    }),
  ];
}
