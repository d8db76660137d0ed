// Fake ComfyUI nodes in their own process. Their log, not the gateway's, is the evidence for gaps and duplicates.

import { startComfyUi } from '../test/doubles/comfyui/server.ts';

const { count, options } = JSON.parse(process.argv[2] ?? '{}') as {
  count: number;
  options: Parameters<typeof startComfyUi>[0];
};
const nodes = await Promise.all(Array.from({ length: count }, () => startComfyUi(options)));
process.on('message', (message) => {
  if (message === 'log') process.send?.(nodes.map((n) => n.log));
});
process.send?.(nodes.map((n) => n.url));
process.on('disconnect', () => process.exit());
