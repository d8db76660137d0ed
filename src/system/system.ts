// The outside world we do not control, passed by name through the house: `domain` never sees it.

import { type Clock, systemClock } from './clock.ts';
import { createHttp, type Http } from './http.ts';
import { createLog, type Log, type LogOptions } from './log.ts';
import { type Random, systemRandom } from './random.ts';

export type { Reach } from './addresses.ts';
export { complaintAbout, guardedLookup, isAddressRange, nodeAddress, publicAddress } from './addresses.ts';
export type { Clock } from './clock.ts';
export { sleepOn } from './clock.ts';
export type { Http, HttpRequest, HttpResponse } from './http.ts';
export { HttpError } from './http.ts';
export type { Log } from './log.ts';
export { silentLog } from './log.ts';
export type { Loop } from './loop.ts';
export { startLoop } from './loop.ts';
export type { Random } from './random.ts';
export type { YamlSource } from './yaml.ts';
export { checkYaml, readYaml, YamlError } from './yaml.ts';

export interface System {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly http: Http;
}

export interface SystemOptions extends LogOptions {
  /** CIDR ranges that `public` requests may reach besides the public internet. */
  readonly allowPrivate: readonly string[];
}

export function createSystem(options: SystemOptions): System {
  return {
    clock: systemClock,
    random: systemRandom(),
    log: createLog(options),
    http: createHttp({ allowPrivate: options.allowPrivate }),
  };
}
