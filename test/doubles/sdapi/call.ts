// One request on its way through an /sdapi double, and what the server remembers for it.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { modelName } from './dialect.ts';
import type { Painter } from './painter.ts';
import type { SdapiSettings } from './settings.ts';

export interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
  readonly settings: SdapiSettings;
  readonly painter: Painter;
  /** Of this life; POST /options writes it. */
  readonly options: Record<string, unknown>;
  /** SD.Next remembers what it made. */
  readonly history: HistoryItem[];
}

export interface HistoryItem {
  readonly id: number;
  readonly job: string;
  readonly op: string;
  readonly timestamp: number;
  readonly duration: number;
  readonly outputs: readonly string[];
  readonly files: ReadonlyMap<string, Buffer>;
}

/** All settings as GET /options shows them: what is configured, not what is loaded. */
export function optionsOf({ settings, painter, options }: Call): Record<string, unknown> {
  const known = { samples_format: 'png', sd_vae: 'Automatic', CLIP_stop_at_last_layers: 1, live_previews_enable: true };
  const own = settings.flavour === 'forge' ? { forge_additional_modules: [] } : {};
  return { ...known, ...own, ...options, sd_model_checkpoint: modelName(painter.configured).title };
}
