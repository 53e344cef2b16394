// A payment service: for each order in its inbox it takes the payment and
// publishes an event, in one transaction with the mark that the order is done.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const worker = process.env.WORKER ?? `${hostname()}-${process.pid}`;
const leaseSeconds = Number(process.env.LEASE_SECONDS ?? 30);
const pollSeconds = Number(process.env.POLL_SECONDS ?? 5);

interface Message {
  id: string; // a bigint
  lease_token: string;
  payload: { order_id: string; customer: string; amount: number };
}

class BadOrder extends Error {} // will never work
class UnknownCustomer extends Error {} // may be known soon

const db = new pg.Client({ connectionString: process.env.DATABASE_URL, application_name: worker });
let stopping = false;
let pause = new AbortController();

async function transaction<T>(work: () => Promise<T>): Promise<T> {
  await db.query("begin");
  try {
    const result = await work();
    await db.query("commit");
    return result;
  } catch (error) {
    await db.query("rollback");
    throw error;
  }
}

async function takePayment({ order_id, customer, amount }: Message["payload"]) {
  if (!(amount > 0)) throw new BadOrder(`order ${order_id} has the amount ${amount}`);
  await db.query("insert into payments (order_id, customer, amount) values ($1, $2, $3)", [order_id, customer, amount]);
  const event = { event_type: "payment.received", order_id, customer, amount };
  await db.query("select tide.outbox_publish('payment_events', 'payments', $1::jsonb, key => $2)", [event, customer]);
  const { rowCount } = await db.query("update customers set paid = paid + $1 where id = $2", [amount, customer]);
  if (rowCount === 0) throw new UnknownCustomer(`there is no customer ${customer} yet`);
}

async function claim(most: number): Promise<Message[]> {
  const claimed = await db.query<Message>(
    `select id, lease_token, payload
     from tide.inbox_claim('payment_triggers', $1, $2, make_interval(secs => $3))`, [worker, most, leaseSeconds]);
  return claimed.rows;
}

const held = (messages: Message[]) => [messages[0].lease_token, messages.map((m) => m.id)];
const complete = (m: Message) => db.query("select tide.inbox_complete('payment_triggers', $1, $2)", held([m]));
const release = (rest: Message[]) => db.query("select tide.inbox_release('payment_triggers', $1, $2)", held(rest));
const extend = (rest: Message[]) =>
  db.query("select tide.inbox_extend('payment_triggers', $1, $2, make_interval(secs => $3))", [...held(rest), leaseSeconds]);

async function fail(m: Message, error: unknown) {
  console.error(`message ${m.id}: ${error}`);
  const retryIn = error instanceof UnknownCustomer ? "500 milliseconds" : null; // null: longer each time
  await db.query("select tide.inbox_fail('payment_triggers', $1, $2, $3, retry_in => $4, give_up => $5)",
    [...held([m]), String(error), retryIn, error instanceof BadOrder]);
}

const leaseLost = (error: unknown) => error instanceof pg.DatabaseError && error.code === "TD001";

// The claim is committed at once; each message's work is a transaction of its own.
async function workByLease(): Promise<boolean> {
  let since = Date.now();
  const messages = await claim(10);
  for (const [i, m] of messages.entries()) {
    if (stopping) {
      await release(messages.slice(i));
      break;
    }
    if (Date.now() - since > (leaseSeconds * 1000) / 3) {
      since = Date.now();
      await extend(messages.slice(i));
    }
    await transaction(async () => { await takePayment(m.payload); await complete(m); }).catch((error) => {
      if (leaseLost(error)) throw error;
      return fail(m, error);
    });
  }
  return messages.length > 0;
}

// Claim and work are one transaction; the savepoint undoes the work alone.
const workInOneTransaction = () => transaction(async () => {
  const [m] = await claim(1);
  if (!m) return false;
  await db.query("savepoint work");
  try {
    await takePayment(m.payload);
    await complete(m);
  } catch (error) {
    await db.query("rollback to savepoint work");
    await fail(m, error);
  }
  return true;
});

const work = process.env.MODE === "transaction" ? workInOneTransaction : workByLease;
db.on("notification", () => pause.abort());
process.on("SIGTERM", () => { stopping = true; pause.abort(); });
await db.connect();
await db.query("listen tide_inbox_payment_triggers");
while (!stopping) {
  pause = new AbortController();
  const worked = await work().catch((error) => {
    if (!leaseLost(error)) throw error;
    console.error(error.message); // others have the messages, and our work was rolled back
    return true;
  });
  if (!worked && !stopping) await sleep(pollSeconds * 1000, null, { signal: pause.signal }).catch(() => {});
}
await db.end();
console.log("stopped");
