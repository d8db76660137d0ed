// What a provider was asked to make, and how far it is: queued → running → done, moved by being asked or by the clock.
// `begin` is the moment of payment and the only place that writes it down.

import { randomBytes, randomUUID } from 'node:crypto';
import type { FaultSetting, Faults } from '../faults.ts';
import { aborted, pauseOn } from '../pace.ts';
import { type HostedFault, JOB_FAULTS, type JobFault } from './faults.ts';
import type { HostedLogEntry, HostedSettings } from './settings.ts';

export interface Order {
  readonly model: string;
  readonly prompt: string;
  readonly count: number;
  readonly width: number;
  readonly height: number;
  readonly format: 'png' | 'jpeg' | 'webp' | 'mp4';
  readonly seed: number;
  readonly webhook?: string | null;
  /** The request as the provider would show it again. */
  readonly input: Readonly<Record<string, unknown>>;
}

export type Phase = 'queued' | 'running' | 'done' | 'cancelled';

export interface Job {
  readonly id: string;
  readonly order: Order;
  readonly at: number;
  readonly fate: ReadonlyMap<JobFault, FaultSetting>;
  /** It left the queue. */
  started: boolean;
  /** How often it was asked after. */
  polls: number;
  state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  endedAt: number | null;
  /** The provider ends it by itself at this time, if it has not ended. */
  deadline: number | null;
  deleted: boolean;
}

export interface Jobs {
  readonly all: readonly Job[];
  begin(order: Order): Job;
  find(id: string | undefined): Job | null;
  /** How far it was when it was last asked after; by the clock, how far it is. */
  peek(job: Job): Phase;
  /** One question: time passes for a job that is moved by polls. */
  look(job: Job): Phase;
  /** Until it has ended, for whoever keeps the line open. Rejects when the signal aborts. */
  finish(job: Job, signal: AbortSignal): Promise<void>;
  /** False when it had ended before. */
  cancel(job: Job): boolean;
  remove(job: Job): void;
}

export type IdStyle = 'uuid' | 'base32' | 'base64url';

export interface JobsOptions {
  readonly settings: HostedSettings;
  readonly faults: Faults<HostedFault>;
  readonly log: HostedLogEntry[];
  readonly ids: IdStyle;
}

const FAILING: readonly JobFault[] = [
  'moderation_input',
  'moderation_output',
  'invalid_params',
  'failed_opaque',
  'aborted',
];
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';

export function newId(style: IdStyle): string {
  if (style === 'uuid') return randomUUID();
  if (style === 'base64url') return randomBytes(16).toString('base64url');
  return [...randomBytes(26)].map((byte) => DIGITS[byte % 32]).join('');
}

export function createJobs({ settings, faults, log, ids }: JobsOptions): Jobs {
  const { clock, pace } = settings;
  const all: Job[] = [];
  const pause = pauseOn(clock);

  const end = (job: Job, state: 'succeeded' | 'failed' | 'cancelled') => {
    if (job.endedAt !== null) return;
    job.state = state;
    job.endedAt = clock.now();
    log.push({ what: state, at: clock.now(), jobId: job.id });
  };
  /** `polls`: how often it had been asked after before. */
  const measure = (job: Job, polls: number): Phase => {
    const [spent, queued, running] =
      'queuedMs' in pace
        ? [clock.now() - job.at, pace.queuedMs, pace.runningMs]
        : [polls, pace.queuedPolls, pace.runningPolls];
    if (spent < queued) return 'queued';
    return spent < queued + running || job.fate.has('stuck') ? 'running' : 'done';
  };
  const advance = (job: Job, polls: number): Phase => {
    if (job.endedAt !== null) return job.state === 'cancelled' ? 'cancelled' : 'done';
    const phase = measure(job, polls);
    job.started ||= phase !== 'queued';
    if (phase === 'done') {
      end(job, FAILING.some((name) => job.fate.has(name)) ? 'failed' : 'succeeded');
      return 'done';
    }
    if (job.deadline !== null && clock.now() >= job.deadline) {
      end(job, 'cancelled');
      return 'cancelled';
    }
    job.state = phase;
    return phase;
  };

  const peek = (job: Job) => advance(job, Math.max(0, job.polls - 1));

  return {
    all,
    begin(order) {
      const fate = new Map<JobFault, FaultSetting>();
      for (const name of JOB_FAULTS) {
        const setting = faults.take(name);
        if (setting) fate.set(name, setting);
      }
      const at = clock.now();
      const id = newId(ids);
      const job: Job = {
        id,
        order,
        at,
        fate,
        polls: 0,
        started: false,
        state: 'queued',
        endedAt: null,
        deadline: null,
        deleted: false,
      };
      all.push(job);
      const { model, prompt, webhook = null } = order;
      log.push({ what: 'paid', at, jobId: id, model, prompt, webhook });
      return job;
    },
    find: (id) => all.find((job) => job.id === id && !job.deleted) ?? null,
    peek,
    look(job) {
      return advance(job, job.polls++);
    },
    async finish(job, signal) {
      if ('queuedMs' in pace) await pause(pace.queuedMs + pace.runningMs, signal);
      else job.polls = Math.max(job.polls, pace.queuedPolls + pace.runningPolls);
      if (job.fate.has('stuck')) await aborted(signal);
      signal.throwIfAborted();
      advance(job, job.polls);
    },
    cancel(job) {
      if (peek(job) === 'done') return false;
      end(job, 'cancelled');
      return true;
    },
    remove(job) {
      job.deleted = true;
      log.push({ what: 'deleted', at: clock.now(), jobId: job.id });
    },
  };
}
