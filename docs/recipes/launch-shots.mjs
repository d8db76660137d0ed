// Four launch shots at once: is there enough credit, draw them side by side, soften the one that is refused, and end
// with a URL and a model for each, or one error that says what to do.
//
// In a checkout, once: `npm ci && npm run build` (makes the client that is imported here). Then, while a gateway runs:
//
//   DARKROOM_URL=http://127.0.0.1:8787 DARKROOM_KEY="$(cat data/admin-key)" node docs/recipes/launch-shots.mjs

import { createClient, DarkroomError } from 'darkroom/client';

const client = createClient({
  url: process.env.DARKROOM_URL ?? 'http://127.0.0.1:8787',
  key: process.env.DARKROOM_KEY ?? '',
});
const model = process.env.MODEL ?? 'sketch';
const campaign = { campaign: 'launch', ticket: 'MKT-2241' };

const shots = [
  { prompt: 'hero: the lamp on a walnut desk at dawn, 35 mm' },
  { prompt: 'detail: brushed brass switch, macro' },
  { prompt: 'in use: a hand turning it on, evening light' },
  {
    prompt: 'mood: a storm outside the window [[fail:safety_filter once]]',
    softened_prompt: 'mood: rain on the window, soft light',
  },
];
const requests = shots.map((shot, index) => ({
  model,
  size: '1024x768',
  ...shot,
  metadata: { ...campaign, shot: index + 1 },
  idempotency_key: `launch-shots-v1-${index + 1}`,
}));

/** What people can act on, without a stack; a fault of this program keeps its own. */
function say(error) {
  if (!(error instanceof DarkroomError)) throw error;
  return `${error.code}: ${error.message} ${error.advice}`;
}

// Pre-flight: what would these cost, and is that there? Nothing is stored.
const plan = await client.batches.dryRun({ items: requests }).catch((error) => {
  console.error(say(error));
  process.exit(1);
});
console.log(`${plan.items} shots, ${plan.projected_credits} credits of ${plan.available}`);
if (!plan.fits) {
  console.error('Not enough credits for all four: nothing was sent.');
  process.exit(1);
}

const results = await Promise.allSettled(requests.map((request) => client.generate(request)));
for (const [index, result] of results.entries()) {
  if (result.status === 'fulfilled') {
    const { model, seed, url, credits_charged, attempts } = result.value;
    const softened = attempts.length > 1 ? ', softened' : '';
    console.log(`shot ${index + 1}: ${model}, seed ${seed}, ${credits_charged} credits${softened}: ${url}`);
  } else console.log(`shot ${index + 1}: ${say(result.reason)}`);
}
process.exitCode = results.every((r) => r.status === 'fulfilled') ? 0 : 1;
