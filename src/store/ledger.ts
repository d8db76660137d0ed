// Credits as asked for from outside: what a workspace has, what an operator gives or takes, what was spent on what.
// Everything else that moves in the ledger moves with the event that causes it.

import { sql } from 'kysely';
import { GatewayError } from '../domain/failure.ts';
import { type Millicredits, type Millis, toCredits, type WorkspaceId } from '../domain/units.ts';
import type { Database } from './database.ts';
import { text } from './rows.ts';
import { statement } from './statements.ts';
import { type Usage, type UsageGroup, usageIn } from './usage.ts';
import type { Writer } from './writer.ts';

export interface Credits {
  readonly balance: Millicredits;
  readonly reserved: Millicredits;
}

export interface Ledger {
  /** Throws GatewayError('not_found'). */
  credits(workspaceId: WorkspaceId): Promise<Credits>;
  /** Adds or (negative) takes credits. Throws GatewayError('conflict') if the balance would fall below 0, or 'not_found'. */
  grant(workspaceId: WorkspaceId, amount: Millicredits, note: string | null, at: Millis): Promise<Credits>;
  /** Over generations charged in [from, to). */
  usage(workspaceId: WorkspaceId, from: Millis, to: Millis, group: UsageGroup | null): Promise<Usage>;
}

export function createLedger({ read }: Database, writer: Writer): Ledger {
  const credits = statement(
    sql<Credits>`select balance, reserved from workspaces where id = ${''} and deleted_at is null`,
  );
  return {
    async credits(workspaceId) {
      const row = (await credits(read, [workspaceId])).rows[0];
      if (row === undefined) throw unknown(workspaceId);
      return { balance: row.balance, reserved: row.reserved };
    },
    grant: (workspaceId, amount, note, at) =>
      writer.submit({
        weight: 1,
        needs: { workspaces: [workspaceId], keys: [], claims: [] },
        run({ books }) {
          const account = books.workspace(workspaceId);
          if (account === undefined) throw unknown(workspaceId);
          if (account.balance + amount < 0) {
            const [take, have] = [toCredits(-amount), toCredits(account.balance)];
            throw new GatewayError('conflict', `The balance is ${have} credits; ${take} cannot be taken.`);
          }
          const posting = { workspaceId, keyId: null, generationId: null, note: note === null ? null : text(note), at };
          books.post(posting, [{ kind: 'grant', amount }]);
          return { balance: account.balance, reserved: account.reserved };
        },
      }),
    usage: (workspaceId, from, to, group) => usageIn(read, workspaceId, from, to, group),
  };
}

const unknown = (id: WorkspaceId): GatewayError => new GatewayError('not_found', `There is no workspace ${id}.`);
