// The keys of a huge JSON object, read from a stream without ever holding or parsing it: /object_info of a box full of custom
// nodes is 100 MB, and parsing that would stop the gateway for a second. Structure is ASCII, so bytes are enough.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const BLANK = 0x20;

/** Keys of the outermost object. Throws SyntaxError when the stream ends inside it. */
export async function topLevelKeys(stream: AsyncIterable<Buffer>): Promise<string[]> {
  const keys: string[] = [];
  let depth = 0;
  /** The last byte outside of texts that was not blank: a key stands behind `{` or `,`. */
  let before = 0;
  let text: number[] | null = null;
  let inText = false;
  let escaped = false;

  const insideText = (byte: number) => {
    const ends = byte === QUOTE && !escaped;
    escaped = byte === BACKSLASH && !escaped;
    if (!ends) return void text?.push(byte);
    inText = false;
    if (text) keys.push(JSON.parse(`"${Buffer.from(text).toString('utf8')}"`) as string);
    text = null;
  };
  const outsideText = (byte: number) => {
    if (byte <= BLANK) return;
    if (byte === QUOTE) {
      inText = true;
      text = depth === 1 && (before === OPEN_OBJECT || before === COMMA) ? [] : null;
    } else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) depth--;
    before = byte;
  };

  for await (const chunk of stream) {
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0;
      if (inText) insideText(byte);
      else outsideText(byte);
    }
  }
  if (depth !== 0 || inText) throw new SyntaxError('the object ends too early');
  return keys;
}
