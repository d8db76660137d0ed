// The words of a hosted provider's misbehaviour. README.md beside this file says what each one does. A fault is taken by
// the request it spoils, or, when it is the fate of a job, by the request that begins the job.

/** Refused before anything begins: nothing is billed. */
export const REFUSALS = [
  'auth',
  'rate_limited',
  'rate_limited_silent',
  'balance',
  'model_gone',
  'invalid_params',
  'moderation_input',
  'submit_500',
] as const;
export type Refusal = (typeof REFUSALS)[number];

/** Drawn when a job begins; they strike that job. */
export const JOB_FAULTS = [
  'moderation_input',
  'moderation_output',
  'moderation_partial',
  'invalid_params',
  'failed_opaque',
  'aborted',
  'unknown_status',
  'stuck',
  'late_result',
  'wrong_id',
  'foreign_poll_url',
  'zero_images',
  'result_gone',
  'expired_url',
  'huge_image',
  'slow_drip',
  'truncated_file',
  'redirecting_file',
  'redirecting_inside',
  'result_on_metadata_address',
  'result_on_private_address',
] as const;
export type JobFault = (typeof JOB_FAULTS)[number];

/** They strike the next request of their kind. */
export const REQUEST_FAULTS = [
  'drop_before',
  'accept_then_drop',
  'error_html',
  'error_html_200',
  'reset_on_poll',
  'poll_500',
  'poll_503_retry_after',
  'poll_429',
  'cancel_refused',
] as const;

export type HostedFault = Refusal | JobFault | (typeof REQUEST_FAULTS)[number];
export const FAULTS: readonly HostedFault[] = [...new Set([...REFUSALS, ...REQUEST_FAULTS, ...JOB_FAULTS])];

/** What needs a job that is asked after: of no use where the POST itself brings the picture. */
export const POLLED_FAULTS: readonly HostedFault[] = [
  'reset_on_poll',
  'poll_500',
  'poll_503_retry_after',
  'poll_429',
  'cancel_refused',
  'unknown_status',
  'aborted',
  'late_result',
  'wrong_id',
  'foreign_poll_url',
];

/** What needs a file behind a link. */
export const LINK_FAULTS: readonly HostedFault[] = [
  'result_gone',
  'expired_url',
  'redirecting_file',
  'redirecting_inside',
  'result_on_metadata_address',
  'result_on_private_address',
];
