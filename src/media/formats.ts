// The file formats we keep: what each is called, how its files end, what kind of result it is. Everything else that
// comes in is refused, so an unknown format never reaches a decoder or a browser.

import type { Kind } from '../domain/model.ts';

export interface Format {
  readonly mediaType: string;
  readonly kind: Kind | 'text';
}

/** By file ending, which is also how a blob's key remembers its format. */
export const FORMATS = {
  png: { mediaType: 'image/png', kind: 'image' },
  jpg: { mediaType: 'image/jpeg', kind: 'image' },
  webp: { mediaType: 'image/webp', kind: 'image' },
  avif: { mediaType: 'image/avif', kind: 'image' },
  gif: { mediaType: 'image/gif', kind: 'image' },
  mp4: { mediaType: 'video/mp4', kind: 'video' },
  webm: { mediaType: 'video/webm', kind: 'video' },
  wav: { mediaType: 'audio/wav', kind: 'audio' },
  flac: { mediaType: 'audio/flac', kind: 'audio' },
  mp3: { mediaType: 'audio/mpeg', kind: 'audio' },
  ogg: { mediaType: 'audio/ogg', kind: 'audio' },
  /** Only ever what a backend calls text: it cannot be told by its bytes. */
  txt: { mediaType: 'text/plain; charset=utf-8', kind: 'text' },
} as const satisfies Record<string, Format>;

export type Extension = keyof typeof FORMATS;

/** Other names that the sniffer gives to formats of ours. */
const ALSO: Readonly<Record<string, Extension>> = { apng: 'png', opus: 'ogg', oga: 'ogg' };

export function extensionOf(sniffed: string): Extension | null {
  const ext = ALSO[sniffed] ?? sniffed;
  return Object.hasOwn(FORMATS, ext) && ext !== 'txt' ? (ext as Extension) : null;
}
