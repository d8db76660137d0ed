// `darkroom serve`: run the gateway until told to stop, and say where to look. The house is loaded when it is opened, so
// that other commands start without it.

import { Command } from 'commander';
import type { Darkroom } from '../main.ts';
import { near } from './pictures.ts';
import type { SettingOptions } from './settings.ts';

export const serveCommand = new Command('serve')
  .description('start the gateway')
  .option('--host <address>', 'address to listen on (default 127.0.0.1; 0.0.0.0 for the LAN)')
  .option('--port <number>', 'port to listen on (default 8787)')
  .option('--data <folder>', 'where jobs, pictures and the admin key are kept (default ./data)')
  .option('--config <file>', 'settings file (default config/darkroom.yaml)')
  .option('--models <file>', 'model catalog (default models.yaml)')
  .action(async (options: SettingOptions) => {
    const [{ openDarkroom, VERSION }, { settingsFrom }] = await Promise.all([
      import('../main.ts'),
      import('./settings.ts'),
    ]);
    const config = settingsFrom(options);
    const darkroom = await openDarkroom(config).catch((error: Error) => {
      process.stderr.write(`${explain(error, config)}\n`);
      process.exit(1);
    });
    stopOnSignal(darkroom);
    process.stdout.write(welcome(darkroom, VERSION));
  });

function explain(error: Error & { code?: string }, config: { host: string; port: number; data: string }): string {
  if (error.code === 'EADDRINUSE') {
    return `Port ${config.port} of ${config.host} is taken. Is another gateway running? Choose another with --port.`;
  }
  if (error.code === 'EACCES') return `No permission: ${error.message}. The data folder is ${config.data}.`;
  return error.message;
}

function welcome({ url, gateway, adminKeyFile }: Darkroom, version: string): string {
  const { data } = gateway.models();
  const usable = data.filter((m) => m.usable).map((m) => m.model.id);
  const nodes = gateway.nodes().map((n) => `${n.spec.id} ${n.status}`);
  const key = adminKeyFile === null ? '$DARKROOM_ADMIN_KEY' : `$(cat ${near(adminKeyFile)})`;
  return `Darkroom ${version} is ready at ${url} (${(process.uptime() * 1000).toFixed(0)} ms)

  docs     ${url}/docs
  nodes    ${nodes.join(', ') || 'none yet: add them to config/darkroom.yaml or POST /v1/nodes'}
  models   ${usable.length} of ${data.length} can run now${usable.length ? `: ${usable.join(', ')}` : ''}
  key      ${adminKeyFile === null ? 'the admin key you set' : near(adminKeyFile)}

Paste this for a first picture:

  curl -s ${url}/v1/generations \\
    -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' \\
    -d '{"model": "sketch", "prompt": "a lighthouse at dawn", "wait": true}'

and open the "url" it answers. Ctrl-C stops the gateway; nothing accepted is lost.
`;
}

function stopOnSignal(darkroom: Darkroom): void {
  let asked = false;
  const stop = () => {
    if (asked) process.exit(130);
    asked = true;
    process.stdout.write(
      '\nStopping: running work may finish (press Ctrl-C again to stop at once; it is then taken up at the next start).\n',
    );
    void darkroom.stop().then(() => process.exit(0));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}
