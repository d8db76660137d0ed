// Credits and what they were spent on.

import { CreditsBody, renderCredits } from '../../contract/credits.ts';
import { renderUsage, UsageBody, UsageQuery } from '../../contract/usage.ts';
import { GatewayError } from '../../domain/failure.ts';
import type { Gateway } from '../../engine/gateway.ts';
import type { UsageGroup } from '../../store/store.ts';
import type { Clock } from '../../system/system.ts';
import { shortList } from './lists.ts';
import { json, type Route, route } from './route.ts';

export function creditRoutes(gateway: Gateway, clock: Clock): readonly Route[] {
  return [
    route({
      method: 'get',
      path: '/v1/credits',
      tag: 'Credits',
      summary: 'What the workspace has left',
      scope: 'read',
      answers: { 200: CreditsBody },
      run: async ({ caller }) => json(renderCredits(await gateway.credits(caller), gateway.usdPerCredit)),
    }),
    route({
      method: 'get',
      path: '/v1/usage',
      tag: 'Credits',
      summary: 'What was charged, summed',
      description: '`group_by=metadata.ticket` answers what a campaign cost. Counted at the time of the charge.',
      scope: 'read',
      query: UsageQuery,
      answers: { 200: UsageBody },
      async run({ caller, query }) {
        const from = query.from === undefined ? 0 : Date.parse(query.from);
        const to = query.to === undefined ? clock.now() + 1 : Date.parse(query.to);
        if (from > to) throw new GatewayError('invalid_request', 'from: expected a time before to');
        const { data, total } = await gateway.usage(caller, from, to, groupOf(query.group_by));
        const rows = data.map((row) => ({ key: row.key, ...renderUsage(row) }));
        return json({ ...shortList(rows, (row) => String(row.key), query), total: renderUsage(total) });
      },
    }),
  ];
}

function groupOf(text: string | undefined): UsageGroup | null {
  if (text === undefined) return null;
  return text.startsWith('metadata.') ? { metadata: text.slice('metadata.'.length) } : (text as UsageGroup);
}
