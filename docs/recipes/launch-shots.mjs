// Four launch shots at once: is there enough credit, draw them side by side, soften the one that is refused, and end
// with a URL and a model for each, or one error that says what to do.
//
//   DARKROOM_URL=http://127.0.0.1:8787 DARKROOM_KEY=dk_… node launch-shots.mjs

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

// Pre-flight: what would these cost, and is that there? Nothing is stored.
const plan = await client.batches.dryRun({ items: requests });
console.log(`${plan.items} shots, ${plan.projected_credits} credits of ${plan.available}`);
if (!plan.fits) throw new Error('not enough credits for all four: nothing was sent');

const results = await Promise.allSettled(requests.map((request) => client.generate(request)));
for (const [index, result] of results.entries()) {
  if (result.status === 'fulfilled') {
    const { model, seed, url, credits_charged, attempts } = result.value;
    const softened = attempts.length > 1 ? ', softened' : '';
    console.log(`shot ${index + 1}: ${model}, seed ${seed}, ${credits_charged} credits${softened}: ${url}`);
  } else if (result.reason instanceof DarkroomError) {
    console.log(`shot ${index + 1}: ${result.reason.code}: ${result.reason.message} ${result.reason.advice}`);
  } else throw result.reason;
}
process.exitCode = results.every((r) => r.status === 'fulfilled') ? 0 : 1;
