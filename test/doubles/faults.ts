// The switchboard of a double's misbehaviour, and the control endpoint that reaches it over HTTP. A fault is on until it
// is switched off, or for a counted number of uses, so "the next job only" is `times: 1`.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { readBody, sendJson } from './listener.ts';

export interface FaultSetting {
  /** How long it lasts, where it is a delay. */
  readonly ms?: number;
  /** At which sampler step it strikes, where it strikes mid-run. Default: halfway. */
  readonly step?: number;
  /** Uses before it switches itself off. Default: no end. */
  readonly times?: number;
}

export interface Faults<Name extends string> {
  readonly names: readonly Name[];
  on(name: Name, setting?: FaultSetting): void;
  /** The same as `on` with `times: 1`. */
  next(name: Name, setting?: FaultSetting): void;
  /** One of them, or all. */
  off(name?: Name): void;
  /** Is it on? Uses nothing up. */
  active(name: Name): FaultSetting | null;
  /** Its setting if it is on; one use is spent. */
  take(name: Name): FaultSetting | null;
  /** What is on at this moment. */
  list(): Readonly<Record<string, FaultSetting>>;
}

export function createFaults<Name extends string>(names: readonly Name[]): Faults<Name> {
  const live = new Map<Name, FaultSetting>();
  const on = (name: Name, setting: FaultSetting = {}) => {
    if (!names.includes(name)) throw new RangeError(`no fault is called ${name}; there are: ${names.join(', ')}`);
    live.set(name, setting);
  };
  return {
    names,
    on,
    next: (name, setting = {}) => on(name, { ...setting, times: 1 }),
    off: (name) => void (name === undefined ? live.clear() : live.delete(name)),
    active: (name) => live.get(name) ?? null,
    take(name) {
      const setting = live.get(name);
      if (!setting) return null;
      if (setting.times !== undefined) {
        if (setting.times <= 1) live.delete(name);
        else live.set(name, { ...setting, times: setting.times - 1 });
      }
      return setting;
    },
    list: () => Object.fromEntries(live),
  };
}

export interface Control<Name extends string> {
  readonly faults: Faults<Name>;
  readonly log: readonly unknown[];
  restartEmpty(): Promise<void>;
}

/** GET and POST /__fault, GET /__log, POST /__restart. Returns false when the path is none of these. */
export async function control<Name extends string>(
  { faults, log, restartEmpty }: Control<Name>,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<boolean> {
  if (!req.url?.startsWith('/__')) return false;
  if (req.url === '/__log') sendJson(res, 200, log);
  else if (req.url === '/__restart') {
    sendJson(res, 200, { restarting: true });
    res.once('close', () => void restartEmpty());
  } else if (req.method === 'POST') await switchFault(faults, req, res);
  else sendJson(res, 200, { on: faults.list(), names: faults.names });
  return true;
}

/** Body: `{name, on?: false, ms?, step?, times?}`; `{on: false}` alone switches everything off. */
async function switchFault<Name extends string>(faults: Faults<Name>, req: IncomingMessage, res: ServerResponse) {
  try {
    const body = JSON.parse((await readBody(req, 10_000)).toString() || '{}') as FaultSetting & {
      name?: Name;
      on?: boolean;
    };
    const { name, on = true, ...setting } = body;
    if (!on) faults.off(name);
    else if (name) faults.on(name, setting);
    else throw new RangeError(`say which: ${faults.names.join(', ')}`);
    sendJson(res, 200, { on: faults.list() });
  } catch (error) {
    sendJson(res, 400, { error: (error as Error).message });
  }
}
