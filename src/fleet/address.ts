// What may never be a node, whoever names it: the config file, an administrator or a kept row. Private addresses are what
// nodes have; link-local ones, where clouds keep their credentials, never are. Names are checked again after
// resolution, at each connection.

import { NodeRequest } from '../contract/nodes.ts';
import { GatewayError } from '../domain/failure.ts';
import { isHosted } from '../domain/model.ts';
import type { NodeSpec } from '../domain/node.ts';
import { complaintAbout, nodeAddress } from '../system/system.ts';

/** An id is also the name of a directory. */
const Place = NodeRequest.pick({ id: true, url: true });

/** Throws GatewayError('invalid_request') naming the field, for an id or address a node may never have. */
export function checkSpec({ id, kind, url }: NodeSpec): void {
  if (kind === 'sketch' || (isHosted(kind) && url === '')) return;
  const [issue] = Place.safeParse({ id, url }).error?.issues ?? [];
  if (issue !== undefined) throw refused(issue.path.join('.'), issue.message);
  const complaint = complaintAbout(url, nodeAddress);
  if (complaint !== null) throw refused('url', complaint);
}

const refused = (path: string, message: string) =>
  new GatewayError('invalid_request', `This cannot be a node: ${path}: ${message}.`, { details: [{ path, message }] });
