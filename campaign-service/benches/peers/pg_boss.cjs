// Completes jobs of no work with pg-boss, 500 at a time. Prints as JSON the seconds that this took.
"use strict";
const PgBoss = require("pg-boss");

const connectionString = process.env.DATABASE_URL;
const jobs = Number(process.argv[2]);
const BATCH_JOBS = 500;
const INSERT_JOBS = 5000;
const FETCHERS = 4;

async function drain(boss) {
  let done = 0;
  for (;;) {
    const batch = await boss.fetch("noop", { batchSize: BATCH_JOBS });
    if (batch.length === 0) return done;
    await boss.complete("noop", batch.map((job) => job.id));
    done += batch.length;
  }
}

async function main() {
  const boss = new PgBoss({ connectionString, max: FETCHERS, supervise: false, schedule: false });
  boss.on("error", (error) => { throw error; });
  await boss.start();
  await boss.createQueue("noop");
  for (let first = 0; first < jobs; first += INSERT_JOBS) {
    const rows = Math.min(INSERT_JOBS, jobs - first);
    await boss.insert(Array.from({ length: rows }, (_, n) => ({ name: "noop", data: { n: first + n } })));
  }
  await boss.getDb().executeSql("VACUUM ANALYZE");
  const started = process.hrtime.bigint();
  const done = await Promise.all(Array.from({ length: FETCHERS }, () => drain(boss)));
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const total = done.reduce((sum, one) => sum + one, 0);
  if (total !== jobs) throw new Error(`${total} of ${jobs} jobs were completed`);
  await boss.stop({ graceful: false });
  console.log(JSON.stringify({ seconds }));
}

main().catch((error) => { console.error(error); process.exit(1); });
