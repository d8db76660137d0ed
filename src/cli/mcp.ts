// `darkroom mcp`: the tools of /mcp on stdin and stdout, for hosts that start their servers themselves. Speaks to a gateway
// over HTTP like any client. Stdout is the protocol; everything else goes to stderr.

import { Command } from 'commander';
import { connect, type RemoteOptions } from './remote.ts';

export const mcpCommand = new Command('mcp')
  .description('serve the tools for agents on stdin and stdout (Model Context Protocol)')
  .option('--url <address>', 'where the gateway is (else DARKROOM_URL, the profile, http://127.0.0.1:8787)')
  .option('--key <key>', 'a key of yours (else DARKROOM_KEY, the profile, ./data/admin-key)')
  .option('--profile <name>', 'another of the gateways you are logged in to')
  .addHelpText(
    'after',
    `
Hosts that speak HTTP need no process: give them http://…:8787/mcp and the key as "Authorization: Bearer …".
In the settings of a host that starts its servers itself:

  {"command": "darkroom", "args": ["mcp"], "env": {"DARKROOM_URL": "http://127.0.0.1:8787", "DARKROOM_KEY": "dk_…"}}`,
  )
  .action(serveOnStdio);

/** The process ends by itself when the host closes stdin. What serves is loaded by this command only. */
async function serveOnStdio(options: RemoteOptions): Promise<void> {
  const { serveStdio } = await import('@modelcontextprotocol/server/stdio');
  const { buildServer } = await import('../api/mcp/server.ts');
  const { createSystem } = await import('../system/system.ts');
  const { clock } = createSystem({ level: 'silent', allowPrivate: [] });
  const client = await connect(options);
  const studio = { ...client, cancel: (id: string) => client.cancel(id) };
  const fault = (error: unknown) => {
    process.stderr.write(`darkroom mcp: ${error instanceof Error ? error.message : String(error)}\n`);
  };
  serveStdio(({ era }) => buildServer({ era, studio, clock, fault }), { onerror: fault });
}
