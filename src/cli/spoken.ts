// The contract's sentences as they are said at a terminal: doors become commands, fields become options. Only people read
// this; with --json the gateway's own words stay as they are.

const COMMANDS: readonly (readonly [RegExp, string])[] = [
  [/\bGET \/v1\/models\/([\w.-]*\w)/g, '"darkroom models $1"'],
  [/\bGET \/v1\/models\b/g, '"darkroom models"'],
  [/\bGET \/v1\/credits\b/g, '"darkroom credits"'],
  [/\bPOST \/v1\/nodes\b/g, '"darkroom nodes add"'],
];

/** What to say instead of the advice that is written for programs; null: nothing, the message says it. */
export const INSTEAD: Readonly<Record<string, string | null>> = {
  'Correct the fields named in details and send again.': null,
  'Read the current state and decide again.': null,
  'Pick a model from GET /v1/models.': 'See what there is: darkroom models',
  'Send a valid key as "Authorization: Bearer dk_…".':
    'Give another with --key or DARKROOM_KEY, or let it be remembered: darkroom login',
  'Use a key with the needed scope, or a link as the gateway gave it out, before it expires.':
    'Use another key with --key. An admin key makes one: darkroom keys create NAME --scopes generate,webhooks',
  'Wait for Retry-After, then send again.': 'Wait a moment, then try again.',
};

const PRIVATE = /private or reserved address/;
const ALLOW =
  'Inside your network? Let the gateway reach it: outbound: {allow_private: ["10.0.0.0/8"]} in its config/darkroom.yaml, then start it again.';

/** Where things of this kind are listed. */
const LISTED: readonly (readonly [RegExp, string])[] = [
  [/\bnode\b/, 'darkroom nodes'],
  [/\bmodel\b/, 'darkroom models'],
  [/\bworkspace\b/, 'darkroom workspaces'],
  [/\bkey\b/, 'darkroom keys'],
  [/\bdelivery\b/, 'darkroom webhooks deliveries WEBHOOK'],
  [/\bwebhook\b/, 'darkroom webhooks'],
  [/\bbatch\b/, 'darkroom batch status'],
  [/\bgeneration\b/, 'darkroom list'],
];

const FIELDS: Readonly<Record<string, string>> = {
  aspect_ratio: '--aspect',
  batch_id: '--batch',
  expires_at: '--expires',
  group_by: '--by',
  inputs: '--input',
  loras: '--lora',
  negative_prompt: '--negative',
  output: '--format',
  requests_per_minute: '--per-minute',
  url: 'the address',
  prompt: 'the prompt',
  amount: 'the amount',
  name: 'the name',
  id: 'the id',
};
const SAME: ReadonlySet<string> = new Set(
  `model size seed steps guidance n init_image mask strength from to softened_prompt metadata max_credits priority
   idempotency_key status since limit cursor scopes models spend_cap events description labels slots kind credits
   concurrency queue state breaker`.split(/\s+/),
);

/** `scopes.0` → `--scopes`; fields that no option stands for stay as they are. */
function optionOf(path: string): string {
  const [field = '', ...below] = path.split('.');
  if (field === 'limits' && below[0]) return optionOf(below[0]);
  return FIELDS[field] ?? (SAME.has(field) ? `--${field.replaceAll('_', '-')}` : path);
}

/** `expected one of "a"|"b"` and the like, without what only the validator means by it. */
const expected = (text: string): string =>
  text
    .replace(/^(Invalid (option|input)|Too (small|big)): /, '')
    .replace(
      /^(expected one of )(.+)$/,
      (_all, head: string, list: string) => head + list.replaceAll('"', '').replaceAll('|', ', '),
    );

/** "--size: expected …", "the address points at …". */
const said = (what: string, message: string): string =>
  what.startsWith('the ') && message.startsWith('points ') ? `${what} ${message}` : `${what}: ${message}`;

export const spoken = (text: string): string =>
  COMMANDS.reduce((said, [door, command]) => said.replace(door, command), text);

interface Told {
  readonly code: string;
  readonly message: string;
  readonly advice?: string | undefined;
  readonly details?: readonly { readonly path: string; readonly message: string }[] | undefined;
}

/** What happened and what to do, a line each. */
export function sentencesOf({ code, message, advice, details = [] }: Told): readonly string[] {
  const fields = details.filter((d) => d.path !== '').map((d) => said(optionOf(d.path), expected(d.message)));
  const first = details[0];
  const saysField = first !== undefined && first.path !== '' && message === `${first.path}: ${first.message}`;
  const lines = saysField ? fields : [message, ...(fields.length > 1 ? fields.map((line) => `  ${line}`) : [])];
  const todo = PRIVATE.test(message) ? ALLOW : code === 'not_found' ? listing(message, advice) : instead(advice);
  return [...lines, ...(todo === null ? [] : [todo])].map(spoken);
}

const instead = (advice: string | undefined): string | null =>
  advice === undefined ? null : advice in INSTEAD ? (INSTEAD[advice] ?? null) : advice;

function listing(message: string, advice: string | undefined): string | null {
  const found = LISTED.find(([thing]) => thing.test(message));
  return found === undefined || /Did you mean/.test(message) ? instead(advice) : `See what there is: ${found[1]}`;
}
