// Watchers in a process of their own, so that their parsing weighs on nobody. Says how late final events came.

import WebSocket from 'ws';

const { url, key, count } = JSON.parse(process.argv[2] ?? '{}') as { url: string; key: string; count: number };
const late: number[] = [];
let events = 0;
let finals = 0;
const address = `${url.replace('http', 'ws')}/v1/events?progress=0`;
await Promise.all(
  Array.from({ length: count }, () => {
    const socket = new WebSocket(address, { headers: { authorization: `Bearer ${key}` } });
    return new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('message', (data) => {
        const now = Date.now();
        const text = (data as Buffer).toString();
        if (text.startsWith('{"type":"ready"')) return resolve();
        events++;
        const at = /"event":"generation\.succeeded".*"finished_at":"([^"]+)"/.exec(text)?.[1];
        if (at === undefined) return;
        finals++;
        late.push(now - Date.parse(at));
      });
    });
  }),
);
process.on('message', () => {
  const sorted = [...late].sort((a, b) => a - b);
  const share = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
  process.send?.({ p50: share(0.5), p99: share(0.99), events, finals });
});
process.on('disconnect', () => process.exit());
process.send?.('watching');
