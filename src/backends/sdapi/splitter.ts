// Splits a stream of JSON bytes into its pictures (base64 strings under known keys) and all the rest, chunk by chunk, so
// that ten megabytes of base64 never become one string. It tracks just enough of the grammar to know which string is
// the value of which key; that the rest is valid JSON is left to JSON.parse.

/** A bit of one picture's base64, in order. */
export interface Piece {
  readonly picture: number;
  readonly letters: string;
  readonly last: boolean;
}

export interface SplitOptions {
  /** Keys whose strings (or lists of strings) are pictures; in the rest they become "picture:N". */
  readonly pictures: ReadonlySet<string>;
  /** Keys whose values are dropped; in the rest they become null. */
  readonly drop: ReadonlySet<string>;
  /** Beyond it the rest is refused. */
  readonly maxRestBytes: number;
}

export interface Splitter {
  push(chunk: Buffer): Piece[];
  /** Everything that was not a picture, as JSON text. */
  rest(): string;
}

interface Level {
  readonly list: boolean;
  /** In an object: whose value comes next; null while a key is expected. In a list: the list's own key. */
  key: string | null;
}

export const pictureName = (index: number): string => `picture:${index}`;

const [QUOTE, BACKSLASH, COLON, COMMA] = [0x22, 0x5c, 0x3a, 0x2c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const MAX_DEPTH = 64;
const MAX_KEY = 64;

export function createSplitter({ pictures, drop, maxRestBytes }: SplitOptions): Splitter {
  const kept: Buffer[] = [];
  let keptBytes = 0;
  const levels: Level[] = [{ list: true, key: null }];
  let mode: 'structure' | 'string' | 'picture' = 'structure';
  let escaped = false;
  let text = '';
  let count = 0;
  /** Depth at which a dropped value hangs. */
  let dropping: number | null = null;

  const keep = (bytes: Buffer) => {
    if (dropping !== null || bytes.length === 0) return;
    keptBytes += bytes.length;
    if (keptBytes > maxRestBytes) throw new RangeError('the answer holds too much besides its pictures');
    kept.push(bytes);
  };
  const top = (): Level => levels[levels.length - 1] ?? { list: true, key: null };
  const open = (list: boolean) => {
    if (levels.length >= MAX_DEPTH) throw new RangeError('the answer is nested too deeply');
    levels.push({ list, key: list ? top().key : null });
  };
  const close = () => {
    if (levels.length > 1) levels.pop();
  };

  /** One byte outside of strings. Returns true where a picture begins. */
  const structure = (byte: number): boolean => {
    const level = top();
    if (byte === OPEN_LIST || byte === OPEN_OBJECT) open(byte === OPEN_LIST);
    else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) close();
    else if (byte === COLON && !level.list) level.key = text;
    else if (byte === COMMA && !level.list) level.key = null;
    else if (byte === QUOTE) {
      if (level.key !== null && pictures.has(level.key) && dropping === null) return true;
      mode = 'string';
      text = '';
    }
    return false;
  };
  const inString = (byte: number) => {
    if (escaped) escaped = false;
    else if (byte === BACKSLASH) escaped = true;
    else if (byte === QUOTE) mode = 'structure';
    else if (text.length < MAX_KEY) text += String.fromCharCode(byte);
  };
  const endsDrop = (byte: number) =>
    dropping === levels.length && (byte === COMMA || byte === CLOSE_OBJECT || byte === CLOSE_LIST);

  const push = (chunk: Buffer): Piece[] => {
    const pieces: Piece[] = [];
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0;
      if (mode === 'picture') {
        const end = chunk.indexOf(QUOTE, i);
        const stop = end < 0 ? chunk.length : end;
        pieces.push({ picture: count, letters: chunk.toString('latin1', i, stop), last: end >= 0 });
        i = from = stop;
        if (end < 0) break;
        mode = 'structure';
        count++;
      } else if (mode === 'string') inString(byte);
      else {
        if (endsDrop(byte)) {
          dropping = null;
          from = i;
        }
        if (structure(byte)) {
          keep(chunk.subarray(from, i + 1));
          keep(Buffer.from(pictureName(count)));
          mode = 'picture';
        } else if (byte === COLON && !top().list && drop.has(text) && dropping === null) {
          keep(chunk.subarray(from, i + 1));
          keep(Buffer.from('null'));
          dropping = levels.length;
        }
      }
    }
    if (mode !== 'picture') keep(chunk.subarray(from));
    return pieces;
  };
  return { push, rest: () => Buffer.concat(kept).toString('utf8') };
}
