// Judges accounts at hosted providers: whose circuit is open and what would close it, which hosted routes lead nowhere.
// Nothing is asked of a provider: that a key or a balance is refused shows with the first generation.

import type { ModelBody } from '../../contract/models.ts';
import type { AccountBody } from '../../contract/nodes.ts';
import { HOSTED_BACKENDS } from '../../domain/model.ts';
import { reasonOf } from '../account.ts';
import { ago, count, plain } from '../words.ts';
import { type Finding, ok, warn, wrong } from './finding.ts';
import type { Survey } from './survey.ts';

type Route = ModelBody['routes'][number];

const HOSTED: ReadonlySet<string> = new Set(HOSTED_BACKENDS);
export const isHostedRoute = ({ backend }: Route): boolean => HOSTED.has(backend);

/** Could this account ever serve this route? */
export const serves = ({ id, kind }: AccountBody, { backend, account }: Route): boolean =>
  kind === backend && (account === null || account === id);

export function judgeAccounts(survey: Survey): readonly Finding[] {
  return [...survey.accounts.map(judgeAccount), ...misnamed(survey), ...unserved(survey)];
}

function judgeAccount(account: AccountBody): Finding {
  const { id, kind, slots, draining, circuit } = account;
  const { state, reason, since } = circuit;
  const why = plain(reason ?? 'no reason is known').replace(/\.$/, '');
  if (draining)
    return warn(`${id}: gets no new work (${plain(reasonOf(account) ?? '')})`, `darkroom nodes resume ${id}`);
  if (state === 'open') return wrong(`${id}: nothing goes there (${why}; since ${ago(since)})`, wayBack(account));
  if (state === 'half_open') return warn(`${id}: the next generation will try it again (${why})`, wayBack(account));
  if (reason !== null) return warn(`${id}: gets no new work (${why})`, 'See the log of the gateway.');
  return ok(`${id}: account at ${kind}, ${slots} at once`);
}

function wayBack({ id, kind, circuit: { code } }: AccountBody): string {
  if (code === 'provider_auth') return `Correct the token of ${id} in the settings, and start the gateway again.`;
  if (code === 'provider_balance')
    return `Top up the account at ${kind}, then: darkroom nodes resume ${id} (else it is tried again within a minute).`;
  return `It is tried again by itself. See whether ${kind} is down, and the log of the gateway.`;
}

/** Routes that name an account which is not there, or is one at another provider. */
function misnamed({ accounts, models }: Survey): readonly Finding[] {
  const lost = models.flatMap((m) =>
    m.routes
      .filter((r) => r.account !== null && !accounts.some((a) => serves(a, r)))
      .map((r) => ({ model: m.id, account: r.account as string, backend: r.backend })),
  );
  return lost.map(({ model, account, backend }) => {
    const other = accounts.find((a) => a.id === account);
    const fitting = accounts.filter((a) => a.kind === backend).map((a) => a.id);
    const how = other ? `which is one at ${other.kind}` : 'which does not exist';
    const choice = fitting.length > 0 ? `name ${fitting.join(' or ')} in models.yaml, or none` : 'correct models.yaml';
    return warn(
      `${model}: its route to ${backend} names the account ${account}, ${how}`,
      `Add it to accounts: in the settings, or ${choice}.`,
    );
  });
}

/** Providers that the catalog has routes to and nobody has an account at: for knowing, not for mending. */
function unserved({ accounts, models }: Survey): readonly Finding[] {
  const without = HOSTED_BACKENDS.filter((kind) => !accounts.some((a) => a.kind === kind)).flatMap((kind) => {
    const names = models.filter((m) => m.routes.some((r) => r.backend === kind)).map((m) => m.id);
    return names.length > 0 ? [{ kind, names }] : [];
  });
  if (without.length === 0) return [];
  const lists = without.map(({ kind, names }) => `${kind} (${names.join(', ')})`).join('; ');
  const none = accounts.length === 0 ? 'there are none' : `none at ${count(without.length, 'provider')}`;
  return [ok(`accounts: ${none}; their routes stay unused: ${lists}`)];
}
