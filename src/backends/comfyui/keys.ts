// The keys of a huge JSON object, read from a stream without ever holding or parsing it: /object_info of a box full of custom
// nodes is 100 MB, and parsing that would stop the gateway for a second. Structure is ASCII, so bytes are enough.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENERS = new Set([0x7b, 0x5b]);
const CLOSERS = new Set([0x7d, 0x5d]);
const BLANK = new Set([0x20, 0x09, 0x0a, 0x0d]);
/** What stands before a key: `{` or `,`. */
const BEFORE_KEY = new Set([0x7b, 0x2c]);

/** Keys of the outermost object. Throws SyntaxError when the stream ends inside it. */
export async function topLevelKeys(stream: AsyncIterable<Buffer>): Promise<string[]> {
  const keys: string[] = [];
  let depth = 0;
  let before = 0;
  let text: number[] | null = null;
  let inText = false;
  let escaped = false;

  const insideText = (byte: number) => {
    if (escaped || byte !== QUOTE) text?.push(byte);
    if (!escaped && byte === QUOTE) {
      inText = false;
      if (text) keys.push(JSON.parse(`"${Buffer.from(text).toString('utf8')}"`) as string);
      text = null;
    }
    escaped = !escaped && byte === BACKSLASH;
  };
  const outsideText = (byte: number) => {
    if (BLANK.has(byte)) return;
    if (byte === QUOTE) {
      inText = true;
      text = depth === 1 && BEFORE_KEY.has(before) ? [] : null;
    } else if (OPENERS.has(byte)) depth++;
    else if (CLOSERS.has(byte)) depth--;
    before = byte;
  };

  for await (const chunk of stream) for (const byte of chunk) inText ? insideText(byte) : outsideText(byte);
  if (depth !== 0 || inText) throw new SyntaxError('the object ends too early');
  return keys;
}
