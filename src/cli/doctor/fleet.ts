// Judges nodes and models: who is away, what cannot be made, and the shortest way to change that.

import type { ModelBody } from '../../contract/models.ts';
import type { NodeBody } from '../../contract/nodes.ts';
import { nearest } from '../nearest.ts';
import { ago, count, gigabytes, plain } from '../words.ts';
import { isHostedRoute, serves } from './accounts.ts';
import { type Finding, ok, warn, wrong } from './finding.ts';
import type { Survey } from './survey.ts';

type Route = ModelBody['routes'][number];

const DAY = 86_400_000;
/** Time enough to choose another model. */
const SOON = 60 * DAY;

export function judgeNodes({ nodes, accounts }: Survey): readonly Finding[] {
  if (nodes.length === 0 && accounts.length === 0)
    return [wrong('nodes: there are none', 'darkroom nodes add rack-1 http://10.0.0.11:8188')];
  return nodes.map(judgeNode);
}

function judgeNode(n: NodeBody): Finding {
  const since = `last change ${ago(n.since)}`;
  const why = plain(n.why ?? 'no reason is known').replace(/\.$/, '');
  const server = plain([n.flavour ?? n.kind, n.version].filter(Boolean).join(' '));
  if (n.status === 'wedged') {
    return wrong(`${n.id}: answers but renders nothing any more (${why}; ${since})`, `Restart ${server} at ${n.url}.`);
  }
  if (n.status === 'draining') return warn(`${n.id}: gets no new work (${why})`, `darkroom nodes resume ${n.id}`);
  if (n.status === 'offline') return wrong(`${n.id}: offline (${why}; ${since})`, wayBack(n));
  if (n.checkpoints?.length === 0) {
    return warn(
      `${n.id}: online, ${server}, without a single checkpoint`,
      'Put models on it, then it sees them by itself.',
    );
  }
  const memory = n.memory ? `, ${gigabytes(n.memory.free_bytes)} of ${gigabytes(n.memory.total_bytes)} free` : '';
  const models = n.checkpoints ? `, ${count(n.checkpoints.length, 'checkpoint')}` : '';
  return ok(`${n.id}: online, ${server}${memory}${models}`);
}

function wayBack({ kind, url, why }: NodeBody): string {
  const other = /so its kind is "(\w+)"/.exec(why ?? '')?.[1];
  if (other !== undefined) return `Write kind: ${other} for it in the settings.`;
  if (/\b40[13]\b|password|credentials/i.test(why ?? '')) return 'Correct its auth in the settings.';
  if (/answers, but is not/.test(why ?? '')) {
    return `Correct its address, or its kind (comfyui, or sdapi for Automatic1111, Forge and SD.Next); it is ${kind} now.`;
  }
  const [flags, path] = kind === 'comfyui' ? ['--listen', 'system_stats'] : ['--listen --api', 'sdapi/v1/options'];
  return `Start it at ${url} (to be reached from another machine, with ${flags}). Try: curl ${url}/${path}`;
}

export function judgeModels(survey: Survey, now = Date.now()): readonly Finding[] {
  const { models } = survey;
  const can = models.filter((m) => m.usable);
  const idle = models.filter((m) => !m.usable && !hasRetired(m, now));
  const [known, unknown] = partition(idle, (m) => m.routes.some((r) => canEver(r, survey)));
  const nobody = unknown.length > 0 ? [explainNobody(unknown, survey)] : [];
  const first =
    can.length > 0
      ? ok(`${can.length} of ${count(models.length, 'model')} can run now: ${can.map((m) => m.id).join(', ')}`)
      : wrong('no model can run now', 'See what is said of each below; "sketch: true" in the settings needs no GPU.');
  return [
    first,
    ...known.map((m) => explain(m, survey, can.length > 0 ? warn : wrong)),
    ...nobody,
    ...models.flatMap(lostRoutes),
    ...models.flatMap((m) => retiring(m, now)),
  ];
}

const hasRetired = ({ retires_at }: ModelBody, now: number): boolean =>
  retires_at !== null && Date.parse(retires_at) <= now;

/** Gone, or about to be. */
function retiring(model: ModelBody, now: number): readonly Finding[] {
  const { id, retires_at, fallback } = model;
  if (retires_at === null || Date.parse(retires_at) > now + SOON) return [];
  const gone = hasRetired(model, now);
  const heir = fallback[0] === undefined ? 'another model' : `another (${fallback.join(', ')})`;
  const todo = `Make its name an alias of ${heir} in models.yaml${gone ? '' : ' by then'}.`;
  return [warn(`${id}: ${gone ? 'retired' : 'retires'} ${ago(retires_at, now)}`, todo)];
}

/** Nodes this route could ever go to. */
const kin = ({ backend, labels }: Route, nodes: readonly NodeBody[]) =>
  nodes.filter((n) => n.kind === backend && labels.every((label) => n.labels.includes(label)));

/** Is there a node or an account that this route could ever go to? */
const canEver = (route: Route, { nodes, accounts }: Survey): boolean =>
  kin(route, nodes).length > 0 || accounts.some((a) => serves(a, route));

/** Someone could serve it, and cannot: what exactly is missing there. Beside others that can run it is only worth a look. */
function explain(m: ModelBody, survey: Survey, judged: typeof warn): Finding {
  const routes = m.routes.filter((r) => canEver(r, survey));
  const why = [...new Set(routes.map((r) => plain(r.why_not ?? '')))].join('; ');
  const todos = [...new Set(routes.map((r) => remedy(r, kin(r, survey.nodes))))];
  return judged(`${m.id}: ${why}`, todos.join(' Or: '));
}

const CORRECT_ROUTE =
  "Correct or remove its route in models.yaml. If the provider has it again: darkroom nodes resume the route's account.";

/** A route that its provider took away while others serve the model: nobody would miss it. */
function lostRoutes({ id, usable, routes }: ModelBody): readonly Finding[] {
  if (!usable) return [];
  return routes.flatMap(({ backend, remote, gone_since }) =>
    gone_since === null
      ? []
      : [warn(`${id}: ${backend} no longer has ${remote} (it said so ${ago(gone_since)})`, CORRECT_ROUTE)],
  );
}

function remedy(route: Route, nodes: readonly NodeBody[]): string {
  if (route.gone_since !== null) return CORRECT_ROUTE;
  if (isHostedRoute(route)) return 'See its account above.';
  const online = nodes.filter((n) => n.status === 'online');
  if (online.length === 0) return `Bring back ${nodes.map((n) => n.id).join(' or ')}.`;
  const [, kind, missing] = /lacks the (checkpoint|node class|file) ([^;]+)/.exec(route.why_not ?? '') ?? [];
  if (missing === undefined) return 'Look at the log of the gateway.';
  const where = online.map((n) => n.id).join(' or ');
  if (kind === 'node class') return `Install the custom nodes that bring ${missing} on ${where}, and restart it.`;
  if (kind === 'file') return `Put ${missing} on ${where}, or name another file in workflow ${route.workflow}.`;
  const near = nearest(
    missing,
    online.flatMap((n) => n.checkpoints ?? []),
  );
  const instead = near.length > 0 ? ` or write in models.yaml what is there: ${near.join(', ')}` : '';
  return `Put ${missing} on ${where},${instead || ' or name one it has in models.yaml'}.`;
}

/** Nobody could ever serve these: one line for all, since a shipped catalog has many a studio does not want. */
function explainNobody(idle: readonly ModelBody[], { nodes, models }: Survey): Finding {
  const wanted = [...new Set(idle.flatMap((m) => m.routes.map((r) => wants(r, nodes))))];
  const names = idle.map((m) => m.id).join(', ');
  return warn(
    `${idle.length} of ${count(models.length, 'model')} have nobody to run them: ${names} (it would take ${wanted.join(', ')})`,
    'Add nodes: or accounts: to config/darkroom.yaml, or take them out of models.yaml.',
  );
}

function wants(route: Route, nodes: readonly NodeBody[]): string {
  const { backend, labels, account } = route;
  if (isHostedRoute(route))
    return account === null ? `an account at ${backend}` : `the account ${account} at ${backend}`;
  const there = nodes.filter((n) => n.kind === backend).map((n) => n.id);
  const labelled = labels.length > 0 ? ` with the labels ${labels.join(', ')}` : '';
  return `a ${backend} node${labelled}${there.length > 0 ? ` (which ${there.join(', ')} lacks)` : ''}`;
}

function partition<T>(list: readonly T[], test: (item: T) => boolean): readonly [T[], T[]] {
  return [list.filter(test), list.filter((item) => !test(item))];
}
