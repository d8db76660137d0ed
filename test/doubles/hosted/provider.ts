// What makes one hosted provider differ from another: where its routes are, what they answer, and in which words it
// refuses. A provider only speaks; jobs, files, faults and the log belong to the double it speaks for.

import type { Answer, Call } from './call.ts';
import type { HostedFault } from './faults.ts';
import type { IdStyle, Job, Jobs, Order, Phase } from './jobs.ts';
import type { HostedSettings } from './settings.ts';
import type { Work } from './works.ts';

/** What a provider can use of the double. */
export interface House {
  /** The API's origin, without the base. */
  readonly origin: string;
  readonly settings: HostedSettings;
  readonly jobs: Jobs;
  link(job: Job, work: Work): string;
  /** The job's id, or another's when that is its fate. */
  idShown(job: Job): string;
  /** The origin that links for asking after the job point to. */
  askAt(job: Job): string;
}

/** Refusals in the provider's own words. null: it has none, the job itself ends that way. */
export interface Dialect {
  readonly auth: Answer;
  readonly balance: Answer;
  /** Too many requests; the header is added by the double. */
  limited(retryAfterSeconds: number | null): Answer;
  readonly invalid: Answer | null;
  readonly moderated: Answer | null;
  gone(model: string): Answer;
  trouble(status: 500 | 503): Answer;
  unknownJob(id: string): Answer;
  readonly cancelRefused: Answer | null;
}

type Groups = Readonly<Record<string, string>>;

export interface SubmitRoute {
  readonly role: 'submit';
  readonly method: 'POST';
  readonly path: RegExp;
  /** Throws Refused where the real one refuses. */
  read(call: Call, groups: Groups): Order;
  answer(job: Job, call: Call): Answer | Promise<Answer>;
}

/** About one job, named by the group `id` of the path or the query parameter `id`. */
export interface JobRoute {
  readonly role: 'poll' | 'result' | 'cancel';
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: RegExp;
  /** Here a job whose result is gone is unknown. */
  readonly vanishes?: boolean;
  answer(job: Job, phase: Phase, call: Call): Answer | Promise<Answer>;
}

export interface PlainRoute {
  readonly role: 'plain';
  readonly method: 'GET' | 'POST';
  readonly path: RegExp;
  answer(call: Call): Answer;
}

export type Route = SubmitRoute | JobRoute | PlainRoute;

export interface Provider {
  /** What follows the origin in the base that an adapter is given. */
  readonly base: string;
  readonly ids: IdStyle;
  /** Asking again brings a fresh link for one that has run out. */
  readonly renews: boolean;
  /** Faults that cannot befall it. */
  readonly lacks: readonly HostedFault[];
  keyOf(call: Pick<Call, 'headers' | 'query'>): string | null;
  readonly says: Dialect;
  routes(house: House): readonly Route[];
}

export const bearer = ({ headers }: Pick<Call, 'headers'>, scheme = 'Bearer'): string | null =>
  headers.authorization?.startsWith(`${scheme} `) ? headers.authorization.slice(scheme.length + 1) : null;
