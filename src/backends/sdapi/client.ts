// One node of the /sdapi family: Automatic1111, Forge, SD.Next or stable-diffusion.cpp. A probe finds out which it is and
// what it has; a run looks every name up there, sends one job at a time and compares afterwards what was really used.
// What is installed is remembered for a minute, and looked at again when a job names something unknown.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { NodeReport } from '../../domain/node.ts';
import type { Millis } from '../../domain/units.ts';
import { HttpError } from '../../system/system.ts';
import { type Connect, type Job, Refusal } from '../backend.ts';
import { createBlocking } from './blocking.ts';
import { type Installed, look, namesOf } from './installed.ts';
import { createNative } from './native.ts';
import { createShelf } from './shelf.ts';
import { orderOf } from './translate.ts';
import { createWire } from './wire.ts';

const FRESH_MS: Millis = 60_000;
const Memory = z.object({
  cuda: z.object({ system: z.object({ total: z.number(), free: z.number() }) }),
});
const Options = z.object({ sd_model_checkpoint: z.string().nullish() });

/** Connects a node that speaks /sdapi/v1. */
export const connectSdapi: Connect = ({ spec, system, scratch }) => {
  const { clock } = system;
  const wire = createWire(spec, system);
  const shelf = createShelf(scratch, system);
  let known: { readonly installed: Installed; readonly at: Millis } | null = null;
  /** `selected`: the checkpoint selected when it was found out; another one heals it. */
  let poison: { readonly why: string; readonly selected: string | null } | null = null;

  const selected = async (signal: AbortSignal) =>
    (await wire.find('/sdapi/v1/options', Options, { signal, maxBytes: 8 * 1024 * 1024 }))?.sd_model_checkpoint ?? null;
  const blocking = createBlocking({
    system,
    wire,
    shelf,
    async onPoisoned(why) {
      poison = { why, selected: await selected(new AbortController().signal).catch(() => null) };
    },
  });
  const native = createNative({ system, wire, shelf });

  const inspect = async (signal: AbortSignal, freshMs: Millis): Promise<Installed> => {
    if (known && clock.monotonic() - known.at < freshMs) return known.installed;
    const installed = await look(wire, shelf, signal);
    known = { installed, at: clock.monotonic() };
    return installed;
  };

  /** What is installed, for this job: looked at again before it is refused for a name. */
  const inspectFor = async (job: Job, signal: AbortSignal): Promise<Installed> => {
    const installed = await inspect(signal, Number.POSITIVE_INFINITY);
    try {
      orderOf(job, installed);
      return installed;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return inspect(signal, 0);
    }
  };

  const heal = async (signal: AbortSignal) => {
    if (poison && (await selected(signal)) !== poison.selected) poison = null;
  };

  const probe = async (signal: AbortSignal): Promise<NodeReport> => {
    try {
      const installed = await inspect(signal, FRESH_MS);
      const memory = installed.flavour === 'sdcpp' ? null : await wire.find('/sdapi/v1/memory', Memory, { signal });
      const foreign = await blocking.worksForOthers(signal);
      await heal(signal);
      return report(installed, memory, foreign);
    } catch (error) {
      known = null;
      if (isDown(error)) poison = null;
      throw error;
    }
  };

  return {
    probe,
    get resumable() {
      return known?.installed.native ?? false;
    },
    get wedged() {
      return poison?.why ?? null;
    },
    async *run(job, signal) {
      const installed = await inspectFor(job, signal);
      yield* (installed.native ? native : blocking).run(job, installed, signal);
    },
    resume: (job, remote, signal) => native.resume(job, remote, signal),
    async cancel(remote, signal) {
      const installed = await inspect(signal, Number.POSITIVE_INFINITY);
      if (installed.native) await native.cancel(remote, signal);
      else await blocking.cancel(remote, installed, signal);
    },
    async close() {
      blocking.close();
      await shelf.clear();
    },
  };
};

const isDown = (error: unknown): boolean =>
  error instanceof GatewayError && error.cause instanceof HttpError && error.cause.kind === 'unsent';

function report(
  { flavour, checkpoints, loras, samplers, schedulers, upscalers, version }: Installed,
  memory: z.infer<typeof Memory> | null,
  foreign: boolean,
): NodeReport {
  const system = memory?.cuda.system;
  return {
    flavour,
    version,
    device: null,
    memory: system ? { totalBytes: system.total, freeBytes: system.free } : null,
    // An upscaler is chosen like a checkpoint, so a route may name one.
    checkpoints: checkpoints && [...checkpoints.flatMap(namesOf), ...(flavour === 'sdcpp' ? [] : (upscalers ?? []))],
    loras: loras?.map(({ name }) => name) ?? null,
    samplers: samplers?.map(({ name }) => name) ?? null,
    schedulers: schedulers?.map(({ name, label }) => label ?? name) ?? null,
    upscalers,
    classes: null,
    files: null,
    foreignQueue: foreign ? 1 : 0,
  };
}
