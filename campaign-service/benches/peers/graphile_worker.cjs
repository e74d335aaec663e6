// Completes jobs of no work with graphile-worker. Prints as JSON the seconds that this took.
//
// Settings of its performance guide: several processes, jobs fetched by a local queue of 500, completions batched. Two
// processes were the fastest number on two cores.
"use strict";
const { fork } = require("node:child_process");
const { Logger, makeWorkerUtils, run } = require("graphile-worker");

const connectionString = process.env.DATABASE_URL;
const BATCH_JOBS = 500;
const PROCESSES = 2;
const POLL_MILLISECONDS = 10;

async function enqueue(utils, jobs) {
  await utils.migrate();
  await utils.withPgClient((client) => client.query(
    `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
       SELECT json_populate_record(NULL::graphile_worker.job_spec,
         json_build_object('identifier', 'noop', 'payload', json_build_object('n', n)))
       FROM generate_series(1, $1::int) n))`, [jobs]));
  await utils.withPgClient((client) => client.query("VACUUM ANALYZE"));
}

// Starts a process with its modules loaded, which waits for the word to begin.
function startProcess() {
  const child = fork(__filename, [], { env: { ...process.env, BENCH_WORK: "1" } });
  child.on("exit", (code) => { if (code) process.exit(code); });
  return new Promise((resolve) => child.once("message", () => resolve(child)));
}

function work() {
  process.once("message", () => run({
    connectionString,
    maxPoolSize: 6,
    logger: new Logger(() => () => {}),
    preset: {
      worker: {
        concurrentJobs: 24,
        localQueue: { size: BATCH_JOBS },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: { noop: async () => {} },
  }).catch(fail));
  // Without a parent there is nobody to work for.
  process.once("disconnect", () => process.exit(0));
  process.send("ready");
}

// Completed jobs are deleted.
async function untilDone(utils) {
  const left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS is_left";
  for (;;) {
    const { rows } = await utils.withPgClient((client) => client.query(left));
    if (!rows[0].is_left) return;
    await new Promise((resolve) => { setTimeout(resolve, POLL_MILLISECONDS); });
  }
}

async function main() {
  const utils = await makeWorkerUtils({ connectionString });
  await enqueue(utils, Number(process.argv[2]));
  const children = await Promise.all(Array.from({ length: PROCESSES }, startProcess));
  const started = process.hrtime.bigint();
  for (const child of children) child.send("go");
  await untilDone(utils);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  for (const child of children) child.kill("SIGKILL");
  await utils.release();
  console.log(JSON.stringify({ seconds }));
  process.exit(0);
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

if (process.env.BENCH_WORK) work(); else main().catch(fail);
