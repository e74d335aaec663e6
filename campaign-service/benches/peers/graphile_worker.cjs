// Completes jobs of no work with graphile-worker; prints the seconds that took as JSON.
//
// Settings of its performance guide: jobs fetched by a local queue of 500, completions batched.
"use strict";
const { makeWorkerUtils, run } = require("graphile-worker");

const connectionString = process.env.DATABASE_URL;
const jobs = Number(process.argv[2]);
const BATCH_JOBS = 500;

async function enqueue() {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  await utils.withPgClient((client) => client.query(
    `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
       SELECT json_populate_record(NULL::graphile_worker.job_spec,
         json_build_object('identifier', 'noop', 'payload', json_build_object('n', n)))
       FROM generate_series(1, $1::int) n))`, [jobs]));
  await utils.withPgClient((client) => client.query("VACUUM ANALYZE"));
  await utils.release();
}

async function main() {
  await enqueue();
  let left = jobs;
  let allDone;
  const done = new Promise((resolve) => { allDone = resolve; });
  const started = process.hrtime.bigint();
  const runner = await run({
    connectionString,
    maxPoolSize: 6,
    noHandleSignals: true,
    logger: new (require("graphile-worker").Logger)(() => () => {}),
    preset: {
      worker: {
        concurrentJobs: 24,
        localQueue: { size: BATCH_JOBS },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: { noop: async () => { if (--left === 0) allDone(); } },
  });
  await done;
  // Completions that still wait are written before this returns.
  await runner.stop();
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  console.log(JSON.stringify({ seconds }));
}

main().catch((error) => { console.error(error); process.exit(1); });
