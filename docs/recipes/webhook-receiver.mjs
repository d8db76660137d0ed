// A receiver that keeps a table up to date: one row per generation, however often and in whatever order its webhooks
// arrive. Needs the package `standardwebhooks` and Node 24 or newer (for node:sqlite).
//
// Register it first; the gateway answers with the secret, once:
//
//   darkroom webhooks add http://10.0.0.5:9000/          # this machine, as the gateway reaches it
//   WEBHOOK_SECRET=whsec_… node webhook-receiver.mjs 9000 shots.db 0.0.0.0
//
// An address inside your network (127.0.0.1 too) must be allowed in the gateway's config/darkroom.yaml before:
//   outbound: {allow_private: ["10.0.0.0/8"]}

import { createServer } from 'node:http';
import { DatabaseSync } from 'node:sqlite';
import { Webhook } from 'standardwebhooks';

const [port = '9000', file = 'shots.db', host = '127.0.0.1'] = process.argv.slice(2);
if (!process.env.WEBHOOK_SECRET) {
  console.error('Set WEBHOOK_SECRET to what "darkroom webhooks add http://…/" printed (or "darkroom webhooks rotate wh_…").');
  process.exit(2);
}
const secret = new Webhook(process.env.WEBHOOK_SECRET);
const db = new DatabaseSync(file);
db.exec(`
  pragma journal_mode = wal;
  create table if not exists seen (id text primary key);
  create table if not exists shots (
    id text primary key, status text not null, url text, credits real not null, ticket text, reason text)`);
const first = db.prepare('insert into seen (id) values (?) on conflict do nothing');
const upsert = db.prepare(`
  insert into shots (id, status, url, credits, ticket, reason) values (?, ?, ?, ?, ?, ?)
  on conflict (id) do update set status = excluded.status, url = excluded.url, credits = excluded.credits,
    ticket = excluded.ticket, reason = excluded.reason`);

/** Both or neither: a receiver that dies in between is sent the same message again. */
function record(messageId, event) {
  db.exec('begin immediate');
  try {
    const isNew = first.run(messageId).changes === 1;
    if (isNew && event.event.startsWith('generation.')) {
      const status = event.event.slice('generation.'.length);
      const { id, url, credits_charged, metadata, reason } = event;
      upsert.run(id, status, url, credits_charged, metadata.ticket ?? null, reason ?? null);
    }
    db.exec('commit');
  } catch (error) {
    db.exec('rollback');
    throw error;
  }
}

async function text(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 1_000_000) throw new Error('too large');
  }
  return body;
}

const server = createServer(async (request, response) => {
  try {
    const body = await text(request);
    const event = secret.verify(body, request.headers); // throws on a forged, changed or old message
    record(request.headers['webhook-id'], event);
    console.log(event.event, event.id ?? '');
    response.writeHead(204).end();
  } catch (error) {
    console.error(String(error));
    response.writeHead(error?.name === 'WebhookVerificationError' ? 401 : 500).end();
  }
});
server.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`));
